//! The trust book: fixed tables that the doors read through atomic cells without a lock, on every connection. This file owns
//! the book's make-up and what may be asked of it. It never decides (`class::judge` does) and never writes (`writer` does, the
//! only one). Doors, drain and steering hold it as `Arc<Book>`.
//!
//! The cost of [`Book::class_of`]: two to four SipHash-2-4 of 17 bytes, a binary search each in pins, forwarders and providers, and
//! three to four cache lines of tables.

pub(crate) mod clock;
mod facts;
mod hot;
pub(crate) mod roster;
mod writer;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use ipnet::IpNet;

use crate::class::Class;
use crate::class::judge::{self, AddressFacts, SenderFacts};
use crate::limits::{
    BAD_ENTRIES, BAD_HALF_LIFE_H, GOOD_DAY, GOOD_ENTRIES, HOT_ENTRIES, LINK_HALF_LIFE_H, LINK_PART, PREFIX_PART,
    PROMOTIONS_A_DAY, PROVIDERS_MAX, SUSPECT,
};
use crate::sketch::credits::Credits;
use crate::sketch::marks::Marks;
use crate::sketch::{Keys, Name};
use clock::Clock;
use hot::HotTable;
use roster::Roster;

pub use roster::Pins;
pub use writer::Writer;

pub(crate) use hot::Hot;

/// Sizes and caps of a book. What each number is for, what it costs and what happens when it is full stands in the limits of
/// this crate; sizes are rounded up to powers of two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookOptions {
    /// How many senders may become known by history alone in a day (50).
    pub promotions_a_day: u32,
    /// Records of good senders (131,072 of 16 bytes).
    pub good_entries: usize,
    /// Records of bad addresses, domains and tenants (1,048,576 of 8 bytes; prefixes take an eighth of it in addition,
    /// authorised pairs a quarter).
    pub bad_entries: usize,
    /// Addresses that are remembered exactly, for steering (4,096 of 32 bytes).
    pub hot_entries: usize,
    /// Whether the list of large shared providers that comes with the program counts.
    pub well_known_providers: bool,
}

impl Default for BookOptions {
    fn default() -> Self {
        Self {
            promotions_a_day: PROMOTIONS_A_DAY,
            good_entries: GOOD_ENTRIES,
            bad_entries: BAD_ENTRIES,
            hot_entries: HOT_ENTRIES,
            well_known_providers: true,
        }
    }
}

/// What has been given away today.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Promotions {
    pub(crate) day: u16,
    /// The prefix of each promoted sender.
    pub(crate) prefixes: Vec<u64>,
}

/// What only the writer, the operator and snapshots touch: never a door.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) hot: HotTable,
    pub(crate) promotions: Promotions,
}

/// What the book counted since the start.
#[derive(Debug, Default)]
struct Counts {
    evidence: AtomicU64,
    connected: AtomicU64,
    promoted: AtomicU64,
    waiting: AtomicU64,
    lent: AtomicU64,
    crowded_out: AtomicU64,
}

/// Figures for `status`, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BookStats {
    /// Observations written.
    pub evidence: u64,
    /// Connections seen.
    pub connected: u64,
    /// Senders that became known by history.
    pub promoted: u64,
    /// Times that the day's cap stood against it.
    pub promotions_waiting: u64,
    /// Addresses that a proven domain lent its credit to.
    pub lent: u64,
    /// Good senders for whom the table had no room.
    pub crowded_out: u64,
    /// Memory of the tables, in bytes: taken at the start and the same ever since.
    pub table_bytes: u64,
    /// Records of good senders in use; and those of bad ones; counted when asked.
    pub good_used: u64,
    /// Records of bad addresses, domains and tenants in use.
    pub bad_used: u64,
}

/// The book. See the head of this file.
#[derive(Debug)]
pub struct Book {
    pub(crate) options: BookOptions,
    pub(crate) keys: Keys,
    pub(crate) clock: Clock,
    pub(crate) credits: Credits,
    pub(crate) marks: Marks,
    pub(crate) prefixes: Marks,
    pub(crate) links: Marks,
    pub(crate) roster: ArcSwap<Roster>,
    /// Good and bad messages of each provider, 32 bits each.
    pub(crate) provider_mail: [AtomicU64; PROVIDERS_MAX],
    pub(crate) desk: Mutex<Desk>,
    counts: Counts,
    /// There is one writer at a time.
    written: AtomicBool,
}

impl Book {
    /// An empty book. `key` is secret and random: whoever knows it can aim at its tables.
    #[must_use]
    pub fn new(options: BookOptions, key: [u8; 16]) -> Arc<Self> {
        Arc::new(Self::with_clock(options, key, Clock::new()))
    }

    pub(crate) fn with_clock(options: BookOptions, key: [u8; 16], clock: Clock) -> Self {
        Self {
            keys: Keys::new(key),
            clock,
            credits: Credits::new(options.good_entries),
            marks: Marks::new(options.bad_entries, BAD_HALF_LIFE_H),
            prefixes: Marks::new(options.bad_entries / PREFIX_PART, BAD_HALF_LIFE_H),
            links: Marks::new(options.bad_entries / LINK_PART, LINK_HALF_LIFE_H),
            roster: ArcSwap::from_pointee(Roster::new(Pins::default(), Vec::new(), options.well_known_providers)),
            provider_mail: [const { AtomicU64::new(0) }; PROVIDERS_MAX],
            desk: Mutex::new(Desk {
                hot: HotTable::new(options.hot_entries),
                promotions: Promotions {
                    day: 0,
                    prefixes: Vec::with_capacity(options.promotions_a_day.min(65_536) as usize),
                },
            }),
            counts: Counts::default(),
            written: AtomicBool::new(false),
            options,
        }
    }

    /// The class of an address, for a connection. `now_s` is wall time in seconds since 1970.
    #[must_use]
    pub fn class_of(&self, ip: IpAddr, now_s: u64) -> Class {
        judge::class(&self.address_facts(ip, self.clock.at(now_s)), None)
    }

    /// The class of a message: of its address, raised or lowered by the sender it names. `sender` is the envelope sender's
    /// domain or, better, its whole address (`None` for the null sender); `authorised` says that the address may speak for
    /// that domain, by SPF or a confirmed name, if that is known by now. Pairs authorised of late are remembered, so `false`
    /// is never a reproach.
    #[must_use]
    pub fn class_of_message(&self, ip: IpAddr, sender: Option<&str>, authorised: bool, now_s: u64) -> Class {
        let clock_s = self.clock.at(now_s);
        let facts = self.address_facts(ip, clock_s);
        let sender = sender.and_then(Name::of).map(|name| self.sender_facts(ip, &name, authorised, clock_s));
        judge::class(&facts, sender.as_ref())
    }

    /// The class of whoever has proven, by a key of its own and not by its address, that it speaks for `name`: a domain, or a
    /// mailbox (`local@domain`). From `ip`; `None` is a strange address. A pin of a domain above counts only when
    /// `inherits`: a name below a pinned domain that nothing but unsigned DNS proves may be anybody's.
    #[must_use]
    pub fn class_of_speaker(&self, ip: Option<IpAddr>, name: &str, inherits: bool, now_s: u64) -> Class {
        let clock_s = self.clock.at(now_s);
        let facts = ip.map_or_else(AddressFacts::default, |ip| self.address_facts(ip, clock_s));
        let ip = ip.unwrap_or(IpAddr::from([0_u8; 16]));
        let sender = Name::of(name).map(|name| {
            let sender = self.sender_facts(ip, &name, true, clock_s);
            let pinned = sender.pinned && (inherits || self.roster.load().is_pinned_itself(name.domain()));
            SenderFacts { pinned, ..sender }
        });
        judge::class(&facts, sender.as_ref())
    }

    /// Good days of a domain: on how many it brought good mail that was proven to be its own, whole ones, halved in 30 days,
    /// 60 at most; a letter that this site wrote to it counts for eight. None where as much speaks against it as makes suspect.
    /// `domain` is that of an address, or an address.
    #[must_use]
    pub fn good_days(&self, domain: &str, now_s: u64) -> u16 {
        let clock_s = self.clock.at(now_s);
        let Some(name) = Name::of(domain) else { return 0 };
        let hash = self.keys.domain(&name);
        if judge::weight(self.marks.get(hash, clock_s)) >= SUSPECT {
            return 0;
        }
        self.credits.get(hash, clock::day(clock_s)).map_or(0, |credit| credit.credit / GOOD_DAY)
    }

    /// Networks for steering before accept(), at most `max`, the most important first: pins, then the trusted addresses that
    /// were hottest of late, a quarter kept for the networks of providers in good order.
    #[must_use]
    pub fn known_networks(&self, max: usize, now_s: u64) -> Vec<IpNet> {
        let roster = self.roster.load();
        let clock_s = self.clock.at(now_s);
        let mut networks = IpNet::aggregate(&roster.pins().networks);
        networks.truncate(max);
        let healthy = |place: &usize| self.provider_is_healthy(*place);
        let provided: Vec<IpNet> = (0..roster.providers().len())
            .filter(healthy)
            .flat_map(|place| roster.providers()[place].networks.iter().copied())
            .collect();
        let provided = IpNet::aggregate(&provided);
        let room = max - networks.len();
        let kept = provided.len().min(room / 4);
        let hot = self.desk().hot.by_heat();
        let known = hot.into_iter().filter(|hot| self.is_steered_alone(hot.source.address(), clock_s));
        networks.extend(known.map(|hot| hot.source.network()).take(room - kept));
        let left = max - networks.len();
        networks.extend(provided.into_iter().take(left));
        networks
    }

    /// Whether steering needs to know this very address: the known, and the shared without networks of their own. The pinned
    /// and the pools of providers are steered by their networks.
    pub(crate) fn is_steered_alone(&self, ip: IpAddr, clock_s: u64) -> bool {
        let facts = self.address_facts(ip, clock_s);
        facts.provider.is_none() && matches!(judge::class(&facts, None), Class::Known | Class::Provider)
    }

    /// Replaces what the operator declared; takes effect at once.
    pub fn set_pins(&self, pins: Pins) {
        let _desk = self.desk();
        let old = self.roster.load();
        self.roster.store(Arc::new(old.redeclared(pins, self.options.well_known_providers)));
    }

    /// What the operator declared.
    #[must_use]
    pub fn pins(&self) -> Pins {
        self.roster.load().pins().clone()
    }

    /// Whether the domain, or one above it, is a shared provider: identity asks for the SPF networks of these.
    #[must_use]
    pub fn is_provider(&self, domain: &str) -> bool {
        Name::of(domain).is_some_and(|name| self.roster.load().is_provider_domain(name.domain()))
    }

    /// The domains of all declared shared providers.
    #[must_use]
    pub fn provider_domains(&self) -> Vec<String> {
        self.roster.load().provider_domains()
    }

    /// Figures since the start. Walks the tables: some milliseconds, not for a hot path.
    #[must_use]
    pub fn stats(&self) -> BookStats {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let bytes = self.credits.bytes() + self.marks.bytes() + self.prefixes.bytes() + self.links.bytes();
        BookStats {
            evidence: count(&self.counts.evidence),
            connected: count(&self.counts.connected),
            promoted: count(&self.counts.promoted),
            promotions_waiting: count(&self.counts.waiting),
            lent: count(&self.counts.lent),
            crowded_out: count(&self.counts.crowded_out),
            table_bytes: (bytes + self.desk().hot.bytes()) as u64,
            good_used: self.credits.dump().count() as u64,
            bad_used: self.marks.dump().flatten().filter(|bits| *bits != 0).count() as u64,
        }
    }

    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
