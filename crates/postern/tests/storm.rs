//! Memory of the real server under churn, small enough for every run; `postern bench --only memory` does it with
//! half a million addresses and prints figures.

#[path = "cli/harness.rs"]
mod harness;

use std::ops::ControlFlow;

use harness::Server;
use postern_flood::{Behaviour, Crowd, Flood, Plan};

/// Private octets of a process.
fn private_bytes(pid: u64) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it runs");
    let kib = |line: &str| line.split_whitespace().nth(1)?.parse::<u64>().ok();
    let private = rollup.lines().filter(|line| line.starts_with("Private_")).filter_map(kib);
    private.sum::<u64>() << 10
}

/// So many connections, each from an address that was never seen, reset at once.
fn churn(server: &Server, seed: u64, connects: u64) {
    let mut plan = Plan::new(server.addr("smtp"));
    plan.seed = seed;
    plan.connects_max = Some(connects);
    // Far more than even a busy machine takes.
    plan.offer_ms = 300_000;
    plan.crowds.push(Crowd { fresh: true, ..Crowd::new(Behaviour::Churn, 200) });
    let report = Flood::run(&plan, |progress| {
        // Behind the last connect there is nothing to wait for.
        let done = progress.attempts >= connects && progress.open == 0;
        if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let report = report.expect("it runs");
    assert_eq!(report.crowds[0].attempts, connects, "{report}");
}

#[test]
fn twenty_thousand_addresses_leave_no_mark_on_memory() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["--deliver", "none"]);
    let pid = server.status()["pid"].as_u64().expect("status tells it");
    // The first ones touch what all share: stacks, queues, pages of the tables.
    churn(&server, 1, 10_000);
    let before = private_bytes(pid);
    churn(&server, 2, 20_000);
    let growth = private_bytes(pid).saturating_sub(before);
    // A table with an entry for each address would need more than 32 octets for it: 640 KB. A leaked connection is 4 KiB.
    assert!(growth < 512 << 10, "{growth} octets more behind 20,000 connections");
}
