//! The weather: when senders are answered, at the outcome or at the receipt, for the whole server and
//! for each domain.
//!
//! The program's sampler shows it the sky; the task that owns the modes takes its answers where
//! neither a command nor the configuration has fixed a mode. It never delays a storm: collecting is
//! the safe side, so it begins at once. It delays the calm, so that modes do not flap: a storm lasts
//! at least [`WeatherMarks::storm_min_ms`] (doubled when the next one follows within
//! [`RELAPSE_MS`], up to [`STORM_MAX_MS`]), ends only after everything has been at its low mark for
//! [`WeatherMarks::calm_after_ms`], and not before the domain's backlog is drained: mail answered at
//! the outcome would otherwise stand behind it and miss its 30 seconds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::pressure::{Cause, Level, Pressure};

/// When the sender is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// At the outcome: filter and next hop have spoken.
    #[default]
    Through,
    /// At the receipt: the message is durable, and leaves later.
    Collect,
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Reason {
    /// Nothing speaks against it.
    #[default]
    Calm,
    /// The whole server is in the red.
    Pressure(Cause),
    /// The next hop has been out of reach for so many seconds.
    HopDown(u64),
    /// The filter has been out of reach for so many seconds.
    FilterDown(u64),
    /// A message waits so many seconds for its outcome.
    Slow(u64),
    /// All is well again, but so many messages lie there still.
    Draining(u64),
    /// All is well again, but not for long enough.
    Settling,
    /// It was so when the last server stopped.
    Restored,
}

impl Reason {
    /// For logs and `status`.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Self::Calm => "all is well".to_owned(),
            Self::Pressure(cause) => format!("pressure: {}", cause.as_str()),
            Self::HopDown(seconds) => format!("its next hop has been out of reach for {seconds} s"),
            Self::FilterDown(seconds) => format!("its filter has been out of reach for {seconds} s"),
            Self::Slow(seconds) => format!("senders would wait {seconds} s for the outcome"),
            Self::Draining(messages) => format!("{messages} messages are still to leave"),
            Self::Settling => "all is well, but not for long enough yet".to_owned(),
            Self::Restored => "as before the restart".to_owned(),
        }
    }
}

/// What is seen at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sky {
    /// Of the whole server.
    pub pressure: Pressure,
    /// What leaves, per 1,000 seconds; see [`crate::promise::Promise::rate_milli`].
    pub rate_milli: u64,
    /// Every domain that has mail here, or whose next hop or filter is not well. Domains that are
    /// not named are well.
    pub domains: Vec<DomainSky>,
}

/// One domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainSky {
    /// Its name.
    pub domain: String,
    /// How long its next hop has been out of reach, in seconds; 0 while it is up.
    pub hop_down_s: u64,
    /// How long its filter has been out of reach, in seconds; 0 while it is up.
    pub filter_down_s: u64,
    /// How long its senders wait for the outcome, for want of a filter's or next hop's time, in seconds.
    pub wait_s: u64,
    /// Its messages that could leave now; not those that wait for a retry of their own.
    pub backlog: u64,
}

/// High and low marks, and how long things last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeatherMarks {
    /// A next hop out of reach for longer: the senders' 30 seconds for the outcome are over, and each
    /// further message in `through` would wait as long for nothing.
    pub hop_down_s: u64,
    /// A filter out of reach for longer. Sooner than for the hop: no message gets past it.
    pub filter_down_s: u64,
    /// A wait for the outcome that is too long: half of the 30 seconds after which it is the receipt …
    pub wait_high_s: u64,
    /// … and one that is short again.
    pub wait_low_s: u64,
    /// Messages that may still lie there when a domain goes back to `through`: what a next hop of
    /// 10 a second takes in 5 s; more where more leaves in 2 s.
    pub backlog_low: u64,
    /// A storm's least duration, in milliseconds: bots' waves are seconds apart.
    pub storm_min_ms: u64,
    /// How long all must be well, in milliseconds.
    pub calm_after_ms: u64,
}

impl Default for WeatherMarks {
    fn default() -> Self {
        Self {
            hop_down_s: 30,
            filter_down_s: 10,
            wait_high_s: 15,
            wait_low_s: 5,
            backlog_low: 50,
            storm_min_ms: 60_000,
            calm_after_ms: 10_000,
        }
    }
}

/// A storm that follows the last one sooner lasts twice as long.
pub const RELAPSE_MS: u64 = 600_000;
/// … up to this.
pub const STORM_MAX_MS: u64 = 960_000;
/// Domains with a weather of their own; beyond that a domain has the whole server's. About 150 octets each.
pub const DOMAINS_MAX: usize = 10_000;

/// The modes, and why.
#[derive(Clone, Debug, Default)]
pub struct Weather {
    marks: WeatherMarks,
    whole: State,
    domains: BTreeMap<String, State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    answer: Answer,
    reason: Reason,
    since_ms: u64,
    /// Since when all has been well; `None` while it is not.
    well_since_ms: Option<u64>,
    /// What the present or the last storm lasts at least.
    storm_ms: u64,
    /// When the last storm ended.
    ended_ms: Option<u64>,
}

/// What survives a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Of the whole.
    pub whole: Answer,
    /// Domains that collect for reasons of their own, sorted.
    pub collecting: Vec<String>,
}

impl Weather {
    /// All is well.
    #[must_use]
    pub fn new(marks: WeatherMarks) -> Self {
        Self { marks, ..Self::default() }
    }

    /// As the last server left it. Each storm begins anew, so that it lasts until the new server
    /// has seen the sky for itself.
    #[must_use]
    pub fn restore(marks: WeatherMarks, kept: &Kept, now_ms: u64) -> Self {
        let state = |answer: Answer| {
            let collects = answer == Answer::Collect;
            let reason = if collects { Reason::Restored } else { Reason::Calm };
            let storm_ms = if collects { marks.storm_min_ms } else { 0 };
            State { answer, reason, since_ms: now_ms, storm_ms, ..State::default() }
        };
        let domains = kept.collecting.iter().take(DOMAINS_MAX);
        let domains = domains.map(|domain| (domain.clone(), state(Answer::Collect))).collect();
        Self { marks, whole: state(kept.whole), domains }
    }

    /// To be kept over a restart.
    #[must_use]
    pub fn kept(&self) -> Kept {
        let collecting = self.domains.iter().filter(|(_, state)| state.answer == Answer::Collect);
        Kept { whole: self.whole.answer, collecting: collecting.map(|(domain, _)| domain.clone()).collect() }
    }

    /// A look at the sky; whether an answer has changed.
    pub fn update(&mut self, now_ms: u64, sky: &Sky) -> bool {
        let before = self.whole.answer;
        let storm = (sky.pressure.level == Level::Red)
            .then(|| Reason::Pressure(sky.pressure.cause.unwrap_or(Cause::Connections)));
        let lull = if sky.pressure.level == Level::Calm { Lull::Well } else { Lull::Not };
        self.whole.turn(now_ms, storm, lull, &self.marks);
        let mut changed = self.whole.answer != before;
        changed |= self.update_domains(now_ms, sky);
        changed
    }

    fn update_domains(&mut self, now_ms: u64, sky: &Sky) -> bool {
        let mut changed = false;
        let seen: BTreeMap<&str, &DomainSky> = sky.domains.iter().map(|seen| (seen.domain.as_str(), seen)).collect();
        for domain in seen.keys() {
            if !self.domains.contains_key(*domain) && self.domains.len() < DOMAINS_MAX {
                // It begins with what held for it until now: the whole server's.
                let state = State { ended_ms: None, ..self.whole.clone() };
                self.domains.insert((*domain).to_owned(), state);
            }
        }
        let clear = DomainSky::default();
        let marks = self.marks;
        for (domain, state) in &mut self.domains {
            let seen = seen.get(domain.as_str()).copied().unwrap_or(&clear);
            let before = state.answer;
            let lull = marks.lull(seen, &self.whole, sky.rate_milli);
            state.turn(now_ms, marks.storm(seen, &self.whole), lull, &marks);
            changed |= state.answer != before;
        }
        let whole = self.whole.answer;
        self.domains.retain(|domain, state| {
            let remembers = state.ended_ms.is_some_and(|ended| now_ms.saturating_sub(ended) < RELAPSE_MS);
            seen.contains_key(domain.as_str()) || state.answer != whole || remembers
        });
        changed
    }

    /// Of one domain.
    #[must_use]
    pub fn answer_of(&self, domain: &str) -> Answer {
        self.mode_of(domain).0
    }

    /// Of one domain, and why.
    #[must_use]
    pub fn mode_of(&self, domain: &str) -> (Answer, Reason) {
        let state = self.domains.get(domain).unwrap_or(&self.whole);
        (state.answer, state.reason)
    }

    /// Of every domain that has no weather of its own.
    #[must_use]
    pub fn whole(&self) -> (Answer, Reason) {
        (self.whole.answer, self.whole.reason)
    }

    /// Domains with a weather of their own.
    pub fn domains(&self) -> impl Iterator<Item = (&str, Answer, Reason)> {
        self.domains.iter().map(|(domain, state)| (domain.as_str(), state.answer, state.reason))
    }
}

/// Whether a storm may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lull {
    /// Something is not at its low mark.
    Not,
    /// Only the backlog is not.
    Draining(u64),
    /// All is well.
    Well,
}

impl WeatherMarks {
    /// Why a domain must collect.
    fn storm(&self, seen: &DomainSky, whole: &State) -> Option<Reason> {
        if whole.answer == Answer::Collect {
            return Some(whole.reason);
        }
        if seen.filter_down_s >= self.filter_down_s {
            return Some(Reason::FilterDown(seen.filter_down_s));
        }
        if seen.hop_down_s >= self.hop_down_s {
            return Some(Reason::HopDown(seen.hop_down_s));
        }
        (seen.wait_s >= self.wait_high_s).then_some(Reason::Slow(seen.wait_s))
    }

    fn lull(&self, seen: &DomainSky, whole: &State, rate_milli: u64) -> Lull {
        // Where much leaves, what leaves in two seconds is nothing.
        let backlog_low = self.backlog_low.max(rate_milli.saturating_mul(2) / 1000);
        let well = whole.answer == Answer::Through
            && seen.hop_down_s == 0
            && seen.filter_down_s == 0
            && seen.wait_s <= self.wait_low_s;
        match (well, seen.backlog > backlog_low) {
            (false, _) => Lull::Not,
            (true, true) => Lull::Draining(seen.backlog),
            (true, false) => Lull::Well,
        }
    }
}

impl State {
    fn turn(&mut self, now_ms: u64, storm: Option<Reason>, lull: Lull, marks: &WeatherMarks) {
        // A clock that went back begins every wait anew.
        self.since_ms = self.since_ms.min(now_ms);
        self.ended_ms = self.ended_ms.map(|ended| ended.min(now_ms));
        if let Some(reason) = storm {
            self.well_since_ms = None;
            self.reason = reason;
            if self.answer == Answer::Through {
                self.begin_storm(now_ms, marks);
            }
            return;
        }
        if self.answer == Answer::Through {
            self.reason = Reason::Calm;
            return;
        }
        match lull {
            Lull::Not => self.well_since_ms = None,
            Lull::Draining(backlog) => {
                self.well_since_ms = None;
                self.reason = Reason::Draining(backlog);
            }
            Lull::Well => {
                let well_since = self.well_since_ms.map_or(now_ms, |since| since.min(now_ms));
                self.well_since_ms = Some(well_since);
                self.reason = Reason::Settling;
                if now_ms - well_since >= marks.calm_after_ms && now_ms - self.since_ms >= self.storm_ms {
                    *self =
                        Self { since_ms: now_ms, storm_ms: self.storm_ms, ended_ms: Some(now_ms), ..Self::default() };
                }
            }
        }
    }

    fn begin_storm(&mut self, now_ms: u64, marks: &WeatherMarks) {
        let relapse = self.ended_ms.is_some_and(|ended| now_ms - ended < RELAPSE_MS);
        let longest = STORM_MAX_MS.max(marks.storm_min_ms);
        self.storm_ms = if relapse { (self.storm_ms.saturating_mul(2)).min(longest) } else { marks.storm_min_ms };
        self.answer = Answer::Collect;
        self.since_ms = now_ms;
    }
}

#[cfg(test)]
mod tests;
