//! `postern flood`: the generator and the torture suite of `postern-flood` on the command line.
//!
//! Only turns flags into a plan and a report into text, JSON, HTML and an exit code; what is played and how it is
//! judged, the crate says.

use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use postern_flood::{Behaviour, Crowd, Flood, FloodError, Friends, Network, Plan, Progress, Report, html};

mod door;
mod suite;

use super::print;
use crate::exit::{Code, Failure};

/// `postern flood`.
#[derive(Debug, Args)]
pub(crate) struct FloodArgs {
    /// The server: on loopback, or anything inside a network namespace of your own
    #[arg(long, value_name = "ADDR", required_unless_present = "door")]
    target: Option<SocketAddr>,
    #[command(flatten)]
    at_door: door::DoorArgs,
    #[command(flatten)]
    crowds: Crowds,
    #[command(flatten)]
    friends: FriendsArgs,
    /// How long friends offer mail
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = span)]
    duration: Duration,
    /// Whom everybody writes to
    #[arg(long, value_name = "MAILBOX", default_value = "ann@localhost")]
    to: String,
    /// Same seed, same addresses, senders and bodies
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Core to make the load on
    #[arg(long, value_name = "CORE")]
    pin: Option<usize>,
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// Write a report with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the id (X-Flood-Id) of each message answered 250, one a line
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    #[command(flatten)]
    suite: suite::SuiteArgs,
}

/// The hostile.
#[derive(Debug, Args)]
#[command(next_help_heading = "Hostile crowds: how many connections at once")]
struct Crowds {
    /// Say nothing
    #[arg(long, value_name = "N")]
    hold: Option<u32>,
    /// One octet a second
    #[arg(long, value_name = "N")]
    slow: Option<u32>,
    /// Talk before the greeting
    #[arg(long, value_name = "N")]
    early: Option<u32>,
    /// A message a connection, and back at once
    #[arg(long, value_name = "N")]
    spam: Option<u32>,
    /// Commands without end
    #[arg(long, value_name = "N")]
    pipeline: Option<u32>,
    /// Try recipients
    #[arg(long, value_name = "N")]
    harvest: Option<u32>,
    /// Send from <>
    #[arg(long, value_name = "N")]
    backscatter: Option<u32>,
    /// Announce a chunk of 100 MB, then silence
    #[arg(long, value_name = "N")]
    bdat: Option<u32>,
    /// Announce SIZE=, begin, then silence
    #[arg(long, value_name = "N")]
    size: Option<u32>,
    /// Connect and reset, N times a second
    #[arg(long, value_name = "N")]
    churn: Option<u32>,
    /// Send and never read
    #[arg(long, value_name = "N")]
    half_open: Option<u32>,
    /// A header without end
    #[arg(long, value_name = "N")]
    header_bomb: Option<u32>,
    /// A line without end
    #[arg(long, value_name = "N")]
    line_bomb: Option<u32>,
    /// Gone behind the final dot
    #[arg(long, value_name = "N")]
    hurried: Option<u32>,
    /// Connects a second of each crowd; without it they come as fast as they can
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// Connects of all crowds together, then they stop
    #[arg(long, value_name = "N")]
    connects: Option<u64>,
    /// Where they come from; without it 127.64.0.0/10, or ::1
    #[arg(long, value_name = "NET")]
    from: Option<Network>,
    /// A new address for each connection
    #[arg(long)]
    fresh: bool,
    /// Each waits this long before it comes back
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = span)]
    pause: Duration,
    /// Octets of each spam
    #[arg(long, value_name = "N", default_value_t = 4096)]
    bytes: u32,
}

/// The friendly.
#[derive(Debug, Args)]
#[command(next_help_heading = "Friends")]
struct FriendsArgs {
    /// How many, each with its address
    #[arg(long, value_name = "N", default_value_t = 0)]
    friends: u32,
    /// Messages a second of all of them
    #[arg(long, value_name = "R", default_value_t = 10.0)]
    friend_rate: f64,
    /// Where they come from; without it 127.200.0.0/16, or ::1
    #[arg(long, value_name = "NET")]
    friends_from: Option<Network>,
    /// Friends never seen before: each message comes from a new address, R a second
    #[arg(long, value_name = "R")]
    strangers: Option<f64>,
    /// Where these come from; without it 127.201.0.0/16, or ::1
    #[arg(long, value_name = "NET")]
    strangers_from: Option<Network>,
    /// Domain of the friends' addresses
    #[arg(long, alias = "domain", value_name = "DOMAIN", default_value = "friends.example")]
    friends_domain: String,
    /// How long they wait in each phase
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = span)]
    patience: Duration,
    /// Try again after 1, 2, 4 … s, up to this long in all
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = span)]
    retry: Duration,
    /// Round trip that is played to them, 0 to 250 ms
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = span)]
    rtt: Duration,
    /// Octets of each message
    #[arg(long, value_name = "N", default_value_t = 4096)]
    friend_bytes: u32,
    /// They begin this long after the crowds
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = span)]
    friends_after: Duration,
}

/// Plays what the flags say.
///
/// # Errors
/// The target is foreign or silent, a number is beyond its limit, a file cannot be written; a case of the suite fails.
pub(crate) fn flood(args: &FloodArgs) -> Result<(), Failure> {
    let stop = stop_at_interrupt()?;
    let target = match (args.at_door.door, args.target) {
        (Some(door), _) => return door::run(args, door, &stop),
        (None, Some(target)) => target,
        (None, None) => return Err(Failure::new(Code::Usage, "no target").cure("--target ADDR, or --door ADDR")),
    };
    if args.suite.suite {
        return suite::run(args, target, &stop);
    }
    let plan = plan(args, target);
    if plan.crowds.is_empty() && plan.friends.is_empty() {
        return Err(Failure::new(Code::Usage, "nobody comes").cure("say who: --hold 200 --friends 10, for example"));
    }
    let bar = bar(&plan);
    let report = Flood::run(&plan, |progress| {
        show(&bar, progress);
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    let report = report.map_err(failure)?;
    if let Some(file) = &args.html {
        std::fs::write(file, html::page(&report))
            .map_err(|error| Failure::io(Code::CannotCreate, file.display(), &error))?;
    }
    print(&text(&report, args.json))
}

fn text(report: &Report, json: bool) -> String {
    if json {
        // Plain data without maps of odd keys: it cannot fail.
        return serde_json::to_string(report).map(|line| line + "\n").unwrap_or_default();
    }
    format!("{report}\n")
}

fn plan(args: &FloodArgs, target: SocketAddr) -> Plan {
    let mut plan = Plan::new(target);
    plan.seed = args.seed;
    plan.offer_ms = ms(args.duration);
    plan.friends_after_ms = ms(args.friends.friends_after);
    plan.connects_max = args.crowds.connects;
    plan.pin = args.pin;
    plan.ledger = args.ledger.clone();
    plan.crowds = args.crowds.list(target, &args.to);
    plan.friends = args.friends.list(target, &args.to);
    plan
}

impl Crowds {
    fn list(&self, target: SocketAddr, to: &str) -> Vec<Crowd> {
        let sizes = [
            (Behaviour::Hold, self.hold),
            (Behaviour::Slow, self.slow),
            (Behaviour::Early, self.early),
            (Behaviour::Spam, self.spam),
            (Behaviour::Pipeline, self.pipeline),
            (Behaviour::Harvest, self.harvest),
            (Behaviour::Backscatter, self.backscatter),
            (Behaviour::Bdat, self.bdat),
            (Behaviour::Size, self.size),
            (Behaviour::Churn, self.churn),
            (Behaviour::HalfOpen, self.half_open),
            (Behaviour::HeaderBomb, self.header_bomb),
            (Behaviour::LineBomb, self.line_bomb),
            (Behaviour::Hurried, self.hurried),
        ];
        let crowd = |(behaviour, size): (Behaviour, Option<u32>)| {
            let size = size.filter(|size| *size > 0)?;
            // A churning client is gone at once: what counts is how many come, not how many are there.
            let churns = behaviour == Behaviour::Churn;
            let mut crowd = Crowd::new(behaviour, if churns { size.min(CHURNERS) } else { size });
            crowd.rate = self.rate.unwrap_or(if churns { size } else { 0 });
            crowd.from = network(self.from, target, crowd.from);
            crowd.fresh = self.fresh;
            crowd.pause_ms = ms(self.pause) as u32;
            crowd.bytes = self.bytes;
            to.clone_into(&mut crowd.recipient);
            Some(crowd)
        };
        sizes.into_iter().filter_map(crowd).collect()
    }
}

impl FriendsArgs {
    fn list(&self, target: SocketAddr, to: &str) -> Vec<Friends> {
        let common = |mut friends: Friends, from: Option<Network>| {
            friends.from = network(from, target, friends.from);
            friends.patience_ms = ms(self.patience) as u32;
            friends.retry_ms = ms(self.retry) as u32;
            friends.rtt_ms = ms(self.rtt) as u32;
            friends.bytes = self.friend_bytes;
            to.clone_into(&mut friends.recipient);
            friends
        };
        let mut list = Vec::new();
        if self.friends > 0 {
            let mut friends = common(Friends::new("friends", self.friends, self.friend_rate), self.friends_from);
            friends.domain.clone_from(&self.friends_domain);
            list.push(friends);
        }
        if let Some(rate) = self.strangers {
            let mut strangers = Friends::new("never seen", 50, rate);
            strangers.from = Network::new(IpAddr::from([127, 201, 0, 0]), 16).unwrap_or(strangers.from);
            strangers.fresh = true;
            strangers.domain = "strangers.example".to_owned();
            list.push(common(strangers, self.strangers_from));
        }
        list
    }
}

/// What was given, else what reaches the target: 127/8 does not reach ::1.
fn network(given: Option<Network>, target: SocketAddr, otherwise: Network) -> Network {
    match given {
        Some(network) => network,
        None if target.is_ipv4() => otherwise,
        None => Network::new(IpAddr::from(std::net::Ipv6Addr::LOCALHOST), 128).unwrap_or(otherwise),
    }
}

/// On standard error, and only when that is a terminal.
fn bar(plan: &Plan) -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed:>4} [{bar:30}] {msg}");
    let bar = ProgressBar::new(plan.friends_after_ms + plan.offer_ms);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn show(bar: &ProgressBar, progress: &Progress) {
    bar.set_position(progress.elapsed_ms.min(progress.offer_until_ms));
    let mut message =
        format!("{} connections, {} begun, {} spam taken", progress.open, progress.attempts, progress.hostile_accepted);
    if progress.friends_offered > 0 {
        message.push_str(&format!(
            "; friends {} of {} taken, {} lost",
            progress.friends_accepted, progress.friends_offered, progress.friends_failed
        ));
    }
    if let Some(friends) = progress.last_second.as_ref().and_then(|second| second.friends.first()) {
        message.push_str(&format!(", greeted in {:.1} ms", friends.greeting.p99_ms));
    }
    bar.set_message(message);
}

/// Set by the first Ctrl-C: the report then covers what there was. The second ends the program.
fn stop_at_interrupt() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&stop);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io(Code::Os, "signals", &error))?;
    let listen = move || {
        runtime.block_on(async {
            while tokio::signal::ctrl_c().await.is_ok() {
                if heard.swap(true, Ordering::Relaxed) {
                    std::process::exit(INTERRUPTED);
                }
            }
        });
    };
    std::thread::Builder::new()
        .name("interrupt".to_owned())
        .spawn(listen)
        .map_err(|error| Failure::io(Code::Os, "a thread", &error))?;
    Ok(stop)
}

fn failure(error: FloodError) -> Failure {
    let code = match &error {
        FloodError::Foreign(_) | FloodError::Plan(_) => Code::Usage,
        FloodError::Unreachable(..) => Code::Unavailable,
        FloodError::Descriptors { .. } | FloodError::System(..) => Code::Os,
    };
    Failure::new(code, error.to_string())
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `500ms`, `30s`, `5m`; a bare number is seconds. At most an hour.
fn span(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit_ms = match &text[digits.len()..] {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        unit => return Err(format!("`{unit}` is not ms, s, m or h")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("`{text}` is no time such as 500ms, 30s or 5m"))?;
    match number.checked_mul(unit_ms) {
        Some(ms) if ms <= 3_600_000 => Ok(Duration::from_millis(ms)),
        _ => Err("at most an hour".to_owned()),
    }
}

/// Members of a churning crowd: each holds a descriptor for some microseconds.
const CHURNERS: u32 = 256;

/// As a shell says it: 128 and the number of SIGINT.
const INTERRUPTED: i32 = 130;

#[cfg(test)]
mod tests;
