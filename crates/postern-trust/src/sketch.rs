//! The fixed-size memory of the book: keyed fingerprints and two kinds of set-associative tables, [`marks`] for what is bad (may
//! forget) and [`credits`] for what is good (strangers cannot flush it). This file owns the hash and the decay. It never judges. The
//! writer writes, everybody reads, nobody waits.
//!
//! Why tables of fingerprints and no counting sketch: counters that are shared by collision err upwards. For good evidence that
//! would promote strangers; for bad evidence 10^7 bots would fill the counters and everybody would be suspect. A table with
//! fingerprints errs by forgetting. The key is secret, so nobody can aim at a bucket; a stranger is taken for somebody in the
//! marks with probability 8 / 2^23, in the credits with 8 / 2^64.

pub(crate) mod credits;
pub(crate) mod marks;

use core::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

use crate::limits::NAME_BYTES_MAX;

/// What a fingerprint is of: no address can pass for a domain.
#[repr(u8)]
#[derive(Debug, Clone, Copy)]
enum Kind {
    Address = 1,
    Prefix = 2,
    Wide = 3,
    Domain = 4,
    Mailbox = 5,
    Link = 6,
    Tenant = 7,
}

/// SipHash-2-4 with the book's secret.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys {
    secret: [u8; 16],
}

/// An address as the book sees it: IPv4 as it is (mapped into IPv6), IPv6 by its /64, since a host owns at least that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source(pub(crate) u128);

impl Source {
    /// Both families in one number space, to the last bit.
    pub(crate) fn whole(ip: IpAddr) -> u128 {
        u128::from(match ip {
            IpAddr::V4(four) => four.to_ipv6_mapped(),
            IpAddr::V6(six) => six,
        })
    }

    pub(crate) fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(four) => Self(u128::from(four.to_ipv6_mapped())),
            IpAddr::V6(six) => Self(u128::from(six) & !u128::from(u64::MAX)),
        }
    }

    pub(crate) const fn is_v4(self) -> bool {
        self.0 >> 32 == 0xffff
    }
}

impl Keys {
    pub(crate) const fn new(secret: [u8; 16]) -> Self {
        Self { secret }
    }

    pub(crate) const fn secret(&self) -> [u8; 16] {
        self.secret
    }

    fn bits(&self, kind: Kind, value: u128) -> u64 {
        let mut bytes = [0; 17];
        bytes[0] = kind as u8;
        bytes[1..].copy_from_slice(&value.to_le_bytes());
        SipHasher24::new_with_key(&self.secret).hash(&bytes)
    }

    pub(crate) fn address(&self, source: Source) -> u64 {
        self.bits(Kind::Address, source.0)
    }

    /// The /24 of IPv4, the /48 of IPv6.
    pub(crate) fn prefix(&self, source: Source) -> u64 {
        let cut = if source.is_v4() { 8 } else { 80 };
        self.bits(Kind::Prefix, source.0 >> cut)
    }

    /// The /32 of IPv6; IPv4 has none (its /16 holds too many different people).
    pub(crate) fn wide(&self, source: Source) -> Option<u64> {
        (!source.is_v4()).then(|| self.bits(Kind::Wide, source.0 >> 96))
    }

    fn name(&self, kind: Kind, name: &[u8]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.secret);
        hasher.write_u8(kind as u8);
        hasher.write(name);
        hasher.finish()
    }

    pub(crate) fn domain(&self, name: &Name) -> u64 {
        self.name(Kind::Domain, name.domain())
    }

    /// The mailbox, when the name is a whole address.
    pub(crate) fn mailbox(&self, name: &Name) -> Option<u64> {
        name.is_mailbox().then(|| self.name(Kind::Mailbox, name.bytes()))
    }

    /// That an address may speak for a domain.
    pub(crate) fn link(&self, address: u64, domain: u64) -> u64 {
        self.bits(Kind::Link, u128::from(address) << 64 | u128::from(domain))
    }

    /// That an address belongs to the pool of a shared provider. Zero is no domain's fingerprint, or one of 2^64.
    pub(crate) fn pool(&self, address: u64) -> u64 {
        self.link(address, 0)
    }

    /// A domain inside a provider; authorised mail apart from the rest, so that nobody blackens a name that is not his.
    pub(crate) fn tenant(&self, landlord: u64, domain: u64, authorised: bool) -> u64 {
        let salt = if authorised { 0x9e37_79b9_7f4a_7c15 } else { 0 };
        self.bits(Kind::Tenant, u128::from(landlord) << 64 | u128::from(domain ^ salt))
    }
}

/// A domain or a whole address, lower case, without the last dot, on the stack.
#[derive(Clone, Copy)]
pub(crate) struct Name {
    bytes: [u8; NAME_BYTES_MAX],
    len: u8,
    domain_at: u8,
}

impl Name {
    /// `None` for what is empty, too long, or has no domain.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text).as_bytes();
        let domain_at = text.iter().rposition(|byte| *byte == b'@').map_or(0, |at| at + 1);
        if text.len() > NAME_BYTES_MAX || domain_at >= text.len() {
            return None;
        }
        let mut bytes = [0; NAME_BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text);
        bytes.make_ascii_lowercase();
        Some(Self { bytes, len: text.len() as u8, domain_at: domain_at as u8 })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    pub(crate) fn domain(&self) -> &[u8] {
        &self.bytes()[usize::from(self.domain_at)..]
    }

    pub(crate) const fn is_mailbox(&self) -> bool {
        self.domain_at > 1
    }
}

/// Powers 0 to N-1 of a factor in 2^-32.
pub(crate) const fn powers<const N: usize>(factor: u64) -> [u64; N] {
    let mut table = [1 << 32; N];
    let mut at = 1;
    while at < N {
        table[at] = (table[at - 1] * factor) >> 32;
        at += 1;
    }
    table
}

/// A value after `steps`, where `N` steps halve it; to the nearest integer.
pub(crate) const fn decayed<const N: usize>(value: u16, steps: u32, table: &[u64; N]) -> u16 {
    let halvings = steps / N as u32;
    if halvings > 16 {
        return 0;
    }
    let product = value as u64 * table[steps as usize % N];
    ((product + (1 << (31 + halvings))) >> (32 + halvings)) as u16
}

/// A number of entries that is a power of two within the bounds.
pub(crate) fn whole_size(entries: usize) -> usize {
    entries.clamp(crate::limits::ENTRIES_MIN, crate::limits::ENTRIES_MAX).next_power_of_two()
}

#[cfg(test)]
mod tests;
