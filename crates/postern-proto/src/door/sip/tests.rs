//! SipHash against the reference implementation's own vectors (`vectors.h`: key 00 01 … 0f, message 00 01 … of growing
//! length).

use std::vec::Vec;

use super::{same64, same128, sip64, sip64_of_name, sip128};

fn key() -> [u8; 16] {
    core::array::from_fn(|at| at as u8)
}

fn message(length: u8) -> Vec<u8> {
    (0..length).collect()
}

#[test]
fn siphash_of_64_bits_is_that_of_the_reference() {
    for (length, expected) in [
        (0, [0x31, 0x0e, 0x0e, 0xdd, 0x47, 0xdb, 0x6f, 0x72]),
        (1, [0xfd, 0x67, 0xdc, 0x93, 0xc5, 0x39, 0xf8, 0x74]),
        (7, [0x37, 0xd1, 0x01, 0x8b, 0xf5, 0x00, 0x02, 0xab]),
        (8, [0x62, 0x24, 0x93, 0x9a, 0x79, 0xf5, 0xf5, 0x93]),
        (15, [0xe5, 0x45, 0xbe, 0x49, 0x61, 0xca, 0x29, 0xa1]),
        (63, [0x72, 0x45, 0x06, 0xeb, 0x4c, 0x32, 0x8a, 0x95]),
    ] {
        assert_eq!(sip64(&key(), &message(length)).to_le_bytes(), expected, "{length} octets");
    }
}

#[test]
fn siphash_of_128_bits_is_that_of_the_reference() {
    for (length, expected) in [
        (0, 0xa3817f04ba25a8e66df67214c7550293),
        (1, 0xda87c1d86b99af44347659119b22fc45),
        (7, 0xa1f1ebbed8dbc153c0b84aa61ff08239),
        (8, 0x3b62a9ba6258f5610f83e264f31497b4),
        (15, 0x5493e99933b0a8117e08ec0f97cfc3d9),
    ] {
        assert_eq!(u128::from_be_bytes(sip128(&key(), &message(length))), expected, "{length} octets");
    }
}

#[test]
fn a_name_is_hashed_in_lower_case_whatever_its_length() {
    for length in [1, 63, 64, 65, 255] {
        let name = "Ab.".repeat(100);
        let name = &name[..length];
        let whole = [b"\x01", name.to_ascii_lowercase().as_bytes()].concat();
        assert_eq!(sip64_of_name(&key(), 1, name), sip64(&key(), &whole));
    }
}

#[test]
fn authenticators_that_differ_in_one_bit_are_not_the_same() {
    for bit in 0..128 {
        assert!(!same128(&[0x5a; 16], &(u128::from_le_bytes([0x5a; 16]) ^ 1 << bit).to_le_bytes()));
        assert!(!same64(7, &(7u64 ^ 1 << (bit % 64)).to_le_bytes()));
    }
    assert!(same128(&[0x5a; 16], &[0x5a; 16]) && same64(7, &7u64.to_le_bytes()));
}
