//! The process is killed, or its QUIC thread panics, in the middle of a flood: for how long nobody is answered, and whether a
//! ticket is refused for it.

use std::thread;
use std::time::{Duration, SystemTime};

use postern_flood::door::{Attack, DoorPlan, DoorReport};
use postern_flood::{Friends, Plan};
use serde_json::{Value, json};

use super::super::storm;
use super::server::{OURS, Ours, Subject};
use super::{assault, figures, plan, play};
use crate::bench::storm::Effort;
use crate::control::Ask;
use crate::exit::{Code, Failure};

pub(super) const NAME: &str = "door: kill -9 and restart in mid-flood";
pub(super) const PANIC: &str = "door: a panic of the QUIC thread in mid-flood";

/// With and without a flood, some times each: `kill -9` at half time, and at once again on the same data and port.
pub(super) fn killed(effort: Effort) -> Result<Vec<Value>, Failure> {
    rounds(effort, |name, attack| {
        let mut subject = Subject::ours(Ours::default())?;
        let (played, half) = timed(&subject, effort, attack);
        let flood = thread::spawn(move || play::play(&played));
        thread::sleep(half);
        let killed = unix_us();
        subject.kill_and_start_again()?;
        let ready = unix_us();
        let report = flood.join().map_err(|_| Failure::new(Code::Software, "the generator's thread panicked"))??;
        let mut row = row(name, &report, killed, ready, &subject.ask(Ask::Status)?["door"]);
        row["down_ms"] = json!(ms(ready - killed));
        since_then(&mut row, &subject, ready, Duration::ZERO)?;
        row["note"] = json!(format!("ready again {:.0} ms after kill -9; {}", ms(ready - killed), said(&row)));
        Ok(row)
    })
}

/// The same with a panic, while others bring their mail to the public door.
pub(super) fn panicked(effort: Effort) -> Result<Vec<Value>, Failure> {
    rounds(effort, |name, attack| {
        let subject = Subject::ours(Ours::default())?;
        let smtp = subject.smtp().ok_or_else(|| Failure::new(Code::Software, "no public door"))?;
        let (played, half) = timed(&subject, effort, attack);
        let mut public = Plan::new(smtp);
        public.offer_ms = played.offer_ms + played.friends_after_ms;
        public.pin = Some(storm::play::CORE);
        public.friends.push(Friends::new("public door", 10, PUBLIC_RATE));
        let (flood, beside) =
            (thread::spawn(move || play::play(&played)), thread::spawn(move || storm::play::play(&public)));
        thread::sleep(half);
        let at = unix_us();
        let cpu = subject.cpu()?;
        subject.ask(Ask::PanicDoor)?;
        let rebuilt = wait_until_rebuilt(&subject)?;
        let ended = || Failure::new(Code::Software, "the generator's thread panicked");
        let report = flood.join().map_err(|_| ended())??;
        let beside = beside.join().map_err(|_| ended())??;
        let door = subject.ask(Ask::Status)?["door"].take();
        let mut row = row(name, &report, at, rebuilt, &door);
        since_then(&mut row, &subject, at, cpu)?;
        let public = beside.friends.first().ok_or_else(ended)?;
        row["public_p99_ms"] = json!(public.final_reply.p99_ms);
        row["public_max_ms"] = json!(public.final_reply.max_ms);
        row["public_success_percent"] = json!(public.success_percent);
        row["note"] = json!(format!(
            "built again {:.1} ms after it; {}; public door meanwhile {:.1} % got in, p50/p99/max {:.1} / {:.1} / {:.1} ms",
            ms(rebuilt - at),
            said(&row),
            public.success_percent,
            public.final_reply.p50_ms,
            public.final_reply.p99_ms,
            public.final_reply.max_ms,
        ));
        Ok(row)
    })
}

/// The moment at which the thread lives again.
fn wait_until_rebuilt(subject: &Subject) -> Result<u64, Failure> {
    let until = unix_us() + BACK_US;
    while unix_us() < until {
        if subject.ask(Ask::Status)?["door"]["rebuilt"].as_u64() > Some(0) {
            return Ok(unix_us());
        }
        thread::sleep(LOOK);
    }
    Err(Failure::new(Code::Software, "the postern's thread did not come back"))
}

/// What the server has used since that moment, when it had used so much.
fn since_then(row: &mut Value, subject: &Subject, moment: u64, before: Duration) -> Result<(), Failure> {
    let (used, passed) = (subject.cpu()?.saturating_sub(before), unix_us().saturating_sub(moment));
    row["server_cpu_percent"] = json!((used.as_micros() as f64 * 100.0 / passed.max(1) as f64).round());
    row["server_resident_bytes"] = json!(subject.memory()?.0);
    Ok(())
}

fn rounds(
    effort: Effort,
    mut one: impl FnMut(&str, Option<Attack>) -> Result<Value, Failure>,
) -> Result<Vec<Value>, Failure> {
    let mut rows = Vec::new();
    for attack in [None, Some(Attack::Naive)] {
        let what = attack.map_or_else(|| "nobody attacks".to_owned(), |attack| format!("{attack} at {FLOOD}/s"));
        for round in 1..=effort.rounds {
            rows.push(one(&format!("{OURS}, {what}, round {round}"), attack)?);
        }
    }
    Ok(rows)
}

/// The plan, and when it is half over.
fn timed(subject: &Subject, effort: Effort, attack: Option<Attack>) -> (DoorPlan, Duration) {
    let mut played = plan(subject, effort);
    played.attacks.extend(attack.map(|attack| assault(attack, FLOOD)));
    if let Some(friends) = &mut played.friends {
        friends.moments = true;
    }
    let half = Duration::from_millis(played.friends_after_ms + played.offer_ms / 2);
    (played, half)
}

/// The usual figures, and how long friends waited: from `ready` to the first message that was taken, and the longest
/// time without one since `ended`. `door` is its status after the run.
fn row(name: &str, report: &DoorReport, ended: u64, ready: u64, door: &Value) -> Value {
    let mut row = figures(report);
    row["name"] = json!(name);
    let gate = |counter: &str| door["gate"][counter].as_u64().unwrap_or(0);
    row["tickets_refused"] = json!(gate("bad_ticket") + gate("burnt_ticket"));
    row["by_ticket"] = json!(gate("by_ticket"));
    row["by_cookie"] = json!(gate("by_cookie"));
    let kinds = report.friends.iter().zip(&report.moments);
    row["first_ms"] = kinds
        .map(|(friends, moments)| {
            let first = moments.iter().filter(|moment| **moment > ready).min();
            (friends.name.clone(), json!(first.map(|first| ms(first - ready))))
        })
        .collect::<serde_json::Map<_, _>>()
        .into();
    let mut all: Vec<u64> = report.moments.iter().flatten().copied().collect();
    all.sort_unstable();
    // The last one before it and those of the next seconds.
    let around = all.windows(2).filter(|pair| pair[1] >= ended && pair[0] < ready + AROUND_US);
    row["silence_ms"] = json!(ms(around.map(|pair| pair[1] - pair[0]).max().unwrap_or(0)));
    row
}

fn said(row: &Value) -> String {
    let first: Vec<String> = row["first_ms"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, first)| first.as_f64().map_or(format!("{name} never"), |first| format!("{name} {first:.1} ms")))
        .collect();
    format!(
        "first 250 after it: {}; nobody was answered for {:.1} ms; {} tickets refused, {} came by ticket, {} by cookie",
        first.join(", "),
        row["silence_ms"].as_f64().unwrap_or(0.0),
        row["tickets_refused"],
        row["by_ticket"],
        row["by_cookie"],
    )
}

fn unix_us() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}

/// Packets a second: below what the gate drains, so that what is measured is the gap and not the flood.
const FLOOD: u32 = 50_000;
/// Messages a second at the public door: a pause of 20 ms would show in the worst.
const PUBLIC_RATE: f64 = 50.0;
/// Between two looks at whether the thread is back.
const LOOK: Duration = Duration::from_millis(1);
/// For so long after the moment the longest silence is looked for: friends must still be offering mail then.
const AROUND_US: u64 = 1_000_000;
/// A thread that is not back by then is gone.
const BACK_US: u64 = 10_000_000;
