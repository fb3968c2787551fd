//! What a peer has a right to among those of its class: a weight, and with whom it shares its turns.
//!
//! Written into a ticket by the server for itself, sealed, so that it is there before anything was looked up. The names are
//! kept as a few bits of a keyed hash: they have to tell apart those who wait at one moment, some dozens, and nobody
//! without the key can choose with whom he is taken for one.

use super::keys::Keyring;

/// A weight of three bits, nine bits of the tag of a public suffix, twelve of that of the domain below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Share([u8; 3]);

impl Share {
    /// The greatest weight.
    pub const WEIGHT_MAX: u8 = 7;

    /// That of a peer whose turns count `weight` times (at most [`Self::WEIGHT_MAX`]) and for `owner`, a domain that
    /// somebody has registered below `suffix`.
    pub fn new(keys: &Keyring, weight: u8, suffix: &str, owner: &str) -> Self {
        let weight = u32::from(weight.min(Self::WEIGHT_MAX));
        let suffix = keys.suffix_tag(suffix) as u32 & SUFFIX_MASK;
        let owner = keys.owner_tag(owner) as u32 & OWNER_MASK;
        let [_, rest @ ..] = (weight << WEIGHT_SHIFT | suffix << SUFFIX_SHIFT | owner).to_be_bytes();
        Self(rest)
    }

    /// As it stands in a ticket. Every three octets are a share.
    pub const fn from_be_bytes(bytes: [u8; 3]) -> Self {
        Self(bytes)
    }

    /// See [`Self::from_be_bytes`].
    pub const fn to_be_bytes(self) -> [u8; 3] {
        self.0
    }

    /// How often its turn comes where it comes once for who has nothing to his credit. `None`: nothing was noted, and the
    /// tags mean nothing either; so in tickets of before there were shares.
    pub fn weight(self) -> Option<u8> {
        Some((self.bits() >> WEIGHT_SHIFT) as u8).filter(|weight| *weight > 0)
    }

    /// Nine bits that stand for the public suffix.
    pub fn suffix(self) -> u16 {
        (self.bits() >> SUFFIX_SHIFT & SUFFIX_MASK) as u16
    }

    /// Twelve bits that stand for the domain below the suffix.
    pub fn owner(self) -> u16 {
        (self.bits() & OWNER_MASK) as u16
    }

    fn bits(self) -> u32 {
        let [a, b, c] = self.0;
        u32::from_be_bytes([0, a, b, c])
    }
}

const OWNER_MASK: u32 = (1 << 12) - 1;
const SUFFIX_MASK: u32 = (1 << 9) - 1;
const SUFFIX_SHIFT: u32 = 12;
const WEIGHT_SHIFT: u32 = 21;

#[cfg(test)]
mod tests;
