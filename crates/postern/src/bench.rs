//! `postern bench`: this machine's own figures, without any other program.
//!
//! A server of our own runs as a child process in a temporary directory, bound to core 0; this
//! process makes the load on core 1. Rounds of all measurements are interleaved, so that a slow
//! minute of the machine touches them all; the median and the best round are printed. Nothing
//! leaves loopback.

mod door;
mod idle;
mod load;
mod machine;
mod server;
mod steering;
mod storm;
mod variants;

use std::time::Duration;

use serde_json::{Value, json};

use crate::args::{BenchAction, BenchArgs, LoadArgs};
use crate::exit::{Code, Failure};
use load::{Load, Report};
use server::{Server, Setup};
use variants::{VARIANTS, Variant};

/// Runs what the command line asks for.
///
/// # Errors
/// The server could not be started or loaded.
pub(crate) fn run(args: BenchArgs) -> Result<(), Failure> {
    match &args.action {
        Some(BenchAction::Load(what)) => load_one(what),
        Some(BenchAction::Play) => storm::play::child(),
        Some(BenchAction::PlayDoor) => door::play_child(),
        Some(BenchAction::Stock { retry, work_ns }) => door::stock_child(*retry, *work_ns),
        None => table(&args),
    }
}

/// `postern bench load`: a server that somebody else started.
fn load_one(args: &LoadArgs) -> Result<(), Failure> {
    if !args.addr.ip().is_loopback() {
        let what = format!("{} is not loopback", args.addr);
        return Err(Failure::new(Code::Usage, what).cure("this makes load, and only against this machine"));
    }
    if let Some(core) = args.pin {
        crate::serve::pin(core)?;
    }
    let load = Load {
        addr: args.addr,
        clients: args.clients,
        messages: args.messages,
        per_connection: args.per_connection,
        body_bytes: args.size,
        recipient: args.recipient.clone(),
        starttls: args.starttls,
    };
    let report = load::run(&load)?;
    println!("{}", report.to_json());
    if report.messages == 0 {
        return Err(
            Failure::new(Code::Unavailable, "no message was taken").cure(report.first_error.unwrap_or_default())
        );
    }
    Ok(())
}

/// What one round of one measurement gave.
#[derive(Clone, Copy, Debug)]
struct Sample {
    messages_per_second: f64,
    cpu_us: f64,
    busy_us: f64,
    per_commit: f64,
    p50_ms: f64,
    p99_ms: f64,
}

fn table(args: &BenchArgs) -> Result<(), Failure> {
    let (rounds, messages) = if args.quick { (2, args.messages.min(4_000)) } else { (args.rounds, args.messages) };
    // Before this process is bound to one core itself.
    let (cores, machine) = (machine::cores(), machine::describe());
    if cores < 2 {
        eprintln!("only one core: server and load share it, read the figures accordingly");
    }
    crate::serve::pin(1 % cores)?;
    let wanted = |name: &str| args.only.as_deref().is_none_or(|word| name.contains(word));
    let variants: Vec<&Variant> = VARIANTS.iter().filter(|variant| wanted(variant.name)).collect();
    let others =
        idle::KINDS.map(|kind| kind.0).into_iter().chain([steering::NAME]).chain(storm::NAMES).chain(door::NAMES);
    if variants.is_empty() && !others.clone().any(wanted) {
        let names: Vec<&str> = VARIANTS.iter().map(|variant| variant.name).chain(others).collect();
        return Err(Failure::new(Code::Usage, "no measurement has that name").cure(names.join("; ")));
    }
    let mut samples: Vec<Vec<Sample>> = variants.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for (variant, samples) in variants.iter().zip(&mut samples) {
            eprintln!("round {}/{rounds}: {}", round + 1, variant.name);
            samples.push(measure(variant, messages)?);
        }
    }
    let rows: Vec<Value> = variants.iter().zip(&samples).map(|(variant, samples)| row(variant, samples)).collect();
    let mut idle = Vec::new();
    for (name, count, starttls) in idle::KINDS {
        if wanted(name) {
            let count = if args.quick { count / 10 } else { count };
            eprintln!("{count} {name}");
            idle.push(idle::measure(name, count, starttls)?);
        }
    }
    let steering =
        if wanted(steering::NAME) { steering::measure(rounds.min(STORM_ROUNDS), args.quick)? } else { Vec::new() };
    let effort = storm::Effort { rounds: rounds.min(STORM_ROUNDS), quick: args.quick };
    let storm = storm::measure(effort, wanted)?;
    let door = door::measure(effort, wanted)?;
    if args.json {
        let figures = json!({
            "machine": machine, "rounds": rounds, "messages": messages, "collect": rows, "idle": idle,
            "steering": steering, "storm": storm, "door": door,
        });
        println!("{figures}");
    } else {
        print_table(&machine, rounds, messages, &rows, &idle);
        steering::print(&steering);
        storm::print(&storm);
        door::print(&door);
    }
    Ok(())
}

fn measure(variant: &Variant, messages: u32) -> Result<Sample, Failure> {
    let messages = (messages / variant.divide_messages).max(CLIENTS);
    let (recipients, flush_delay_ms) = (variant.recipients, variant.flush_delay_ms);
    let server = Server::start(&Setup { recipients, flush_delay_ms, ..Setup::default() })?;
    let load = Load {
        addr: server.addr(),
        clients: CLIENTS,
        messages,
        per_connection: variant.per_connection,
        body_bytes: variant.body_bytes,
        recipient: "ann@localhost".into(),
        starttls: variant.starttls,
    };
    // What is done once (first segments, page faults, branch predictors) is not measured.
    load::run(&Load { messages: (messages / 10).max(CLIENTS), ..load.clone() })?;
    let (cpu, busy, commits) = (server.cpu()?, machine::busy(server::CORE)?, server.commits()?);
    let report = load::run(&load)?;
    let (cpu, busy) = (server.cpu()?.saturating_sub(cpu), machine::busy(server::CORE)?.saturating_sub(busy));
    let (made_durable, groups) = server.commits()?;
    if let Some(error) = report.first_error.filter(|_| report.errors > 0) {
        let what = format!("{}: {} messages failed: {error}", variant.name, report.errors);
        return Err(Failure::new(Code::Software, what));
    }
    let per_message = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(report.messages);
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    let per_commit = (made_durable - commits.0) as f64 / (groups - commits.1).max(1) as f64;
    Ok(Sample {
        messages_per_second: f64::from(report.messages) / report.seconds,
        cpu_us: per_message(cpu),
        busy_us: per_message(busy),
        per_commit,
        p50_ms: report.p50.as_secs_f64() * 1e3,
        p99_ms: report.p99.as_secs_f64() * 1e3,
    })
}

fn row(variant: &Variant, samples: &[Sample]) -> Value {
    let column = |of: fn(&Sample) -> f64, best: fn(f64, f64) -> f64| {
        let mut values: Vec<f64> = samples.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        let round = |value: f64| (value * 100.0).round() / 100.0;
        let best = values.iter().copied().reduce(best).unwrap_or(0.0);
        json!({ "median": round(values[values.len() / 2]), "best": round(best) })
    };
    json!({
        "name": variant.name,
        "per_connection": variant.per_connection,
        "body_bytes": variant.body_bytes,
        "messages_per_second": column(|sample| sample.messages_per_second, f64::max),
        "cpu_us_per_message": column(|sample| sample.cpu_us, f64::min),
        "core_busy_us_per_message": column(|sample| sample.busy_us, f64::min),
        "messages_per_commit": column(|sample| sample.per_commit, f64::max),
        "p50_ms": column(|sample| sample.p50_ms, f64::min),
        "p99_ms": column(|sample| sample.p99_ms, f64::min),
    })
}

fn print_table(machine: &str, rounds: u32, messages: u32, rows: &[Value], idle: &[Value]) {
    println!("{machine}");
    println!(
        "{CLIENTS} lockstep clients, {messages} messages a round, median of {rounds} rounds (best); server on core 0, load on core 1"
    );
    println!("answered at the receipt, durable (--deliver none)\n");
    if rows.is_empty() {
        return print_idle(idle);
    }
    println!(
        "{:<34} {:>20} {:>20} {:>20} {:>10} {:>16}",
        "", "messages/s", "CPU us/message", "core busy us/msg", "per commit", "p50 / p99 ms"
    );
    for row in rows {
        let both = |key: &str| format!("{:.0} ({:.0})", num(&row[key]["median"]), num(&row[key]["best"]));
        println!(
            "{:<34} {:>20} {:>20} {:>20} {:>10.1} {:>16}",
            row["name"].as_str().unwrap_or(""),
            both("messages_per_second"),
            both("cpu_us_per_message"),
            both("core_busy_us_per_message"),
            num(&row["messages_per_commit"]["median"]),
            format!("{:.1} / {:.1}", num(&row["p50_ms"]["median"]), num(&row["p99_ms"]["median"])),
        );
    }
    print_idle(idle);
}

fn print_idle(idle: &[Value]) {
    for row in idle {
        println!(
            "\n{} {}: {} octets of private memory each (resident: {}); a new client is greeted in {:.2} ms (median), {:.2} ms (worst)",
            row["connections"],
            row["name"].as_str().unwrap_or(""),
            row["private_bytes_each"],
            row["resident_bytes_each"],
            num(&row["greeting_p50_ms"]),
            num(&row["greeting_max_ms"]),
        );
    }
}

fn num(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

impl Report {
    /// One object for whoever compares servers.
    fn to_json(&self) -> Value {
        json!({
            "messages": self.messages,
            "errors": self.errors,
            "first_error": self.first_error,
            "connections": self.connections,
            "seconds": self.seconds,
            "messages_per_second": f64::from(self.messages) / self.seconds.max(1e-9),
            "p50_ms": self.p50.as_secs_f64() * 1e3,
            "p99_ms": self.p99.as_secs_f64() * 1e3,
            "max_ms": self.max.as_secs_f64() * 1e3,
        })
    }
}

/// Each round of a storm takes 10 to 30 s: more would make it a matter of hours.
const STORM_ROUNDS: u32 = 3;

/// As many as in the measurements of Postfix and others that these figures are put beside.
const CLIENTS: u32 = 50;
