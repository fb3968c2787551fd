//! The loop of the drain: what may leave now, leased and handed to deliveries.
//!
//! Woken by the spool, by the end of a delivery that others wait for, by the earliest due time and
//! by commands. It decides *that* an item leaves; `delivery` carries it out and settles it. Runs on
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
use postern_proto::envelope::Meta;
use postern_proto::mode::{Mode, Modes};
use postern_spool::{ItemId, Lane, LaneStats, Lease, Spool};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::carries::{Carries, Known};
use crate::delivery::Plan;
use crate::drain::{Command, DrainOptions, Released};
use crate::limits::{
    ASK_MAX, ASKED_AT_ONCE_MAX, COMMIT_WAIT_MS, DELIVERIES_MAX, DESTINATIONS_MAX, EXPIRE_BATCH_MAX, EXPIRE_PAUSE_MS,
    LANES_PER_MS, LEASE, LEASE_BATCH_MAX, LOOK_AGAIN, RELEASE_RETRIES_MAX, RELEASED_CLASS, STOP_GRACE,
    TENTATIVE_BATCH_MAX, UNREADABLE_WAIT_MS,
};
use crate::maildir::Maildirs;
use crate::release::Releases;
use crate::remote::{Remote, goodbye};
use crate::route::{Route, RouteTable};
use crate::schedule::{Gate, Pace, Rate, Retry, millis};
use crate::stats::{Counters, DestinationState};

/// Everything the drain's thread has.
pub(crate) struct Worker {
    pub(crate) spool: Spool,
    pub(crate) routes: Arc<ArcSwap<RouteTable>>,
    pub(crate) modes: Arc<ArcSwap<Modes>>,
    pub(crate) options: DrainOptions,
    pub(crate) retry: Retry,
    pub(crate) remote: Remote,
    pub(crate) maildirs: Arc<Maildirs>,
    pub(crate) counters: Arc<Counters>,
    /// Items that came before may have been delivered by a process that died.
    pub(crate) started_unix_ms: u64,
    carries: watch::Sender<Carries>,
    started: Instant,
    gates: RefCell<HashMap<Route, Gate>>,
    known: RefCell<Known>,
    releases: RefCell<Releases>,
    collect: RefCell<Option<Rate>>,
    /// Items being worked on, and whether a sender waits for them.
    in_flight: RefCell<HashMap<ItemId, (Lane, bool)>>,
    ask: Notify,
    random: Cell<u64>,
    /// Taken while dead letters are dropped; see `dead`.
    pub(crate) dropping: tokio::sync::Mutex<()>,
    /// Not before this is mail looked for that expired while its destination was away.
    expire_again_ms: Cell<u64>,
    turn: Cell<usize>,
}

/// When to look again.
struct Next {
    wait: Duration,
    /// Something could leave as soon as a delivery under way ends.
    blocked: bool,
    /// With very many lanes a look at them all costs milliseconds: deliveries get their turn first.
    rest: Duration,
    /// This look is also for mail that expired while its destination was away.
    expire: bool,
}

impl Next {
    fn within_ms(&mut self, ms: u64) {
        self.wait = self.wait.min(Duration::from_millis(ms.max(1)));
    }
}

type Tasks = JoinSet<()>;

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
            maildirs: Arc::default(),
            started_unix_ms: now_unix_ms(),
            started: Instant::now(),
            gates: RefCell::default(),
            known: RefCell::default(),
            releases: RefCell::default(),
            collect: RefCell::new(options.collect_rate.map(|rate| Rate::new(rate, 0))),
            in_flight: RefCell::default(),
            ask: Notify::new(),
            dropping: tokio::sync::Mutex::default(),
            random: Cell::new(getrandom::u64().unwrap_or(0x9e37_79b9_7f4a_7c15)),
            expire_again_ms: Cell::new(0),
            turn: Cell::new(0),
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
                Next { wait: Duration::from_secs(1), blocked: false, rest: Duration::ZERO, expire: false }
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
                    () = &mut wake => {}
                }
                break;
            }
        }
    }

    /// One look at all lanes; the lanes take turns, those with waiting senders come first.
    async fn pass(self: &Rc<Self>, tasks: &mut Tasks) -> Next {
        let (table, modes) = (self.routes.load_full(), self.modes.load_full());
        let mut lanes = self.spool.lanes().await;
        let rest = Duration::from_millis(lanes.len() as u64 / LANES_PER_MS);
        let mut next =
            Next { wait: LOOK_AGAIN, blocked: false, rest, expire: self.now_ms() >= self.expire_again_ms.get() };
        lanes.retain(|lane| lane.lane.class != Lane::DEAD_CLASS);
        self.turn.set(self.turn.get().wrapping_add(1));
        if !lanes.is_empty() {
            let turn = self.turn.get() % lanes.len();
            lanes.rotate_left(turn);
        }
        lanes.sort_by_key(|lane| lane.tentative == 0);
        loop {
            let mut progress = false;
            for lane in &mut lanes {
                let leased = self.serve(lane, &table, &modes, tasks, &mut next).await;
                lane.ready = lane.ready.saturating_sub(leased);
                progress |= leased > 0;
            }
            if !progress {
                break;
            }
        }
        self.counters.releasing.store(self.releases.borrow().left_in_all() as u64, Ordering::Relaxed);
        next
    }

    /// Leases what may leave of one lane and starts its delivery. Returns how many items that was.
    async fn serve(
        self: &Rc<Self>,
        lane: &mut LaneStats,
        table: &Arc<RouteTable>,
        modes: &Modes,
        tasks: &mut Tasks,
        next: &mut Next,
    ) -> usize {
        if let Some(due) = lane.next_due_unix_ms {
            next.within_ms(due.saturating_sub(now_unix_ms()));
        }
        let route = table.route_of_lane(&lane.lane.key);
        if lane.ready == 0 {
            return 0;
        }
        let senders = self.waiting_senders(lane);
        if *route == Route::None {
            return self.answer_waiting(lane, senders, COMMIT_WAIT_MS).await;
        }
        let mode = mode_of(&lane.lane, modes);
        let now = self.now_ms();
        if let Some(wait) = self.with_gate(route, |gate| gate.keeps_waiting_at(now)) {
            next.within_ms(wait);
            next.blocked = true;
            if mode == Mode::Hold {
                return 0;
            }
            let answered = self.answer_waiting(lane, senders, wait).await;
            if next.expire {
                self.expire(lane, table, modes, tasks).await;
            }
            return answered;
        }
        let allowed = self.allowed(lane, mode, senders, next);
        let room = DELIVERIES_MAX.saturating_sub(tasks.len()).min(self.with_gate(route, |gate| gate.free_at(now)));
        let n = allowed.min(room).min(LEASE_BATCH_MAX);
        if n == 0 {
            next.blocked |= allowed > 0;
            return 0;
        }
        let cutoff = (mode == Mode::Hold).then(|| self.releases.borrow().newest(&lane.lane).unwrap_or(ItemId(0)));
        let leases = self.spool.lease(&lane.lane, n, now_unix_ms() + millis(LEASE)).await;
        let leased = leases.len();
        self.take(&lane.lane, mode, leased);
        for lease in leases {
            self.start(lease, cutoff, table, modes, tasks).await;
        }
        leased
    }

    /// How many items of a lane may leave by its mode and the rates.
    fn allowed(&self, lane: &LaneStats, mode: Mode, senders: usize, next: &mut Next) -> usize {
        let now = self.now_ms();
        let mut releases = self.releases.borrow_mut();
        let mut by_rate = |own: usize| {
            let free = own.max(releases.free_at(&lane.lane, now));
            if free == 0 {
                releases.wait_ms(&lane.lane).into_iter().for_each(|ms| next.within_ms(ms));
            }
            free
        };
        let free = match (mode, self.collect.borrow_mut().as_mut()) {
            (Mode::Through, _) | (Mode::Collect, None) => lane.ready,
            (Mode::Hold, _) => by_rate(0),
            (Mode::Collect, Some(rate)) => {
                let free = by_rate(rate.free_at(now)).max(senders);
                if free == 0 {
                    rate.wait_ms().into_iter().for_each(|ms| next.within_ms(ms));
                }
                free
            }
        };
        free.min(lane.ready)
    }

    /// Counts leased items against what let them go.
    fn take(&self, lane: &Lane, mode: Mode, n: usize) {
        if mode == Mode::Through {
            return;
        }
        let now = self.now_ms();
        self.releases.borrow_mut().take(lane, n, now);
        if let (Mode::Collect, Some(rate)) = (mode, self.collect.borrow_mut().as_mut()) {
            rate.take(n);
        }
    }

    /// The destination backs off, or there is none: senders must not wait for it. Their items are postponed, upon
    /// which the door commits them and answers at the receipt.
    async fn answer_waiting(&self, lane: &mut LaneStats, senders: usize, wait_ms: u64) -> usize {
        let n = senders.min(TENTATIVE_BATCH_MAX);
        if n == 0 {
            return 0;
        }
        let leases = self.spool.lease(&lane.lane, n, now_unix_ms() + millis(LEASE)).await;
        let leased = leases.len();
        lane.tentative = lane.tentative.saturating_sub(leased);
        for lease in leases {
            self.put_back(lease, wait_ms).await;
        }
        leased
    }

    /// Mail that got too old while its destination could not be reached is settled without an
    /// attempt: its senders are to be told after five days, not when the hop is back. Those that
    /// turn out to be younger are postponed until the destination may be tried, hence the pause, and
    /// know from then on since when they could have left.
    async fn expire(self: &Rc<Self>, lane: &LaneStats, table: &Arc<RouteTable>, modes: &Modes, tasks: &mut Tasks) {
        let (now, now_ms) = (now_unix_ms(), self.now_ms());
        let old = lane.oldest_unix_ms.is_some_and(|at| self.retry.is_to_be_looked_at(at, now));
        if now_ms < self.expire_again_ms.get() || !old {
            return;
        }
        self.expire_again_ms.set(now_ms + EXPIRE_PAUSE_MS);
        for lease in self.spool.lease(&lane.lane, EXPIRE_BATCH_MAX, now + millis(LEASE)).await {
            self.start(lease, None, table, modes, tasks).await;
        }
    }

    /// Returns an item unchanged, to be looked at again after `wait_ms`.
    async fn put_back(&self, lease: Lease, wait_ms: u64) {
        let (id, meta) = (lease.id, lease.meta.clone());
        if let Err(error) = self.spool.postpone(lease, meta, now_unix_ms() + wait_ms).await {
            tracing::debug!(item = %id, %error, "was not put back");
        }
    }

    /// Starts the delivery of an item. `cutoff`: it is released from hold, if it is not newer than that.
    async fn start(
        self: &Rc<Self>,
        lease: Lease,
        cutoff: Option<ItemId>,
        table: &Arc<RouteTable>,
        modes: &Modes,
        tasks: &mut Tasks,
    ) {
        if self.in_flight.borrow().contains_key(&lease.id) {
            // Its lease ran out while a delivery was under way; that one settles it.
            return;
        }
        let mut meta = match Meta::from_bytes(&lease.meta) {
            Ok(meta) => meta,
            Err(error) => {
                tracing::error!(item = %lease.id, %error, "cannot be read and stays in the spool");
                return self.put_back(lease, UNREADABLE_WAIT_MS).await;
            }
        };
        if cutoff.is_some_and(|cutoff| lease.id > cutoff) && !lease.tentative {
            self.releases.borrow_mut().end(&lease.lane);
            return self.put_back(lease, 0).await;
        }
        if cutoff.is_some() {
            // Tried before its domain was held, it is free again only now.
            meta.tried_since_unix_ms = None;
        }
        let plan = Plan::new(self, &lease, &meta, table, modes);
        self.in_flight.borrow_mut().insert(lease.id, (lease.lane.clone(), lease.tentative));
        self.counters.running.fetch_add(1, Ordering::Relaxed);
        tasks.spawn_local(self.clone().deliver(lease, meta, plan, cutoff.is_some()));
    }

    /// The delivery of this item has ended.
    pub(crate) fn landed(&self, id: ItemId) {
        if self.in_flight.borrow_mut().remove(&id).is_some() {
            self.counters.running.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Items of a lane for which a sender waits and which nobody works on.
    fn waiting_senders(&self, lane: &LaneStats) -> usize {
        if lane.tentative == 0 {
            return 0;
        }
        let in_flight = self.in_flight.borrow();
        let ours = in_flight.values().filter(|(of, tentative)| *tentative && *of == lane.lane).count();
        lane.tentative.saturating_sub(ours).min(lane.ready)
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

    /// The gate of a destination.
    pub(crate) fn with_gate<T>(&self, route: &Route, ask: impl FnOnce(&mut Gate) -> T) -> T {
        let mut gates = self.gates.borrow_mut();
        if let Some(gate) = gates.get_mut(route) {
            return ask(gate);
        }
        if gates.len() >= DESTINATIONS_MAX {
            gates.retain(|_, gate| gate.running() > 0);
        }
        ask(gates.entry(route.clone()).or_insert_with(|| Gate::new(&self.options)))
    }

    /// Tells `status` how a destination is.
    pub(crate) fn note_state(&self, route: &Route) {
        let now = self.now_ms();
        let (away, running) = self.with_gate(route, |gate| (gate.away_at(now), gate.running()));
        let state = away.map_or(DestinationState::Up, |retry_in_ms| DestinationState::BackingOff { retry_in_ms });
        self.counters.note_state(&route.to_string(), state, running);
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
