//! `postern flood --door`: hostile datagrams against the UDP port of a postern.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use clap::Args;
use postern_flood::door::{Attack, DoorFlood, DoorPlan};

use super::{FloodArgs, failure, ms};
use crate::commands::print;
use crate::exit::{Code, Failure};

/// What only a door's flood has.
#[derive(Debug, Args)]
#[command(next_help_heading = "Against the authenticated door (UDP)")]
pub(super) struct DoorArgs {
    /// The door instead of an SMTP server: send it hostile datagrams
    #[arg(long, value_name = "ADDR", conflicts_with = "target")]
    pub(super) door: Option<SocketAddr>,
    /// Kinds, in turn: garbage, initial, hello; short, handshake, ticket, cookie (as somebody makes them who has read
    /// the specification); replay, replay-dcid, spray (of --captured)
    #[arg(long, value_name = "KIND", value_delimiter = ',', default_value = "initial", requires = "door")]
    attack: Vec<Attack>,
    /// Datagrams, then it ends
    #[arg(long, value_name = "N", requires = "door")]
    packets: Option<u64>,
    /// Networks (/24) of 127.0.0.0/8 that they come from, 1 to 65536
    #[arg(long, value_name = "N", default_value_t = 1, requires = "door")]
    sources: u32,
    /// Datagrams of a client that were captured, hexadecimal, one a line
    #[arg(long, value_name = "FILE", requires = "door")]
    captured: Option<PathBuf>,
}

pub(super) fn run(args: &FloodArgs, target: SocketAddr, stop: &AtomicBool) -> Result<(), Failure> {
    let captured = match &args.door.captured {
        None => Vec::new(),
        Some(file) => {
            let text = fs::read_to_string(file).map_err(|error| Failure::io(Code::Data, file.display(), &error))?;
            datagrams(&text).map_err(|what| Failure::new(Code::Data, format!("{}: {what}", file.display())))?
        }
    };
    if let Some(core) = args.pin {
        crate::serve::pin(core)?;
    }
    let report = DoorFlood::run(&plan(args, target, captured), stop).map_err(failure)?;
    if args.json {
        return print(&serde_json::to_string(&report).map(|line| line + "\n").unwrap_or_default());
    }
    print(&format!("{report}\n"))
}

pub(super) fn plan(args: &FloodArgs, target: SocketAddr, captured: Vec<Vec<u8>>) -> DoorPlan {
    DoorPlan {
        attacks: args.door.attack.clone(),
        captured,
        packets_max: args.door.packets,
        duration_ms: ms(args.duration),
        rate: args.crowds.rate,
        sources: args.door.sources,
        seed: args.seed,
        ..DoorPlan::new(target)
    }
}

/// Hexadecimal digits, a datagram a line; empty lines do not count.
pub(super) fn datagrams(text: &str) -> Result<Vec<Vec<u8>>, String> {
    let datagram = |line: &str| -> Option<Vec<u8>> {
        let digits: Option<Vec<u8>> = line.chars().map(|digit| Some(digit.to_digit(16)? as u8)).collect();
        let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
        Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| datagram(line).ok_or_else(|| format!("`{:.20}` is not hexadecimal", line))).collect()
}
