//! Memory under churn: connections from addresses that were never seen, until the book has met more of them than it
//! can hold; what the server had before is put beside what it has after.
//!
//! Private octets of the process, and what the kernel holds for all TCP sockets of this machine; not a cgroup, which
//! a bench has no right to make. The tables are of a fixed size but are touched page by page: a first churn does that.

use postern_flood::{Behaviour, Crowd};
use serde_json::json;

use super::{Effort, Way, round_against};
use crate::bench::machine;
use crate::bench::server::{Server, Setup};
use crate::exit::Failure;

/// As `--only` looks for it.
pub(super) const NAME: &str = "memory: connections from 500,000 addresses";

pub(super) fn measure(effort: Effort) -> Result<Vec<Way>, Failure> {
    eprintln!("{NAME}");
    let server = Server::start(&Setup::default())?;
    let connects = u64::from(effort.size(500_000));
    // Both churns are measured: the first one pays for pages, the second shows whether that ends.
    let first = churn(&server, 1, connects / 2)?;
    let second = churn(&server, 2, connects)?;
    let way = |name, figures| Way { name, rounds: vec![figures] };
    Ok(vec![way("the first half touches the tables", first), way("then all of them", second)])
}

fn churn(server: &Server, seed: u64, connects: u64) -> Result<serde_json::Value, Failure> {
    let before = (server.memory()?, machine::socket_memory()?);
    let mut figures = round_against(server, |plan| {
        plan.seed = seed;
        plan.connects_max = Some(connects);
        // An hour's rate would not fit: it ends when all have come, and friends end it.
        plan.offer_ms = connects / 10;
        plan.crowds.push(Crowd { fresh: true, rate: 20_000, ..Crowd::new(Behaviour::Churn, 4_000) });
    })?;
    std::thread::sleep(SETTLE);
    let after = (server.memory()?, machine::socket_memory()?);
    let kib = |before: u64, after: u64| (after >> 10).cast_signed() - (before >> 10).cast_signed();
    figures["private_kib"] = json!(after.0.1 >> 10);
    figures["private_growth_kib"] = json!(kib(before.0.1, after.0.1));
    figures["resident_growth_kib"] = json!(kib(before.0.0, after.0.0));
    figures["socket_growth_kib"] = json!(kib(before.1, after.1));
    figures["accepted"] = json!(server.accepted()?);
    Ok(figures)
}

/// For what the server does after the last close.
const SETTLE: std::time::Duration = std::time::Duration::from_secs(2);
