//! Strictness, case by case.

use std::vec;
use std::vec::Vec;

use super::{NotCbor, Reader, UINT, write_head};

fn skips(item: &[u8]) -> bool {
    let mut reader = Reader(item);
    reader.skip().is_ok() && reader.0.is_empty()
}

#[test]
fn any_item_of_definite_length_is_skipped() {
    for item in [
        &[0x00][..],
        &[0x18, 24],
        &[0x1b, 1, 0, 0, 0, 0, 0, 0, 0],
        &[0x20],
        &[0x38, 99],
        &[0x43, 1, 2, 3],
        &[0x62, 0xff, 0xff],
        &[0x82, 1, 0x80],
        &[0xa1, 1, 0xa0],
        &[0xc1, 0x00],
        &[0xf4],
        &[0xf7],
        &[0xf9, 0x7e, 0],
        &[0xfa, 0, 0, 0, 0],
        &[0xfb, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        assert!(skips(item), "{item:x?}");
        for length in 0..item.len() {
            assert!(!skips(&item[..length]), "{:x?}", &item[..length]);
        }
    }
}

#[test]
fn what_has_a_shorter_spelling_is_refused() {
    for item in [
        &[0x18, 23][..],
        &[0x19, 0, 255],
        &[0x1a, 0, 0, 255, 255],
        &[0x1b, 0, 0, 0, 0, 255, 255, 255, 255],
        &[0x58, 1, 0],
        &[0x98, 0],
        &[0xd8, 1, 0],
    ] {
        assert!(!skips(item), "{item:x?}");
    }
}

#[test]
fn indefinite_lengths_reserved_heads_and_other_simple_values_are_refused() {
    for item in [
        &[0x5f, 0xff][..],
        &[0x7f, 0xff],
        &[0x9f, 0xff],
        &[0xbf, 0xff],
        &[0xff],
        &[0x1c],
        &[0x1f],
        &[0xe0],
        &[0xf3],
        &[0xf8, 32],
        &[0xf8, 255],
        &[0xfc],
    ] {
        assert!(!skips(item), "{item:x?}");
    }
}

#[test]
fn nesting_ends_at_eight() {
    let nested = |depth: usize| [vec![0x81; depth], vec![0]].concat();
    assert!(skips(&nested(8)));
    assert!(!skips(&nested(9)));
    assert!(!skips(&[vec![0x81; 8], vec![0x80]].concat()), "an empty one nests too");
    assert!(!skips(&nested(10_000)));
    assert!(!skips(&[vec![0xc1; 10_000], vec![0]].concat()), "tags nest too");
}

#[test]
fn an_announcement_beyond_the_end_is_refused_at_once() {
    for major in [2, 3, 4, 5, 6] {
        let mut item = vec![major << 5 | 27];
        item.extend([0xff; 8]);
        assert!(!skips(&item));
    }
}

#[test]
fn a_head_reads_back() {
    for shift in 0..64 {
        for value in [(1u64 << shift) - 1, 1 << shift, (1 << shift) + 1] {
            let mut out = Vec::new();
            write_head(&mut out, UINT, value);
            let mut reader = Reader(&out);
            assert_eq!(reader.uint(), Ok(value));
            assert!(reader.0.is_empty());
        }
    }
    assert_eq!(Reader(&[0x20]).uint(), Err(NotCbor));
}
