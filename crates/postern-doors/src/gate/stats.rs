//! What the gate counts.

use super::level::Level;
use super::load::KernelDrops;
use super::verdict::{DropReason, Verdict};

/// A look at the counters; all since the start but the gauges at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateStats {
    /// Datagrams that came.
    pub received: u64,
    /// Their octets.
    pub received_bytes: u64,
    /// Passed on to QUIC.
    pub passed: u64,
    /// Of these, by an id of ours.
    pub passed_known_id: u64,
    /// Of these, first datagrams of an attempt, by ticket.
    pub admitted_ticket: u64,
    /// … by cookie.
    pub admitted_cookie: u64,
    /// … of these, without an appointment, because a ticket was shown before.
    pub admitted_both: u64,
    /// CHALLENGEs sent.
    pub answered: u64,
    /// HELLOs beyond what may be answered.
    pub unanswered: u64,
    /// Nothing that this door knows.
    pub garbage: u64,
    /// Ids that we did not make.
    pub bad_id: u64,
    /// Ids of ours from another address than their owner's.
    pub id_elsewhere: u64,
    /// Ids with more packets than one may bring.
    pub id_budget: u64,
    /// Initials under ids of ours whose handshakes are over, or too many of them.
    pub old_id: u64,
    /// Initials without a token that counts.
    pub no_token: u64,
    /// Forged, too old, or under an unknown key.
    pub bad_ticket: u64,
    /// Tickets that were shown before.
    pub burnt_ticket: u64,
    /// Tickets of domains that have shown as many as one may.
    pub over_share: u64,
    /// Tickets of another network.
    pub far_ticket: u64,
    /// Forged, or under an unknown key.
    pub bad_cookie: u64,
    /// Too early or too late.
    pub untimely_cookie: u64,
    /// Cookies that were used before, or whose datagrams are used up.
    pub used_cookie: u64,
    /// Strangers who were told to come later.
    pub appointments: u64,
    /// What could not be remembered, and was not let in for it.
    pub full: u64,
    /// What never reached it, by queue.
    pub kernel_drops: KernelDrops,
    /// Level now.
    pub level: u8,
    /// Prefixes that are active.
    pub prefixes: u32,
    /// Prefixes that wait for their turn.
    pub waiting: u32,
    /// Milliseconds between two turns of one prefix.
    pub fair_wait_ms: u64,
}

impl GateStats {
    /// One more, and what became of it.
    pub(super) fn note(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Pass => self.passed += 1,
            Verdict::Answer => self.answered += 1,
            Verdict::Drop(DropReason::Garbage) => self.garbage += 1,
            Verdict::Drop(DropReason::BadId) => self.bad_id += 1,
            Verdict::Drop(DropReason::IdElsewhere) => self.id_elsewhere += 1,
            Verdict::Drop(DropReason::IdBudget) => self.id_budget += 1,
            Verdict::Drop(DropReason::OldId) => self.old_id += 1,
            Verdict::Drop(DropReason::NoToken) => self.no_token += 1,
            Verdict::Drop(DropReason::BadTicket) => self.bad_ticket += 1,
            Verdict::Drop(DropReason::BadCookie) => self.bad_cookie += 1,
            Verdict::Drop(DropReason::Used) => self.used_cookie += 1,
            Verdict::Drop(DropReason::Unanswered) => self.unanswered += 1,
            Verdict::Drop(DropReason::Full) => self.full += 1,
        }
    }

    pub(super) fn with(mut self, level: Level, (prefixes, waiting, fair_wait_ms): (u32, u32, u64)) -> Self {
        self.level = level.number();
        (self.prefixes, self.waiting, self.fair_wait_ms) = (prefixes, waiting, fair_wait_ms);
        self
    }
}
