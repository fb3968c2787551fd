//! The loop of the drain, and what its parts share.
//!
//! Woken by the spool, by the end of a delivery that others wait for, by the earliest due time and
//! by commands; `look` then decides *that* items leave, `judge` and `delivery` carry it out. Runs on
//! the drain's thread only, so its state needs no lock; no borrow is held across an await.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use postern_net::client::Connector;
use postern_proto::mode::{Mode, Modes};
use postern_spool::{ItemId, Lane, LaneStats, Spool};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::carries::{Carries, Known};
use crate::drain::{Command, DrainOptions, Released};
use crate::gates::Gates;
use crate::limits::{
    ASK_MAX, ASKED_AT_ONCE_MAX, DESTINATIONS_MAX, LOOK_AGAIN, RELEASE_RETRIES_MAX, RELEASED_CLASS, STOP_GRACE,
};
use crate::look::Next;
use crate::maildir::Maildirs;
use crate::order::Floor;
use crate::outward::Outward;
use crate::quarantine::First;
use crate::release::Releases;
use crate::remote::{Remote, goodbye};
use crate::route::{Destination, Route, RouteTable};
use crate::schedule::{Gate, Pace, Rate, Retry, millis};
use crate::stats::{Counters, DestinationState};
use crate::turns::Turns;

/// Everything the drain's thread has.
pub(crate) struct Worker {
    pub(crate) spool: Spool,
    pub(crate) routes: Arc<ArcSwap<RouteTable>>,
    pub(crate) modes: Arc<ArcSwap<Modes>>,
    pub(crate) options: DrainOptions,
    pub(crate) retry: Retry,
    pub(crate) remote: Remote,
    pub(crate) outward: Outward,
    pub(crate) maildirs: Arc<Maildirs>,
    pub(crate) counters: Arc<Counters>,
    /// Items that came before may have been delivered by a process that died.
    pub(crate) started_unix_ms: u64,
    pub(crate) gates_of_filters: RefCell<Gates>,
    carries: watch::Sender<Carries>,
    started: Instant,
    gates: RefCell<HashMap<Destination, Gate>>,
    /// A place became free at a destination.
    pub(crate) place_free: Notify,
    known: RefCell<Known>,
    pub(crate) releases: RefCell<Releases>,
    pub(crate) collect: RefCell<Option<Rate>>,
    /// Items being worked on, and whether a sender waits for them.
    pub(crate) in_flight: RefCell<HashMap<ItemId, (Lane, bool)>>,
    ask: Notify,
    /// Something was put off, and is due before the lanes are looked at anyway.
    due_soon: Notify,
    random: Cell<u64>,
    /// Taken while dead letters are dropped; see `dead`.
    pub(crate) dropping: tokio::sync::Mutex<()>,
    /// Looking for mail that expired while its destination was away.
    pub(crate) expire_turns: RefCell<Turns>,
    /// Looking at unjudged mail while a filter is away.
    pub(crate) unjudged_turns: RefCell<Turns>,
    pub(crate) turn: Cell<usize>,
    pub(crate) floor: RefCell<Floor>,
    /// The quarantine is being tidied.
    pub(crate) tidying: Cell<bool>,
    /// Lanes of the quarantine from which nothing could be dropped.
    pub(crate) firsts: RefCell<HashMap<Lane, First>>,
}

pub(crate) type Tasks = JoinSet<()>;

impl Worker {
    pub(crate) fn new(
        spool: Spool,
        routes: Arc<ArcSwap<RouteTable>>,
        modes: Arc<ArcSwap<Modes>>,
        options: DrainOptions,
        counters: Arc<Counters>,
        carries: watch::Sender<Carries>,
    ) -> Self {
        Self {
            retry: Retry::new(&options),
            remote: Remote::new(Connector::new(options.hostname.clone())),
            outward: Outward::new(options.outbound.clone(), options.hostname.clone()),
            maildirs: Arc::default(),
            started_unix_ms: now_unix_ms(),
            started: Instant::now(),
            gates_of_filters: RefCell::default(),
            gates: RefCell::default(),
            place_free: Notify::new(),
            known: RefCell::default(),
            releases: RefCell::default(),
            collect: RefCell::new(options.collect_rate.map(|rate| Rate::new(rate, 0))),
            in_flight: RefCell::default(),
            ask: Notify::new(),
            due_soon: Notify::new(),
            dropping: tokio::sync::Mutex::default(),
            random: Cell::new(getrandom::u64().unwrap_or(0x9e37_79b9_7f4a_7c15)),
            expire_turns: RefCell::default(),
            unjudged_turns: RefCell::default(),
            turn: Cell::new(0),
            floor: RefCell::default(),
            tidying: Cell::new(false),
            firsts: RefCell::default(),
            spool,
            routes,
            modes,
            options,
            counters,
            carries,
        }
    }

    /// Runs until told to stop, until nobody is left to tell, or until the spool is gone.
    pub(crate) async fn run(self, mut inbox: mpsc::Receiver<Command>) {
        let worker = Rc::new(self);
        let asking = tokio::task::spawn_local(worker.clone().keep_asking());
        let mut tasks = Tasks::new();
        worker.clone().work(&mut inbox, &mut tasks).await;
        asking.abort();
        let ended = timeout(STOP_GRACE, async { while tasks.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            tracing::warn!(left = tasks.len(), "deliveries under way were cut off; they will be tried again");
        }
        for connection in worker.remote.take_all() {
            goodbye(connection);
        }
    }

    async fn work(self: Rc<Self>, inbox: &mut mpsc::Receiver<Command>, tasks: &mut Tasks) {
        let mut changed = self.spool.changed();
        loop {
            let next = caught(self.pass(tasks)).await.unwrap_or_else(|Panicked| {
                self.counters.panics.fetch_add(1, Ordering::Relaxed);
                Next::in_a_second()
            });
            if !next.rest.is_zero() {
                sleep(next.rest).await;
            }
            let wake = sleep(next.wait);
            let mut wake = pin!(wake);
            loop {
                tokio::select! {
                    command = inbox.recv() => match command {
                        None | Some(Command::Stop) => return,
                        Some(Command::Wake) => self.ask.notify_one(),
                        Some(Command::Release { domain, rate, answer }) => {
                            let _ = answer.send(self.release(domain, rate).await);
                        }
                    },
                    result = changed.changed() => if result.is_err() { return },
                    Some(_) = tasks.join_next(), if !tasks.is_empty() => {
                        while tasks.try_join_next().is_some() {}
                        if !next.blocked { continue; }
                    },
                    () = self.due_soon.notified() => {}
                    () = &mut wake => {}
                }
                break;
            }
        }
    }

    /// An item was put off until then.
    pub(crate) fn put_off(&self, due_unix_ms: u64) {
        if due_unix_ms < now_unix_ms() + millis(LOOK_AGAIN) {
            self.due_soon.notify_one();
        }
    }

    /// This item is about to be settled. It goes off the list before: the spool may give it out again as soon
    /// as that is done, and before the task that did it runs on.
    pub(crate) fn settling(&self, id: ItemId) {
        self.in_flight.borrow_mut().remove(&id);
    }

    /// The work on an item has ended.
    pub(crate) fn landed(&self) {
        let one_less = |running: u64| running.checked_sub(1);
        let _none_was_running = self.counters.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
    }

    /// Puts a `drain` command in force; see [`crate::DrainHandle::release`].
    async fn release(self: &Rc<Self>, domain: Option<String>, rate: Option<u32>) -> Released {
        let newest = self.spool.new_id();
        let mut lanes = self.spool.lanes().await;
        lanes.retain(|lane| {
            let asked = domain.as_deref().is_none_or(|domain| domain == &*lane.lane.key);
            asked && lane.lane.class != Lane::DEAD_CLASS
        });
        let modes = self.modes.load_full();
        let free = |lane: &LaneStats| match mode_of(&lane.lane, &modes) {
            Mode::Through => true,
            Mode::Collect => self.options.collect_rate.is_none(),
            Mode::Hold => false,
        };
        let (free, bound): (Vec<_>, Vec<_>) = lanes.into_iter().partition(free);
        // What is bound leaves at the rate of the release; of the rest, what is not due yet becomes
        // due at that rate.
        let (mut retries, mut at_once) = (RELEASE_RETRIES_MAX, Pace::new(None, now_unix_ms()));
        let mut paced = Pace::new(rate, now_unix_ms());
        for lane in bound.iter().filter(|lane| lane.waiting > 0) {
            self.bring_forward(&lane.lane, &mut at_once, &mut retries).await;
        }
        for lane in free.iter().filter(|lane| lane.waiting > 0) {
            self.bring_forward(&lane.lane, &mut paced, &mut retries).await;
        }
        let rate = rate.map(|rate| Rate::new(rate, self.now_ms()));
        let brought: usize = free.iter().map(|lane| lane.waiting).sum();
        let bound = bound.into_iter().map(|lane| (lane.lane.clone(), lane.ready + lane.waiting));
        Released {
            covered_by_rate: brought + self.releases.borrow_mut().add(domain, bound, rate, newest),
            leaving_anyway: free.iter().map(|lane| lane.ready).sum(),
        }
    }

    /// Makes waiting items of a lane due at the pace, unless they are due before.
    async fn bring_forward(self: &Rc<Self>, lane: &Lane, pace: &mut Pace, retries: &mut usize) {
        let mut after = None;
        loop {
            let page = self.spool.list(Some(lane.key.to_string()), after, 500).await;
            let Some(last) = page.last() else { return };
            after = Some(last.id);
            let mut asked = JoinSet::new();
            for item in page {
                let Some(due) = pace.next_unix_ms() else { return };
                let waits = item.due_unix_ms > due && !item.held && !item.leased && !item.tentative;
                if waits && item.lane == *lane {
                    if *retries == 0 {
                        return;
                    }
                    *retries -= 1;
                    pace.take();
                    let worker = self.clone();
                    asked.spawn_local(async move { worker.spool.retry(item.id, due).await });
                }
            }
            while asked.join_next().await.is_some() {}
        }
    }

    /// Keeps what the next hops offer up to date, and closes connections nobody used.
    async fn keep_asking(self: Rc<Self>) {
        loop {
            let table = self.routes.load_full();
            self.known.borrow_mut().keep_only(&table);
            let since = self.now_ms().saturating_sub(millis(self.options.probe_every));
            let to_ask: Vec<Route> = self.known.borrow().to_ask(&table, since).into_iter().cloned().collect();
            for some in to_ask.chunks(ASKED_AT_ONCE_MAX) {
                let mut asked = JoinSet::new();
                for route in some.iter().cloned() {
                    asked.spawn_local(self.clone().ask_hop(route));
                }
                while asked.join_next().await.is_some() {}
            }
            self.publish_carries();
            for connection in self.remote.take_expired() {
                goodbye(connection);
            }
            self.outward.drop_idle();
            let unknown = self.known.borrow().lacks_any(&table);
            let pause = if unknown { self.options.probe_unknown_every } else { self.options.probe_every };
            let _ = timeout(pause.min(Duration::from_secs(5)), self.ask.notified()).await;
        }
    }

    async fn ask_hop(self: Rc<Self>, route: Route) {
        let answer = timeout(ASK_MAX, self.remote.ask(&route)).await;
        match answer.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            Ok(offers) => {
                if let Some(complaint) = Remote::complaint(&route, &offers) {
                    self.counters.note_error(&route.to_string(), &complaint);
                }
                self.learn(&route, &offers);
            }
            Err(error) => self.counters.note_error(&route.to_string(), &error),
        }
    }

    /// A next hop told what it offers.
    pub(crate) fn learn(&self, route: &Route, offers: &postern_net::client::Capabilities) {
        if self.known.borrow_mut().learn(route, offers, self.now_ms()) {
            self.publish_carries();
        }
    }

    fn publish_carries(&self) {
        let carries = self.known.borrow().over(&self.routes.load());
        self.carries.send_if_modified(|before| std::mem::replace(before, carries) != carries);
    }

    /// The gate of a destination. When there are too many, those at rest are forgotten, then those that back off:
    /// each costs one attempt too early.
    pub(crate) fn with_gate<T>(&self, destination: &Destination, ask: impl FnOnce(&mut Gate) -> T) -> T {
        let mut gates = self.gates.borrow_mut();
        if let Some(gate) = gates.get_mut(destination) {
            return ask(gate);
        }
        if gates.len() >= DESTINATIONS_MAX {
            let now = self.now_ms();
            gates.retain(|_, gate| !gate.is_idle_at(now));
        }
        if gates.len() >= DESTINATIONS_MAX {
            gates.retain(|_, gate| gate.running() > 0);
        }
        ask(gates.entry(destination.clone()).or_insert_with(|| Gate::new(&self.options)))
    }

    /// Tells `status` how a destination is. The servers of far domains are too many to be shown one by one.
    pub(crate) fn note_state(&self, destination: &Destination) {
        if destination.domain.is_some() {
            return;
        }
        let now = self.now_ms();
        let (away, running) = self.with_gate(destination, |gate| (gate.away_at(now), gate.running()));
        self.counters.note_state(&destination.to_string(), state_of(away), running, now_unix_ms());
    }

    /// Tells `status` how a filter is.
    pub(crate) fn note_filter(&self, name: &str) {
        let (away, running) = self.gates_of_filters.borrow().state_at(name, self.now_ms());
        self.counters.note_filter_state(name, state_of(away), running, now_unix_ms());
    }

    /// Milliseconds since the drain started.
    pub(crate) fn now_ms(&self) -> u64 {
        millis(self.started.elapsed())
    }

    /// For jitter, where a guess does no harm (splitmix64).
    pub(crate) fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn state_of(away: Option<u64>) -> DestinationState {
    away.map_or(DestinationState::Up, |retry_in_ms| DestinationState::BackingOff { retry_in_ms })
}

/// What a lane may do: an item that was released leaves whatever the mode of its domain.
pub(crate) fn mode_of(lane: &Lane, modes: &Modes) -> Mode {
    if lane.class == RELEASED_CLASS { Mode::Through } else { modes.of(&lane.key) }
}

/// Wall clock.
pub(crate) fn now_unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

/// A panic was caught; its message went through the panic hook.
#[derive(Debug)]
pub(crate) struct Panicked;

/// Runs a future and confines its panics. What it leaves behind are counters and maps that are
/// changed in one step each, so they stay sound.
pub(crate) async fn caught<F: Future>(future: F) -> Result<F::Output, Panicked> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(_) => Poll::Ready(Err(Panicked)),
    })
    .await
}

#[cfg(test)]
mod tests;
