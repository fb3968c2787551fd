//! The stage: a directory that goes with it, the servers, and the threads that play the night on both.
//!
//! Whatever ends the demo, dropping the stage ends its sites and removes its directory.

use std::cell::Cell;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use postern_flood::Flood;

use super::board::{Board, mode};
use super::night::{Night, PEERS_DOMAIN, Party, peers_configuration, with_a_domain};
use super::old_server::OldServer;
use super::passage::Passage;
use super::site::{Plot, Scratch, Site, status};
use crate::exit::{Code, Failure};

/// Everything that stands there.
pub(super) struct Stage {
    pub(super) board: Board,
    pub(super) night: Night,
    /// Behind Postern.
    pub(super) behind: OldServer,
    /// Alone; `None` when a server of the user's takes its part.
    alone: Option<OldServer>,
    without: SocketAddr,
    /// Of the peers.
    peers: Site,
    /// Whom everybody writes to.
    home: Site,
    recipient: String,
    players: Vec<JoinHandle<()>>,
    /// Of the peers' mail.
    passage: Option<Passage>,
    stop: Arc<AtomicBool>,
    started: Instant,
    /// When everybody was seen to have gone home.
    gone_home_ms: Cell<Option<u64>>,
    /// Goes last: the sites stand in it.
    scratch: Scratch,
}

impl Stage {
    /// Starts the servers, pins the two sites' keys at each other, and teaches Postern who the friends are.
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
        let scratch = Scratch::make()?;
        let (home, peers) = sites(&night, &scratch, &behind, recipient)?;
        home.teach()?;
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
            peers,
            home,
            recipient: recipient.to_owned(),
            players: Vec::new(),
            passage: None,
            stop,
            started: Instant::now(),
            gone_home_ms: Cell::new(None),
            scratch,
        })
    }

    /// Lets the night begin.
    pub(super) fn play(&mut self) -> Result<(), Failure> {
        self.started = Instant::now();
        self.passage = Some(Passage::new(self.ledger(Party::Peers, true), self.started));
        for with_postern in [false, true] {
            for party in Party::ALL {
                let player = self.player(party, with_postern);
                self.players.push(thread(player)?);
            }
        }
        let watcher = self.watcher();
        // Not waited for at the end: it may wait itself, for the answer of a server that is gone by then.
        thread(watcher).map(drop)
    }

    fn player(&self, party: Party, with_postern: bool) -> impl FnOnce() + Send + 'static {
        let (target, recipient) = match (with_postern, party) {
            (false, _) => (self.without, self.recipient.clone()),
            // They write as ever: to their own server.
            (true, Party::Peers) => (self.peers.relay, with_a_domain(&self.recipient)),
            (true, _) => (self.home.smtp, with_a_domain(&self.recipient)),
        };
        let plan = self.night.plan(party, target, &recipient, &self.ledger(party, with_postern));
        let begins = self.started + Duration::from_millis(self.night.begins_ms(party));
        let (board, stop) = (self.board.clone(), Arc::clone(&self.stop));
        let passage = self.passage.clone().filter(|_| with_postern && party == Party::Peers);
        move || {
            while Instant::now() < begins && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(TICK.min(begins.saturating_duration_since(Instant::now())));
            }
            let report = Flood::run(&plan, |progress| {
                if let Some(passage) = &passage {
                    passage.look(Instant::now());
                }
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
        let (home, peers, night) = (self.home.data(), self.peers.data(), self.night);
        move || {
            let processes = Night::old_size().processes as u64;
            while !stop.load(Ordering::Relaxed) {
                let asked_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                // In the order in which mail goes: what has left the one is seen at the other.
                let (peers, home) = (status(&peers), status(&home));
                let passed_on = behind.count();
                let mut scene = board.lock();
                if let (Ok(peers), Ok(home)) = (peers, home) {
                    scene.way.take(&peers, &home, &night, asked_ms);
                    scene.inside.take(home, &night, asked_ms);
                    scene.asked_ms = asked_ms;
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
        let gone_home_ms = self.gone_home_ms.get().unwrap_or(now_ms);
        self.gone_home_ms.set(Some(gone_home_ms));
        let (settled, empty, calm) = {
            let scene = self.board.lock();
            // Both sites were asked after the last 250.
            let settled = scene.asked_ms > gone_home_ms + SETTLE_MS;
            let empty = scene.inside.is_empty() && scene.way.waiting == 0;
            (settled, empty, mode(&scene.inside.status) == Some("through"))
        };
        // That it answers at the outcome again is worth a look, but no part of the promise.
        settled && empty && (calm || now_ms > self.night.over_ms + CALM_MAX_MS)
            || now_ms > self.night.over_ms + RECKONING_MAX_MS
    }

    /// Neither site has mail left, asked in the order in which it goes; nothing where one of them has ended.
    fn is_empty(&self) -> Option<bool> {
        let sites = [&self.peers, &self.home].map(|site| status(&site.data()).ok());
        let [peers, home] = sites.map(|status| status.map(|status| status["spool"]["items"] == 0));
        Some(peers? && home?)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Ends the players, and waits for them: their ledgers are then complete. After a night that was stopped, what was
    /// answered at the receipt has a moment to arrive.
    pub(super) fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for player in self.players.drain(..) {
            let _ = player.join();
        }
        let leave_by = Instant::now() + LEAVE_MAX;
        while !self.is_empty().unwrap_or(true) && Instant::now() < leave_by {
            std::thread::sleep(TICK);
        }
        if let Some(passage) = &self.passage {
            self.board.lock().way.under_way = passage.times(&self.behind.arrived());
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
        self.scratch.0.join(format!("ledger-{}-{}", party as u8, u8::from(with_postern)))
    }
}

/// The one that everybody writes to, and that of the peers. Each has the other's key before it starts.
fn sites(night: &Night, scratch: &Scratch, behind: &OldServer, recipient: &str) -> Result<(Site, Site), Failure> {
    let recipient = with_a_domain(recipient);
    let domain = recipient.rsplit_once('@').map_or("", |(_, domain)| domain);
    let (home, peers) = (Plot::make(scratch, "home")?, Plot::make(scratch, "peer")?);
    home.pin(PEERS_DOMAIN, &peers.key, None)?;
    let home_key = home.key.clone();
    let home = home.open(&night.configuration(behind.addr(), domain))?;
    peers.pin(domain, &home_key, Some(home.door))?;
    let peers = peers.open(&peers_configuration(home.smtp))?;
    Ok((home, peers))
}

fn thread(play: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Failure> {
    std::thread::Builder::new().spawn(play).map_err(|error| Failure::io(Code::Os, "a thread", &error))
}

/// How often Postern is asked how it is, and waiting threads look whether it is over.
const TICK: Duration = Duration::from_millis(250);
/// After the last 250, until `status` of both sites is believed that nothing is left.
const SETTLE_MS: u64 = 1_000;
/// How long what is under way is waited for when somebody has stopped the night: mail takes less while it is calm, and
/// who wants to go does not want to wait for a backlog.
const LEAVE_MAX: Duration = Duration::from_secs(3);
/// How long the last mode change is waited for.
const CALM_MAX_MS: u64 = 8_000;
/// How long the drain may take after the night: a backlog of twice what a night can leave.
const RECKONING_MAX_MS: u64 = 120_000;
