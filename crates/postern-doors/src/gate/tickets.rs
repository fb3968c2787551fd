//! The desk for those who show a ticket: whose it is, whether it was used before, and what its owner must do then.
//!
//! Cheapest first: the proof (two hashes), the tables of those used and refused (a look each), and only then the sealed body,
//! which costs thirty times as much and is bounded by the second. The kind of a ticket is in the clear and proven with it, so
//! the known have tables and time of their own: however many domains somebody owns, and whatever tickets they have gathered,
//! they are in each other's way only. Within its kind a domain has a share.

use postern_proto::door::limits::{PROOF_SKEW_S, TICKET_BYTES, TICKET_TOKEN_BYTES};
use postern_proto::door::ticket::{check_ticket, open_ticket};
use postern_proto::door::{Keyring, Kind};

use super::admissions::AdmittedBy;
use super::budget::Budget;
use super::caller::{Caller, Say};
use super::marks::{Held, Marks};
use super::refusals::Refusals;
use super::seen::{Seen, Shown};
use super::sketch::Hash;
use super::stats::GateStats;
use super::tally::Tally;
use super::verdict::DropReason;

pub(super) struct Tickets {
    known: Register,
    others: Register,
}

/// What is known of the tickets of one kind.
struct Register {
    seen: Seen,
    refusals: Refusals,
    /// Places in `seen` that a domain has taken in this generation.
    taken: Tally,
    /// Bodies that may be opened.
    opens: Budget,
}

/// What is in a ticket.
enum Opened {
    Held(Held),
    /// Nothing that is good now.
    Bad,
    /// Nobody has looked: too many were opened in this second.
    NotNow,
}

impl Tickets {
    pub(super) fn new() -> Self {
        Self { known: Register::new(), others: Register::new() }
    }

    /// Each second, or so.
    pub(super) fn tick(&mut self, now_s: u32, passed_s: f64) {
        self.known.tick(now_s, passed_s);
        self.others.tick(now_s, passed_s);
    }

    /// Decides about a caller with a ticket. Who must show a cookie as well is marked for it.
    pub(super) fn decide(
        &mut self,
        caller: &Caller<'_>,
        token: &[u8; TICKET_TOKEN_BYTES],
        secrets: (&Keyring, &Hash),
        marks: &mut Marks,
        stats: &mut GateStats,
    ) -> Say {
        if check_ticket(secrets.0, token, caller.dcid, caller.now.unix_s).is_err() {
            return Say::Nothing(DropReason::BadTicket);
        }
        let known = token[0] == Kind::Known.octet();
        let register = if known { &mut self.known } else { &mut self.others };
        register.decide(caller, token, secrets, marks, stats)
    }

    pub(super) fn bytes(&self) -> usize {
        self.known.bytes() + self.others.bytes()
    }
}

impl Register {
    fn new() -> Self {
        Self {
            seen: Seen::new(SEEN_BITS, 2 * PROOF_SKEW_S),
            refusals: Refusals::new(REFUSALS_BITS),
            taken: Tally::new(TAKEN_BITS),
            opens: Budget::new(OPENS_PER_SECOND),
        }
    }

    fn tick(&mut self, now_s: u32, passed_s: f64) {
        if self.seen.age(now_s) {
            self.refusals.clear();
            self.taken.clear();
        }
        self.opens.refill(passed_s);
    }

    /// About a ticket whose proof is right.
    fn decide(
        &mut self,
        caller: &Caller<'_>,
        token: &[u8; TICKET_TOKEN_BYTES],
        (keys, hash): (&Keyring, &Hash),
        marks: &mut Marks,
        stats: &mut GateStats,
    ) -> Say {
        let now_s = caller.now.unix_s;
        let key = hash.of(b't', &token[..14]);
        let by = caller.by(hash);
        match self.seen.show(key, by) {
            Shown::Again => return Say::Again,
            Shown::Spent | Shown::Copied => return Say::Nothing(DropReason::Used),
            Shown::Far => return caller.show_a_cookie(),
            Shown::Other(nth) => {
                stats.burnt_ticket += 1;
                if nth > OTHERS_MAX {
                    return Say::Nothing(DropReason::Used);
                }
                // Only who has the ticket's key can prove it for another connection id: its owner, who does not know that
                // it was used up, is asked for a cookie and then passes those who wait.
                if let Opened::Held(held) = self.open(token, keys, now_s, stats) {
                    marks.put(hash, caller.ip(), held, now_s);
                }
                return caller.show_a_cookie();
            }
            Shown::First if self.refusals.is_settled(key) => return Say::Nothing(DropReason::BadTicket),
            Shown::First => {}
        }
        let (kind, body) = match self.open(token, keys, now_s, stats) {
            Opened::Held(held) => held,
            Opened::Bad => {
                self.refusals.note(key, now_s);
                return Say::Nothing(DropReason::BadTicket);
            }
            Opened::NotNow => return caller.show_a_cookie(),
        };
        let domain = hash.of(b'D', &body.domain_tag.to_be_bytes());
        if self.taken.of(domain) >= TAKEN_MAX {
            stats.over_share += 1;
            self.refusals.note(key, now_s);
            return caller.show_a_cookie();
        }
        let near = keys.is_prefix_tag(body.prefix_tag, caller.ip().to_canonical());
        if !near {
            stats.far_ticket += 1;
        }
        if !(if near { self.seen.take(key, by) } else { self.seen.take_far(key, by) }) {
            // As if it were burnt: what cannot be remembered lets nobody in alone, and costs its owner a round trip.
            stats.full += 1;
            self.refusals.note(key, now_s);
            marks.put(hash, caller.ip(), (kind, body), now_s);
            return caller.show_a_cookie();
        }
        self.taken.add(domain, 1);
        if !near {
            marks.put(hash, caller.ip(), (kind, body), now_s);
            return caller.show_a_cookie();
        }
        stats.admitted_ticket += 1;
        Say::Enter(AdmittedBy::Ticket { kind, body })
    }

    /// The AEAD is thirty times as dear as the proof: bounded by the second.
    fn open(&mut self, token: &[u8; TICKET_TOKEN_BYTES], keys: &Keyring, now_s: u32, stats: &mut GateStats) -> Opened {
        if !self.opens.take() {
            stats.full += 1;
            return Opened::NotNow;
        }
        let ticket: Option<&[u8; TICKET_BYTES]> = token.first_chunk();
        ticket.and_then(|ticket| open_ticket(keys, ticket, now_s).ok()).map_or(Opened::Bad, Opened::Held)
    }

    fn bytes(&self) -> usize {
        self.seen.bytes() + self.refusals.bytes() + self.taken.bytes()
    }
}

/// 32,768 tickets in twenty minutes, 16 octets each, two generations: 1 MiB. Beyond: not let in by ticket alone.
const SEEN_BITS: u32 = 15;
/// Tickets that one domain may use up in twenty minutes: eight connections, each begun anew every 40 s, for twenty minutes.
/// Beyond: its callers are strangers. 128 domains of one kind must do their utmost together to fill the table.
const TAKEN_MAX: u16 = 256;
/// 4 × 2,048 counters, 16 KiB: with a thousand domains one in some hundred has less of its share.
const TAKEN_BITS: u32 = 11;
/// 16,384 tickets that brought nothing in twenty minutes, 256 KiB: more than a domain can have at once.
const REFUSALS_BITS: u32 = 14;
/// Ticket bodies opened a second: each costs 1.5 µs.
const OPENS_PER_SECOND: f64 = 10_000.0;
/// Attempts with one burnt ticket that are answered: the owner's own, and copies of them from a thief's addresses.
const OTHERS_MAX: u8 = 16;
