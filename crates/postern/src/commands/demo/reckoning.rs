//! The morning after: what became of whose mail, and whether Postern kept its promise. Plain figures and plain words.

use std::collections::BTreeMap;
use std::fmt;

use postern_flood::Second;
use postern_flood::report::FriendsSecond;
use serde::Serialize;

use super::board::{Half, PartyBoard, Scene, Way};
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
    /// Which way the peers' mail took to Postern.
    pub(super) way: Way,
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
    /// Friends whose own site has a postern. With Postern it is that site that answered them; see [`Way`] for the rest.
    pub(super) peers: Friendly,
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
    /// Messages that came due while the flood was on …
    pub(super) due_in_flood: u64,
    /// … and those that were answered 250 while it was.
    pub(super) taken_in_flood: u64,
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
    /// Neither arrived nor lost, for all that is known: the night was stopped before the end.
    pub(super) under_way: u64,
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
        let missing = promised.len() as u64 - there;
        let (under_way, lost) = if stopped { (missing, 0) } else { (0, missing) };
        let (known, peers, way) = (&with_postern.known, &with_postern.peers, &scene.way);
        let enough = known.offered > 0 && known.taken_percent >= SUCCESS_PERCENT_MIN;
        let through = way.percent_of(peers.offered) >= SUCCESS_PERCENT_MIN && way.by_port_25 == 0 && way.waiting == 0;
        let inside = &scene.inside;
        Self {
            seed: night.seed,
            seconds: night.over_ms / 1_000,
            silent_bots: night.silent,
            stopped_early: stopped,
            against: scene.against.clone(),
            without: HalfReckoning::of(&scene.without, night),
            way: way.clone(),
            buffer: Buffer {
                most: inside.buffered_max,
                drained_ms: inside.drained_ms,
                drain_took_ms: inside.drained_ms.map(|at| at.saturating_sub(night.flood_until_ms)),
                modes: inside.modes.clone(),
            },
            promise: Promise {
                answered_250: promised.len() as u64,
                arrived: there,
                under_way,
                lost,
                twice: arrived.values().filter(|times| **times > 1).count() as u64,
                kept: enough && through && lost == 0 && failures.is_empty() && !stopped,
            },
            with_postern,
            failures,
        }
    }
}

impl HalfReckoning {
    fn of(half: &Half, night: &Night) -> Self {
        let friendly = |party: Party| Friendly::of(half.party(party), night);
        let hostile = half.party(Party::Hostile);
        let connects =
            hostile.course(|second| second.crowds.iter().map(|crowd| crowd.attempts).sum()).into_iter().max();
        Self {
            known: friendly(Party::Known),
            never_seen: friendly(Party::Strangers),
            peers: friendly(Party::Peers),
            hostile_connects: hostile.progress.attempts,
            hostile_connects_per_s_max: connects.unwrap_or(0),
            spam_taken: hostile.progress.hostile_accepted,
        }
    }
}

impl Friendly {
    fn of(party: &PartyBoard, night: &Night) -> Self {
        let flood = |second: &&Second| night.phase_at(u64::from(second.at_s) * 1_000) == Phase::Flood;
        let in_flood = |count: fn(&FriendsSecond) -> u64| {
            party.seconds.iter().filter(flood).flat_map(|second| &second.friends).map(count).sum::<u64>()
        };
        let due_in_flood = in_flood(|friends| friends.offered);
        // What came due just before it may have been answered just in it.
        let taken_in_flood = in_flood(|friends| friends.accepted).min(due_in_flood);
        let report = party.report.as_ref().and_then(|report| report.friends.first());
        let Some(report) = report else { return Self { due_in_flood, taken_in_flood, ..Self::default() } };
        Self {
            offered: report.offered,
            taken: report.accepted,
            taken_percent: report.success_percent,
            in_time_percent: report.in_time_percent,
            p50_ms: report.final_reply.p50_ms,
            p99_ms: report.final_reply.p99_ms,
            due_in_flood,
            taken_in_flood,
        }
    }

    fn in_flood(&self) -> String {
        format!("{} of {}", self.taken_in_flood, self.due_in_flood)
    }

    fn times(&self) -> String {
        if self.taken == 0 { "-".to_owned() } else { times(self.p50_ms, self.p99_ms) }
    }
}

impl Way {
    /// Through the postern, of so many that were due.
    fn percent_of(&self, due: u64) -> f64 {
        if due == 0 { 0.0 } else { self.by_postern.min(due) as f64 * 100.0 / due as f64 }
    }

    /// What went through it just in the flood may have come due just before.
    fn in_flood(&self, peers: &Friendly) -> String {
        format!("{} of {}", self.by_postern_in_flood.min(peers.due_in_flood), peers.due_in_flood)
    }
}

fn times(p50_ms: f64, p99_ms: f64) -> String {
    format!("{p50_ms:.0} / {p99_ms:.0} ms")
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
            row("  taken of due in the flood", a.in_flood(), b.in_flood())?;
            row("  from due to 250, p50 / p99", a.times(), b.times())?;
        }
        let (a, b, way) = (&without.peers, &with.peers, &self.way);
        row("friends with a postern: offered", a.offered.to_string(), b.offered.to_string())?;
        row("  taken by port 25 | by the postern", percent(a.taken_percent), percent(way.percent_of(b.offered)))?;
        row("  taken of due in the flood", a.in_flood(), way.in_flood(b))?;
        row("  from due to 250 | to the server behind", a.times(), times(way.under_way.p50_ms, way.under_way.p99_ms))?;
        row("hostile connects", without.hostile_connects.to_string(), with.hostile_connects.to_string())?;
        row(
            "  most in a second",
            without.hostile_connects_per_s_max.to_string(),
            with.hostile_connects_per_s_max.to_string(),
        )?;
        row("spam and backscatter taken", without.spam_taken.to_string(), with.spam_taken.to_string())?;
        writeln!(f, "\n{}", self.by_the_postern())?;
        writeln!(f, "{}", self.buffer)?;
        let Promise { answered_250, arrived, under_way, lost, twice, .. } = self.promise;
        write!(f, "Postern answered {answered_250} messages 250; {arrived} of them arrived behind it; ")?;
        if under_way > 0 {
            write!(f, "{under_way} were under way when it was stopped; ")?;
        }
        writeln!(f, "{lost} lost, {twice} twice.")?;
        for failure in &self.failures {
            writeln!(f, "Not played: {failure}")?;
        }
        f.write_str(&self.verdict())
    }
}

impl Reckoning {
    /// Which way the peers' mail took, by the counters of both sites.
    fn by_the_postern(&self) -> String {
        let Way { by_postern, by_port_25, waiting, answered_at_outcome, answered_at_receipt, under_way, .. } =
            &self.way;
        let mut out = format!(
            "By the postern: {by_postern} of {} messages of the friends' own site, {by_port_25} by port 25; {} while the flood \
             was on (by port 25, without: {}).",
            by_postern + by_port_25 + waiting,
            self.way.in_flood(&self.with_postern.peers),
            self.without.peers.in_flood(),
        );
        if *waiting > 0 {
            out.push_str(&format!(" {waiting} wait there."));
        }
        out.push_str(&format!(
            "\nThe door answered {answered_at_outcome} of them when they were delivered, {answered_at_receipt} when they were durable; \
             from the 250 of their own site to the server behind: {:.1} s at most.",
            under_way.max_ms / 1_000.0
        ));
        out
    }

    /// The sentence that matters.
    pub(super) fn verdict(&self) -> String {
        let (with, without) = (&self.with_postern, &self.without);
        let (known, peers) = (with.known.taken_percent, self.way.percent_of(with.peers.offered));
        let lost = self.promise.lost;
        if self.promise.kept {
            return format!(
                "PROMISE KEPT: {known:.1} % of the friends' mail got through, {} while the flood was on (without: {}), and nothing answered 250 is lost.",
                with.known.in_flood(),
                without.known.in_flood(),
            );
        }
        if self.stopped_early {
            return "STOPPED EARLY: nothing is proven.".to_owned();
        }
        if !self.failures.is_empty() {
            return "NOT PLAYED as planned: nothing is proven.".to_owned();
        }
        format!(
            "PROMISE BROKEN: {known:.1} % of the friends' mail got through, and {lost} messages answered 250 are lost; by the \
             postern {peers:.1} %, {} by port 25, {} wait.",
            self.way.by_port_25, self.way.waiting
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

/// Of the friends' messages, known or with a postern, to be taken.
const SUCCESS_PERCENT_MIN: f64 = 99.0;
