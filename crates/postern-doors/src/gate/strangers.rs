//! The desk for strangers: whose address a cookie proves, whether it was used before, and whose turn it is.
//!
//! How strict it is follows from how many ask and what the gate itself takes (`level`); who comes first among them is the
//! business of `appointments`.

use std::net::IpAddr;

use postern_proto::door::Keyring;
use postern_proto::door::cookie::{CookieFault, check_cookie};
use postern_proto::door::limits::{COOKIE_TOKEN_BYTES, COOKIE_WINDOW_S};

use super::admissions::AdmittedBy;
use super::answers;
use super::appointments::{Appointments, Prefixes, Turn};
use super::caller::{Caller, Say};
use super::level::{Ladder, Level};
use super::marks::Marks;
use super::now::Now;
use super::seen::{Seen, Shown};
use super::sketch::Hash;
use super::stats::GateStats;
use super::verdict::DropReason;

pub(super) struct Strangers {
    /// Served a second in the calm.
    per_second: f64,
    ladder: Ladder,
    appointments: Appointments,
    cookies: Seen,
    /// Who asked to be served since the last tick.
    asked: u32,
}

impl Strangers {
    pub(super) fn new(floor: Level, per_second: u32) -> Self {
        Self {
            per_second: f64::from(per_second.max(1)),
            ladder: Ladder::new(floor),
            appointments: Appointments::new(per_second),
            cookies: Seen::new(SEEN_BITS, COOKIE_WINDOW_S),
            asked: 0,
        }
    }

    pub(super) fn level(&self) -> Level {
        self.ladder.level()
    }

    /// Each second, or so: `passed_s` since the last, of which the gate used the share `cpu` of a core.
    pub(super) fn tick(&mut self, now: Now, passed_s: f64, cpu: f64) {
        let _begun = self.cookies.age(now.unix_s);
        if passed_s > 0.0 {
            self.ladder.note_second(f64::from(self.asked) / passed_s / self.per_second, cpu);
            self.asked = 0;
        }
        self.appointments.set_rate(match self.level() {
            Level::Open | Level::Cookie | Level::Appointments => self.per_second,
            Level::Quiet => self.per_second / 2.0,
            Level::Floor => self.per_second / 100.0,
        });
        self.appointments.tick(now.ms);
    }

    /// When one from there would be served; writes nothing, so that spoofed HELLOs change nothing.
    pub(super) fn outlook(&self, source: IpAddr, hash: &Hash, now: Now) -> Turn {
        if self.level() < Level::Appointments {
            return Turn::Now;
        }
        self.appointments.outlook(Prefixes::of(hash, source.to_canonical()), now.ms)
    }

    /// Decides about a caller with a cookie. One with a mark, who has shown a ticket as well, waits for no turn.
    pub(super) fn decide(
        &mut self,
        caller: &Caller<'_>,
        token: &[u8; COOKIE_TOKEN_BYTES],
        (keys, hash): (&Keyring, &Hash),
        marks: &mut Marks,
        stats: &mut GateStats,
    ) -> Say {
        let now = caller.now;
        let cookie = match check_cookie(keys, caller.ip(), token, now.unix_s) {
            Ok(cookie) => cookie,
            Err(CookieFault::Early { .. } | CookieFault::Late) => {
                stats.untimely_cookie += 1;
                return Say::Nothing(DropReason::BadCookie);
            }
            Err(CookieFault::Forged | CookieFault::UnknownKey) => return Say::Nothing(DropReason::BadCookie),
        };
        // The whole token: two cookies of one nonce are two.
        let key = hash.of(b'c', token);
        let by = caller.by(hash);
        match self.cookies.show(key, by) {
            Shown::Again => return Say::Again,
            Shown::Spent | Shown::Copied | Shown::Far | Shown::Other(_) => return Say::Nothing(DropReason::Used),
            Shown::First => {}
        }
        // Before its turn is used up for nothing; whoever asks again has another cookie, and other places.
        if !self.cookies.has_room(key) {
            return Say::Nothing(DropReason::Full);
        }
        let prefixes = caller.prefixes(hash);
        self.appointments.note_active(prefixes);
        let held = marks.take(hash, caller.ip(), now.unix_s);
        if held.is_none()
            && let turn @ Turn::In(_) = self.ask(prefixes, now)
        {
            stats.appointments += 1;
            return Say::ComeBack { nonce: cookie.nonce, turn, shown: answers::Shown::Cookie };
        }
        if !self.cookies.take(key, by) {
            return Say::Nothing(DropReason::Full);
        }
        stats.admitted_cookie += 1;
        stats.admitted_both += u64::from(held.is_some());
        Say::Enter(held.map_or(AdmittedBy::Cookie, |(kind, body)| AdmittedBy::Ticket { kind, body }))
    }

    /// Decides about a caller with nothing to show, while the level is open: within the budget, first come first served.
    pub(super) fn decide_bare(&mut self, caller: &Caller<'_>, hash: &Hash) -> Say {
        let key = hash.of(b'n', caller.dcid);
        let by = caller.by(hash);
        match self.cookies.show(key, by) {
            Shown::Again => return Say::Again,
            Shown::Spent | Shown::Copied | Shown::Far | Shown::Other(_) => return Say::Nothing(DropReason::Used),
            Shown::First => {}
        }
        let room = self.ask(caller.prefixes(hash), caller.now) == Turn::Now;
        if !room || !self.cookies.take(key, by) {
            return Say::Nothing(DropReason::NoToken);
        }
        Say::Enter(AdmittedBy::Nothing)
    }

    /// One more asks to be served.
    fn ask(&mut self, prefixes: Prefixes, now: Now) -> Turn {
        self.asked = self.asked.saturating_add(1);
        if self.level() >= Level::Appointments {
            self.appointments.admit_in_turn(prefixes, now.ms)
        } else {
            self.appointments.admit(prefixes, now.ms)
        }
    }

    /// See [`Appointments::gauges`].
    pub(super) fn gauges(&self) -> (u32, u32, u64) {
        self.appointments.gauges()
    }

    pub(super) fn bytes(&self) -> usize {
        self.cookies.bytes() + self.appointments.bytes()
    }
}

/// Only cookies that let somebody in are kept, fifty a second for two minutes: 6,000 of 32,768 places, 1 MiB in two
/// generations. At this load one in 30,000 finds its eight places taken, and asks again.
const SEEN_BITS: u32 = 15;
