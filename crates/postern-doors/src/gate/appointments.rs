//! When a stranger may come, while there are more of them than can be served: each address prefix in turn.
//!
//! `P` is how many prefixes returned a valid cookie lately, `C` how many strangers are served a second. A prefix that was
//! served waits `1.25 P/C` before it is served again (the quarter leaves room for those who come for the first time),
//! its /16 or /32 likewise among its like. A prefix whose turn it is comes at once when nobody waits; else it gets a
//! *slot*: a place in the time that the waiting ones need, told by a keyed hash of the prefix alone. However often a prefix
//! asks, it is told the same time, and so one that asks a thousand times gains nothing over one that asks once.
//!
//! Nothing is written for a HELLO: only a cookie that came back, from an address that is real, counts. Proof of work is not
//! asked for: botnets have more processors than mail servers (Laurie and Clayton 2004).

use std::net::IpAddr;

use super::sketch::{Counter, Hash, Recency};

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

pub(super) struct Appointments {
    /// Served a second, at most: the aggregate budget over all prefixes.
    rate: f64,
    /// What may be served at this moment.
    tokens: f64,
    filled_ms: u64,
    narrow: Counter,
    wide: Counter,
    last_narrow: Recency,
    last_wide: Recency,
    /// Prefixes whose turn it was and for whom there was no room.
    waiting: Counter,
    counted_ms: u64,
    waited_ms: u64,
    /// Estimates, made anew each second: a logarithm a packet would be too dear.
    active: u32,
    active_wide: u32,
    backlog: u32,
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
            last_narrow: Recency::new(17),
            last_wide: Recency::new(12),
            waiting: Counter::new(17),
            counted_ms: 0,
            waited_ms: 0,
            active: 0,
            active_wide: 0,
            backlog: 0,
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
        self.backlog = self.waiting.estimate();
        if now_ms.saturating_sub(self.counted_ms) >= self.fair_ms(self.active).max(COUNTED_MS_MIN) {
            self.counted_ms = now_ms;
            self.narrow.age();
            self.wide.age();
        }
        if now_ms.saturating_sub(self.waited_ms) >= self.window_ms().max(WAITING_MS_MIN) {
            self.waited_ms = now_ms;
            self.waiting.age();
        }
    }

    /// A valid cookie came back from there.
    pub(super) fn note_active(&mut self, prefixes: Prefixes) {
        self.narrow.note(prefixes.narrow);
        self.wide.note(prefixes.wide);
    }

    /// Serves one if it is its turn and there is room. `kept`: it comes at the time it was told (its cookie says so).
    pub(super) fn admit(&mut self, prefixes: Prefixes, in_turn: bool, kept: bool, now_ms: u64) -> Turn {
        self.fill(now_ms);
        if in_turn && let Turn::In(ms) = self.turn(prefixes, now_ms) {
            return Turn::In(ms);
        }
        // Who has waited goes before who just came.
        let waits = in_turn && self.backlog > 0 && !kept;
        if self.tokens < 1.0 || waits {
            if in_turn {
                self.waiting.note(prefixes.narrow);
            }
            return Turn::In(self.slot_ms(prefixes, now_ms));
        }
        self.tokens -= 1.0;
        self.last_narrow.note(prefixes.narrow, now_ms);
        self.last_wide.note(prefixes.wide, now_ms);
        Turn::Now
    }

    /// When a prefix that asks now would be served; writes nothing.
    pub(super) fn outlook(&self, prefixes: Prefixes, now_ms: u64) -> Turn {
        match self.turn(prefixes, now_ms) {
            Turn::In(ms) => Turn::In(ms),
            Turn::Now if self.backlog > 0 => Turn::In(self.slot_ms(prefixes, now_ms)),
            Turn::Now => Turn::Now,
        }
    }

    /// Whether it is this prefix's turn, whatever room there is.
    fn turn(&self, prefixes: Prefixes, now_ms: u64) -> Turn {
        let left = |since: Option<u64>, active| since.map_or(0, |since| self.fair_ms(active).saturating_sub(since));
        let narrow = left(self.last_narrow.since_ms(prefixes.narrow, now_ms), self.active);
        let wide = left(self.last_wide.since_ms(prefixes.wide, now_ms), self.active_wide);
        match narrow.max(wide) {
            0 => Turn::Now,
            // Prefixes of one /16 are not all told the same moment.
            ms => Turn::In(ms + prefixes.narrow % (ms / 4 + 1)),
        }
    }

    /// Between two turns of a prefix, when so many are active.
    fn fair_ms(&self, active: u32) -> u64 {
        ((f64::from(active) * 1.25 * 1_000.0 / self.rate) as u64).min(FAIR_MS_MAX)
    }

    /// How long it takes to serve all who wait, in steps of a quarter: a prefix that asks again while the number changes
    /// a little is told the same time.
    fn window_ms(&self) -> u64 {
        let need = f64::from(self.backlog.max(1)) * 1_000.0 / self.rate;
        let steps = (need.max(1_000.0) / 1_000.0).ln() / 1.25_f64.ln();
        ((1_000.0 * 1.25_f64.powf(steps.ceil())) as u64).min(FAIR_MS_MAX)
    }

    fn slot_ms(&self, prefixes: Prefixes, now_ms: u64) -> u64 {
        let window = self.window_ms();
        let slot = prefixes.narrow.rotate_left(17) % window;
        (slot + window - now_ms % window) % window
    }

    fn fill(&mut self, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.filled_ms) as f64 / 1_000.0;
        self.filled_ms = now_ms;
        self.tokens = (self.tokens + passed * self.rate).min(burst(self.rate));
    }

    /// Prefixes that are active, those that wait, and the wait between two turns.
    pub(super) fn gauges(&self) -> (u32, u32, u64) {
        (self.active, self.backlog, self.fair_ms(self.active))
    }

    pub(super) fn bytes(&self) -> usize {
        self.narrow.bytes()
            + self.wide.bytes()
            + self.waiting.bytes()
            + self.last_narrow.bytes()
            + self.last_wide.bytes()
    }
}

/// What may come at once after a quiet time.
fn burst(rate: f64) -> f64 {
    (rate / 2.0).max(4.0)
}

/// A prefix counts as active for a minute at least, and for as long as it waits for its turn.
const COUNTED_MS_MIN: u64 = 60_000;
/// A prefix counts as waiting for so long at least.
const WAITING_MS_MIN: u64 = 10_000;
/// Appointments further away than this are not given: by then the sender has used port 25.
const FAIR_MS_MAX: u64 = 2_000_000;
