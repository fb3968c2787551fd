//! What the desk did, for `status`. Counters are shared by the desk's thread and whoever looks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Why something was not looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Unaffordable {
    /// In the red nothing is asked.
    Red = 0,
    /// Pressure: suspects are not worth a look-up, the known need none.
    Busy = 1,
    /// The line of the class is full.
    QueueFull = 2,
    /// The look-ups in flight are as many as the class may have.
    InFlight = 3,
    /// The second's look-ups are spent.
    Rate = 4,
    /// The domain has its share in flight.
    Domain = 5,
    /// The domain, or its servers, failed too often.
    Shut = 6,
    /// The question's time was over.
    Late = 7,
    /// One question would have cost too many look-ups.
    Greedy = 8,
}

/// As many as [`Unaffordable`] has.
pub(crate) const REASONS: [Unaffordable; 9] = [
    Unaffordable::Red,
    Unaffordable::Busy,
    Unaffordable::QueueFull,
    Unaffordable::InFlight,
    Unaffordable::Rate,
    Unaffordable::Domain,
    Unaffordable::Shut,
    Unaffordable::Late,
    Unaffordable::Greedy,
];

impl Unaffordable {
    /// For logs and `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Busy => "busy",
            Self::QueueFull => "queue-full",
            Self::InFlight => "in-flight",
            Self::Rate => "rate",
            Self::Domain => "domain",
            Self::Shut => "shut",
            Self::Late => "late",
            Self::Greedy => "greedy",
        }
    }
}

/// Since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityStats {
    /// Questions taken.
    pub asked: u64,
    /// Questions answered, equal ones counted each.
    pub answered: u64,
    /// Questions that were answered with an equal one.
    pub equal: u64,
    /// Questions and look-ups that were not affordable.
    pub unaffordable: Vec<(Unaffordable, u64)>,
    /// Look-ups sent to the name server.
    pub lookups: u64,
    /// Look-ups answered from the cache.
    pub cache_hits: u64,
    /// Look-ups that joined one in flight.
    pub joined: u64,
    /// Look-ups without an answer, lists included.
    pub failed: u64,
    /// Look-ups in flight now.
    pub in_flight: u64,
    /// Entries in the cache now; never above 4,096.
    pub cached: u64,
    /// Lists, in the order of the configuration.
    pub zones: Vec<ZoneStats>,
}

/// One list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZoneStats {
    /// As configured.
    pub name: String,
    /// Addresses asked about, cached answers included.
    pub asked: u64,
    /// Of these, listed.
    pub listed: u64,
    /// Answers that are none: 127.255.255.x, outside 127.0.0.0/8, failures, timeouts.
    pub errors: u64,
    /// It is left alone for now, and weighs nothing.
    pub off: bool,
}

/// The counters behind [`IdentityStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) asked: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) equal: AtomicU64,
    unaffordable: [AtomicU64; REASONS.len()],
    pub(crate) lookups: AtomicU64,
    pub(crate) cache_hits: AtomicU64,
    pub(crate) joined: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    pub(crate) cached: AtomicU64,
    pub(crate) zones: Vec<ZoneCounters>,
}

/// The counters behind [`ZoneStats`].
#[derive(Debug, Default)]
pub(crate) struct ZoneCounters {
    pub(crate) name: String,
    pub(crate) asked: AtomicU64,
    pub(crate) listed: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) off: AtomicBool,
}

impl Counters {
    pub(crate) fn new(zones: impl Iterator<Item = String>) -> Self {
        let zones = zones.map(|name| ZoneCounters { name, ..Default::default() }).collect();
        Self { zones, ..Default::default() }
    }

    pub(crate) fn not_affordable(&self, why: Unaffordable) {
        self.unaffordable[why as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn stats(&self) -> IdentityStats {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        let zone = |zone: &ZoneCounters| ZoneStats {
            name: zone.name.clone(),
            asked: read(&zone.asked),
            listed: read(&zone.listed),
            errors: read(&zone.errors),
            off: zone.off.load(Relaxed),
        };
        IdentityStats {
            asked: read(&self.asked),
            answered: read(&self.answered),
            equal: read(&self.equal),
            unaffordable: REASONS.into_iter().map(|why| (why, read(&self.unaffordable[why as usize]))).collect(),
            lookups: read(&self.lookups),
            cache_hits: read(&self.cache_hits),
            joined: read(&self.joined),
            failed: read(&self.failed),
            in_flight: read(&self.in_flight),
            cached: read(&self.cached),
            zones: self.zones.iter().map(zone).collect(),
        }
    }
}

/// One more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
