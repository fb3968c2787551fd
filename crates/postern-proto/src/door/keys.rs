//! The keys of a door: one master secret, and what is derived from it by epoch.
//!
//! Owns the key schedule (HKDF-SHA256, RFC 5869), which epochs are accepted, and which are still those of the master before.
//! A keyring is a function of its masters and the hour: two nodes, or one before and after a restart, hold the same keys. It never reads a clock: the gate
//! rolls it each second, and the client side has none. Fixed in size, about 4 KiB, without heap.

use core::fmt;
use core::net::IpAddr;

use hkdf::Hkdf;
use sha2::Sha256;

use super::limits::{CID_EPOCH_S, CID_EPOCHS, COOKIE_EPOCH_S, COOKIE_EPOCHS, TICKET_EPOCH_S, TICKET_EPOCHS};
use super::packet::prefix_of;
use super::sip;

/// The secret that all others come from: 32 octets of a good random source.
#[derive(Clone, PartialEq, Eq)]
pub struct Master([u8; 32]);

impl Master {
    /// From its octets.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its octets, to be stored.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What stateless resets of QUIC are keyed with (RFC 9000 section 10.3.2). It has no epochs: who comes back after a
    /// restart, however late, is to learn that his connection is gone.
    pub fn reset_secret(&self) -> [u8; 32] {
        let mut secret = [0; 32];
        derive(&Hkdf::new(None, &self.0), "reset", 0, &mut secret);
        secret
    }
}

impl fmt::Debug for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Master(..)")
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.0 = [0; 32];
        core::hint::black_box(&self.0);
    }
}

/// The master before, and since when it makes no keys any more.
///
/// Epochs that had begun by then stay its own, so that nothing that was given out is refused for the change, and no datagram
/// is tried with two keys. It is of no use any more [`Former::KEPT_S`] later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former {
    /// The secret.
    pub master: Master,
    /// Seconds since 1970.
    pub until_s: u64,
}

impl Former {
    /// For so long something that it made may be good: the day that had begun, and those that keys are accepted.
    pub const KEPT_S: u64 = (TICKET_EPOCHS + 1) * TICKET_EPOCH_S;
}

/// All keys that are good now.
#[derive(Clone)]
pub struct Keyring {
    master: Master,
    former: Option<Former>,
    cookie: Ring<8, 16>,
    gate: Ring<64, 16>,
    body: Ring<64, 32>,
    cid: Ring<8, 16>,
    tag: [u8; 16],
    former_tag: Option<[u8; 16]>,
}

impl Keyring {
    /// The keys at `now_s` (seconds since 1970, UTC).
    pub fn new(master: &Master, now_s: u64) -> Self {
        Self::after(None, master, now_s)
    }

    /// The same, when there was another master not long ago.
    pub fn after(former: Option<&Former>, master: &Master, now_s: u64) -> Self {
        let tag = |master: &Master| {
            let mut tag = [0; 16];
            derive(&Hkdf::new(None, master.bytes()), "tag", 0, &mut tag);
            tag
        };
        let mut keys = Self {
            master: master.clone(),
            former: former.cloned(),
            cookie: Ring::new("cookie", COOKIE_EPOCH_S, COOKIE_EPOCHS),
            gate: Ring::new("gate", TICKET_EPOCH_S, TICKET_EPOCHS),
            body: Ring::new("body", TICKET_EPOCH_S, TICKET_EPOCHS),
            cid: Ring::new("cid", CID_EPOCH_S, CID_EPOCHS),
            tag: tag(master),
            former_tag: former.map(|former| tag(&former.master)),
        };
        keys.roll(now_s);
        keys
    }

    /// Makes the keys those of `now_s`, drops what is too old; whether anything changed. Cheap when nothing did: three
    /// divisions. A clock that was set back is followed.
    pub fn roll(&mut self, now_s: u64) -> bool {
        let rings = [self.cookie.is_at(now_s), self.gate.is_at(now_s), self.body.is_at(now_s), self.cid.is_at(now_s)];
        if rings == [true; 4] {
            return false;
        }
        let extract = |master: &Master| Hkdf::new(None, master.bytes());
        let former = self.former.as_ref().map(|former| (extract(&former.master), former.until_s));
        let source = Source { hkdf: extract(&self.master), former };
        self.cookie.roll(&source, now_s);
        self.gate.roll(&source, now_s);
        self.body.roll(&source, now_s);
        self.cid.roll(&source, now_s);
        true
    }

    /// What stands for a domain in a ticket: a keyed hash of its name in lower case (A-labels, no final dot).
    pub fn domain_tag(&self, domain: &str) -> u64 {
        sip::sip64_of_name(&self.tag, 1, domain)
    }

    /// Whether a tag in a ticket is this domain's, under this master or the one before.
    pub fn is_domain_tag(&self, tag: u64, domain: &str) -> bool {
        let former = |key: &[u8; 16]| sip::sip64_of_name(key, 1, domain) == tag;
        self.domain_tag(domain) == tag || self.former_tag.as_ref().is_some_and(former)
    }

    /// What stands for a public suffix.
    pub(super) fn suffix_tag(&self, suffix: &str) -> u64 {
        sip::sip64_of_name(&self.tag, 3, suffix)
    }

    /// What stands for the domain that somebody has registered, whatever his servers are called.
    pub(super) fn owner_tag(&self, owner: &str) -> u64 {
        sip::sip64_of_name(&self.tag, 4, owner)
    }

    /// What stands for the /24 or /48 of an address in a ticket.
    pub fn prefix_tag(&self, address: IpAddr) -> u64 {
        prefix_tag(&self.tag, address)
    }

    /// Whether a tag in a ticket is that of this address, under this master or the one before.
    pub fn is_prefix_tag(&self, tag: u64, address: IpAddr) -> bool {
        let former = |key: &[u8; 16]| prefix_tag(key, address) == tag;
        self.prefix_tag(address) == tag || self.former_tag.as_ref().is_some_and(former)
    }

    /// Key id and key of every gate key that is accepted. Who filters upstream can check proofs with them, and can
    /// neither read nor mint the body of a ticket.
    pub fn gate_keys(&self) -> impl Iterator<Item = (u8, [u8; 16])> + '_ {
        self.gate.slots.iter().filter(|slot| slot.epoch != NONE).map(|slot| (slot.epoch as u8, slot.key))
    }

    pub(crate) fn cookie(&self, id: u8) -> Option<&[u8; 16]> {
        self.cookie.find(id)
    }

    pub(crate) fn cookie_now(&self) -> (u8, &[u8; 16]) {
        self.cookie.now()
    }

    pub(crate) fn gate(&self, id: u8) -> Option<&[u8; 16]> {
        self.gate.find(id)
    }

    pub(crate) fn gate_now(&self) -> (u8, &[u8; 16]) {
        self.gate.now()
    }

    pub(crate) fn body(&self, id: u8) -> Option<&[u8; 32]> {
        self.body.find(id)
    }

    pub(crate) fn body_now(&self) -> (u8, &[u8; 32]) {
        self.body.now()
    }

    pub(crate) fn cid(&self, id: u8) -> Option<&[u8; 16]> {
        self.cid.find(id)
    }

    pub(crate) fn cid_now(&self) -> (u8, &[u8; 16]) {
        self.cid.now()
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("day", &self.gate.epoch).finish_non_exhaustive()
    }
}

fn prefix_tag(key: &[u8; 16], address: IpAddr) -> u64 {
    let mut message = [2; 9];
    message[1..].copy_from_slice(&prefix_of(address).word().to_be_bytes());
    sip::sip64(key, &message)
}

/// What keys are derived from: the master, and the one before with its end.
struct Source {
    hkdf: Hkdf<Sha256>,
    former: Option<(Hkdf<Sha256>, u64)>,
}

impl Source {
    /// For the epoch that begins then.
    fn of(&self, begins_s: u64) -> &Hkdf<Sha256> {
        match &self.former {
            Some((former, until_s)) if begins_s < *until_s => former,
            _ => &self.hkdf,
        }
    }
}

/// The keys of one label. The slot of an epoch is its number modulo `SLOTS`, a power of two, so that the octet on the
/// wire (the epoch modulo 256) finds it without a search.
#[derive(Clone)]
struct Ring<const SLOTS: usize, const BYTES: usize> {
    label: &'static str,
    epoch_s: u64,
    /// Accepted ones: the current, those before it, and (beyond this count) the next, for a node whose clock is ahead.
    accepted: u64,
    /// The current epoch; `NONE` before the first roll.
    epoch: u64,
    slots: [Slot<BYTES>; SLOTS],
}

#[derive(Clone, Copy)]
struct Slot<const BYTES: usize> {
    epoch: u64,
    key: [u8; BYTES],
}

/// No epoch reaches this number.
const NONE: u64 = u64::MAX;

impl<const SLOTS: usize, const BYTES: usize> Ring<SLOTS, BYTES> {
    fn new(label: &'static str, epoch_s: u64, accepted: u64) -> Self {
        const { assert!(SLOTS.is_power_of_two() && SLOTS <= 256) };
        assert!(accepted < SLOTS as u64, "a slot for each key");
        Self { label, epoch_s, accepted, epoch: NONE, slots: [Slot { epoch: NONE, key: [0; BYTES] }; SLOTS] }
    }

    fn is_at(&self, now_s: u64) -> bool {
        self.epoch == now_s / self.epoch_s
    }

    fn roll(&mut self, source: &Source, now_s: u64) {
        let now = now_s / self.epoch_s;
        self.epoch = now;
        let first = now.saturating_sub(self.accepted - 1);
        for slot in &mut self.slots {
            if slot.epoch < first || slot.epoch > now + 1 {
                *slot = Slot { epoch: NONE, key: [0; BYTES] };
            }
        }
        for epoch in first..=now + 1 {
            let slot = &mut self.slots[epoch as usize % SLOTS];
            if slot.epoch != epoch {
                slot.epoch = epoch;
                derive(source.of(epoch.saturating_mul(self.epoch_s)), self.label, epoch, &mut slot.key);
            }
        }
    }

    #[inline]
    fn find(&self, id: u8) -> Option<&[u8; BYTES]> {
        let slot = &self.slots[usize::from(id) % SLOTS];
        (slot.epoch as u8 == id && slot.epoch != NONE).then_some(&slot.key)
    }

    #[inline]
    fn now(&self) -> (u8, &[u8; BYTES]) {
        (self.epoch as u8, &self.slots[self.epoch as usize % SLOTS].key)
    }
}

impl<const SLOTS: usize, const BYTES: usize> Drop for Ring<SLOTS, BYTES> {
    fn drop(&mut self) {
        self.slots = [Slot { epoch: NONE, key: [0; BYTES] }; SLOTS];
        core::hint::black_box(&self.slots);
    }
}

/// `HKDF-Expand(prk, "postern door/1 " ‖ label ‖ epoch as u64, length of the key)`.
fn derive(hkdf: &Hkdf<Sha256>, label: &str, epoch: u64, key: &mut [u8]) {
    hkdf.expand_multi_info(&[b"postern door/1 ", label.as_bytes(), &epoch.to_be_bytes()], key)
        .expect("16 and 32 octets are no more than 255 blocks");
}

#[cfg(test)]
mod tests;
