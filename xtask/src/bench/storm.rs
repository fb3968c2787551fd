//! Friends under the same three crowds at Postern, at Postfix, and at Postfix behind postscreen, whose friends are new
//! to it or in its pass cache. One round: a server that serves nobody does so every time.
//!
//! The generator is `postern flood`, the same for all, on a core of its own; each cell has a server of its own. All
//! take alice@example.com and keep what they take: Postern at the receipt, Postfix in its `hold` queue.

use std::any::Any;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{CLIENT_CORE, SERVER_CORE};
use crate::harness::postern::Postern;
use crate::harness::postfix::{Postfix, Setup};
use crate::harness::{Peers, Scratch};

/// A crowd: its name in the table, and what `postern flood` calls it.
const CROWDS: [(&str, &[&str]); 3] = [
    ("200 silent", &["--hold", "200"]),
    ("5,000 silent", &["--hold", "5000"]),
    ("2,000 busy with spam", &["--spam", "2000"]),
];

/// A server and how it is started; `true`: friends come once before the crowd does.
type Row = (&'static str, fn(&Peers, &Path) -> Started, bool);

const ROWS: [Row; 5] = [
    ("Postern, friends pinned", |_, binary| postern(binary, "[trust]\npinned = [\"127.200.0.0/16\"]\n"), false),
    ("Postern, friends never seen", |_, binary| postern(binary, ""), false),
    ("Postfix smtpd", |peers, _| postfix(peers, false), false),
    ("postscreen, friends never seen", |peers, _| postfix(peers, true), false),
    ("postscreen, friends in its pass cache", |peers, _| postfix(peers, true), true),
];

/// A running server.
struct Started {
    port: u16,
    _running: Box<dyn Any>,
}

/// `bench --storm`
pub(super) fn run(peers: &Peers, binary: &Path, quick: bool) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("Postfix starts as root only");
    }
    println!("| server |{}", CROWDS.map(|(name, _)| format!(" {name} |")).concat());
    println!("|---|{}", "---|".repeat(CROWDS.len()));
    for (name, start, comes_before) in ROWS {
        let mut line = format!("| {name} |");
        for (crowd, flags) in CROWDS {
            eprintln!("bench: {name}: {crowd}");
            let server = start(peers, binary);
            if comes_before {
                // Six seconds in which postscreen lets a stranger wait, then it remembers.
                flood(binary, server.port, &[], 10)?;
            }
            let report = flood(binary, server.port, flags, if quick { 5 } else { 15 })?;
            line.push_str(&cell(&report));
        }
        println!("{line}");
    }
    println!("\nIn each cell: friends' messages answered 250 within 20 s, then p50 and p99 from due to answer.");
    Ok(())
}

fn flood(binary: &Path, port: u16, crowd: &[&str], seconds: u32) -> Result<Value> {
    let mut command = Command::new(binary);
    command.args(["flood", "--json", "--target", &format!("127.0.0.1:{port}"), "--to", super::TO]);
    command.args(["--pin", &CLIENT_CORE.to_string(), "--for", &format!("{seconds}s"), "--friends-after", "2s"]);
    command.args(["--friends", "50", "--friend-rate", "20", "--patience", "20s"]).args(crowd);
    let output = command.output().context("postern flood")?;
    if !output.status.success() {
        bail!("postern flood: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn cell(report: &Value) -> String {
    let friends = &report["friends"][0];
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let reply = &friends["final_reply"];
    if number(&reply["samples"]) == 0.0 {
        return " **0 %** |".to_owned();
    }
    let (p50, p99) = (number(&reply["p50_ms"]), number(&reply["p99_ms"]));
    format!(" {:.0} %, {p50:.0} / {p99:.0} ms |", number(&friends["in_time_percent"]))
}

fn postern(binary: &Path, trust: &str) -> Started {
    let config = format!("deliver = \"none\"\n[recipients]\n\"example.com\" = {{ list = [\"alice\"] }}\n{trust}");
    let scratch = Scratch::new("storm");
    let file = scratch.file("postern.toml", config).display().to_string();
    let server = Postern::start_on_core(binary, SERVER_CORE, &["-c", &file]);
    Started { port: server.port, _running: Box::new((server, scratch)) }
}

fn postfix(peers: &Peers, screen: bool) -> Started {
    let main = vec![
        "smtpd_data_restrictions = check_client_access static:HOLD".to_owned(),
        // The clients come from 127/8: they must be the strangers that they play.
        "mynetworks = 127.255.255.254/32".to_owned(),
        "smtpd_relay_restrictions = reject_unauth_destination".to_owned(),
        // Names of 127/8 are nobody's business, and looking them up would only slow it down.
        "smtpd_peername_lookup = no".to_owned(),
    ];
    let setup = Setup {
        hostname: "bench.example.com",
        domain: "example.com",
        mailboxes: &["alice"],
        main,
        core: Some(SERVER_CORE),
    };
    let server = if screen { Postfix::start_behind_postscreen(peers, &setup) } else { Postfix::start(peers, &setup) };
    Started { port: server.port, _running: Box::new(server) }
}
