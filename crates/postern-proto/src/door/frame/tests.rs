//! Frames: bounds, order, pieces.

use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::super::class::PeerClass;
use super::super::limits::{FRAME_BYTES_MAX, VOUCH_BYTES_MAX, VOUCHES_MAX};
use super::{Frame, FrameError, FrameReader};

fn ident(vouches: Vec<Vec<u8>>) -> Frame {
    Frame::Ident { domain: "example.org".into(), owner: None, vouches }
}

fn all() -> Vec<Frame> {
    let (ticket, key, expires_s) = ([0x81; 54], [2; 16], 1 << 40);
    vec![
        ident(vec![]),
        Frame::Ident {
            domain: "a".into(),
            owner: Some("_x.a".into()),
            vouches: vec![vec![7; VOUCH_BYTES_MAX]; VOUCHES_MAX],
        },
        Frame::Accept {
            class: PeerClass::Vouched,
            server_time: 1_790_000_000,
            streams: 8,
            message_bytes: 25 << 20,
            hostname: "mx.example".into(),
        },
        Frame::Park { retry_after_s: u32::MAX },
        Frame::Ticket { ticket, key, expires_s },
        Frame::IntroGrant { ticket, key, expires_s },
        Frame::IntroAsk { domain: "example.net".into() },
        Frame::Intro { domain: "example.net".into(), ticket, key, expires_s },
        Frame::AltDoor { host: "second.example".into(), port: 65535 },
        Frame::Unknown(9),
        Frame::Unknown(u64::MAX),
    ]
}

fn item(frame: &Frame) -> Vec<u8> {
    let mut out = Vec::new();
    frame.encode(&mut out);
    out.split_off(2)
}

#[test]
fn every_frame_reads_back_in_any_pieces() {
    let mut stream = Vec::new();
    all().iter().for_each(|frame| frame.encode(&mut stream));
    for size in [1, 2, 3, 7, 100, 4096, stream.len()] {
        let mut reader = FrameReader::new();
        let mut read = Vec::new();
        for piece in stream.chunks(size) {
            reader.push(piece);
            while let Some(frame) = reader.next().expect("in order") {
                read.push(frame);
            }
        }
        assert_eq!(read, all(), "in pieces of {size}");
        assert!(reader.is_between_frames());
    }
}

#[test]
fn a_truncated_frame_is_not_a_frame() {
    for frame in all() {
        let item = item(&frame);
        for length in 0..item.len() {
            assert_eq!(Frame::decode(&item[..length]), Err(FrameError::NotCbor), "{frame:?} cut at {length}");
        }
        assert_eq!(Frame::decode(&[&*item, &[0]].concat()), Err(FrameError::Trailing));
    }
}

#[test]
fn a_length_of_zero_or_above_the_maximum_ends_the_stream() {
    for (length, fault) in [(0, FrameError::Empty), (FRAME_BYTES_MAX as u16 + 1, FrameError::TooLong)] {
        let mut reader = FrameReader::new();
        reader.push(&length.to_be_bytes());
        assert_eq!(reader.next(), Err(fault));
        reader.push(&[0, 5, 0x82, 9, 0xa0]);
        assert_eq!(reader.next(), Err(fault), "and for ever");
        assert!(!reader.is_between_frames());
    }
}

#[test]
fn an_announced_length_makes_no_room() {
    let mut reader = FrameReader::new();
    reader.push(&(FRAME_BYTES_MAX as u16).to_be_bytes());
    assert_eq!(reader.next(), Ok(None));
    assert!(reader.octets.capacity() < 64);
}

#[test]
fn a_reader_that_nobody_asks_does_not_grow() {
    let mut reader = FrameReader::new();
    for _ in 0..1000 {
        reader.push(&[0x40; 1024]);
    }
    assert!(reader.octets.capacity() <= 256 * 1024);
    assert_eq!(reader.next(), Err(FrameError::Overfull));
}

#[test]
fn unknown_keys_are_ignored_and_keys_out_of_order_refused() {
    assert_eq!(Frame::decode(&[0x82, 3, 0xa2, 1, 5, 0x18, 99, 0x81, 0xf6]), Ok(Frame::Park { retry_after_s: 5 }));
    assert_eq!(Frame::decode(&[0x82, 3, 0xa2, 1, 5, 1, 5]), Err(FrameError::NotCbor), "twice");
    assert_eq!(Frame::decode(&[0x82, 3, 0xa2, 2, 5, 1, 5]), Err(FrameError::NotCbor), "descending");
    assert_eq!(Frame::decode(&[0x82, 3, 0xa1, 0x61, b'a', 5]), Err(FrameError::NotCbor), "a key that is text");
}

#[test]
fn a_frame_of_another_form_is_refused() {
    assert_eq!(Frame::decode(&[0x81, 3]), Err(FrameError::Malformed));
    assert_eq!(Frame::decode(&[0x83, 3, 0xa0, 0]), Err(FrameError::Malformed));
    assert_eq!(Frame::decode(&[0x82, 3, 0xa0]), Err(FrameError::Incomplete));
    assert_eq!(Frame::decode(&[0x82, 3, 0xa1, 1, 0x41, 5]), Err(FrameError::Malformed), "octets for a number");
    assert_eq!(Frame::decode(&[0x82, 3, 0xa1, 1, 0x1b, 0, 0, 0, 1, 0, 0, 0, 0]), Err(FrameError::Malformed), "2^32");
    assert_eq!(Frame::decode(&[0x82, 8, 0xa2, 1, 0x61, b'a', 2, 0]), Err(FrameError::Malformed), "port 0");
    assert_eq!(Frame::decode(&[0x82, 2, 0xa1, 1, 4]), Err(FrameError::Malformed), "class 4");
    assert_eq!(Frame::decode(&[0x82, 6, 0xa1, 1, 0x63, b'a', b'\r', b'\n']), Err(FrameError::Malformed));
}

#[test]
fn vouches_have_their_bounds_both_ways() {
    let many = vec![vec![1]; VOUCHES_MAX + 3];
    let long = vec![vec![1; VOUCH_BYTES_MAX + 1], vec![2]];
    assert_eq!(Frame::decode(&item(&ident(many))), Ok(ident(vec![vec![1]; VOUCHES_MAX])));
    assert_eq!(Frame::decode(&item(&ident(long))), Ok(ident(vec![vec![2]])));
    let nine = [&[0x82, 1, 0xa2, 1, 0x61, b'a', 3, 0x89][..], &[0x40; 9]].concat();
    assert_eq!(Frame::decode(&nine), Err(FrameError::Malformed));
    let eight = [&[0x82, 1, 0xa2, 1, 0x61, b'a', 3, 0x88][..], &[0x40; 8]].concat();
    assert!(Frame::decode(&eight).is_ok());
    let long = [&[0x82, 1, 0xa2, 1, 0x61, b'a', 3, 0x81, 0x59, 4, 1][..], &[0; 1025]].concat();
    assert_eq!(Frame::decode(&long), Err(FrameError::Malformed));
}

#[test]
fn names_come_in_lower_case() {
    let read = Frame::decode(&item(&Frame::IntroAsk { domain: "Example.ORG".into() }));
    assert_eq!(read, Ok(Frame::IntroAsk { domain: "example.org".into() }));
    let long = String::from("a.").repeat(128) + "a";
    assert_eq!(Frame::decode(&item(&Frame::IntroAsk { domain: long })), Err(FrameError::Malformed));
}

#[test]
fn what_is_logged_of_a_frame_has_no_key_in_it() {
    let shown: String = all().iter().map(|frame| format!("{frame:?} ")).collect();
    assert!(!shown.contains("2, 2") && !shown.contains("129"), "{shown}");
}
