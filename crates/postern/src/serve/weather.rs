//! The task that watches the weather: four times a second how scarce things are, once a second what
//! waits and what leaves. It publishes the pressure, the room that the promise leaves, and the
//! forecast from which the modes task answers where `auto` is configured.
//!
//! It reads what others count and asks nobody to do anything; the rules are in `postern-trust`.
//! The forecast survives a restart in `DATA/weather`: a server that comes back in mid-flood
//! collects until it has seen the sky for itself. Losing that file costs a minute of `through`.

mod backlog;
mod readings;
mod show;
mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use postern_doors::Intake;
use postern_drain::{DrainHandle, DrainStats, FilterTable, RouteTable};
use postern_proto::mode::Modes;
use postern_spool::{LaneStats, Spool};
use postern_trust::pressure::{Gauge, Marks, Pressure, Readings};
use postern_trust::promise::Promise;
use postern_trust::weather::{Answer, Kept, Sky, Weather, WeatherMarks};
use serde_json::Value;
use tokio::time::Instant;

use super::Shared;
use super::admission::{Desk, Gauges};
use super::doors::Counters;
use super::modes::{Forecast, ModesHandle};
use crate::config::{Config, settings};
use backlog::{Away, Backlog};
use readings::{Lag, Limits, worst_lag_ms};

/// What others read.
#[derive(Clone)]
pub(crate) struct WeatherHandle {
    forecast: Shared<Forecast>,
    shown: Shared<Value>,
}

impl WeatherHandle {
    /// For the task that owns the modes.
    pub(super) fn forecast(&self) -> Shared<Forecast> {
        self.forecast.clone()
    }

    /// For `status`: at most a second old.
    pub(crate) fn show(&self) -> Arc<Value> {
        self.shown.load_full()
    }
}

/// Whom it watches, and who reads it.
pub(super) struct Watched {
    /// What admission reads.
    pub(super) gauges: Gauges,
    /// Who is in.
    pub(super) doors: Counters,
    /// What lies there.
    pub(super) spool: Spool,
    /// What leaves.
    pub(super) drain: DrainHandle,
    /// Where it goes.
    pub(super) routes: Shared<RouteTable>,
    /// What judges it.
    pub(super) filters: Shared<FilterTable>,
    /// Told how things stand.
    pub(super) desk: Desk,
    /// Told when the forecast changes; and what is held is nobody's backlog.
    pub(super) modes: ModesHandle,
}

/// What a look is taken at.
struct Around<'a> {
    modes: &'a Modes,
    stats: &'a DrainStats,
    routes: &'a RouteTable,
    filters: &'a FilterTable,
}

/// The task's state.
pub(super) struct WeatherTask {
    path: PathBuf,
    started: Instant,
    limits: Limits,
    /// Whether the gauge is asked.
    heeds_pressure: bool,
    gauge: Gauge,
    weather: Weather,
    promise: Promise,
    lag: Lag,
    /// As of the last look at which the spool answered in time.
    lanes: Vec<LaneStats>,
    readings: Readings,
    pressure: Pressure,
    kept: Kept,
    saving: Option<tokio::task::JoinHandle<()>>,
    handle: WeatherHandle,
}

impl WeatherTask {
    /// As the last server left it.
    pub(super) fn load(data: &Path, config: &Config) -> (Self, WeatherHandle) {
        let path = data.join("weather");
        let kept = store::load(&path);
        let weather = Weather::restore(marks(&config.settings.auto), &kept, 0);
        let handle =
            WeatherHandle { forecast: Arc::new(ArcSwap::from_pointee(forecast(&weather))), shown: Arc::default() };
        let task = Self {
            path,
            started: Instant::now(),
            limits: Limits::new(config),
            heeds_pressure: config.settings.auto.pressure,
            gauge: Gauge::new(Marks::default()),
            weather,
            promise: Promise::new(millis(config.settings.auto.promised_delay.0)),
            lag: Lag::default(),
            lanes: Vec::new(),
            readings: Readings::default(),
            pressure: Pressure::default(),
            kept,
            saving: None,
            handle: handle.clone(),
        };
        (task, handle)
    }

    /// Runs until the server stops.
    pub(super) async fn run(mut self, watched: Watched) {
        let mut next = Instant::now();
        for turn in 0_u64.. {
            tokio::time::sleep_until(next).await;
            self.lag.note(worst_lag_ms(millis(next.elapsed()), watched.doors.crowds()));
            if turn.is_multiple_of(TICKS_A_LOOK) {
                self.look(&watched).await;
            }
            self.read(&watched);
            // A turn that took long does not make the next ones follow at once.
            next = (next + TICK).max(Instant::now());
        }
    }

    fn now_ms(&self) -> u64 {
        millis(self.started.elapsed())
    }

    /// How scarce things are.
    fn read(&mut self, watched: &Watched) {
        let spool = watched.spool.stats();
        self.readings = Readings {
            // As old as the last look.
            commit_ms: self.readings.commit_ms,
            filter_backlog_s: self.readings.filter_backlog_s,
            drain_backlog_s: self.readings.drain_backlog_s,
            ..self.limits.readings(watched.doors.crowds(), &spool, self.lag.usual_ms())
        };
        let pressure = self.gauged();
        if pressure.level != self.pressure.level {
            let cause = pressure.cause.or(self.pressure.cause).map_or("", |cause| cause.as_str());
            tracing::info!(cause, "pressure: {} -> {}", self.pressure.level.as_str(), pressure.level.as_str());
        }
        self.pressure = pressure;
        watched.gauges.pressure.publish(pressure);
        watched.desk.hear_level(pressure.level);
    }

    fn gauged(&mut self) -> Pressure {
        match self.heeds_pressure {
            true => self.gauge.read_at(self.now_ms(), &self.readings),
            false => Pressure::default(),
        }
    }

    /// What waits, what leaves, and what follows for the modes.
    async fn look(&mut self, watched: &Watched) {
        let asked = Instant::now();
        let lanes = tokio::time::timeout(LOOK_WITHIN, watched.spool.lanes()).await;
        // The spool answers in turn: what it is asked waits as long as a message that is handed over.
        self.hear_spool(lanes.ok(), millis(asked.elapsed()));
        watched.desk.hear_providers();
        let around = Around {
            modes: &watched.modes.published().load(),
            stats: &watched.drain.stats(),
            routes: &watched.routes.load(),
            filters: &watched.filters.load(),
        };
        let changed = self.heed(&around, &watched.gauges.intake);
        self.publish(changed, &watched.modes).await;
    }

    /// What lies there, unless the spool was too slow to say. Then all goes on by what it said last: a slow spool is
    /// weather, and a flood does not wait until it has found its tongue.
    fn hear_spool(&mut self, lanes: Option<Vec<LaneStats>>, waited_ms: u64) {
        match lanes {
            Some(lanes) => (self.lanes, self.readings.commit_ms) = (lanes, waited_ms),
            None => self.readings.commit_ms = self.readings.commit_ms.saturating_add(waited_ms),
        }
    }

    /// Says whether the weather has changed.
    fn heed(&mut self, around: &Around<'_>, intake: &Intake) -> bool {
        let &Around { modes, stats, routes, filters } = around;
        let backlog = Backlog::of(&self.lanes, modes, routes);
        let now_ms = self.now_ms();
        let away = Away::new(stats, filters, super::now_unix_ms());
        let domains = backlog.skies(self.collecting(), routes, &away, &self.promise);
        self.promise.update(now_ms, &backlog.seen(&domains, stats));
        // Those whose senders wait. What was answered at the receipt may take its promised time, and
        // a storm that is over is not kept alive by what it left behind.
        self.readings.drain_backlog_s = self.promise.wait_s(backlog.awaited());
        self.readings.filter_backlog_s = backlog.verdict_s(&away);
        let used = self.readings.spool_used_per_mille();
        let room = if backlog.all_kept { [u64::MAX; postern_trust::CLASSES] } else { self.promise.room() };
        intake.publish(room, used);
        let sky = Sky { pressure: self.pressure, rate_milli: self.promise.rate_milli(), domains };
        let changed = self.weather.update(now_ms, &sky);
        self.handle.shown.store(Arc::new(show::shown(&show::Sight {
            pressure: self.pressure,
            readings: &self.readings,
            promise: &self.promise,
            weather: &self.weather,
            backlog: &backlog,
            room,
        })));
        changed
    }

    /// Domains that collect and may have no mail here just now.
    fn collecting(&self) -> impl Iterator<Item = &str> {
        self.weather.domains().filter(|(_, answer, _)| *answer == Answer::Collect).map(|(domain, ..)| domain)
    }

    async fn publish(&mut self, changed: bool, modes: &ModesHandle) {
        let forecast = forecast(&self.weather);
        if changed {
            log_changes(&self.handle.forecast.load(), &forecast);
        }
        self.handle.forecast.store(Arc::new(forecast));
        if changed {
            modes.weather_changed().await;
        }
        self.keep();
    }

    /// Writes the forecast when it changed, once a second at most: this is called no more often,
    /// and one write is waited for before the next begins.
    fn keep(&mut self) {
        let writing = self.saving.as_ref().is_some_and(|saving| !saving.is_finished());
        let kept = self.weather.kept();
        if writing || kept == self.kept {
            return;
        }
        self.kept = kept.clone();
        let path = self.path.clone();
        self.saving = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = store::save(&path, &kept) {
                tracing::error!(%error, "{} cannot be written: a restart begins in the calm", path.display());
            }
        }));
    }
}

fn forecast(weather: &Weather) -> Forecast {
    let all = weather.whole();
    let domains = weather.domains().map(|(domain, answer, reason)| (domain.to_owned(), (answer, reason)));
    // Who is as all are is named nowhere: doors look through this table for each message.
    Forecast { all, domains: domains.filter(|(_, (answer, _))| *answer != all.0).collect::<BTreeMap<_, _>>() }
}

fn log_changes(before: &Forecast, after: &Forecast) {
    let word = |answer: Answer| if answer == Answer::Collect { "collect" } else { "through" };
    if before.all.0 != after.all.0 {
        tracing::warn!(why = after.all.1.words(), "all domains (auto): {}", word(after.all.0));
    }
    for (domain, (answer, reason)) in after.domains.iter().filter(|(domain, _)| !before.domains.contains_key(*domain)) {
        tracing::warn!(domain, why = reason.words(), "{domain} (auto): {}", word(*answer));
    }
    for domain in before.domains.keys().filter(|domain| !after.domains.contains_key(*domain)) {
        tracing::info!(domain, "{domain} (auto): {}, as all domains", word(after.all.0));
    }
}

fn marks(auto: &settings::Auto) -> WeatherMarks {
    WeatherMarks {
        hop_down_s: auto.hop_down.0.as_secs(),
        filter_down_s: auto.filter_down.0.as_secs(),
        wait_high_s: auto.outcome_slow.0.as_secs(),
        wait_low_s: auto.outcome_slow.0.as_secs() / 3,
        backlog_low: auto.backlog_low,
        storm_min_ms: millis(auto.storm_min.0),
        calm_after_ms: millis(auto.calm_after.0),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// How often the pressure is read: a flood fills a tenth of the slots in 50 ms at its worst, but
/// admission itself sees the slots; this only chooses how long strangers may idle.
const TICK: Duration = Duration::from_millis(250);
/// Every so many ticks the lanes are looked at, which costs the spool a walk over all of them.
const TICKS_A_LOOK: u64 = 4;
/// A spool that does not answer within this is slow, however long it takes.
const LOOK_WITHIN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
