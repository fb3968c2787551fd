//! What `status` shows of the weather.

use postern_trust::pressure::{Cause, Pressure, Readings};
use postern_trust::promise::Promise;
use postern_trust::weather::{Answer, Weather};
use postern_trust::{CLASSES, Class};
use serde_json::{Map, Value, json};

use super::backlog::Backlog;

/// What was seen at one moment.
pub(super) struct Sight<'a> {
    pub(super) pressure: Pressure,
    pub(super) readings: &'a Readings,
    pub(super) promise: &'a Promise,
    pub(super) weather: &'a Weather,
    pub(super) backlog: &'a Backlog,
    pub(super) room: [u64; CLASSES],
}

/// One object.
pub(super) fn shown(sight: &Sight<'_>) -> Value {
    let readings: Map<String, Value> =
        Cause::ALL.into_iter().map(|cause| (cause.as_str().to_owned(), sight.readings.of(cause).into())).collect();
    let room: Map<String, Value> =
        Class::ALL.into_iter().map(|class| (class.as_str().to_owned(), room(sight.room[class as usize]))).collect();
    let waiting: Map<String, Value> = Class::ALL
        .into_iter()
        .map(|class| (class.as_str().to_owned(), sight.backlog.by_class[class as usize].into()))
        .collect();
    json!({
        "level": sight.pressure.level.as_str(),
        "cause": sight.pressure.cause.map(Cause::as_str),
        "readings": readings,
        "waiting": sight.backlog.messages(),
        "waiting_by_class": waiting,
        "drained_in_seconds": sight.promise.seconds_for(sight.backlog.messages()),
        "leaves_per_1000_seconds": sight.promise.rate_milli(),
        "leaves_measured": sight.promise.is_measured(),
        "stalled_ms": sight.promise.stalled_ms(),
        "room": room,
        "domains": domains(sight),
    })
}

/// Domains with mail or a weather of their own, the largest first. What lies there for others leaves
/// beside it, so each needs at most as long as all together.
fn domains(sight: &Sight<'_>) -> Vec<Value> {
    let collecting = sight.weather.domains().filter(|(_, answer, _)| *answer == Answer::Collect).map(|(name, ..)| name);
    let mut named: Vec<&str> = sight.backlog.domains.keys().map(String::as_str).chain(collecting).collect();
    named.sort_unstable();
    named.dedup();
    let waiting = |domain: &str| sight.backlog.domains.get(domain).map_or(0, |of| of.messages);
    named.sort_by_key(|domain| std::cmp::Reverse(waiting(domain)));
    let one = |domain: &str| {
        let (answer, reason) = sight.weather.mode_of(domain);
        json!({
            "domain": domain, "weather": answer, "why": reason.words(), "waiting": waiting(domain),
            "drained_in_seconds": sight.promise.seconds_for(waiting(domain)),
        })
    };
    named.into_iter().take(DOMAINS_MAX).map(one).collect()
}

/// `null` where nothing bounds it.
fn room(room: u64) -> Value {
    if room == u64::MAX { Value::Null } else { room.into() }
}

/// Domains shown; the largest ones.
const DOMAINS_MAX: usize = 100;
