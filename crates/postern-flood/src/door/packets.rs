//! The packets of those who forge their addresses: written from a seed, the same sequence every time.
//!
//! Owns what each attack looks like on the wire. Bodies are random octets made once, as ciphertext is to whoever has no
//! key; only what a gate reads is written anew for every packet, so that making one costs less than sending it. No clock:
//! the time that forged tickets and cookies claim comes in.

use std::net::IpAddr;

use postern_proto::door::limits::{
    CID_BYTES, CID_EPOCH_S, COOKIE_EPOCH_S, COOKIE_TOKEN_BYTES, COOKIE_WINDOW_S, HELLO_BYTES_MIN, NONCE_BYTES,
    TICKET_EPOCH_S, TICKET_TOKEN_BYTES,
};
use postern_proto::door::{Kind, hello};

use super::attack::Attack;
use super::mmsg::{BATCH, Out};
use super::origins::Origins;
use super::tap::Captured;

/// Octets of an Initial and of a HELLO: no more than they must have, so that a packet rate is as high as can be.
const FULL: usize = HELLO_BYTES_MIN;

/// Octets of a packet with a short header: as long as an acknowledgement.
const SHORT: usize = 64;

/// Writes packets.
pub(super) struct Forge {
    attack: Attack,
    origins: Origins,
    captured: Captured,
    now_s: u32,
    rng: fastrand::Rng,
    made: u64,
    slots: Vec<Slot>,
}

struct Slot {
    bytes: [u8; FULL],
    length: usize,
    source: IpAddr,
}

impl Forge {
    /// `now_s` is Unix time: what the door takes for current. Captured datagrams are for the attacks that need them.
    pub(super) fn new(attack: Attack, origins: Origins, captured: Captured, seed: u64, now_s: u32) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let slots = (0..BATCH)
            .map(|_| {
                let mut bytes = [0; FULL];
                rng.fill(&mut bytes);
                Slot { bytes, length: 0, source: origins.at(0) }
            })
            .collect();
        Self { attack, origins, captured, now_s, rng, made: 0, slots }
    }

    /// Tells the time again: keys and appointments move on in a long flood.
    pub(super) fn set_now(&mut self, now_s: u32) {
        self.now_s = now_s;
    }

    /// The next packets, at most [`BATCH`], each with the address that it claims to come from.
    pub(super) fn next(&mut self, count: usize) -> impl Iterator<Item = Out<'_>> {
        let count = count.min(BATCH);
        for n in 0..count {
            self.write(n);
        }
        self.slots[..count].iter().map(|slot| Out { source: slot.source, bytes: &slot.bytes[..slot.length] })
    }

    fn write(&mut self, n: usize) {
        let Self { attack, origins, captured, now_s, rng, made, slots } = self;
        let (slot, turn) = (&mut slots[n], *made as usize);
        *made += 1;
        slot.source = origins.at(rng.u32(..));
        let attack = match *attack {
            Attack::Naive => [Attack::Garbage, Attack::Hello, Attack::Initial][turn % 3],
            Attack::Aware => [Attack::ForgedTicket, Attack::ForgedCookie, Attack::ForgedId][turn % 3],
            one => one,
        };
        match attack {
            Attack::Garbage => garbage(slot, rng),
            Attack::Short => {
                rng.fill(&mut slot.bytes[1..=CID_BYTES]);
                short(slot, rng);
            }
            Attack::ForgedId => {
                rng.fill(&mut slot.bytes[1..=CID_BYTES]);
                slot.bytes[1] = (u64::from(*now_s) / CID_EPOCH_S) as u8;
                slot.bytes[2] = 0;
                short(slot, rng);
            }
            Attack::CapturedId => {
                if let Some(id) = captured.id(turn) {
                    slot.bytes[1..=CID_BYTES].copy_from_slice(id);
                }
                short(slot, rng);
            }
            Attack::Hello => {
                let mut nonce = [0; NONCE_BYTES];
                rng.fill(&mut nonce);
                hello(nonce, &mut slot.bytes);
                slot.length = FULL;
            }
            Attack::ForgedTicket => {
                let token = ticket(*now_s, rng);
                initial(slot, rng, &token);
            }
            Attack::ForgedCookie => {
                let token = cookie(*now_s, rng);
                initial(slot, rng, &token);
            }
            Attack::Replay | Attack::ReplayOtherId | Attack::ReplayElsewhere => {
                let Some((from, datagram)) = captured.initial(turn) else { return garbage(slot, rng) };
                slot.length = datagram.len().min(FULL);
                slot.bytes[..slot.length].copy_from_slice(&datagram[..slot.length]);
                if attack == Attack::Replay {
                    slot.source = from;
                }
                if attack == Attack::ReplayOtherId {
                    rng.fill(&mut slot.bytes[6..6 + CID_BYTES]);
                }
            }
            _ => initial(slot, rng, &[]),
        }
    }
}

/// Half without QUIC's fixed bit, half with a long header of a version that nobody has heard of.
fn garbage(slot: &mut Slot, rng: &mut fastrand::Rng) {
    slot.length = rng.usize(SHORT..=FULL);
    rng.fill(&mut slot.bytes[..16]);
    if rng.bool() {
        slot.bytes[0] &= !0x40;
        // Version 1 would make a HELLO of one in 256.
        slot.bytes[1] |= 0x80;
    } else {
        slot.bytes[0] |= 0xc0;
        slot.bytes[1] |= 0x40;
    }
}

/// A short header before the connection id that stands there already.
fn short(slot: &mut Slot, rng: &mut fastrand::Rng) {
    slot.bytes[0] = 0x40 | rng.u8(..0x40);
    rng.fill(&mut slot.bytes[1 + CID_BYTES..1 + CID_BYTES + 20]);
    slot.length = SHORT;
}

/// A long header (RFC 9000 section 17.2.2) with this token, before a payload that nobody can decrypt.
fn initial(slot: &mut Slot, rng: &mut fastrand::Rng, token: &[u8]) {
    let bytes = &mut slot.bytes;
    let mut at = 0;
    let mut put = |octets: &[u8]| {
        bytes[at..at + octets.len()].copy_from_slice(octets);
        at += octets.len();
    };
    let (mut to, mut from) = ([0; CID_BYTES], [0; 8]);
    rng.fill(&mut to);
    rng.fill(&mut from);
    put(&[0xc0 | rng.u8(..0x10), 0, 0, 0, 1, CID_BYTES as u8]);
    put(&to);
    put(&[8]);
    put(&from);
    // Two octets say lengths of 64 and more; one says the others.
    match token.len() {
        length @ 0..64 => put(&[length as u8]),
        length => put(&[0x40 | (length >> 8) as u8, length as u8]),
    }
    put(token);
    let length = FULL - at - 2;
    bytes[at..at + 2].copy_from_slice(&[0x40 | (length >> 8) as u8, length as u8]);
    // The part that the header's protection takes its sample from.
    rng.fill(&mut bytes[at + 2..at + 22]);
    slot.length = FULL;
}

/// Of a ticket's shape: today's key, the time of now, everything else by chance.
fn ticket(now_s: u32, rng: &mut fastrand::Rng) -> [u8; TICKET_TOKEN_BYTES] {
    let mut token = [0; TICKET_TOKEN_BYTES];
    rng.fill(&mut token);
    token[0] = Kind::Known.octet();
    token[1] = (u64::from(now_s) / TICKET_EPOCH_S) as u8;
    token[54..58].copy_from_slice(&now_s.to_be_bytes());
    token
}

/// Of a cookie's shape: the key and the times of now, everything else by chance.
fn cookie(now_s: u32, rng: &mut fastrand::Rng) -> [u8; COOKIE_TOKEN_BYTES] {
    let mut token = [0; COOKIE_TOKEN_BYTES];
    rng.fill(&mut token);
    token[0] = 0x01;
    token[1] = (u64::from(now_s) / COOKIE_EPOCH_S) as u8;
    token[10..14].copy_from_slice(&now_s.to_be_bytes());
    token[14..18].copy_from_slice(&now_s.to_be_bytes());
    token[18..22].copy_from_slice(&(now_s + COOKIE_WINDOW_S).to_be_bytes());
    token
}

#[cfg(test)]
mod tests;
