//! SipHash-2-4 as door/1 uses it: 64 and 128 bits under a key of 16 octets.
//!
//! A thin layer over the `siphasher` crate, held against the vectors of the reference implementation. The octets of a
//! hash are those that the reference writes: each word little-endian.

use core::hash::Hasher as _;

use siphasher::{sip, sip128};

/// 64 bits; its octets are `to_le_bytes`.
#[inline]
pub fn sip64(key: &[u8; 16], message: &[u8]) -> u64 {
    sip::SipHasher24::new_with_key(key).hash(message)
}

/// 128 bits, 16 octets.
#[inline]
pub fn sip128(key: &[u8; 16], message: &[u8]) -> [u8; 16] {
    sip128::SipHasher24::new_with_key(key).hash(message).as_bytes()
}

/// 64 bits of a name in lower case, without a copy of it; `kind` keeps uses apart.
pub(crate) fn sip64_of_name(key: &[u8; 16], kind: u8, name: &str) -> u64 {
    let mut hasher = sip::SipHasher24::new_with_key(key);
    hasher.write(&[kind]);
    for piece in name.as_bytes().chunks(64) {
        let mut lower = [0; 64];
        let lower = &mut lower[..piece.len()];
        lower.copy_from_slice(piece);
        lower.make_ascii_lowercase();
        hasher.write(lower);
    }
    hasher.finish()
}

/// Whether two authenticators are the same, in a time that does not depend on where they differ.
#[inline]
pub(crate) fn same64(a: u64, b: &[u8; 8]) -> bool {
    core::hint::black_box(a ^ u64::from_le_bytes(*b)) == 0
}

/// Whether two authenticators are the same, in a time that does not depend on where they differ.
#[inline]
pub(crate) fn same128(a: &[u8; 16], b: &[u8; 16]) -> bool {
    core::hint::black_box(u128::from_le_bytes(*a) ^ u128::from_le_bytes(*b)) == 0
}

#[cfg(test)]
mod tests;
