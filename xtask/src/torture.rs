//! The torture suite against Postern and real mail servers, side by side, as `docs/torture.md`.
//!
//! All run aside: programs from Debian's packages unpacked below `target/peers` (never installed), config, queue and log
//! in a scratch directory, ports of 127.0.0.1. Exim and OpenSMTPD look up users of their own by name and have paths
//! compiled in: they get a mount namespace in which `/etc/passwd` and those paths are ours. Each server is the
//! distribution's default where the suite does not need otherwise: it takes mail for alice@example.com only, and stores
//! it without delivering.

mod servers;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::harness::{self, Peers};
use crate::{peers, run};
use servers::{SERVERS, Server};

const SERVER_CORE: usize = 0;
const CLIENT_CORE: usize = 1;
const TO: &str = "alice@example.com";
const UNKNOWN: &str = "nobody";

/// What one server said to the suite; `Err` is why it was left out.
struct Column {
    name: &'static str,
    what: Result<Value, String>,
}

/// `torture [--quick] [--only NAME] [--server NAME] [--binary POSTERN] [--page]`
///
/// What each server said is kept in `target/torture`, so that one column can be played anew: `--server NAME` plays it,
/// `--page` plays nothing and writes the page from what is kept.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if args.iter().any(|arg| arg == "--page") {
        return write_page(&kept_columns());
    }
    let value = |flag: &str| args.iter().skip_while(|arg| *arg != flag).nth(1).cloned();
    let quick = args.iter().any(|arg| arg == "--quick");
    let binary = match value("--binary") {
        Some(binary) => PathBuf::from(binary),
        None => {
            run::check(&mut run::cargo(["build", "--release", "--package", "postern"]))?;
            run::target().join("release/postern")
        }
    };
    let peers = Peers::at(&peers::make()?).context("the peers are missing")?;
    let more = peers::make_more(&servers::PACKAGES, &servers::LANDMARKS);
    let (server, only) = (value("--server"), value("--only"));
    let mut columns = Vec::new();
    for (name, start) in SERVERS {
        if server.as_ref().is_some_and(|server| !name.to_lowercase().contains(&server.to_lowercase())) {
            continue;
        }
        eprintln!("torture: {name}");
        let play = |more: &PathBuf| play(&binary, &start(&binary, &peers, more)?, quick, only.as_deref());
        let what = more.as_ref().map_err(|why| anyhow!("{why:#}")).and_then(play).map_err(|why| format!("{why:#}"));
        match &what {
            Ok(report) if only.is_none() => keep(name, report)?,
            Ok(_) => {}
            Err(why) => eprintln!("torture: {name} is left out: {why}"),
        }
        columns.push(Column { name, what });
    }
    if columns.is_empty() {
        bail!("no server has that name");
    }
    if only.is_none() && server.is_none() {
        return write_page(&columns);
    }
    print!("{}", table::page(&columns)?);
    Ok(())
}

fn write_page(columns: &[Column]) -> Result<()> {
    std::fs::write(run::root().join("docs/torture.md"), table::page(columns)?)?;
    println!("written: docs/torture.md");
    Ok(())
}

fn kept(name: &str) -> PathBuf {
    run::target().join("torture").join(format!("{name}.json"))
}

fn keep(name: &str, report: &Value) -> Result<()> {
    std::fs::create_dir_all(run::target().join("torture"))?;
    std::fs::write(kept(name), serde_json::to_vec(report)?)?;
    Ok(())
}

fn kept_columns() -> Vec<Column> {
    let read = |name| -> Result<Value> { Ok(serde_json::from_slice(&std::fs::read(kept(name))?)?) };
    SERVERS
        .into_iter()
        .map(|(name, _)| Column { name, what: read(name).map_err(|why| format!("not played: {why}")) })
        .collect()
}

fn play(binary: &Path, server: &Server, quick: bool, only: Option<&str>) -> Result<Value> {
    let mut command = harness::senders::pinned(&Command::new(binary), CLIENT_CORE);
    command.args(["flood", "--suite", "--json", "--to", TO, "--unknown", UNKNOWN, "--target"]);
    command.arg(format!("127.0.0.1:{}", server.port));
    if quick {
        command.arg("--quick");
    }
    if let Some(only) = only {
        command.args(["--only", only]);
    }
    let output = command.output()?;
    // 1 says that a case failed: for a peer that is a finding.
    if !matches!(output.status.code(), Some(0 | 1)) {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
