//! Durable collect beside Postfix and `smtp-sink`, side by side in one run, so that the ratios mean something.
//!
//! The server has core 0 to itself, the generator (`smtp-source`, the same for all) core 1; rounds are interleaved, so
//! that a slow minute of the machine hits all of them; the figures are medians over the rounds. CPU is that of all
//! processes of a server, children included; the core's busy time is beside it, because the kernel's workers (journal,
//! network) count too. Postern answers at the receipt (`--deliver none`); Postfix puts every message into its `hold`
//! queue, which is as durable; `smtp-sink` stores nothing and is the floor of the protocol.

mod measure;
mod storm;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use crate::harness::{self, Guard, Peers, Scratch};
use crate::{peers, run};
use harness::postern::Postern;
use harness::postfix::{Postfix, Setup};
use harness::senders::{self, Load};
use measure::{Figures, Sample, median};

const SERVER_CORE: usize = 0;
const CLIENT_CORE: usize = 1;
const CLIENTS: usize = 50;
const MESSAGE_BYTES: usize = 4096;
const TO: &str = "alice@example.com";

/// statfs(2).
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Messages on one connection in the two columns of the table.
const PER_CONNECTION: [usize; 2] = [1, 20];

/// A server under load.
struct Server {
    name: &'static str,
    port: u16,
    pid: u32,
    /// Messages of one round: about three seconds of work each.
    messages: usize,
    /// `(commits, messages committed)` so far, where the server tells.
    commits: Box<dyn Fn() -> Option<(u64, u64)>>,
    _running: Box<dyn std::any::Any>,
}

/// `bench [--quick] [--storm] [--binary POSTERN]`
pub(crate) fn run(args: &[String]) -> Result<()> {
    let quick = args.iter().any(|arg| arg == "--quick");
    if std::thread::available_parallelism()?.get() < 2 {
        bail!("the server and the generator need a core each");
    }
    // Durable means a disk: on tmpfs a sync costs nothing and the figures would flatter us.
    if rustix::fs::statfs(std::env::temp_dir())?.f_type == TMPFS_MAGIC {
        bail!("{} is tmpfs; set TMPDIR to a directory on a disk", std::env::temp_dir().display());
    }
    let dir = peers::make()?;
    let peers = Peers::at(&dir).context("smtp-source is missing")?;
    let given = args.iter().skip_while(|arg| *arg != "--binary").nth(1).map(PathBuf::from);
    let binary = match given {
        Some(binary) => binary,
        None => {
            run::check(&mut run::cargo(["build", "--release", "--package", "postern"]))?;
            run::target().join("release/postern")
        }
    };
    if args.iter().any(|arg| arg == "--storm") {
        return storm::run(&peers, &binary, quick);
    }
    let rounds = if quick { 1 } else { 5 };
    let scale = if quick { 5 } else { 1 };
    let mut servers = vec![postern(&binary), smtp_sink(&peers)];
    if rustix::process::geteuid().is_root() {
        servers.insert(1, postfix(&peers));
    } else {
        eprintln!("bench: Postfix needs root to start and is left out");
    }
    let mut samples: Vec<[Vec<Sample>; 2]> = servers.iter().map(|_| [Vec::new(), Vec::new()]).collect();
    for round in 0..=rounds {
        for (server, samples) in servers.iter().zip(&mut samples) {
            for (column, per_connection) in PER_CONNECTION.into_iter().enumerate() {
                let messages = (server.messages / scale).max(CLIENTS * per_connection);
                let sample = one_round(&peers, server, messages, per_connection)?;
                // The first round fills caches and forks children.
                if round > 0 {
                    samples[column].push(sample);
                }
            }
        }
        eprintln!("bench: round {round} of {rounds}");
    }
    print(&servers, &samples);
    Ok(())
}

fn one_round(peers: &Peers, server: &Server, messages: usize, per_connection: usize) -> Result<Sample> {
    let commits_before = (server.commits)();
    let before = Figures::now(server.pid, SERVER_CORE)?;
    let mut sent = 0;
    if per_connection == 1 {
        load(peers, server.port, messages, false)?;
        sent = messages;
    }
    // `smtp-source -d` ends its connections with the run; so a run of 50 x 20 messages is 20 per connection.
    while sent < messages {
        load(peers, server.port, CLIENTS * per_connection, true)?;
        sent += CLIENTS * per_connection;
    }
    let after = Figures::now(server.pid, SERVER_CORE)?;
    let per_commit = match (commits_before, (server.commits)()) {
        (Some((commits, stored)), Some((commits_after, stored_after))) if commits_after > commits => {
            Some((stored_after - stored) as f64 / (commits_after - commits) as f64)
        }
        _ => None,
    };
    Ok(Sample::between(&before, &after, sent, per_commit))
}

fn load(peers: &Peers, port: u16, messages: usize, stay: bool) -> Result<()> {
    let load = Load { sessions: CLIENTS, messages, bytes: MESSAGE_BYTES, to: TO, stay, core: Some(CLIENT_CORE) };
    senders::smtp_source(peers, port, &load).map_err(|why| anyhow!("smtp-source: {why}"))
}

fn postern(binary: &Path) -> Server {
    let flags = ["--domain", "example.com", "--mode", "collect", "--deliver", "none"];
    let server = Postern::start_on_core(binary, SERVER_CORE, &flags);
    let (port, pid, data, binary) = (server.port, server.pid(), server.data(), PathBuf::from(binary));
    let commits = Box::new(move || measure::commits(&binary, &data));
    Server { name: "Postern", port, pid, messages: 20_000, commits, _running: Box::new(server) }
}

fn postfix(peers: &Peers) -> Server {
    let main = vec!["smtpd_data_restrictions = check_client_access static:HOLD".to_owned()];
    let setup = Setup {
        hostname: "bench.example.com",
        domain: "example.com",
        mailboxes: &["alice"],
        main,
        core: Some(SERVER_CORE),
    };
    let server = Postfix::start(peers, &setup);
    let (port, pid) = (server.port, server.pid());
    Server {
        name: "Postfix (HOLD)",
        port,
        pid,
        messages: 3_000,
        commits: Box::new(|| None),
        _running: Box::new(server),
    }
}

fn smtp_sink(peers: &Peers) -> Server {
    let scratch = Scratch::new("sink");
    let port = harness::free_port();
    let mut command = senders::pinned(&peers.command("usr/sbin/smtp-sink"), SERVER_CORE);
    if rustix::process::geteuid().is_root() {
        command.args(["-u", harness::Owner::QUEUE_USER]);
    }
    command.arg(format!("127.0.0.1:{port}")).arg("1024");
    let log = scratch.path().join("log");
    let mut guard = Guard::spawn(&mut command, &log);
    harness::wait_for_port(port, &mut guard, &log);
    let pid = guard.pid();
    let running = Box::new((guard, scratch));
    Server {
        name: "smtp-sink (stores nothing)",
        port,
        pid,
        messages: 20_000,
        commits: Box::new(|| None),
        _running: running,
    }
}

fn print(servers: &[Server], samples: &[[Vec<Sample>; 2]]) {
    let of = |samples: &[Sample], value: fn(&Sample) -> f64| median(samples.iter().map(value));
    for (column, per_connection) in PER_CONNECTION.into_iter().enumerate() {
        println!("\n{CLIENTS} clients, {} KiB, {per_connection} a connection\n", MESSAGE_BYTES / 1024);
        println!(
            "| server | msg/s | CPU µs/message | core busy | messages/commit | rate, this : it | CPU, this : it |"
        );
        println!("|---|---:|---:|---:|---:|---:|---:|");
        let ours = &samples[0][column];
        for (server, samples) in servers.iter().zip(samples) {
            let samples = &samples[column];
            let (rate, cpu) = (of(samples, |s| s.per_second), of(samples, |s| s.cpu_micros));
            let per_commit = of(samples, |s| s.per_commit.unwrap_or(0.0));
            println!(
                "| {} | {rate:.0} | {cpu:.0} | {:.0} % | {} | {:.2} | {:.2} |",
                server.name,
                of(samples, |s| s.busy * 100.0),
                if per_commit > 0.0 { format!("{per_commit:.1}") } else { "–".to_owned() },
                of(ours, |s| s.per_second) / rate,
                of(ours, |s| s.cpu_micros) / cpu,
            );
        }
    }
}
