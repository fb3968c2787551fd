//! What waits in the spool, by domain and class, and whether it can leave.

use std::collections::{BTreeMap, BTreeSet};

use postern_drain::{DrainStats, FilterTable, Route, RouteTable};
use postern_proto::mode::{Mode, Modes};
use postern_spool::LaneStats;
use postern_trust::promise::{DrainSeen, Promise};
use postern_trust::weather::DomainSky;
use postern_trust::{CLASSES, Class};

/// Messages on their way out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Backlog {
    pub(super) domains: BTreeMap<String, DomainBacklog>,
    /// Messages that are to leave, by class.
    pub(super) by_class: [u64; CLASSES],
    /// Nothing has anywhere to go: nothing is promised, and only the disk bounds what is taken.
    pub(super) all_kept: bool,
}

/// Of one domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DomainBacklog {
    /// To leave: now, or at their next attempt.
    pub(super) messages: u64,
    /// To leave now, those under way included.
    pub(super) ready: u64,
    /// Of these: nobody has taken them up yet. While there are any, the drain does what it can.
    pub(super) queued: u64,
    /// Of these: a sender waits for the outcome.
    pub(super) awaited: u64,
}

impl Backlog {
    /// Without what a person holds, what has nowhere to go, dead letters and quarantine.
    pub(super) fn of(lanes: &[LaneStats], modes: &Modes, routes: &RouteTable) -> Self {
        let nowhere = |route: &Route| *route == Route::None;
        let all_kept = nowhere(&routes.default)
            && routes.domains.values().all(nowhere)
            && routes.relay.as_ref().is_none_or(nowhere);
        let mut backlog = Self { all_kept, ..Self::default() };
        for lane in lanes {
            let domain = lane.lane.key.as_ref();
            let Some(class) = Class::from_u8(lane.lane.class) else { continue };
            if modes.of(domain) == Mode::Hold || nowhere(route_of(routes, domain)) {
                continue;
            }
            let ready = (lane.ready + lane.leased) as u64;
            let messages = ready + lane.waiting as u64;
            if messages == 0 {
                continue;
            }
            let of = backlog.domains.entry(domain.to_owned()).or_default();
            of.messages += messages;
            of.ready += ready;
            of.queued += lane.ready as u64;
            of.awaited += lane.ready.min(lane.tentative) as u64;
            backlog.by_class[class as usize] += messages;
        }
        backlog
    }

    /// What the weather looks at: domains with mail, those that collect already, and while something
    /// is away all that might go there: mail that was refused in the session lies nowhere.
    pub(super) fn skies<'a>(
        &'a self,
        collecting: impl Iterator<Item = &'a str>,
        routes: &'a RouteTable,
        away: &Away<'_>,
        promise: &Promise,
    ) -> Vec<DomainSky> {
        let mut named: BTreeSet<&str> = self.domains.keys().map(String::as_str).chain(collecting).collect();
        if away.is_anything() {
            named.extend(routes.local.iter().chain(routes.domains.keys()).map(String::as_str));
        }
        let sky = |domain: &str| {
            let of = self.domains.get(domain).copied().unwrap_or_default();
            DomainSky {
                domain: domain.to_owned(),
                hop_down_s: away.hop_s(route_of(routes, domain)),
                filter_down_s: away.filter_s(domain),
                // A verdict takes this long, and those that stand before it take theirs.
                wait_s: away.verdict_s(domain).saturating_add(promise.wait_s(of.awaited)),
                backlog: of.ready,
            }
        };
        named.into_iter().map(sky).collect()
    }

    /// What the promise looks at.
    pub(super) fn seen(&self, skies: &[DomainSky], stats: &DrainStats) -> DrainSeen {
        // Those that wait for a retry too: while a next hop is away all of its mail does.
        let waiting = || skies.iter().filter(|sky| self.domains.contains_key(&sky.domain));
        let well = |sky: &DomainSky| sky.hop_down_s == 0 && sky.filter_down_s == 0;
        let left = stats.classes.map(|class| class.left);
        DrainSeen {
            left: left.iter().sum(),
            // What came has left or lies here.
            arrived: std::array::from_fn(|class| left[class] + self.by_class[class]),
            backlog: self.by_class,
            // What nobody takes up because its next hop is away says nothing about the others.
            ready: waiting().filter(|sky| well(sky)).map(|sky| self.domains[&sky.domain].queued).sum(),
            healthy: waiting().next().is_none() || waiting().any(well),
        }
    }

    /// Messages whose senders wait, and nobody has taken them up yet.
    pub(super) fn awaited(&self) -> u64 {
        self.domains.values().map(|of| of.awaited).sum()
    }

    /// How long those whose senders wait, and whom nobody has taken up yet, will wait for a filter: for one
    /// verdict at least.
    pub(super) fn verdict_s(&self, away: &Away<'_>) -> u64 {
        let awaited = self.domains.iter().filter(|(_, of)| of.awaited > 0);
        awaited.map(|(domain, _)| away.verdict_s(domain)).max().unwrap_or(0)
    }

    /// Messages that are to leave.
    pub(super) fn messages(&self) -> u64 {
        self.by_class.iter().sum()
    }
}

/// Next hops and filters that cannot be reached, and how slow filters are.
pub(super) struct Away<'a> {
    stats: &'a DrainStats,
    filters: &'a FilterTable,
    unix_ms: u64,
}

impl<'a> Away<'a> {
    pub(super) fn new(stats: &'a DrainStats, filters: &'a FilterTable, unix_ms: u64) -> Self {
        Self { stats, filters, unix_ms }
    }

    fn is_anything(&self) -> bool {
        self.stats.destinations.iter().any(|one| one.away_since_unix_ms.is_some())
            || self.stats.filters.iter().any(|one| one.away_since_unix_ms.is_some())
    }

    fn hop_s(&self, route: &Route) -> u64 {
        let mut away = self.stats.destinations.iter().filter(|one| one.away_since_unix_ms.is_some()).peekable();
        if away.peek().is_none() {
            return 0;
        }
        let name = route.to_string();
        self.seconds(away.find(|one| one.name == name).and_then(|one| one.away_since_unix_ms))
    }

    fn filter_s(&self, domain: &str) -> u64 {
        let first = self.stats.filters.iter().filter_map(|filter| filter.away_since_unix_ms).min();
        if first.is_some() && self.filters.judges(domain) { self.seconds(first) } else { 0 }
    }

    fn verdict_s(&self, domain: &str) -> u64 {
        let slowest = self.stats.filters.iter().map(|filter| filter.latency_ms / 1000).max().unwrap_or(0);
        if slowest > 0 && self.filters.judges(domain) { slowest } else { 0 }
    }

    /// At least 1 for whatever is away: 0 means well.
    fn seconds(&self, since_unix_ms: Option<u64>) -> u64 {
        since_unix_ms.map_or(0, |since| (self.unix_ms.saturating_sub(since) / 1000).max(1))
    }
}

/// The route that most mail for a domain takes, as the drain sees it.
fn route_of<'a>(routes: &'a RouteTable, domain: &str) -> &'a Route {
    let is_local = || domain.is_empty() || routes.local.contains(domain);
    match (routes.domains.get(domain), &routes.relay) {
        (Some(route), _) => route,
        (None, Some(relay)) if !is_local() => relay,
        (None, _) => &routes.default,
    }
}

#[cfg(test)]
mod tests;
