//! The postern under attack: what friends see at the door while it is flooded, beside stock quinn that accepts everybody and
//! stock quinn that answers Retry to everybody.
//!
//! Each way to run a server is a process on core 0; the generator, friends and attackers together, is another on core 1.
//! Every figure has the kernel's drops beside it. Nothing is judged here: it prints figures, and `docs/bench.md` says what
//! they should be.

mod aware;
mod botnets;
mod insiders;
mod naive;
mod play;
mod port25;
mod replays;
mod restart;
mod server;

use serde_json::{Value, json};

use super::storm::Effort;
use crate::exit::Failure;
use postern_flood::door::{Assault, Attack, DoorFriends, DoorPlan, DoorReport};
use server::Subject;

pub(super) use play::child as play_child;
pub(super) use server::stock as stock_child;

/// As `--only` looks for them.
pub(super) const NAMES: [&str; 11] = [
    naive::NAME,
    naive::SLOW,
    aware::NAME,
    botnets::ABANDONED,
    botnets::COMPLETED,
    botnets::STRANGERS,
    insiders::NAME,
    replays::NAME,
    port25::NAME,
    restart::NAME,
    restart::PANIC,
];

/// A line of the table.
type Line = (&'static str, fn(Effort) -> Result<Vec<Value>, Failure>);

/// Measures the lines that are wanted; one object for each, with a row for each way.
pub(super) fn measure(effort: Effort, wanted: impl Fn(&str) -> bool) -> Result<Vec<Value>, Failure> {
    let lines: [Line; 11] = [
        (naive::NAME, naive::measure),
        (naive::SLOW, naive::slowed),
        (aware::NAME, aware::measure),
        (botnets::ABANDONED, botnets::abandoned),
        (botnets::COMPLETED, botnets::completed),
        (botnets::STRANGERS, botnets::strangers),
        (insiders::NAME, insiders::measure),
        (replays::NAME, replays::measure),
        (port25::NAME, port25::measure),
        (restart::NAME, restart::killed),
        (restart::PANIC, restart::panicked),
    ];
    let mut found = Vec::new();
    for (name, measure) in lines {
        if wanted(name) {
            eprintln!("{name}");
            found.push(json!({ "name": name, "ways": measure(effort)? }));
        }
    }
    Ok(found)
}

/// The friends that every line has: 100 messages of 4 KiB a second on four links, 20 new links a second by ticket.
fn friends(subject: &Subject) -> DoorFriends {
    DoorFriends {
        key: subject.friend_key(),
        peer_key: subject.key(),
        domain: server::FRIEND.to_owned(),
        entry: subject.entry(),
        ..DoorFriends::new()
    }
}

/// A plan for a round: friends, a second after the attackers.
fn plan(subject: &Subject, effort: Effort) -> DoorPlan {
    let mut plan = DoorPlan::new(subject.door());
    plan.offer_ms = effort.ms(10_000);
    plan.friends = Some(friends(subject));
    plan
}

/// Attackers of a kind, so many packets a second.
fn assault(attack: Attack, rate: u32) -> Assault {
    Assault { rate, ..Assault::new(attack) }
}

/// Plays it against the subject, and gives a row.
fn round(subject: &Subject, way: &str, plan: &DoorPlan) -> Result<Value, Failure> {
    let cpu = subject.cpu()?;
    let report = play::play(plan)?;
    let cpu = subject.cpu()?.saturating_sub(cpu).as_secs_f64() * 100.0 / report.seconds.max(1e-9);
    let mut row = figures(&report);
    row["name"] = json!(way);
    if let Some(door) = subject.door_status() {
        // One for each link that stands, and one for each made for a message; strangers come on top.
        let friends: u64 = report.friends.iter().map(|friends| friends.attempts).sum();
        let links = plan.friends.as_ref().map_or(0, |friends| u64::from(friends.links));
        let counters = ["begun", "accepted", "tickets", "rebuilt"].map(|name| (name, &door[name]));
        row["door"] = json!(counters.into_iter().collect::<std::collections::BTreeMap<_, _>>());
        row["door"]["by_friends"] = json!(friends + links);
        row["door"]["gate"] = door["gate"].clone();
    }
    row["server_cpu_percent"] = json!(cpu.round());
    row["server_resident_bytes"] = json!(subject.memory()?.0);
    Ok(row)
}

/// What of a report is printed and kept.
fn figures(report: &DoorReport) -> Value {
    let friends = report.friends.iter().map(|friends| {
        let of = json!({
            "offered": friends.offered,
            "success_percent": friends.success_percent,
            "in_time_percent": friends.in_time_percent,
            "p50_ms": friends.final_reply.p50_ms,
            "p99_ms": friends.final_reply.p99_ms,
            "max_ms": friends.final_reply.max_ms,
            "attempts": friends.attempts,
            "connect_p50_ms": friends.connect.p50_ms,
            "connect_max_ms": friends.connect.max_ms,
            "unconcluded": friends.unconcluded,
            "trouble": friends.connect_errors,
        });
        (friends.name.clone(), of)
    });
    let attacks = report.attacks.iter().map(|attack| {
        json!({
            "name": attack.name,
            "packets_per_second": attack.packets_per_second().round(),
            "packets": attack.packets,
            "answers": attack.answers,
            "amplification": attack.amplification(),
            "initials": attack.initials,
            "initials_answered": attack.initials_answered,
            "handshakes": attack.handshakes,
            "accepted": attack.accepted,
            "streams": attack.streams,
            "messages": attack.messages,
        })
    });
    json!({
        "friends": friends.collect::<serde_json::Map<_, _>>(),
        "attacks": attacks.collect::<Vec<_>>(),
        "door_drops": report.kernel.door_drops,
        "softnet_dropped": report.kernel.softnet_dropped,
        "generator_late_p99_ms": report.generator.lag_p99_ms,
    })
}

/// The rows for people.
pub(super) fn print(lines: &[Value]) {
    for line in lines {
        println!("\n{}", line["name"].as_str().unwrap_or(""));
        for way in line["ways"].as_array().into_iter().flatten() {
            println!("  {}", way["name"].as_str().unwrap_or(""));
            for (name, friends) in way["friends"].as_object().into_iter().flatten() {
                println!(
                    "    {name:<14} {:>6} offered, {:>6.1} % got in, p50/p99/max {:.1} / {:.1} / {:.1} ms, connect p50/max {:.1} / {:.1} ms",
                    friends["offered"],
                    num(&friends["success_percent"]),
                    num(&friends["p50_ms"]),
                    num(&friends["p99_ms"]),
                    num(&friends["max_ms"]),
                    num(&friends["connect_p50_ms"]),
                    num(&friends["connect_max_ms"]),
                );
                let causes = friends["trouble"].as_object().into_iter().flatten();
                let causes: Vec<String> = causes.map(|(cause, n)| format!("{cause}: {n}")).collect();
                if !causes.is_empty() {
                    println!("    {:<14} {}", "", causes.join(", "));
                }
            }
            for attack in way["attacks"].as_array().into_iter().flatten() {
                println!(
                    "    {:<14} {:>8.0} packets/s, answers {}, {:.3} octets back for each, {} real Initials, {} handshakes, {} messages",
                    attack["name"].as_str().unwrap_or(""),
                    num(&attack["packets_per_second"]),
                    attack["answers"],
                    num(&attack["amplification"]),
                    attack["initials"],
                    attack["handshakes"],
                    attack["messages"],
                );
            }
            if let Some(door) = way["door"].as_object() {
                println!(
                    "    {:<14} {} handshakes begun, {} let in; friends came {} times",
                    "door", door["begun"], door["accepted"], door["by_friends"]
                );
            }
            println!(
                "    kernel dropped {} at the door, {} before; server {} % of its core, {} MiB; generator late {:.1} ms at p99{}",
                way["door_drops"],
                way["softnet_dropped"],
                num(&way["server_cpu_percent"]),
                way["server_resident_bytes"].as_u64().unwrap_or(0) >> 20,
                num(&way["generator_late_p99_ms"]),
                way["note"].as_str().map(|note| format!("; {note}")).unwrap_or_default(),
            );
        }
    }
}

fn num(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}
