//! The morning after: what became of whose mail, and whether Postern kept its promise. Plain figures and plain words.

use std::collections::BTreeMap;
use std::fmt;

use postern_flood::report::FriendsSecond;
use postern_flood::{FriendsReport, Second};
use serde::Serialize;

use super::board::{Half, Scene};
use super::night::{Night, Party, Phase};
use super::view::clock;

/// The whole.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Reckoning {
    pub(super) seed: u64,
    pub(super) seconds: u64,
    pub(super) silent_bots: u32,
    /// Somebody stopped the night before it was over.
    pub(super) stopped_early: bool,
    /// Who stood in the other half.
    pub(super) against: String,
    pub(super) without: HalfReckoning,
    pub(super) with_postern: HalfReckoning,
    pub(super) buffer: Buffer,
    pub(super) promise: Promise,
    /// What could not be played.
    pub(super) failures: Vec<String>,
}

/// One server's night.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct HalfReckoning {
    pub(super) known: Friendly,
    pub(super) never_seen: Friendly,
    /// Known friends' messages that came due while the flood was on …
    pub(super) due_in_flood: u64,
    /// … and those that were answered 250 while it was.
    pub(super) taken_in_flood: u64,
    pub(super) hostile_connects: u64,
    pub(super) hostile_connects_per_s_max: u64,
    pub(super) spam_taken: u64,
}

/// What became of honest mail.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Friendly {
    pub(super) offered: u64,
    pub(super) taken: u64,
    pub(super) taken_percent: f64,
    pub(super) in_time_percent: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// What Postern kept for later.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Buffer {
    pub(super) most: u64,
    /// Since the beginning of the night.
    pub(super) drained_ms: Option<u64>,
    /// How long that was after the flood.
    pub(super) drain_took_ms: Option<u64>,
    /// From when on, and which.
    pub(super) modes: Vec<(u64, String)>,
}

/// What was answered 250, and where it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Promise {
    pub(super) answered_250: u64,
    pub(super) arrived: u64,
    pub(super) lost: u64,
    /// Delivered more than once.
    pub(super) twice: u64,
    pub(super) kept: bool,
}

impl Reckoning {
    /// Of the last scene, of what Postern answered 250, and of what the server behind it took.
    pub(super) fn new(scene: &Scene, stopped: bool, promised: &[String], arrived: &BTreeMap<String, u32>) -> Self {
        let night = &scene.night;
        let with_postern = HalfReckoning::of(&scene.with, night);
        let failures: Vec<String> = [&scene.without, &scene.with]
            .into_iter()
            .flat_map(|half| half.parties.iter().filter_map(|party| party.failure.clone()))
            .collect();
        let there = promised.iter().filter(|id| arrived.contains_key(*id)).count() as u64;
        let lost = promised.len() as u64 - there;
        let enough = with_postern.known.offered > 0 && with_postern.known.taken_percent >= SUCCESS_PERCENT_MIN;
        let inside = &scene.inside;
        Self {
            seed: night.seed,
            seconds: night.over_ms / 1_000,
            silent_bots: night.silent,
            stopped_early: stopped,
            against: scene.against.clone(),
            without: HalfReckoning::of(&scene.without, night),
            buffer: Buffer {
                most: inside.buffered_max,
                drained_ms: inside.drained_ms,
                drain_took_ms: inside.drained_ms.map(|at| at.saturating_sub(night.flood_until_ms)),
                modes: inside.modes.clone(),
            },
            promise: Promise {
                answered_250: promised.len() as u64,
                arrived: there,
                lost,
                twice: arrived.values().filter(|times| **times > 1).count() as u64,
                kept: enough && lost == 0 && failures.is_empty() && !stopped,
            },
            with_postern,
            failures,
        }
    }
}

impl HalfReckoning {
    fn of(half: &Half, night: &Night) -> Self {
        let friendly = |party: Party| {
            let report = half.party(party).report.as_ref();
            report.and_then(|report| report.friends.first()).map(Friendly::of).unwrap_or_default()
        };
        let hostile = half.party(Party::Hostile);
        let connects =
            hostile.course(|second| second.crowds.iter().map(|crowd| crowd.attempts).sum()).into_iter().max();
        let flood = |second: &&Second| night.phase_at(u64::from(second.at_s) * 1_000) == Phase::Flood;
        let in_flood = |count: fn(&FriendsSecond) -> u64| {
            let seconds = half.party(Party::Known).seconds.iter().filter(flood);
            seconds.flat_map(|second| &second.friends).map(count).sum()
        };
        Self {
            known: friendly(Party::Known),
            never_seen: friendly(Party::Strangers),
            due_in_flood: in_flood(|friends| friends.offered),
            // What came due just before it may have been answered just in it.
            taken_in_flood: in_flood(|friends| friends.accepted).min(in_flood(|friends| friends.offered)),
            hostile_connects: hostile.progress.attempts,
            hostile_connects_per_s_max: connects.unwrap_or(0),
            spam_taken: hostile.progress.hostile_accepted,
        }
    }
}

impl Friendly {
    fn of(report: &FriendsReport) -> Self {
        Self {
            offered: report.offered,
            taken: report.accepted,
            taken_percent: report.success_percent,
            in_time_percent: report.in_time_percent,
            p50_ms: report.final_reply.p50_ms,
            p99_ms: report.final_reply.p99_ms,
        }
    }

    fn times(&self) -> String {
        if self.taken == 0 { "-".to_owned() } else { format!("{:.0} / {:.0} ms", self.p50_ms, self.p99_ms) }
    }
}

impl fmt::Display for Reckoning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let early = if self.stopped_early { ", stopped early" } else { "" };
        writeln!(
            f,
            "The night: {} s, {} silent bots beside spam and backscatter, seed {}{early}",
            self.seconds, self.silent_bots, self.seed
        )?;
        writeln!(f, "without: {}; with: Postern in front of the same kind of server\n", self.against)?;
        let (without, with) = (&self.without, &self.with_postern);
        let mut row = |name: &str, without: String, with: String| writeln!(f, "{name:<40}{without:>18}{with:>18}");
        row("", "without".to_owned(), "with Postern".to_owned())?;
        let percent = |share: f64| format!("{share:.1} %");
        for (name, a, b) in [
            ("known friends' mail", &without.known, &with.known),
            ("never seen before", &without.never_seen, &with.never_seen),
        ] {
            row(&format!("{name}: offered"), a.offered.to_string(), b.offered.to_string())?;
            row("  taken", percent(a.taken_percent), percent(b.taken_percent))?;
            row("  taken in time", percent(a.in_time_percent), percent(b.in_time_percent))?;
            row("  from due to 250, p50 / p99", a.times(), b.times())?;
        }
        let in_flood = |half: &HalfReckoning| format!("{} of {}", half.taken_in_flood, half.due_in_flood);
        row("known: taken of due, in the flood", in_flood(without), in_flood(with))?;
        row("hostile connects", without.hostile_connects.to_string(), with.hostile_connects.to_string())?;
        row(
            "  most in a second",
            without.hostile_connects_per_s_max.to_string(),
            with.hostile_connects_per_s_max.to_string(),
        )?;
        row("spam and backscatter taken", without.spam_taken.to_string(), with.spam_taken.to_string())?;
        writeln!(f, "\n{}", self.buffer)?;
        let Promise { answered_250, arrived, lost, twice, .. } = self.promise;
        writeln!(
            f,
            "Postern answered {answered_250} messages 250; {arrived} of them arrived behind it; {lost} lost, {twice} twice."
        )?;
        for failure in &self.failures {
            writeln!(f, "Not played: {failure}")?;
        }
        f.write_str(&self.verdict())
    }
}

impl Reckoning {
    /// The sentence that matters.
    pub(super) fn verdict(&self) -> String {
        let (taken, lost) = (self.with_postern.known.taken_percent, self.promise.lost);
        if self.promise.kept {
            let (with, without) = (&self.with_postern, &self.without);
            return format!(
                "PROMISE KEPT: {taken:.1} % of the friends' mail got through, {} of {} while the flood was on (without: {} of {}), and nothing answered 250 is lost.",
                with.taken_in_flood, with.due_in_flood, without.taken_in_flood, without.due_in_flood
            );
        }
        if self.stopped_early {
            return "STOPPED EARLY: nothing is proven.".to_owned();
        }
        if !self.failures.is_empty() {
            return "NOT PLAYED as planned: nothing is proven.".to_owned();
        }
        format!(
            "PROMISE BROKEN: {taken:.1} % of the friends' mail got through, and {lost} messages answered 250 are lost."
        )
    }
}

impl fmt::Display for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let modes: Vec<String> = self.modes.iter().map(|(at, mode)| format!("{mode} from {}", clock(*at))).collect();
        write!(f, "Postern: {}. ", modes.join(", "))?;
        match self.drain_took_ms {
            _ if self.most == 0 => f.write_str("Nothing was buffered."),
            Some(ms) => {
                let seconds = ms.div_ceil(1_000);
                write!(f, "Buffered at most {} messages; the last of them left {seconds} s after the flood.", self.most)
            }
            None => write!(f, "Buffered at most {} messages, and not all have left yet.", self.most),
        }
    }
}

/// Of the known friends' messages, to be taken.
const SUCCESS_PERCENT_MIN: f64 = 99.0;
