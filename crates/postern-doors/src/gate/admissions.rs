//! What the gate knew of the connections that it let begin, for whoever accepts them: the last thousand.

use postern_proto::door::TicketBody;
use postern_proto::door::ticket::Kind;

/// How a connection came to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdmittedBy {
    /// A stranger who proved an address.
    Cookie,
    /// Somebody who showed a ticket of ours, and its key.
    Ticket {
        /// What it was given for.
        kind: Kind,
        /// What we wrote into it.
        body: TicketBody,
    },
    /// Nothing was asked: the level is open.
    Nothing,
}

/// An admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// By what.
    pub by: AdmittedBy,
    /// A keyed hash of the source's prefix (/24, /48): for fairness among strangers.
    pub prefix: u64,
}

/// A ring: a connection whose admission was overwritten before it was accepted counts as a stranger's. The pool of
/// handshakes is smaller than the ring by far.
pub(super) struct Admissions {
    ring: Box<[([u8; 16], Option<Admission>)]>,
    next: usize,
}

impl Admissions {
    pub(super) fn new() -> Self {
        Self { ring: vec![([0; 16], None); KEPT].into_boxed_slice(), next: 0 }
    }

    pub(super) fn note(&mut self, dcid: &[u8; 16], admission: Admission) {
        self.ring[self.next] = (*dcid, Some(admission));
        self.next = (self.next + 1) % KEPT;
    }

    pub(super) fn find(&self, dcid: &[u8]) -> Option<Admission> {
        // The latest first: it is asked for at once.
        let (before, after) = self.ring.split_at(self.next);
        let latest_first = before.iter().rev().chain(after.iter().rev());
        latest_first.filter(|(id, _)| id == dcid).find_map(|(_, admission)| *admission)
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.ring)
    }
}

/// 1,024 of 72 octets.
const KEPT: usize = 1_024;
