//! What a datagram is, by its first octets, without a key: the first thing that a gate does.
//!
//! Owns the classification of datagrams (QUIC version 1, RFC 9000 section 17, as far as it is in the clear; and HELLO)
//! and the prefixes that strangers are counted by. It never decides who may enter: the gate does, by the keyed checks.

use core::net::IpAddr;

use super::limits::{
    CID_BYTES, COOKIE_TOKEN_BYTES, HANDSHAKE_PACKET_BYTES_MIN, HELLO_BYTES_MIN, PEER_CID_BYTES_MAX,
    SHORT_PACKET_BYTES_MIN, TICKET_TOKEN_BYTES, VERSION,
};
use super::ticket::Kind;

/// What a datagram is. Of coalesced packets the first decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape<'a> {
    /// Nothing that this door answers: dropped. Also 0-RTT, Retry, Version Negotiation and other versions of QUIC.
    Garbage,
    /// A stranger asks for a cookie.
    Hello {
        /// To be echoed.
        nonce: [u8; 8],
    },
    /// A packet with a short header or a Handshake packet: its connection id must be one of ours.
    Established {
        /// The destination connection id.
        cid: &'a [u8; CID_BYTES],
    },
    /// An Initial. Its destination connection id is the client's invention, or one of ours when the client has heard
    /// from us before.
    Initial {
        /// The destination connection id.
        dcid: &'a [u8; CID_BYTES],
        /// What is in the token field.
        token: Token<'a>,
    },
}

/// The token field of an Initial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// Empty.
    None,
    /// The size and first octet of a cookie.
    Cookie(&'a [u8; COOKIE_TOKEN_BYTES]),
    /// The size and first octet of a ticket with a proof.
    Ticket(&'a [u8; TICKET_TOKEN_BYTES]),
    /// Anything else.
    Other,
}

/// First octet of a HELLO. The fixed bit of QUIC (0x40) is 0: it cannot be taken for one of its packets.
pub(crate) const HELLO: u8 = 0x11;
/// First octet of a CHALLENGE.
pub(crate) const CHALLENGE: u8 = 0x12;
/// First octet of a cookie token.
pub(crate) const COOKIE: u8 = 0x01;

/// Classifies a datagram; no allocation, no panic, a few loads.
#[inline]
pub fn shape(datagram: &[u8]) -> Shape<'_> {
    match datagram.first() {
        Some(first) if first & 0x40 == 0 => hello(datagram).unwrap_or(Shape::Garbage),
        Some(first) if first & 0x80 == 0 => short(datagram).unwrap_or(Shape::Garbage),
        Some(first) => long(*first, datagram).unwrap_or(Shape::Garbage),
        None => Shape::Garbage,
    }
}

fn hello(datagram: &[u8]) -> Option<Shape<'_>> {
    let (head, rest) = datagram.split_first_chunk::<4>()?;
    // The flags are for later versions of the prelude.
    if head[0] != HELLO || head[1] != VERSION || datagram.len() < HELLO_BYTES_MIN {
        return None;
    }
    Some(Shape::Hello { nonce: *rest.first_chunk()? })
}

#[inline]
fn short(datagram: &[u8]) -> Option<Shape<'_>> {
    if datagram.len() < SHORT_PACKET_BYTES_MIN {
        return None;
    }
    Some(Shape::Established { cid: datagram[1..].first_chunk()? })
}

#[inline]
fn long(first: u8, datagram: &[u8]) -> Option<Shape<'_>> {
    // Version 1 and a destination connection id of 16 octets.
    let (head, rest) = datagram.split_first_chunk::<6>()?;
    if head[1..] != [0, 0, 0, 1, CID_BYTES as u8] {
        return None;
    }
    let (dcid, rest) = rest.split_first_chunk::<CID_BYTES>()?;
    let (source_bytes, rest) = rest.split_first()?;
    let source_bytes = usize::from(*source_bytes);
    if source_bytes > PEER_CID_BYTES_MAX {
        return None;
    }
    match first >> 4 & 3 {
        0 if datagram.len() >= HELLO_BYTES_MIN => {
            Some(Shape::Initial { dcid, token: token(rest.get(source_bytes..)?) })
        }
        2 if datagram.len() >= HANDSHAKE_PACKET_BYTES_MIN => Some(Shape::Established { cid: dcid }),
        _ => None,
    }
}

/// The token, from the octet of its length on. Only the shortest form of each length is taken for ours, so that a
/// filter in the kernel can look at fixed octets.
#[inline]
fn token(field: &[u8]) -> Token<'_> {
    match *field {
        [0, ..] => Token::None,
        [0x26, COOKIE, ..] => field[1..].first_chunk().map_or(Token::Other, Token::Cookie),
        [0x40, 0x42, kind, ..] if Kind::from_octet(kind).is_some() => {
            field[2..].first_chunk().map_or(Token::Other, Token::Ticket)
        }
        _ => Token::Other,
    }
}

/// The network of an address at one of two widths; what strangers share fairly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(u64);

impl Prefix {
    /// The length of the prefix in the first octet, its bits right-aligned in the seven others: no two prefixes of
    /// either family or width have the same word.
    pub fn word(self) -> u64 {
        self.0
    }
}

/// The /24 or /48 of an address; an IPv4 address in IPv6 clothes counts as IPv4.
#[inline]
pub fn prefix_of(address: IpAddr) -> Prefix {
    match address.to_canonical() {
        IpAddr::V4(v4) => Prefix(24 << 56 | u64::from(v4.to_bits() >> 8)),
        IpAddr::V6(v6) => Prefix(48 << 56 | (v6.to_bits() >> 80) as u64),
    }
}

/// The /16 or /32 of an address.
#[inline]
pub fn wide_prefix_of(address: IpAddr) -> Prefix {
    match address.to_canonical() {
        IpAddr::V4(v4) => Prefix(16 << 56 | u64::from(v4.to_bits() >> 16)),
        IpAddr::V6(v6) => Prefix(32 << 56 | (v6.to_bits() >> 96) as u64),
    }
}

#[cfg(test)]
mod tests;
