//! What waits in the spool, by domain and class, and whether it can leave.

use std::collections::{BTreeMap, BTreeSet};

use postern_drain::{Away, DrainHandle, DrainStats, Route, RouteTable};
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
    /// To leave now.
    pub(super) ready: u64,
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
            of.awaited += lane.tentative as u64;
            backlog.by_class[class as usize] += messages;
        }
        backlog
    }

    /// What the weather looks at: domains with mail, and those that collect already.
    pub(super) fn skies<'a>(
        &'a self,
        collecting: impl Iterator<Item = &'a str>,
        drain: &DrainHandle,
        stats: &DrainStats,
        promise: &Promise,
        unix_ms: u64,
    ) -> Vec<DomainSky> {
        let anything_away = stats.destinations.iter().any(|one| one.away_since_unix_ms.is_some())
            || stats.filters.iter().any(|one| one.away_since_unix_ms.is_some());
        let verdict_s = stats.filters.iter().map(|filter| filter.latency_ms / 1000).max().unwrap_or(0);
        let named: BTreeSet<&str> = self.domains.keys().map(String::as_str).chain(collecting).collect();
        let mut health_left = HEALTH_MAX;
        let sky = |domain: &str| {
            let of = self.domains.get(domain).copied().unwrap_or_default();
            let health = (anything_away && health_left > 0).then(|| {
                health_left -= 1;
                drain.health(domain)
            });
            let (hop, filter) = health.map_or((None, None), |health| (health.hop, health.filter));
            let filter_wait_s = if stats.filters.is_empty() {
                0
            } else {
                // A verdict takes this long, and those that stand before it take theirs.
                verdict_s + promise.seconds_for(of.awaited).unwrap_or(0)
            };
            DomainSky {
                domain: domain.to_owned(),
                hop_down_s: away_s(hop.as_ref(), unix_ms),
                filter_down_s: away_s(filter.as_ref(), unix_ms),
                filter_wait_s,
                backlog: of.ready,
            }
        };
        named.into_iter().map(sky).collect()
    }

    /// What the promise looks at.
    pub(super) fn seen(&self, skies: &[DomainSky], stats: &DrainStats) -> DrainSeen {
        let waiting = || skies.iter().filter(|sky| sky.backlog > 0);
        let well = |sky: &DomainSky| sky.hop_down_s == 0 && sky.filter_down_s == 0;
        let left = stats.classes.map(|class| class.left);
        DrainSeen {
            left: left.iter().sum(),
            // What came has left or lies here.
            arrived: std::array::from_fn(|class| left[class] + self.by_class[class]),
            backlog: self.by_class,
            ready: waiting().map(|sky| sky.backlog).sum(),
            healthy: waiting().next().is_none() || waiting().any(well),
        }
    }

    /// Messages that are to leave.
    pub(super) fn messages(&self) -> u64 {
        self.by_class.iter().sum()
    }
}

/// At least 1 for whatever is away: 0 means well.
fn away_s(away: Option<&Away>, unix_ms: u64) -> u64 {
    away.map_or(0, |away| (unix_ms.saturating_sub(away.since_unix_ms) / 1000).max(1))
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

/// Domains whose health is asked for in one look; each costs some microseconds.
const HEALTH_MAX: usize = 1_000;

#[cfg(test)]
mod tests;
