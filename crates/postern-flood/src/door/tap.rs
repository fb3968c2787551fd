//! A wire-tap on a friend: what somebody on his path would read, for replay and theft.
//!
//! Wraps the socket of a friend's endpoint and copies, within bounds, his Initials with a token and the connection ids
//! that the server gave him. It changes nothing and delays nothing; the friend does not know. Fed by `link`, read by
//! `packets`.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use postern_proto::door::limits::CID_BYTES;
use postern_proto::door::{Shape, Token, shape};
use quinn::udp::Transmit;

use super::hooked::Hook;

/// Datagrams, and ids, that a tap keeps: an attacker who has read so many need not read more. Full: what comes is not
/// kept.
const KEPT_MAX: usize = 256;

/// What was read on the wire.
#[derive(Clone, Default)]
pub(super) struct Captured {
    initials: Vec<(IpAddr, Vec<u8>)>,
    ids: Vec<[u8; CID_BYTES]>,
}

impl Captured {
    /// One of the Initials, and the address it came from.
    pub(super) fn initial(&self, n: usize) -> Option<(IpAddr, &[u8])> {
        let (from, datagram) = self.initials.get(n % self.initials.len().max(1))?;
        Some((*from, datagram))
    }

    /// One of the connection ids that the server uses.
    pub(super) fn id(&self, n: usize) -> Option<&[u8; CID_BYTES]> {
        self.ids.get(n % self.ids.len().max(1))
    }
}

/// Shared by the friends' sockets and the attackers.
#[derive(Clone, Default)]
pub(super) struct Tap(Arc<Mutex<Captured>>);

impl Tap {
    /// What there is by now.
    pub(super) fn captured(&self) -> Captured {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at a datagram that a friend sends.
    pub(super) fn see(&self, from: IpAddr, datagram: &[u8]) {
        match shape(datagram) {
            Shape::Initial { token: Token::Ticket(_) | Token::Cookie(_), .. } => {
                let mut captured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if captured.initials.len() < KEPT_MAX {
                    captured.initials.push((from, datagram.to_vec()));
                }
            }
            Shape::Established { cid } => {
                let mut captured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if captured.ids.len() < KEPT_MAX && !captured.ids.contains(cid) {
                    captured.ids.push(*cid);
                }
            }
            _ => {}
        }
    }
}

/// The tap at a friend's address.
pub(super) struct TapAt {
    pub(super) from: IpAddr,
    pub(super) tap: Tap,
}

impl fmt::Debug for TapAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TapAt({})", self.from)
    }
}

impl Hook for TapAt {
    fn sending(&self, transmit: &Transmit<'_>) {
        for datagram in transmit.contents.chunks(transmit.segment_size.unwrap_or(usize::MAX).max(1)) {
            self.tap.see(self.from, datagram);
        }
    }
}
