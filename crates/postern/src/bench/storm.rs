//! The storm: what friends see while hostile crowds want every slot, every moment of the door's CPU, or every answer
//! of a filter; and whether the server's memory stays where it was.
//!
//! Each line of the table is a crowd, played against this program as it is and, in the same run, against comparators
//! made of the same program: merit off (first come, first served) and one accept queue for all. The generator is a
//! process of its own on the other core ([`play`]) and tells how late it was itself. Nothing is judged here: it
//! prints figures, and `docs/bench.md` says what they should be.

mod busy;
mod connects;
mod figures;
mod filter;
mod memory;
pub(super) mod play;
mod slots;

use serde_json::{Value, json};

use super::server::{Server, Setup};
use crate::exit::Failure;
use figures::{median, num};

/// As `--only` looks for them.
pub(super) const NAMES: [&str; 4] = [slots::NAME, connects::NAME, busy::NAME, memory::NAME];

/// One way to run the server under one crowd, and what came of it.
struct Way {
    name: &'static str,
    rounds: Vec<Value>,
}

/// A line: its name, and how it is measured.
type Line = (&'static str, fn(Effort) -> Result<Vec<Way>, Failure>);

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Of each way that is the program as it is.
    pub(super) rounds: u32,
    /// A first impression: a tenth of the crowd, for a third of the time.
    pub(super) quick: bool,
}

impl Effort {
    pub(super) fn size(self, full: u32) -> u32 {
        if self.quick { full / 10 } else { full }
    }

    pub(super) fn ms(self, full: u64) -> u64 {
        if self.quick { full / 3 } else { full }
    }
}

/// Plays the lines that are wanted; one object for each, with a row for each way.
pub(super) fn measure(effort: Effort, wanted: impl Fn(&str) -> bool) -> Result<Vec<Value>, Failure> {
    let lines: [Line; 4] = [
        (slots::NAME, slots::measure),
        (connects::NAME, connects::measure),
        (busy::NAME, busy::measure),
        (memory::NAME, memory::measure),
    ];
    let mut found = Vec::new();
    for (name, measure) in lines {
        if wanted(name) {
            let ways = measure(effort)?;
            let rows: Vec<Value> = ways
                .iter()
                .map(|way| json!({ "name": way.name, "rounds": way.rounds.len(), "figures": median(&way.rounds) }))
                .collect();
            found.push(json!({ "name": name, "ways": rows }));
        }
    }
    Ok(found)
}

/// One round: a server of its own, a crowd, and the figures of both.
fn round(setup: &Setup, plan: impl FnOnce(&mut postern_flood::Plan)) -> Result<Value, Failure> {
    let server = Server::start(setup)?;
    round_against(&server, plan)
}

/// The same against a server that was prepared.
fn round_against(server: &Server, plan: impl FnOnce(&mut postern_flood::Plan)) -> Result<Value, Failure> {
    let mut played = postern_flood::Plan::new(server.addr());
    played.pin = Some(play::CORE);
    plan(&mut played);
    let cpu = server.cpu()?;
    let report = play::play(&played)?;
    let cpu = server.cpu()?.saturating_sub(cpu).as_secs_f64() * 100.0 / report.seconds.max(1e-9);
    let mut figures = figures::of(&report);
    figures["server_cpu_percent"] = json!(cpu.round());
    Ok(figures)
}

/// The rows for people.
pub(super) fn print(lines: &[Value]) {
    for line in lines {
        println!("\n{}", line["name"].as_str().unwrap_or(""));
        for way in line["ways"].as_array().into_iter().flatten() {
            println!("  {} (median of {})", way["name"].as_str().unwrap_or(""), way["rounds"]);
            print_way(&way["figures"]);
        }
    }
}

fn print_way(figures: &Value) {
    let friends = figures["friends"].as_object().into_iter().flatten();
    for (n, (name, friends)) in friends.enumerate() {
        if n == 0 {
            println!(
                "    {:<22} {:>9} {:>9} {:>26} {:>26}",
                "", "got in", "in time", "greeting p50/p99 ms", "answer p50/p99 ms"
            );
        }
        let pair = |key: &str| {
            let of = |percentile: &str| num(&friends[key][percentile]);
            if friends[key].is_null() { "never".to_owned() } else { format!("{:.1} / {:.1}", of("p50"), of("p99")) }
        };
        println!(
            "    {name:<22} {:>7.1} % {:>7.1} % {:>26} {:>26}",
            num(&friends["success_percent"]),
            num(&friends["in_time_percent"]),
            pair("greeting_ms"),
            pair("answer_ms")
        );
    }
    let others = figures.as_object().into_iter().flatten().filter(|(name, _)| *name != "friends");
    let others: Vec<String> =
        others.map(|(name, value)| format!("{} {}", name.replace('_', " "), num(value))).collect();
    println!("    {}", others.join(", "));
}
