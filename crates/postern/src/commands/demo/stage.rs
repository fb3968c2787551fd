//! The stage: a directory that goes with it, the servers, and the threads that play the night on both.
//!
//! Whatever ends the demo, dropping the stage ends its server and removes its directory.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use postern_flood::Flood;

use super::board::{Board, mode};
use super::night::{FRIENDS_DOMAIN, Night, Party, friends_addresses, friends_mailboxes};
use super::old_server::OldServer;
use crate::control::Ask;
use crate::control::client::Client;
use crate::exit::{Code, Failure};
use crate::serve::trust::now_s;
use crate::serve::trust::seed::{Seed, Seen};

/// Everything that stands there.
pub(super) struct Stage {
    pub(super) board: Board,
    pub(super) night: Night,
    /// Behind Postern.
    pub(super) behind: OldServer,
    /// Alone; `None` when a server of the user's takes its part.
    alone: Option<OldServer>,
    without: SocketAddr,
    postern: Postern,
    recipient: String,
    players: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    started: Instant,
}

impl Stage {
    /// Starts the servers and teaches Postern who the friends are.
    pub(super) fn set(
        night: Night,
        against: Option<SocketAddr>,
        recipient: &str,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, Failure> {
        let old = || {
            OldServer::start(Night::old_size())
                .map_err(|error| Failure::io(Code::Os, "a server of 2007's kind", &error))
        };
        let alone = if against.is_none() { Some(old()?) } else { None };
        let behind = old()?;
        let domain = recipient.rsplit_once('@').map_or("localhost", |(_, domain)| domain);
        let configuration = night.configuration(behind.addr()) + &format!("[recipients]\n\"{domain}\" = \"any\"\n");
        let postern = Postern::start(&configuration)?;
        postern.teach()?;
        let without = match (&alone, against) {
            (Some(server), _) => server.addr(),
            (None, Some(addr)) => addr,
            (None, None) => unreachable!("one of both"),
        };
        let size = Night::old_size();
        let name = against.map_or_else(
            || format!("a server of 2007's kind, {} processes", size.processes),
            |addr| format!("the server at {addr}"),
        );
        Ok(Self {
            board: Board::new(night, name),
            night,
            behind,
            alone,
            without,
            postern,
            recipient: recipient.to_owned(),
            players: Vec::new(),
            stop,
            started: Instant::now(),
        })
    }

    /// Lets the night begin.
    pub(super) fn play(&mut self) -> Result<(), Failure> {
        self.started = Instant::now();
        for (with_postern, target) in [(false, self.without), (true, self.postern.addr)] {
            for party in Party::ALL {
                let player = self.player(party, target, with_postern);
                self.players.push(thread(player)?);
            }
        }
        let watcher = self.watcher();
        // Not waited for at the end: it may wait itself, for the answer of a server that is gone by then.
        thread(watcher).map(drop)
    }

    fn player(&self, party: Party, target: SocketAddr, with_postern: bool) -> impl FnOnce() + Send + 'static {
        let plan = self.night.plan(party, target, &self.recipient, &self.ledger(party, with_postern));
        let begins = self.started + Duration::from_millis(self.night.begins_ms(party));
        let (board, stop) = (self.board.clone(), Arc::clone(&self.stop));
        move || {
            while Instant::now() < begins && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(TICK.min(begins.saturating_duration_since(Instant::now())));
            }
            let report = Flood::run(&plan, |progress| {
                board.lock().half(with_postern).parties[party as usize].take(progress);
                if stop.load(Ordering::Relaxed) {
                    std::ops::ControlFlow::Break(())
                } else {
                    std::ops::ControlFlow::Continue(())
                }
            });
            let mut scene = board.lock();
            let part = &mut scene.half(with_postern).parties[party as usize];
            match report {
                Ok(report) => part.report = Some(report),
                Err(error) => part.failure = Some(error.to_string()),
            }
        }
    }

    fn watcher(&self) -> impl FnOnce() + Send + 'static {
        let (board, stop, started) = (self.board.clone(), Arc::clone(&self.stop), self.started);
        let (alone, behind) = (self.alone.clone(), self.behind.clone());
        let (data, night) = (self.postern.data(), self.night);
        move || {
            let processes = Night::old_size().processes as u64;
            while !stop.load(Ordering::Relaxed) {
                let status = Client::connect(&data).and_then(|mut client| client.ask(Ask::Status));
                let now_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                let passed_on = behind.count();
                let mut scene = board.lock();
                if let Ok(status) = status {
                    scene.inside.take(status, &night, now_ms);
                }
                scene.inside.passed_on = passed_on;
                scene.without.busy = alone.as_ref().map(|server| (server.busy(), processes));
                scene.with.busy = Some((behind.busy(), processes));
                drop(scene);
                std::thread::sleep(TICK);
            }
        }
    }

    /// Everybody has gone home, and what was left for later has left. Also true when that takes too long: the reckoning
    /// then says what is missing.
    pub(super) fn is_over(&self) -> bool {
        let now_ms = self.now_ms();
        self.board.lock().now_ms = now_ms;
        if now_ms < self.night.over_ms || !self.players.iter().all(JoinHandle::is_finished) {
            return false;
        }
        // An answer that was asked for after the last 250.
        let settled = now_ms > self.night.over_ms + SETTLE_MS;
        let (empty, calm) = {
            let scene = self.board.lock();
            (scene.inside.is_empty(), mode(&scene.inside.status) == Some("through"))
        };
        // That it answers at the outcome again is worth a look, but no part of the promise.
        settled && empty && (calm || now_ms > self.night.over_ms + CALM_MAX_MS)
            || now_ms > self.night.over_ms + RECKONING_MAX_MS
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Ends the players, and waits for them: their ledgers are then complete.
    pub(super) fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for player in self.players.drain(..) {
            let _ = player.join();
        }
    }

    /// Ids of all messages that this half answered 250.
    pub(super) fn promised(&self, with_postern: bool) -> Result<Vec<String>, Failure> {
        let mut ids = Vec::new();
        for party in Party::ALL {
            let path = self.ledger(party, with_postern);
            match fs::read_to_string(&path) {
                Ok(text) => ids.extend(text.lines().map(str::to_owned)),
                // The party never came.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Failure::io(Code::Io, path.display(), &error)),
            }
        }
        Ok(ids)
    }

    fn ledger(&self, party: Party, with_postern: bool) -> PathBuf {
        self.postern.dir.join(format!("ledger-{}-{}", party as u8, u8::from(with_postern)))
    }
}

/// Our own server, as anybody would run it: this program with a configuration of a few lines.
struct Postern {
    child: Child,
    dir: PathBuf,
    addr: SocketAddr,
}

impl Postern {
    fn start(configuration: &str) -> Result<Self, Failure> {
        let dir = scratch_dir()?;
        let failed = |what: &str, error: &std::io::Error| Failure::io(Code::Os, what, error);
        let spawned = spawn(&dir, configuration).map_err(|error| failed("the server", &error));
        let child = spawned.inspect_err(|_| drop(fs::remove_dir_all(&dir)))?;
        let mut server = Self { child, dir, addr: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let mut ready = String::new();
        if let Some(stdout) = server.child.stdout.take() {
            BufReader::new(stdout).read_line(&mut ready).map_err(|error| failed("the server", &error))?;
        }
        let addr = ready.split_whitespace().find_map(|word| word.strip_prefix("smtp=")?.parse().ok());
        server.addr = addr.ok_or_else(|| {
            let log = fs::read_to_string(server.dir.join("log")).unwrap_or_default();
            let last = log.lines().last().unwrap_or("it said nothing").to_owned();
            Failure::new(Code::Software, format!("Postern did not start: {last}")).cure("try `postern serve`")
        })?;
        Ok(server)
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// What `postern learn` would find in a mail log of last week: this site wrote to the friends, and they answered
    /// from addresses that are proven theirs. (It leaves out addresses of loopback, from which nobody's friends write.)
    fn teach(&self) -> Result<(), Failure> {
        let at = now_s();
        let wrote = friends_mailboxes().into_iter().map(Seen::WroteTo);
        let proven = friends_addresses().into_iter().flat_map(|ip| {
            let domain = FRIENDS_DOMAIN.to_owned();
            [Seen::Authorised(ip, domain.clone()), Seen::Ham(ip, domain, 20)]
        });
        let seeds = wrote.chain(proven).map(|seen| Seed { at, seen }).collect();
        Client::connect(&self.data())?.ask(Ask::Learn { seeds }).map(drop)
    }
}

impl Drop for Postern {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn spawn(dir: &Path, configuration: &str) -> std::io::Result<Child> {
    let config = dir.join("postern.toml");
    fs::write(&config, configuration)?;
    Command::new(std::env::current_exe()?)
        .args(["serve", "--smtp", "127.0.0.1:0", "--data"])
        .arg(dir.join("data"))
        .arg("-c")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(dir.join("log"))?)
        .spawn()
}

fn scratch_dir() -> Result<PathBuf, Failure> {
    for n in 0..1000 {
        let dir = std::env::temp_dir().join(format!("postern-demo-{}-{n}", std::process::id()));
        match fs::create_dir(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Failure::io(Code::CannotCreate, dir.display(), &error)),
        }
    }
    Err(Failure::new(Code::CannotCreate, "no room for another temporary directory"))
}

fn thread(play: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Failure> {
    std::thread::Builder::new().spawn(play).map_err(|error| Failure::io(Code::Os, "a thread", &error))
}

/// How often Postern is asked how it is, and waiting threads look whether it is over.
const TICK: Duration = Duration::from_millis(250);
/// After the last 250, until `status` is believed that nothing is left.
const SETTLE_MS: u64 = 1_000;
/// How long the last mode change is waited for.
const CALM_MAX_MS: u64 = 8_000;
/// How long the drain may take after the night: a backlog of twice what a night can leave.
const RECKONING_MAX_MS: u64 = 120_000;
