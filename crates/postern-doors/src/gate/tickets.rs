//! The desk for those who show a ticket: whose it is, whether it was used before, and what its owner must do then.
//!
//! Cheapest first: the proof (two hashes), the table of those used (one look), and only then the sealed body, which costs
//! thirty times as much and is bounded by the second.

use postern_proto::door::Keyring;
use postern_proto::door::limits::{PROOF_SKEW_S, TICKET_BYTES, TICKET_TOKEN_BYTES};
use postern_proto::door::ticket::{check_ticket, open_ticket};

use super::admissions::AdmittedBy;
use super::budget::Budget;
use super::caller::{Caller, Say};
use super::marks::{Held, Marks};
use super::seen::{Seen, Shown};
use super::sketch::Hash;
use super::stats::GateStats;
use super::verdict::DropReason;

pub(super) struct Tickets {
    seen: Seen,
    /// Bodies that may be opened.
    opens: Budget,
}

impl Tickets {
    pub(super) fn new() -> Self {
        Self { seen: Seen::new(SEEN_BITS, 2 * PROOF_SKEW_S), opens: Budget::new(OPENS_PER_SECOND) }
    }

    /// Each second, or so.
    pub(super) fn tick(&mut self, now_s: u32, passed_s: f64) {
        self.seen.age(now_s);
        self.opens.refill(passed_s);
    }

    /// Decides about a caller with a ticket. Who must show a cookie as well is marked for it.
    pub(super) fn decide(
        &mut self,
        caller: &Caller<'_>,
        token: &[u8; TICKET_TOKEN_BYTES],
        (keys, hash): (&Keyring, &Hash),
        marks: &mut Marks,
        stats: &mut GateStats,
    ) -> Say {
        let now_s = caller.now.unix_s;
        if check_ticket(keys, token, caller.dcid, now_s).is_err() {
            return Say::Nothing(DropReason::BadTicket);
        }
        let key = hash.of(b't', &token[..14]);
        let by = caller.by(hash);
        match self.seen.show(key, by) {
            Shown::Again => return Say::Again,
            Shown::Spent | Shown::Copied => return Say::Nothing(DropReason::Used),
            Shown::Far => return caller.show_a_cookie(),
            // Only who has the ticket's key can prove it for another connection id: its owner, who does not know that it
            // was used up, is asked for a cookie and then passes those who wait.
            Shown::Other(nth) => {
                stats.burnt_ticket += 1;
                if nth <= OTHERS_MARKED_MAX
                    && let Some(held) = self.open(token, keys, now_s, stats)
                {
                    marks.put(hash, caller.ip(), held, now_s);
                }
                return caller.show_a_cookie();
            }
            Shown::First => {}
        }
        let Some((kind, body)) = self.open(token, keys, now_s, stats) else {
            return Say::Nothing(DropReason::BadTicket);
        };
        let near = body.prefix_tag == keys.prefix_tag(caller.ip().to_canonical());
        let remembered = if near { self.seen.take(key, by) } else { self.seen.take_far(key, by) };
        if !remembered {
            return Say::Nothing(DropReason::Full);
        }
        if !near {
            stats.far_ticket += 1;
            marks.put(hash, caller.ip(), (kind, body), now_s);
            return caller.show_a_cookie();
        }
        stats.admitted_ticket += 1;
        Say::Enter(AdmittedBy::Ticket { kind, body })
    }

    /// The AEAD is thirty times as dear as the proof: bounded by the second.
    fn open(
        &mut self,
        token: &[u8; TICKET_TOKEN_BYTES],
        keys: &Keyring,
        now_s: u32,
        stats: &mut GateStats,
    ) -> Option<Held> {
        if !self.opens.take() {
            stats.full += 1;
            return None;
        }
        let ticket: &[u8; TICKET_BYTES] = token.first_chunk()?;
        open_ticket(keys, ticket, now_s).ok()
    }

    pub(super) fn bytes(&self) -> usize {
        self.seen.bytes()
    }
}

/// 65,536 tickets in twenty minutes, 16 octets each, two generations: 2 MiB. Beyond: not let in by ticket.
const SEEN_BITS: u32 = 16;
/// Ticket bodies opened a second: each costs 1.5 µs.
const OPENS_PER_SECOND: f64 = 20_000.0;
/// Attempts with one burnt ticket that count: the owner's own, and copies of them from a thief's addresses.
const OTHERS_MARKED_MAX: u8 = 16;
