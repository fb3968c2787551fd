//! Hostile datagrams of every kind, one after the other: pure, and the same for the same seed.
//!
//! *Naive* kinds are what any flood tool sends at a QUIC port. *Spec-aware* ones are written by somebody who has read
//! the specification: their first octets are those of a known id, a ticket or a cookie of today, with a key id that is
//! accepted, so that neither the kernel's class split nor the shape tells them from friends; only a keyed hash does.
//! It never sends anything.

use std::fmt;
use std::str::FromStr;

use postern_proto::door::limits::{
    CID_BYTES, CID_EPOCH_S, COOKIE_EPOCH_S, COOKIE_TOKEN_BYTES, COOKIE_WINDOW_S, HELLO_BYTES_MIN, TICKET_EPOCH_S,
    TICKET_TOKEN_BYTES,
};
use postern_proto::door::{Kind, Shape, hello, shape};
use serde::{Deserialize, Serialize};

use super::send::DATAGRAM_BYTES_MAX;

/// A kind of hostile datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    /// Octets without a meaning.
    Garbage,
    /// An Initial without a token: what QUIC floods are made of.
    Initial,
    /// A HELLO: asks for a cookie that nobody will collect.
    Hello,
    /// A short header with an id that looks like one of this hour. Spec-aware.
    Short,
    /// The same as a Handshake packet. Spec-aware.
    Handshake,
    /// An Initial with what looks like a ticket of today. Spec-aware.
    Ticket,
    /// An Initial with what looks like a cookie of this quarter of an hour. Spec-aware.
    Cookie,
    /// A captured datagram as it was.
    Replay,
    /// A captured Initial with another connection id.
    ReplayDcid,
    /// Anything, with a captured connection id of the server.
    Spray,
}

impl Attack {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Garbage,
        Self::Initial,
        Self::Hello,
        Self::Short,
        Self::Handshake,
        Self::Ticket,
        Self::Cookie,
        Self::Replay,
        Self::ReplayDcid,
        Self::Spray,
    ];

    /// Its name on the command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Garbage => "garbage",
            Self::Initial => "initial",
            Self::Hello => "hello",
            Self::Short => "short",
            Self::Handshake => "handshake",
            Self::Ticket => "ticket",
            Self::Cookie => "cookie",
            Self::Replay => "replay",
            Self::ReplayDcid => "replay-dcid",
            Self::Spray => "spray",
        }
    }

    /// Whether it needs datagrams that were captured: any, those of shape Initial, those of shape Established.
    fn can_use(self, captured: &[u8]) -> bool {
        match (self, shape(captured)) {
            (Self::Replay, _) => captured.len() <= DATAGRAM_BYTES_MAX,
            (Self::ReplayDcid, Shape::Initial { .. }) => captured.len() <= DATAGRAM_BYTES_MAX,
            (Self::Spray, Shape::Established { .. }) => true,
            _ => false,
        }
    }

    /// Whether it is made of captured datagrams.
    pub fn needs_captured(self) -> bool {
        matches!(self, Self::Replay | Self::ReplayDcid | Self::Spray)
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Attack {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|one| one.as_str() == text)
            .ok_or_else(|| format!("no attack is called `{text}`; there are {names}"))
    }
}

/// The kinds in turn.
#[derive(Clone)]
pub struct Packets {
    attacks: Vec<Attack>,
    /// What each of the attacks is made of.
    captured: Vec<Vec<Vec<u8>>>,
    rng: fastrand::Rng,
    /// Whatever is behind the heads: random once, because nobody reads it before the head has passed.
    tail: [u8; DATAGRAM_BYTES_MAX],
    unix_s: u32,
    made: u64,
}

impl Packets {
    /// `unix_s` makes key ids and times of what looks genuine. `None`: no attacks, or nothing was captured that one of
    /// them could use.
    pub fn new(attacks: &[Attack], captured: &[Vec<u8>], seed: u64, unix_s: u32) -> Option<Self> {
        let usable = |attack: &Attack| -> Vec<Vec<u8>> {
            captured.iter().filter(|datagram| attack.can_use(datagram)).cloned().collect()
        };
        let captured: Vec<_> = attacks.iter().map(usable).collect();
        let lacks = |(attack, captured): (&Attack, &Vec<_>)| attack.needs_captured() && captured.is_empty();
        if attacks.is_empty() || attacks.iter().zip(&captured).any(lacks) {
            return None;
        }
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut tail = [0; DATAGRAM_BYTES_MAX];
        rng.fill(&mut tail);
        Some(Self { attacks: attacks.to_vec(), captured, rng, tail, unix_s, made: 0 })
    }

    /// Writes the next one; its length and kind. `out` must have 1,452 octets.
    pub fn write(&mut self, out: &mut [u8]) -> (usize, Attack) {
        let turn = (self.made % self.attacks.len() as u64) as usize;
        self.made += 1;
        let attack = self.attacks[turn];
        out[..DATAGRAM_BYTES_MAX].copy_from_slice(&self.tail);
        let len = match attack {
            Attack::Garbage => self.garbage(out),
            Attack::Initial => self.initial(out, &[]),
            Attack::Hello => {
                hello(self.rng.u64(..).to_be_bytes(), &mut out[..HELLO_BYTES_MIN]);
                HELLO_BYTES_MIN
            }
            Attack::Short => {
                let cid = self.cid();
                self.short(out, cid)
            }
            Attack::Handshake => self.handshake(out),
            Attack::Ticket => {
                let token = self.ticket();
                self.initial(out, &token)
            }
            Attack::Cookie => {
                let token = self.cookie();
                self.initial(out, &token)
            }
            Attack::Replay | Attack::ReplayDcid | Attack::Spray => self.again(attack, turn, out),
        };
        (len, attack)
    }

    fn again(&mut self, attack: Attack, turn: usize, out: &mut [u8]) -> usize {
        let all = &self.captured[turn];
        let datagram = &all[self.rng.usize(..all.len())];
        if let (Attack::Spray, Shape::Established { cid }) = (attack, shape(datagram)) {
            let cid = *cid;
            return self.short(out, cid);
        }
        let len = datagram.len();
        out[..len].copy_from_slice(datagram);
        if attack == Attack::ReplayDcid {
            self.rng.fill(&mut out[DCID_AT..DCID_AT + CID_BYTES]);
        }
        len
    }

    fn garbage(&mut self, out: &mut [u8]) -> usize {
        self.rng.fill(&mut out[..16]);
        // Neither QUIC (the fixed bit) nor the prelude.
        out[0] &= 0xA0;
        self.rng.usize(1..=HELLO_BYTES_MIN)
    }

    /// As the server of this hour would make it, but for the hash at its end.
    fn cid(&mut self) -> [u8; CID_BYTES] {
        let mut cid = [0; CID_BYTES];
        self.rng.fill(&mut cid[2..]);
        cid[0] = (u64::from(self.unix_s) / CID_EPOCH_S) as u8;
        cid
    }

    fn short(&mut self, out: &mut [u8], cid: [u8; CID_BYTES]) -> usize {
        out[0] = 0x40 | self.rng.u8(..) & 0x3f;
        out[1..=CID_BYTES].copy_from_slice(&cid);
        self.rng.fill(&mut out[1 + CID_BYTES..33]);
        self.rng.usize(40..=HELLO_BYTES_MIN)
    }

    fn handshake(&mut self, out: &mut [u8]) -> usize {
        let cid = self.cid();
        let at = self.long(out, 0xE0, cid);
        let len = self.rng.usize(64..=HELLO_BYTES_MIN);
        put_length(&mut out[at..], len - at - 2);
        len
    }

    fn initial(&mut self, out: &mut [u8], token: &[u8]) -> usize {
        let mut dcid = [0; CID_BYTES];
        self.rng.fill(&mut dcid);
        let mut at = self.long(out, 0xC0, dcid);
        let length: &[u8] = match token.len() {
            0 => &[0],
            COOKIE_TOKEN_BYTES => &[COOKIE_TOKEN_BYTES as u8],
            _ => &[0x40, TICKET_TOKEN_BYTES as u8],
        };
        for part in [length, token] {
            out[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        put_length(&mut out[at..], HELLO_BYTES_MIN - at - 2);
        self.rng.fill(&mut out[at + 2..at + 22]);
        HELLO_BYTES_MIN
    }

    /// A long header of version 1 up to its source id; where it ends.
    fn long(&mut self, out: &mut [u8], first: u8, dcid: [u8; CID_BYTES]) -> usize {
        out[0] = first | self.rng.u8(..) & 0x0f;
        out[1..DCID_AT].copy_from_slice(&[0, 0, 0, 1, CID_BYTES as u8]);
        out[DCID_AT..DCID_AT + CID_BYTES].copy_from_slice(&dcid);
        let at = DCID_AT + CID_BYTES;
        out[at] = 8;
        self.rng.fill(&mut out[at + 1..at + 9]);
        at + 9
    }

    fn ticket(&mut self) -> [u8; TICKET_TOKEN_BYTES] {
        let mut token = [0; TICKET_TOKEN_BYTES];
        self.rng.fill(&mut token);
        token[..2].copy_from_slice(&[Kind::Known.octet(), (u64::from(self.unix_s) / TICKET_EPOCH_S) as u8]);
        token[54..58].copy_from_slice(&self.unix_s.to_be_bytes());
        token
    }

    fn cookie(&mut self) -> [u8; COOKIE_TOKEN_BYTES] {
        let mut token = [0; COOKIE_TOKEN_BYTES];
        self.rng.fill(&mut token);
        token[..2].copy_from_slice(&[1, (u64::from(self.unix_s) / COOKIE_EPOCH_S) as u8]);
        token[10..14].copy_from_slice(&self.unix_s.to_be_bytes());
        token[14..18].copy_from_slice(&self.unix_s.to_be_bytes());
        token[18..22].copy_from_slice(&self.unix_s.saturating_add(COOKIE_WINDOW_S).to_be_bytes());
        token
    }
}

/// Behind the first octet, the version and the length of the id (RFC 9000 section 17.2).
const DCID_AT: usize = 6;

/// The length of what follows, as a variable-length integer of two octets.
fn put_length(out: &mut [u8], len: usize) {
    out[..2].copy_from_slice(&(0x4000 | len as u16).to_be_bytes());
}

#[cfg(test)]
mod tests;
