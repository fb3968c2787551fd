//! `postern flood --door`: attacks on a postern's door, and friends that come through it meanwhile.
//!
//! Turns flags into a plan of `postern_flood::door`, and its report into text or JSON. Whom it may be let loose on, the
//! crate checks.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use postern_flood::Network;
use postern_flood::door::{Assault, Attack, DoorFlood, DoorFriends, DoorPlan, DoorProgress, DoorReport, Entry};

use super::{FloodArgs, failure, ms, print};
use crate::exit::{Code, Failure};

/// Flags of a flood at the door. Those of the other floods that mean the same are used too.
#[derive(Debug, Args)]
#[command(next_help_heading = "Against a postern (UDP)")]
pub(super) struct DoorArgs {
    /// Attack this door instead of an SMTP server; --rate, --from, --friends, --friend-rate and --strangers mean its packets and links
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["target", "suite", "html", "ledger"])]
    pub(super) door: Option<SocketAddr>,
    /// What to attack with, at once: garbage, short, initial, hello, naive, forged-ticket, forged-cookie, forged-id, aware, replay, replay-other-id, replay-elsewhere, captured-id, abandon, complete, slow-streams, hoard, greedy, reset-streams
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with = "target")]
    attack: Vec<Attack>,
    /// Addresses of each attack, real or forged; connections of insiders
    #[arg(long, value_name = "N", conflicts_with = "target")]
    sources: Option<u32>,
    /// Prefixes (/24, /48) that these lie in
    #[arg(long, value_name = "N", conflicts_with = "target")]
    prefixes: Option<u32>,
    /// Packets, or handshakes, of each attack, then it stops
    #[arg(long, value_name = "N", conflicts_with = "target")]
    packets: Option<u64>,
    /// New links of friends a second, by ticket, each for one message
    #[arg(long, value_name = "R", conflicts_with = "target")]
    new_links: Option<f64>,
    /// Private key of the friends, PEM; without it one that no door knows
    #[arg(long, value_name = "FILE", conflicts_with = "target")]
    key: Option<PathBuf>,
    /// The door's key, as `postern identity show` prints it; without it any
    #[arg(long, value_name = "BASE64", conflicts_with = "target")]
    peer_key: Option<String>,
    /// Where friends keep their tickets from one flood to the next
    #[arg(long, value_name = "DIR", conflicts_with = "target")]
    tickets: Option<PathBuf>,
    /// Friends show neither ticket nor cookie: for servers that are no door
    #[arg(long, conflicts_with = "target")]
    plain: bool,
}

pub(super) fn run(args: &FloodArgs, target: SocketAddr, stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    let plan = plan(args, target);
    if plan.attacks.is_empty() && plan.friends.is_none() {
        return Err(Failure::new(Code::Usage, "nobody comes").cure("say who: --attack naive --friends 4, for example"));
    }
    let bar = ProgressBar::new(plan.friends_after_ms + plan.offer_ms);
    let style = ProgressStyle::with_template("{elapsed:>4} [{bar:30}] {msg}");
    let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let report = DoorFlood::run(&plan, |progress| {
        show(&bar, progress);
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    print(&text(&report.map_err(failure)?, args.json))
}

fn text(report: &DoorReport, json: bool) -> String {
    if json {
        // Plain data without maps of odd keys: it cannot fail.
        return serde_json::to_string(report).map(|line| line + "\n").unwrap_or_default();
    }
    format!("{report}\n")
}

pub(super) fn plan(args: &FloodArgs, target: SocketAddr) -> DoorPlan {
    let door = &args.at_door;
    let mut plan = DoorPlan::new(target);
    plan.seed = args.seed;
    plan.offer_ms = ms(args.duration);
    plan.friends_after_ms = ms(args.friends.friends_after);
    plan.pin = args.pin;
    for attack in &door.attack {
        let mut assault = Assault::new(*attack);
        assault.rate = args.crowds.rate.unwrap_or(0);
        assault.from = args.crowds.from.unwrap_or_else(|| here(target, assault.from));
        if !reaches_many(&assault.from) {
            (assault.sources, assault.prefixes) = (1, 1);
        }
        assault.sources = door.sources.unwrap_or(assault.sources);
        // More prefixes than addresses there cannot be.
        assault.prefixes = door.prefixes.unwrap_or(assault.prefixes).min(assault.sources);
        assault.packets_max = door.packets;
        plan.attacks.push(assault);
    }
    let friends = &args.friends;
    let fresh_rate = door.new_links.unwrap_or(0.0);
    if friends.friends > 0 || fresh_rate > 0.0 || friends.strangers.is_some() || door.key.is_some() {
        let defaults = DoorFriends::new();
        plan.friends = Some(DoorFriends {
            links: friends.friends,
            rate: if friends.friends > 0 { friends.friend_rate } else { 0.0 },
            fresh_rate,
            strangers_rate: friends.strangers.unwrap_or(0.0),
            from: friends.friends_from.unwrap_or_else(|| here(target, defaults.from)),
            strangers_from: friends.strangers_from.unwrap_or_else(|| here(target, defaults.strangers_from)),
            patience_ms: ms(friends.patience) as u32,
            bytes: friends.friend_bytes,
            domain: friends.friends_domain.clone(),
            recipient: args.to.clone(),
            key: door.key.clone(),
            peer_key: door.peer_key.clone(),
            tickets: door.tickets.clone(),
            entry: if door.plain { Entry::Plain } else { Entry::Door },
            moments: false,
        });
    }
    plan
}

/// What reaches the target: 127/8 does not reach ::1.
fn here(target: SocketAddr, otherwise: Network) -> Network {
    super::network(None, target, otherwise)
}

fn reaches_many(network: &Network) -> bool {
    network.hosts() > 1
}

fn show(bar: &ProgressBar, progress: &DoorProgress) {
    bar.set_position(progress.elapsed_ms.min(progress.offer_until_ms));
    let mut message = format!("{} packets, {} answers", progress.packets, progress.answers);
    if progress.friends_offered > 0 {
        message.push_str(&format!(
            "; friends {} of {} taken, {} lost",
            progress.friends_accepted, progress.friends_offered, progress.friends_failed
        ));
    }
    bar.set_message(message);
}
