//! What `status` shows: gathered from the owners' snapshots when it is asked, never kept.

use std::net::SocketAddr;
use std::time::Instant;

use postern_drain::{DestinationState, DrainStats, FilterStats};
use postern_identity::keys::{KeyDesk, KeyStats};
use postern_identity::{IdentityDesk, IdentityStats, ZoneStats};
use postern_spool::SpoolStats;
use serde_json::{Map, Value, json};

use super::doors::Counters;
use super::steering::SteeringHandle;
use super::weather::WeatherHandle;
use crate::control::server::Owners;

/// What does not come from an owner.
pub(crate) struct StatusSource {
    /// When the server was ready.
    pub(crate) started: Instant,
    /// Addresses of the public door.
    pub(crate) smtp: Vec<SocketAddr>,
    /// Addresses of the relay listener.
    pub(crate) relay: Vec<SocketAddr>,
    /// Connections and what they brought.
    pub(crate) doors: Counters,
    /// Pressure, backlog, and why a domain collects.
    pub(crate) weather: WeatherHandle,
    /// The postern, when it is open.
    pub(super) door: Option<super::postern::Counters>,
    /// Whether the known have queues of their own.
    pub(crate) steering: SteeringHandle,
    /// What was asked of DNS about strangers; nothing when nobody asks.
    pub(crate) identity: Option<IdentityDesk>,
    /// Whose keys were looked up; nothing without a postern.
    pub(crate) keys: Option<KeyDesk>,
}

impl StatusSource {
    /// Makes the postern's thread panic, where there is one.
    pub(crate) fn panic_door(&self) -> bool {
        self.door.as_ref().map(super::postern::Counters::panic_thread).is_some()
    }

    /// One object.
    pub(crate) async fn show(&self, owners: &Owners) -> Value {
        let drain = owners.drain.stats();
        let mut lanes = owners.spool.lanes().await;
        lanes.sort_by_key(|lane| std::cmp::Reverse(lane.ready + lane.waiting + lane.leased + lane.held));
        let lanes: Vec<Value> = lanes
            .iter()
            .take(LANES_MAX)
            .map(|lane| {
                json!({
                    "lane": lane.lane.key.as_ref(), "class": lane.lane.class, "ready": lane.ready, "waiting": lane.waiting,
                    "leaving": lane.leased, "held": lane.held, "bytes": lane.bytes, "oldest_unix_ms": lane.oldest_unix_ms,
                })
            })
            .collect();
        let door_addr = self.door.as_ref().map_or_else(|| json!("off"), |door| json!(door.addr()));
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "uptime_seconds": self.started.elapsed().as_secs(),
            "listeners": { "smtp": self.smtp, "door": door_addr, "admin": "off", "relay": self.relay },
            "doors": self.doors.show(),
            "door": self.door.as_ref().map(super::postern::Counters::show),
            "steering": self.steering.show(),
            "modes": owners.modes.show().await,
            "weather": *self.weather.show(),
            "identity": self.identity.as_ref().map(|desk| identity(&desk.stats())),
            "keys": self.keys.as_ref().map(|desk| keys(desk, owners.peers.now().peers.len())),
            "trust": owners.judging.trust.show().await,
            "bypass": owners.judging.bypass.is_on(),
            "spool": spool(&owners.spool.stats()),
            "lanes": lanes,
            "drain": self::drain(&drain),
        })
    }
}

fn keys(desk: &KeyDesk, pinned_peers: usize) -> Value {
    let KeyStats {
        asked,
        pinned,
        proven,
        stale,
        unproven,
        not_now,
        left,
        lookups,
        cache_hits,
        failed,
        in_flight,
        cached,
    } = desk.stats();
    json!({
        "pinned_peers": pinned_peers, "asked": asked, "pinned": pinned, "proven": proven, "stale": stale,
        "unproven": unproven, "not_now": not_now, "left": left, "lookups": lookups, "cache_hits": cache_hits, "failed": failed,
        "in_flight": in_flight, "cached": cached,
    })
}

fn identity(stats: &IdentityStats) -> Value {
    let unaffordable: Map<String, Value> =
        stats.unaffordable.iter().map(|(why, count)| (why.as_str().to_owned(), (*count).into())).collect();
    let zone = |zone: &ZoneStats| json!({ "zone": zone.name, "asked": zone.asked, "listed": zone.listed, "errors": zone.errors, "off": zone.off });
    json!({
        "asked": stats.asked, "answered": stats.answered, "equal": stats.equal, "unaffordable": unaffordable,
        "lookups": stats.lookups, "cache_hits": stats.cache_hits, "joined": stats.joined, "failed": stats.failed,
        "in_flight": stats.in_flight, "cached": stats.cached, "lists": stats.zones.iter().map(zone).collect::<Vec<_>>(),
    })
}

fn spool(stats: &SpoolStats) -> Value {
    json!({
        "items": stats.items,
        "bytes": stats.bytes,
        "tentative": stats.tentative,
        "leaving": stats.leased,
        "held": stats.held,
        "dead": stats.dead,
        "damaged": stats.damaged,
        "unreadable": stats.unreadable,
        "refused": stats.refused,
        "refusing": stats.refusing,
        "failed": stats.failed,
        "free_bytes": stats.free_bytes,
        "segments": stats.segments,
        "commits": stats.commits,
        "messages_committed": stats.messages_committed,
        "messages_per_commit": ratio(stats.messages_committed, stats.commits),
    })
}

fn drain(stats: &DrainStats) -> Value {
    let destinations: Vec<Value> = stats
        .destinations
        .iter()
        .map(|destination| {
            let (state, retry_in_ms) = match destination.state {
                DestinationState::Up => ("up", None),
                DestinationState::BackingOff { retry_in_ms } => ("backing off", Some(retry_in_ms)),
            };
            json!({
                "name": destination.name, "state": state, "retry_in_ms": retry_in_ms, "running": destination.running,
                "delivered": destination.delivered, "deferred": destination.deferred, "refused": destination.refused,
                "last_error": destination.last_error,
            })
        })
        .collect();
    json!({
        "running": stats.running, "delivered": stats.delivered, "deferred": stats.deferred, "refused": stats.refused,
        "dead_letters": stats.dead_letters, "dead_letters_dropped": stats.dead_letters_dropped, "reports": stats.reports, "panics": stats.panics,
        "releasing": stats.releasing, "destinations": destinations,
        "outbound": {
            "by_postern": stats.outbound.by_postern, "by_mx": stats.outbound.by_mx, "use_mx": stats.outbound.use_mx,
            "downgrades": stats.outbound.downgrades, "unproven": stats.outbound.unproven, "silent": stats.outbound.silent,
            "waits": stats.outbound.waits,
        },
        "quarantined": stats.quarantined, "quarantine_dropped": stats.quarantine_dropped,
        "filters": stats.filters.iter().map(filter).collect::<Vec<_>>(),
    })
}

fn filter(stats: &FilterStats) -> Value {
    json!({
        "name": stats.name, "up": stats.state == DestinationState::Up, "running": stats.running,
        "judged": stats.judged, "accepted": stats.accepted, "marked": stats.marked,
        "quarantined": stats.quarantined, "rejected": stats.rejected, "tempfailed": stats.tempfailed,
        "failed": stats.failed, "latency_ms": stats.latency_ms, "last_error": stats.last_error,
    })
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people; 2^52 messages are far off")]
fn ratio(messages: u64, commits: u64) -> f64 {
    if commits == 0 { 0.0 } else { (messages as f64 / commits as f64 * 100.0).round() / 100.0 }
}

/// Lanes shown; the largest ones.
const LANES_MAX: usize = 100;
