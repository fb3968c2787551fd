//! The two threads of a spool. The engine thread takes what has come in, writes and syncs the log itself, and hands out
//! the answers: one group a turn. The disk thread does whatever may take its time and must not hold up a commit. No
//! decision is made here.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{oneshot, watch};

use crate::disk::{DiskOp, DiskOpKind, Queue};
use crate::engine::Engine;
use crate::event::Event;
use crate::inbox::{Inbox, Message, Wait};
use crate::item::{Lease, When};
use crate::limits::GATHER_MESSAGES;
use crate::port::{Outbox, refuse_all};
use crate::real_disk::{RealDisk, free_bytes};
use crate::request::{Input, Output, PortRequest, Reply, Request};
use crate::spool::SpoolStats;

/// What the engine thread shares with the handle.
pub(crate) struct Shared {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) stats: Mutex<SpoolStats>,
    pub(crate) changed: watch::Sender<u64>,
}

pub(crate) struct Runtime {
    engine: Engine,
    disk: RealDisk,
    background: mpsc::Sender<DiskOp>,
    shared: Arc<Shared>,
    dir: PathBuf,
    gather: Duration,
    ports: HashMap<u32, PortEnd>,
    replies: HashMap<u64, oneshot::Sender<Reply>>,
    next_token: u64,
    looked_at_disk: Option<Instant>,
    told_changed: Option<Instant>,
    change_untold: bool,
    stopping: bool,
}

struct PortEnd {
    outbox: Arc<Outbox>,
    events: Vec<Event>,
}

/// Starts both threads.
pub(crate) fn start(
    engine: Engine,
    disk: RealDisk,
    shared: Arc<Shared>,
    dir: PathBuf,
    gather: Duration,
) -> std::io::Result<JoinHandle<()>> {
    let (background, ops) = mpsc::channel::<DiskOp>();
    let (disk_of_thread, inbox) = (disk.clone(), shared.inbox.clone());
    let disk_thread = std::thread::Builder::new().name("spool-disk".into()).spawn(move || {
        for op in ops {
            let completion = disk_of_thread.perform(op);
            let _ = inbox.push(Message::Completion(completion));
        }
    })?;
    let runtime = Runtime {
        engine,
        disk,
        background,
        shared,
        dir,
        gather,
        ports: HashMap::new(),
        replies: HashMap::new(),
        next_token: 0,
        looked_at_disk: None,
        told_changed: None,
        change_untold: false,
        stopping: false,
    };
    std::thread::Builder::new().name("spool".into()).spawn(move || {
        runtime.run();
        let _ = disk_thread.join();
    })
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

impl Runtime {
    fn run(mut self) {
        let (mut messages, mut late) = (Vec::new(), Vec::new());
        let mut more = true;
        loop {
            let wait = if more { Wait::No } else { self.wait() };
            self.shared.inbox.take(&mut messages, wait);
            if self.is_worth_waiting(&messages) {
                std::thread::sleep(self.gather);
                self.shared.inbox.take(&mut late, Wait::No);
                messages.append(&mut late);
            }
            self.look_at_disk();
            let now = unix_ms();
            if self.engine.next_tick_unix_ms().is_some_and(|tick| tick <= now) {
                self.engine.handle(now, Input::Tick);
            }
            for message in messages.drain(..) {
                self.handle(now, message);
            }
            if self.stopping {
                // Those too that came after the word to stop: nobody decides about them any more.
                self.engine.refuse_waiting();
            }
            more = self.turn();
            self.hand_out();
            if self.stopping && !more && self.engine.is_idle() {
                break;
            }
        }
    }

    fn handle(&mut self, now: u64, message: Message) {
        match message {
            Message::Port { port, requests } => {
                for request in requests {
                    self.engine.handle(now, Input::Port { port, request });
                }
            }
            Message::OpenPort { port, outbox } => {
                self.ports.insert(port, PortEnd { outbox, events: Vec::new() });
            }
            Message::ClosePort { port } => {
                self.ports.remove(&port);
            }
            Message::Request { request, reply } => {
                self.next_token += 1;
                self.replies.insert(self.next_token, reply);
                self.engine.handle(now, Input::Request { token: self.next_token, request });
            }
            Message::Completion(completion) => self.engine.handle_completion(now, completion),
            Message::Stop => self.stopping = true,
        }
    }

    /// Does disk operations up to the end of one group; true when there may be more to do.
    fn turn(&mut self) -> bool {
        while let Some(op) = self.engine.poll_disk() {
            match op.kind.queue() {
                Queue::Background => {
                    // The disk thread ends only after this sender is dropped.
                    let _ = self.background.send(op);
                }
                Queue::Log => {
                    let synced = matches!(op.kind, DiskOpKind::SyncLog { .. });
                    let completion = self.disk.perform(op);
                    self.engine.handle_completion(unix_ms(), completion);
                    if synced {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Hands out the answers: one lock and one wake for each port.
    fn hand_out(&mut self) {
        // First, so that whoever has an answer sees figures that include it.
        *self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner) = self.engine.stats();
        let mut unwanted: Vec<Lease> = Vec::new();
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Event { port, event } => {
                    if let Some(end) = self.ports.get_mut(&port) {
                        end.events.push(event);
                    }
                }
                Output::Reply { token, reply } => {
                    let Some(sender) = self.replies.remove(&token) else { continue };
                    if let Err(Reply::Leased(leases)) = sender.send(reply) {
                        unwanted.extend(leases);
                    }
                }
            }
        }
        for end in self.ports.values_mut() {
            end.outbox.deliver(&mut end.events);
        }
        if !unwanted.is_empty() {
            self.engine.handle(unix_ms(), Input::Request { token: 0, request: Request::Release(unwanted) });
        }
        self.tell_changed();
    }

    /// Whether a commit of what has come should wait for company: it is small, it is all that is to be done, and more is
    /// on its way in. A lone client never waits, nor does a sender whose outcome the drain is to find.
    fn is_worth_waiting(&self, messages: &[Message]) -> bool {
        let is_commit =
            |request: &PortRequest| matches!(request, PortRequest::Append(_, When::Commit) | PortRequest::Commit(_));
        let only_commits =
            |message: &Message| matches!(message, Message::Port { requests, .. } if requests.iter().all(is_commit));
        let expected = || self.ports.values().any(|end| end.outbox.expected() > 0);
        !self.gather.is_zero()
            && !messages.is_empty()
            && gathered(messages) < GATHER_MESSAGES
            && messages.iter().all(only_commits)
            && expected()
    }

    /// Tells the drain that something may have become leasable: at once when a sender waits for it, else now and then;
    /// a wake for every commit was a twentieth of the CPU of collecting.
    fn tell_changed(&mut self) {
        self.change_untold |= self.engine.take_changed();
        let now = Instant::now();
        let lately = self.told_changed.is_some_and(|before| now - before < CHANGE_PAUSE);
        if self.change_untold && (!lately || self.engine.has_tentative()) {
            self.change_untold = false;
            self.told_changed = Some(now);
            self.shared.changed.send_modify(|count| *count += 1);
        }
    }

    fn wait(&self) -> Wait {
        let now = unix_ms();
        let tick = self.engine.next_tick_unix_ms().map(|tick| Duration::from_millis(tick.saturating_sub(now).max(1)));
        let disk = self.engine.stats_refusing().then_some(DISK_LOOK);
        let change = self.change_untold.then_some(CHANGE_PAUSE);
        match [tick, disk, change].into_iter().flatten().min() {
            Some(time) => Wait::For(time),
            None => Wait::Forever,
        }
    }

    fn look_at_disk(&mut self) {
        let now = Instant::now();
        if self.looked_at_disk.is_some_and(|before| now - before < DISK_LOOK) {
            return;
        }
        self.looked_at_disk = Some(now);
        if let Some(bytes) = free_bytes(&self.dir) {
            self.engine.handle(unix_ms(), Input::FreeSpace(bytes));
        }
    }
}

impl Drop for Runtime {
    /// Also on a panic: what came too late is refused, whoever waits for a reply sees its sender dropped, and whoever asks
    /// afterwards is told at once instead of waiting for ever.
    fn drop(&mut self) {
        for message in self.shared.inbox.close() {
            match message {
                Message::OpenPort { port, outbox } => {
                    self.ports.insert(port, PortEnd { outbox, events: Vec::new() });
                }
                Message::Port { port, requests } => {
                    if let Some(end) = self.ports.get(&port) {
                        refuse_all(&end.outbox, requests);
                    }
                }
                _ => {}
            }
        }
    }
}

fn gathered(messages: &[Message]) -> usize {
    messages.iter().map(|message| if let Message::Port { requests, .. } = message { requests.len() } else { 0 }).sum()
}

/// Between two words to the drain that mail has come which nobody waits for.
const CHANGE_PAUSE: Duration = Duration::from_millis(10);

/// How often the free space is looked at, at most: 1 s at 200 MB/s is less than the low mark.
const DISK_LOOK: Duration = Duration::from_secs(1);
