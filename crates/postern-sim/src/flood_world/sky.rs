//! The weather task: what is scarce, what the promise leaves, which domains collect; as the program's sampler sees it.

use std::collections::{BTreeMap, BTreeSet};

use postern_proto::mode::{Mode, Modes};
use postern_spool::LaneStats;
use postern_spool::machine::{Reply, Request};
use postern_trust::pressure::{Gauge, Level, Marks, Pressure, Readings};
use postern_trust::promise::{DrainSeen, Promise};
use postern_trust::weather::{Answer, DomainSky, Kept, Sky, Weather, WeatherMarks};
use postern_trust::{CLASSES, Class};

use super::house::{FREE_LOW, HELD_BYTES_MAX, ITEMS_MAX, PROMISED_MS};
use super::peers::DOMAINS;
use super::{FloodWorld, Mistake, TICK_MS, ToldToGo};

pub(super) struct SkyWatch {
    gauge: Gauge,
    weather: Weather,
    promise: Promise,
    pressure: Pressure,
    readings: Readings,
    /// As it is on disk.
    kept: Kept,
    asked: BTreeSet<u64>,
    ticks: u64,
    /// When this process began: its clock counts from there.
    born_ms: u64,
    /// Free octets on the disk.
    pub(super) free_bytes: u64,
    stormed: bool,
    /// Messages that were to leave when last looked.
    pub(super) queued: u64,
}

impl SkyWatch {
    pub(super) fn new() -> Self {
        Self {
            gauge: Gauge::new(Marks::default()),
            weather: Weather::new(WeatherMarks::default()),
            promise: Promise::new(PROMISED_MS),
            pressure: Pressure::default(),
            readings: Readings::default(),
            kept: Kept::default(),
            asked: BTreeSet::new(),
            ticks: 0,
            born_ms: 0,
            free_bytes: 1 << 30,
            stormed: false,
            queued: 0,
        }
    }

    pub(super) fn start_again(&mut self, now_ms: u64) {
        let kept = self.kept.clone();
        *self = Self {
            weather: Weather::restore(WeatherMarks::default(), &kept, 0),
            kept,
            free_bytes: self.free_bytes,
            stormed: self.stormed,
            born_ms: now_ms,
            ..Self::new()
        };
    }

    pub(super) fn modes(&self) -> Modes {
        let mode = |answer| if answer == Answer::Collect { Mode::Collect } else { Mode::Through };
        let domains = self.weather.domains().map(|(domain, answer, _)| (domain.to_owned(), mode(answer)));
        Modes { default: mode(self.weather.whole().0), domains: domains.collect() }
    }
}

impl FloodWorld {
    /// A quarter of a second: evidence, deadlines, pressure, and each fourth time a look at the lanes.
    pub(super) fn tick(&mut self) {
        self.after(TICK_MS, super::Event::Tick);
        if self.now_ms < self.down_until_ms {
            return;
        }
        self.house.now_ms = self.now_ms;
        self.house.gather();
        self.house.spool_tick();
        self.house.free_space(self.sky.free_bytes);
        self.sky.ticks += 1;
        if self.sky.ticks.is_multiple_of(240) {
            self.house.save_book();
        }
        self.fire();
        self.read();
        let now = self.instant();
        for thread in 0..super::THREADS {
            let told = ToldToGo::default();
            self.house.ushers[thread].send_idle_away(now, &told);
            for (index, why) in told.0.into_inner() {
                self.send_away(index, why);
            }
        }
        self.check_seats();
        if self.sky.ticks.is_multiple_of(4) {
            let token = self.house.ask(Request::Lanes);
            self.sky.asked.insert(token);
            // A net under everything, as the worker has.
            if !self.look_asked {
                self.look_asked = true;
                self.after(1, super::Event::Look);
            }
        }
        if self.house.engine.stats().failed.is_some() {
            self.storm(super::Storm::Restart);
        }
    }

    fn read(&mut self) {
        let crowd = self.house.crowd.snapshot();
        let spool = self.house.engine.stats();
        self.sky.readings = Readings {
            connections: crowd.open.iter().map(|count| u64::from(*count)).sum(),
            connections_max: self.profile.connections_max as u64,
            bytes_in_flight: crowd.held_bytes.iter().sum(),
            bytes_in_flight_max: HELD_BYTES_MAX,
            spool_free: spool.free_bytes,
            spool_free_low: FREE_LOW,
            spool_bytes: spool.bytes,
            spool_bytes_max: 8 << 20,
            spool_items: spool.items as u64,
            spool_items_max: ITEMS_MAX as u64,
            drain_backlog_s: self.sky.readings.drain_backlog_s,
            ..Readings::default()
        };
        let now = self.now_ms - self.sky.born_ms;
        self.sky.pressure = self.sky.gauge.read_at(now, &self.sky.readings);
        self.house.admission.pressure.publish(self.sky.pressure);
        if spool.items > ITEMS_MAX {
            self.fault("more items than the spool may hold");
        }
    }

    /// The answer to a look at the lanes.
    pub(super) fn sky_hears(&mut self, token: u64, reply: &Reply) -> bool {
        if !self.sky.asked.remove(&token) {
            return false;
        }
        if let Reply::Lanes(lanes) = reply {
            self.look_at_sky(lanes);
        }
        true
    }

    fn look_at_sky(&mut self, lanes: &[LaneStats]) {
        let mut by_class = [0_u64; CLASSES];
        // To leave, ready, queued, awaited.
        let mut domains: BTreeMap<&str, [u64; 4]> = BTreeMap::new();
        for lane in lanes {
            let Some(class) = Class::from_u8(lane.lane.class) else { continue };
            let ready = (lane.ready + lane.leased) as u64;
            let messages = ready + lane.waiting as u64;
            let of = domains.entry(&lane.lane.key).or_default();
            of[0] += messages;
            of[1] += ready;
            of[2] += lane.ready as u64;
            of[3] += lane.ready.min(lane.tentative) as u64;
            by_class[class as usize] += messages;
        }
        self.sky.queued = by_class.iter().sum();
        let now = self.now_ms - self.sky.born_ms;
        let away = |since: Option<u64>| since.map_or(0, |since| ((self.now_ms - since) / 1000).max(1));
        let filter_down_s = away(self.drain.filter_away_ms);
        let sky = |domain: &&str| {
            let [_, ready, _, awaited] = domains.get(domain).copied().unwrap_or_default();
            DomainSky {
                domain: (*domain).to_owned(),
                hop_down_s: away(self.drain.hop_away_ms.get(*domain).copied()),
                filter_down_s,
                wait_s: self.drain.filter_ms / 1000 + self.sky.promise.wait_s(awaited),
                backlog: ready,
            }
        };
        let skies: Vec<DomainSky> = DOMAINS.iter().map(sky).collect();
        let there = |sky: &&DomainSky| domains.get(&*sky.domain).is_some_and(|of| of[0] > 0);
        let well = |sky: &DomainSky| sky.hop_down_s == 0 && sky.filter_down_s == 0;
        let left = self.drain.left;
        let ready = skies.iter().filter(|sky| well(sky)).map(|sky| domains.get(&*sky.domain).map_or(0, |of| of[2]));
        let seen = DrainSeen {
            left: left.iter().sum(),
            arrived: std::array::from_fn(|class| left[class] + by_class[class]),
            backlog: by_class,
            ready: ready.sum(),
            healthy: !skies.iter().any(|sky| there(&sky)) || skies.iter().filter(there).any(well),
        };
        self.sky.promise.update(now, &seen);
        self.sky.readings.drain_backlog_s = self.sky.promise.wait_s(domains.values().map(|of| of[3]).sum());
        let used = self.sky.readings.spool_used_per_mille();
        self.house.admission.intake.publish(self.sky.promise.room(), used);
        let sky = Sky { pressure: self.sky.pressure, rate_milli: self.sky.promise.rate_milli(), domains: skies };
        self.sky.stormed |= self.sky.pressure.level == Level::Red || self.sky.weather.kept() != Kept::default();
        if self.profile.mistake == Some(Mistake::StayInStorm) && self.sky.stormed {
            self.house.modes.default = Mode::Collect;
            return;
        }
        if self.sky.weather.update(now, &sky) {
            self.report.changes += 1;
            self.note("weather", self.report.changes);
        }
        self.house.modes = self.sky.modes();
        self.sky.kept = self.sky.weather.kept();
    }
}
