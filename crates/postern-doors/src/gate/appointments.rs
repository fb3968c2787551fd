//! When a stranger may come, while there are more of them than can be served: a queue without members.
//!
//! A prefix that proves an address (/24 or /48) gets a *place*: a moment of its own, `1/C` behind that of the one before, where
//! `C` is how many strangers are served a second. The queue is that one moment and a sketch of moments by prefix. However often a
//! prefix asks, it has one place; one that asks a thousand times gains nothing over one that asks once. Whoever was served may
//! take a place again after `1.25 P/C`, `P` being the prefixes that returned a valid cookie lately: the quarter leaves room for those who
//! come for the first time, who are then served at once. Its /16 or /32 is held to the same among its like, so that a
//! thousand networks of one owner are one owner: inside of it there is a second queue of the same kind, and only who has had his
//! turn there goes on to the first. What those who have places leave unused is for anybody.
//!
//! Nothing is written for a HELLO: only a cookie that came back, from an address that is real, counts. Proof of work is not
//! asked for: botnets have more processors than mail servers (Laurie and Clayton 2004).

use std::net::IpAddr;

use super::sketch::{Counter, Hash, Moments, STAMP_MS};

/// A source as appointments see it: keyed hashes of its /24 and /16, or /48 and /32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefixes {
    pub(super) narrow: u64,
    pub(super) wide: u64,
}

impl Prefixes {
    pub(super) fn of(hash: &Hash, source: IpAddr) -> Self {
        match source {
            IpAddr::V4(v4) => {
                let octets = v4.octets();
                Self { narrow: hash.of(b'4', &octets[..3]), wide: hash.of(b'w', &octets[..2]) }
            }
            IpAddr::V6(v6) => {
                let octets = v6.octets();
                Self { narrow: hash.of(b'6', &octets[..6]), wide: hash.of(b'W', &octets[..4]) }
            }
        }
    }
}

/// The answer to one who may come or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Now,
    /// In so many milliseconds.
    In(u64),
}

/// How a prefix stands among its like.
enum Like {
    /// Nobody of them was served lately.
    Free,
    /// It has its turn, then or since then.
    Has(u64),
    /// It can have this one.
    Next(u64),
}

pub(super) struct Appointments {
    /// Served a second, at most: the aggregate budget over all prefixes.
    rate: f64,
    /// What may be served at this moment; below zero for those who have places.
    tokens: f64,
    filled_ms: u64,
    narrow: Counter,
    wide: Counter,
    /// When a prefix was served last; and its /16 or /32, or for when that was given its last turn.
    served: Moments,
    served_wide: Moments,
    /// The place of a prefix, and its turn among its like.
    places: Moments,
    /// The last place that was given.
    tail_ms: f64,
    counted_ms: u64,
    /// Estimates, made anew each second: a logarithm a packet would be too dear.
    active: u32,
    active_wide: u32,
}

impl Appointments {
    pub(super) fn new(rate: u32) -> Self {
        let rate = f64::from(rate.max(1));
        Self {
            rate,
            tokens: burst(rate),
            filled_ms: 0,
            narrow: Counter::new(18),
            wide: Counter::new(14),
            served: Moments::new(17),
            served_wide: Moments::new(15),
            places: Moments::new(17),
            tail_ms: 0.0,
            counted_ms: 0,
            active: 0,
            active_wide: 0,
        }
    }

    /// Strangers served a second from now on; never none.
    pub(super) fn set_rate(&mut self, rate: f64) {
        self.rate = rate.max(1.0);
    }

    /// Each second: estimates, and what is old is forgotten.
    pub(super) fn tick(&mut self, now_ms: u64) {
        self.active = self.narrow.estimate();
        self.active_wide = self.wide.estimate();
        if now_ms.saturating_sub(self.counted_ms) >= self.fair_ms(self.active).max(COUNTED_MS_MIN) {
            self.counted_ms = now_ms;
            self.narrow.age();
            self.wide.age();
        }
    }

    /// A valid cookie came back from there.
    pub(super) fn note_active(&mut self, prefixes: Prefixes) {
        self.narrow.note(prefixes.narrow);
        self.wide.note(prefixes.wide);
    }

    /// Serves one within the aggregate budget, first come first served.
    pub(super) fn admit(&mut self, prefixes: Prefixes, now_ms: u64) -> Turn {
        self.fill(now_ms);
        if self.tokens < 1.0 {
            return Turn::In(1_000 + prefixes.narrow % 2_000);
        }
        self.serve(prefixes, now_ms)
    }

    /// Serves one in turn, or gives it a place.
    pub(super) fn admit_in_turn(&mut self, prefixes: Prefixes, now_ms: u64) -> Turn {
        self.fill(now_ms);
        match self.place(prefixes, now_ms) {
            Some(place) if place > now_ms => return Turn::In(place - now_ms),
            // Places are 1/C apart: who keeps his finds room, but for a few who are late together.
            Some(_) if self.tokens >= 1.0 - burst(self.rate) => return self.serve(prefixes, now_ms),
            Some(_) => return Turn::In(1_000),
            None => {}
        }
        if let Turn::In(ms) = self.own_turn(prefixes, now_ms) {
            return Turn::In(ms);
        }
        let unused = self.tokens >= burst(self.rate) / 2.0;
        match self.turn_among_like(prefixes, now_ms) {
            Like::Free => {}
            _ if unused => {}
            Like::Has(turn) if turn <= now_ms => {}
            Like::Has(turn) => return Turn::In(turn - now_ms),
            Like::Next(turn) if turn > now_ms + PLACE_MS_MAX => return Turn::In(PLACE_MS_MAX),
            Like::Next(turn) => {
                self.places.note(among_like(prefixes), turn, now_ms);
                self.served_wide.note(prefixes.wide, turn, now_ms);
                return Turn::In(turn - now_ms);
            }
        }
        let nobody_waits = self.tail_ms <= now_ms as f64;
        if unused || (nobody_waits && self.tokens >= 1.0) {
            return self.serve(prefixes, now_ms);
        }
        let place = self.tail_ms.max(now_ms as f64) + 1_000.0 / self.rate;
        if place as u64 > now_ms + PLACE_MS_MAX {
            // By then its sender has used port 25; it may ask again.
            return Turn::In(PLACE_MS_MAX);
        }
        self.tail_ms = place;
        self.places.note(prefixes.narrow, place as u64, now_ms);
        self.served_wide.note(prefixes.wide, place as u64, now_ms);
        Turn::In((place as u64 - now_ms).max(1))
    }

    /// When a prefix that asks now should show its cookie; writes nothing.
    pub(super) fn outlook(&self, prefixes: Prefixes, now_ms: u64) -> Turn {
        match self.place(prefixes, now_ms) {
            Some(place) if place > now_ms => Turn::In(place - now_ms),
            Some(_) => Turn::Now,
            None => match (self.own_turn(prefixes, now_ms), self.turn_among_like(prefixes, now_ms)) {
                (Turn::In(ms), _) => Turn::In(ms),
                (_, Like::Has(turn)) if turn > now_ms => Turn::In(turn - now_ms),
                (_, Like::Next(turn)) if turn > now_ms + PLACE_MS_MAX => Turn::In(PLACE_MS_MAX),
                // At once: a place is for those who have shown that their address is real.
                _ => Turn::Now,
            },
        }
    }

    fn serve(&mut self, prefixes: Prefixes, now_ms: u64) -> Turn {
        self.tokens -= 1.0;
        self.served.note(prefixes.narrow, now_ms, now_ms);
        self.served_wide.note(prefixes.wide, now_ms, now_ms);
        Turn::Now
    }

    /// The place of this prefix, while it is good: not used, and not missed by as long as a cookie lives.
    fn place(&self, prefixes: Prefixes, now_ms: u64) -> Option<u64> {
        let place = self.places.of(prefixes.narrow)?;
        let used = self.served.of(prefixes.narrow).is_some_and(|served| served >= place);
        (!used && place + PLACE_GOOD_MS > now_ms).then_some(place)
    }

    /// How long a prefix that was served lately must leave the others their turn.
    fn own_turn(&self, prefixes: Prefixes, now_ms: u64) -> Turn {
        let turn = self.served.of(prefixes.narrow).map_or(0, |served| served + self.fair_ms(self.active));
        match turn.saturating_sub(now_ms) {
            0 => Turn::Now,
            // Not all who were served in one moment are told the same one.
            ms => Turn::In(ms + prefixes.narrow % (ms / 4 + 1)),
        }
    }

    /// Whose turn it is inside a /16 or /32: it has one after the other.
    fn turn_among_like(&self, prefixes: Prefixes, now_ms: u64) -> Like {
        let served = self.served.of(prefixes.narrow).unwrap_or(0);
        let own = self.places.of(among_like(prefixes));
        if let Some(turn) = own.filter(|&turn| turn > served && turn + PLACE_GOOD_MS > now_ms) {
            return Like::Has(turn);
        }
        // Two at the least: who is alone so far does not fill the whole queue before a second one comes. Where there are
        // many, an honest prefix may have a bot for a neighbour: a wide one gets several turns.
        let active = self.active_wide.max(2);
        let turns = (active / 64).clamp(1, 16);
        // What a stamp cannot tell apart would be one turn.
        let apart = (self.fair_ms(active) / u64::from(turns)).max(STAMP_MS);
        match self.served_wide.of(prefixes.wide) {
            Some(last) if last + apart > now_ms => Like::Next(last + apart),
            _ => Like::Free,
        }
    }

    /// Between two turns of a prefix, when so many are active.
    fn fair_ms(&self, active: u32) -> u64 {
        ((f64::from(active) * 1.25 * 1_000.0 / self.rate) as u64).min(FAIR_MS_MAX)
    }

    fn fill(&mut self, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.filled_ms) as f64 / 1_000.0;
        self.filled_ms = now_ms;
        self.tokens = (self.tokens + passed * self.rate).min(burst(self.rate));
    }

    /// Prefixes that are active, those that have a place, and the wait between two turns.
    pub(super) fn gauges(&self) -> (u32, u32, u64) {
        let waiting = (self.tail_ms - self.filled_ms as f64).max(0.0) * self.rate / 1_000.0;
        (self.active, waiting as u32, self.fair_ms(self.active))
    }

    pub(super) fn bytes(&self) -> usize {
        self.narrow.bytes() + self.wide.bytes() + self.served.bytes() + self.served_wide.bytes() + self.places.bytes()
    }
}

/// The key of a prefix's turn inside its /16 or /32, beside that of its place.
fn among_like(prefixes: Prefixes) -> u64 {
    prefixes.narrow ^ prefixes.wide
}

/// What may come at once after a quiet time.
fn burst(rate: f64) -> f64 {
    (rate / 2.0).max(4.0)
}

/// A prefix counts as active for a minute at least, and for as long as it waits for its turn.
const COUNTED_MS_MIN: u64 = 60_000;
/// A place is lost when it is missed by more than a cookie's life.
const PLACE_GOOD_MS: u64 = 120_000;
/// Places and turns further away than this are not given: cookies are good for 2,580 s, and by then the sender has used port 25.
const PLACE_MS_MAX: u64 = 2_000_000;
/// Likewise, with a quarter more for spreading.
const FAIR_MS_MAX: u64 = 2_000_000;
