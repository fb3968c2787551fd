//! What is attacked: this program with its door open, or stock quinn, each a child of this program on core 0.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use postern_flood::door::{Entry, Peer, StockKind, StockOptions, stock};
use postern_net::door::KeyPair;
use serde_json::Value;

use super::super::machine;
use super::super::server::{CORE, scratch_dir};
use crate::control::Ask;
use crate::control::client::Client;
use crate::exit::{Code, Failure};

/// Whose mail the friends bring; the door knows their key.
pub(super) const FRIEND: &str = "friend.example";

/// A server to attack; killed, and its directory removed, when dropped.
#[derive(Debug)]
pub(super) struct Subject {
    child: Child,
    dir: PathBuf,
    door: SocketAddr,
    smtp: Option<SocketAddr>,
    key: Option<String>,
    entry: Entry,
}

/// A way to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To compare with.
    Stock(StockKind),
    /// This program.
    Ours,
}

impl Way {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Stock(StockKind::Accept), Self::Stock(StockKind::Retry), Self::Ours];

    /// In tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stock(kind) => kind.as_str(),
            Self::Ours => OURS,
        }
    }

    /// Starts it; each datagram costs it so much more.
    pub(super) fn start(self, work_ns: u32) -> Result<Subject, Failure> {
        match self {
            Self::Stock(kind) => Subject::stock(kind, work_ns),
            Self::Ours => Subject::ours(Ours { work_ns, ..Ours::default() }),
        }
    }
}

/// How ours runs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ours {
    /// Burnt by the gate for each datagram, in nanoseconds.
    pub(super) work_ns: u32,
    /// Peers without a ticket that are let in a second, if not as everywhere.
    pub(super) strangers_per_second: Option<u32>,
}

impl Subject {
    /// This program, with a friend's key pinned.
    pub(super) fn ours(ours: Ours) -> Result<Self, Failure> {
        let dir = scratch_dir()?;
        let failed = |what: &str, error: &std::io::Error| Failure::io(Code::Os, what, error);
        let config = dir.join("postern.toml");
        let mut settings = format!("hostname = \"bench.localhost\"\n[door]\nwork_ns = {}\n", ours.work_ns);
        if let Some(strangers) = ours.strangers_per_second {
            settings.push_str(&format!("strangers_per_second = {strangers}\n"));
        }
        fs::write(&config, settings).map_err(|error| failed("configuration", &error))?;
        let mut keys = Vec::new();
        for (domain, file) in [(FRIEND, FRIEND_KEY), (INSIDER, INSIDER_KEY)] {
            let key = KeyPair::load_or_make(&dir.join(file))
                .map_err(|error| Failure::new(Code::CannotCreate, error.to_string()))?;
            keys.push((domain, key.public().to_string()));
        }
        let program = std::env::current_exe().map_err(|error| failed("this program", &error))?;
        let data = dir.join("data");
        let serve = Self::serve(&dir, ANY_PORT)?;
        let subject = Self::start(serve, dir, Entry::Door)?;
        for (domain, key) in keys {
            let pinned = Command::new(&program)
                .args(["peer", "add", domain, &key, "--data"])
                .arg(&data)
                .stdout(Stdio::null())
                .status()
                .map_err(|error| failed("peer add", &error))?;
            if !pinned.success() {
                return Err(Failure::new(Code::Software, format!("the key of {domain} could not be pinned")));
            }
        }
        Ok(subject)
    }

    /// This program, to be started in a directory that is prepared.
    fn serve(dir: &Path, door: SocketAddr) -> Result<Command, Failure> {
        let program = std::env::current_exe().map_err(|error| Failure::io(Code::Os, "this program", &error))?;
        let mut serve = Command::new(program);
        serve
            .args(["serve", "--smtp", "127.0.0.1:0", "--door", &door.to_string(), "--deliver", "none"])
            .args(["--pin", &CORE.to_string()])
            .arg("--data")
            .arg(dir.join("data"))
            .arg("-c")
            .arg(dir.join("postern.toml"));
        Ok(serve)
    }

    /// Ours only: `kill -9`, and at once another one with the same data on the same port. Returns when that one is ready.
    pub(super) fn kill_and_start_again(&mut self) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::io(Code::Os, "server", &error);
        let mut serve = Self::serve(&self.dir, self.door)?;
        self.child.kill().and_then(|()| self.child.wait()).map_err(failed)?;
        let (child, ready) = launch(&mut serve)?;
        self.child = child;
        if ready.contains(&format!("door={}", self.door)) {
            return Ok(());
        }
        Err(Failure::new(Code::Software, format!("the server under measurement did not come back: {ready}")))
    }

    /// Ours only: over its control socket.
    pub(super) fn ask(&self, ask: Ask) -> Result<Value, Failure> {
        Client::connect(&self.dir.join("data"))?.ask(ask)
    }

    /// Stock quinn.
    pub(super) fn stock(kind: StockKind, work_ns: u32) -> Result<Self, Failure> {
        let dir = scratch_dir()?;
        let program = std::env::current_exe().map_err(|error| Failure::io(Code::Os, "this program", &error))?;
        let mut serve = Command::new(program);
        serve.args(["bench", "stock", "--work-ns", &work_ns.to_string()]);
        if kind == StockKind::Retry {
            serve.arg("--retry");
        }
        Self::start(serve, dir, Entry::Plain)
    }

    fn start(mut serve: Command, dir: PathBuf, entry: Entry) -> Result<Self, Failure> {
        let (child, ready) = launch(&mut serve)?;
        let word = |name: &str| ready.split_whitespace().find_map(|word| word.strip_prefix(name).map(str::to_owned));
        let address = |name: &str| word(name).and_then(|word| word.parse().ok());
        let door = address("door=");
        let (smtp, key) = (address("smtp="), word("key="));
        let subject = Self { child, dir, door: door.unwrap_or(ANY_PORT), smtp, key, entry };
        match door {
            Some(_) => Ok(subject),
            None => Err(Failure::new(Code::Software, format!("the server under measurement has no door: {ready}"))
                .cure("try `postern serve --door 127.0.0.1:0`")),
        }
    }

    pub(super) fn door(&self) -> SocketAddr {
        self.door
    }

    /// The public door of ours.
    pub(super) fn smtp(&self) -> Option<SocketAddr> {
        self.smtp
    }

    /// What its key should be; friends of ours trust the first they see.
    pub(super) fn key(&self) -> Option<String> {
        self.key.clone()
    }

    pub(super) fn entry(&self) -> Entry {
        self.entry
    }

    /// Of ours only: stock quinn takes any key.
    pub(super) fn friend_key(&self) -> Option<PathBuf> {
        (self.entry == Entry::Door).then(|| self.dir.join(FRIEND_KEY))
    }

    /// The other peer that ours knows.
    pub(super) fn insider(&self) -> Peer {
        Peer { domain: INSIDER.to_owned(), key: self.dir.join(INSIDER_KEY) }
    }

    /// What `status` of ours says of its door.
    pub(super) fn door_status(&self) -> Option<Value> {
        let mut client = Client::connect(&self.dir.join("data")).ok()?;
        Some(client.ask(Ask::Status).ok()?["door"].take())
    }

    pub(super) fn cpu(&self) -> Result<Duration, Failure> {
        machine::cpu(self.child.id())
    }

    pub(super) fn memory(&self) -> Result<(u64, u64), Failure> {
        machine::memory(self.child.id())
    }
}

/// Starts it and waits for the line that says where.
fn launch(serve: &mut Command) -> Result<(Child, String), Failure> {
    let failed = |error: std::io::Error| Failure::io(Code::Os, "server", &error);
    serve.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = serve.spawn().map_err(failed)?;
    let mut ready = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut ready).map_err(failed)?;
    }
    Ok((child, ready))
}

impl Drop for Subject {
    fn drop(&mut self) {
        // A measurement has nothing to finish.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// `postern bench stock`: stock quinn in this process, until it is killed.
///
/// # Errors
/// No core, no runtime, no address.
pub(in crate::bench) fn stock(retry: bool, work_ns: u32) -> Result<(), Failure> {
    crate::serve::pin(CORE)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io(Code::Os, "a runtime", &error))?;
    let options = StockOptions {
        kind: if retry { StockKind::Retry } else { StockKind::Accept },
        work: Duration::from_nanos(u64::from(work_ns)),
    };
    let ready = |address, key: &postern_net::door::PublicKey| println!("ready door={address} key={key}");
    runtime
        .block_on(stock::serve(SocketAddr::from(([127, 0, 0, 1], 0)), options, ready))
        .map_err(|error| Failure::io(Code::Os, "stock quinn", &error))
}

/// In tables.
pub(super) const OURS: &str = "postern";

const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

const FRIEND_KEY: &str = "friend.pem";

/// Known to the door as well, and up to no good.
const INSIDER: &str = "insider.example";
const INSIDER_KEY: &str = "insider.pem";
