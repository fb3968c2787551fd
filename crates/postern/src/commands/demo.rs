//! `postern demo`: the night of 2007 in a minute, on one machine, without and with Postern.
//!
//! Two servers of one kind (`demo/old_server.rs`), one of them behind Postern: this very program with a configuration
//! of a few lines. The same friends, the same strangers and the same flood for both, by `postern-flood`, at the same
//! time. Some of the friends have a Postern at their own site: their mail comes through the postern to the one, and by
//! port 25 to the other. `demo/night.rs` has the figures, `demo/site.rs` is a Postern, `demo/stage.rs` plays,
//! `demo/view.rs` draws, `demo/reckoning.rs` judges.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use postern_flood::{FloodError, Plan};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

mod board;
mod night;
mod old_server;
mod passage;
mod reckoning;
mod site;
mod stage;
mod view;

use super::print;
use super::screen::{self, Key, Screen};
use crate::exit::{Code, Failure};
use night::{Night, Party};
use reckoning::Reckoning;
use stage::Stage;

/// `postern demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How long the night is
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(15..=600), conflicts_with = "fast")]
    seconds: u32,
    /// Fifteen seconds and a small crowd: a first impression, or a test
    #[arg(long)]
    fast: bool,
    /// Silent bots against each server; by default 1500, or 300 with --fast
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(150..=9_000))]
    bots: Option<u32>,
    /// A server of yours instead of the one of 2007's kind; on loopback
    #[arg(long, value_name = "ADDR")]
    against: Option<SocketAddr>,
    /// Whom everybody writes to; where the domain has no dot, Postern has the mailbox at home.example
    #[arg(long, value_name = "MAILBOX", default_value = "ann@localhost")]
    to: String,
    /// Same seed, same senders
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A line a second instead of a drawing
    #[arg(long)]
    plain: bool,
    /// One JSON object at the end, and nothing else
    #[arg(long, conflicts_with = "plain")]
    json: bool,
}

/// Plays it.
///
/// # Errors
/// It cannot be played; or Postern did not keep its promise.
pub(crate) fn demo(args: &DemoArgs) -> Result<(), Failure> {
    let seconds = if args.fast { FAST_SECONDS } else { args.seconds };
    let wanted = args.bots.unwrap_or(if args.fast { FAST_BOTS } else { BOTS });
    let night = Night::new(seconds, wanted.min(bots_max()), args.seed);
    if let Some(addr) = args.against {
        // Before anything is started: nobody else's server, and nothing that the friends cannot reach.
        let plans = Party::ALL.map(|party| night.plan(party, addr, &args.to, "ledger".as_ref()));
        let checked: Result<(), FloodError> = plans.iter().try_for_each(Plan::check);
        checked.map_err(|error| Failure::new(Code::Usage, error.to_string()))?;
        TcpStream::connect_timeout(&addr, CONNECT_MAX)
            .map_err(|error| Failure::new(Code::Unavailable, format!("{addr} does not answer: {error}")))?;
    }
    let stop = screen::interrupted()?;
    let mut stage = Stage::set(night, args.against, &args.to, stop.clone())?;
    stage.play()?;
    if args.plain || args.json || !screen::is_there() {
        watch_lines(&stage, args.json, &|| stop.load(Ordering::Relaxed))?;
    } else {
        watch_drawn(&stage, &|| stop.load(Ordering::Relaxed))?;
    }
    let stopped = !stage.is_over();
    stage.end();
    let reckoning = Reckoning::new(&stage.board.scene(), stopped, &stage.promised(true)?, &stage.behind.taken());
    drop(stage);
    if args.json {
        // Plain figures and words: it cannot fail.
        print(&(serde_json::to_string(&reckoning).unwrap_or_default() + "\n"))?;
    } else {
        print(&format!("\n{reckoning}\n"))?;
    }
    let words = match (reckoning.promise.kept, stopped) {
        (true, _) => return Ok(()),
        (false, true) => "the night was not played to its end",
        (false, false) => "the promise was not kept",
    };
    Err(Failure::new(Code::Failed, words))
}

fn watch_drawn(stage: &Stage, stop: &dyn Fn() -> bool) -> Result<(), Failure> {
    let mut screen = Screen::open()?;
    while !stage.is_over() && !stop() {
        let scene = stage.board.scene();
        screen.draw(|frame| view::draw(frame, &scene))?;
        if screen.key(FRAME)? == Some(Key::Quit) {
            break;
        }
    }
    Ok(())
}

fn watch_lines(stage: &Stage, silent: bool, stop: &dyn Fn() -> bool) -> Result<(), Failure> {
    let mut told = None;
    while !stage.is_over() && !stop() {
        let scene = stage.board.scene();
        let second = scene.now_ms / 1_000;
        if !silent && told != Some(second) {
            told = Some(second);
            print(&(view::one_line(&scene) + "\n"))?;
        }
        std::thread::sleep(FRAME);
    }
    Ok(())
}

/// As many bots as there are descriptors for, against both servers; the limit is raised to what the system allows.
fn bots_max() -> u32 {
    let limit = getrlimit(Resource::Nofile);
    // May be refused; then the limit is what it was.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    u32::try_from(limit.saturating_sub(DESCRIPTORS_RESERVED) / 2).unwrap_or(u32::MAX).max(1)
}

/// Silent bots: fifteen times the processes of the server without.
const BOTS: u32 = 1_500;
/// Of a fast night: what a debug build on a busy machine carries.
const FAST_BOTS: u32 = 300;
const FAST_SECONDS: u32 = 15;
/// For both servers, spammers, friends, and the threads that play them.
const DESCRIPTORS_RESERVED: u64 = 800;
/// For the server of `--against`.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Between two frames.
const FRAME: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests;
