//! One look at all lanes: what may leave now, leased and handed to its judgement or delivery.
//!
//! Called by the worker's loop whenever something changed. Decides *that* an item leaves, by class, mode,
//! rate, and the gates of its destination and filters; `judge` and `delivery` carry it out.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use postern_proto::envelope::Meta;
use postern_proto::mode::{Mode, Modes};
use postern_spool::{ItemId, Lane, LaneStats, Lease};

use crate::delivery::{Load, Plan};
use crate::filters::FilterTable;
use crate::judge::Places;
use crate::limits::{
    COMMIT_WAIT_MS, DELIVERIES_MAX, EXPIRE_BATCH_MAX, EXPIRE_PAUSE_MS, LANES_PER_MS, LEASE, LEASE_BATCH_MAX,
    LOOK_AGAIN, QUARANTINE_CLASS, TENTATIVE_BATCH_MAX, UNJUDGED_BATCH_MAX, UNJUDGED_PAUSE_MS, UNREADABLE_WAIT_MS,
};
use crate::order::{same_class, sort};
use crate::route::{Route, RouteTable};
use crate::schedule::millis;
use crate::worker::{Tasks, Worker, mode_of, now_unix_ms};

/// When to look again.
pub(crate) struct Next {
    pub(crate) wait: Duration,
    /// Something could leave as soon as a delivery under way ends.
    pub(crate) blocked: bool,
    /// With very many lanes a look at them all costs milliseconds: deliveries get their turn first.
    pub(crate) rest: Duration,
    /// This look is also for mail that expired while its destination was away.
    expire: bool,
}

impl Next {
    /// After a look that failed.
    pub(crate) fn in_a_second() -> Self {
        Self { wait: Duration::from_secs(1), blocked: false, rest: Duration::ZERO, expire: false }
    }

    fn within_ms(&mut self, ms: u64) {
        self.wait = self.wait.min(Duration::from_millis(ms.max(1)));
    }
}

/// What one look goes by.
struct Look<'a> {
    table: Arc<RouteTable>,
    filters: Arc<FilterTable>,
    modes: Arc<Modes>,
    tasks: &'a mut Tasks,
    next: Next,
}

impl Worker {
    /// The lanes of a class take turns, those with waiting senders come first; the best class comes first,
    /// but for one message in sixteen.
    pub(crate) async fn pass(self: &Rc<Self>, tasks: &mut Tasks) -> Next {
        let (table, filters, modes) =
            (self.routes.load_full(), self.options.filters.load_full(), self.modes.load_full());
        if self.gates_of_filters.borrow_mut().set_table(&filters, &self.options) {
            self.counters.set_filters(&filters);
        }
        let mut lanes = self.spool.lanes().await;
        self.counters.note_lanes(&lanes, self.now_ms());
        self.tidy_quarantine(&lanes);
        let rest = Duration::from_millis(lanes.len() as u64 / LANES_PER_MS);
        let expire = self.expire_turns.borrow().is_due_at(self.now_ms());
        let next = Next { wait: LOOK_AGAIN, blocked: false, rest, expire };
        lanes.retain(|lane| !matches!(lane.lane.class, Lane::DEAD_CLASS | QUARANTINE_CLASS));
        self.turn.set(self.turn.get().wrapping_add(1));
        sort(&mut lanes, self.turn.get());
        let mut look = Look { table, filters, modes, tasks, next };
        let best = lanes.iter().position(|lane| lane.ready > 0).unwrap_or(lanes.len());
        let owed_from = best + same_class(&lanes[best..]);
        self.serve_lower(&mut lanes[owed_from..], &mut look).await;
        let mut rest = &mut lanes[..];
        while !rest.is_empty() {
            let (class, lower) = rest.split_at_mut(same_class(rest));
            self.serve_class(class, lower, &mut look).await;
            rest = lower;
        }
        let another_round =
            self.unjudged_turns.borrow_mut().end_of_look() | self.expire_turns.borrow_mut().end_of_look();
        if another_round {
            look.next.within_ms(1);
        }
        self.counters.releasing.store(self.releases.borrow().left_in_all() as u64, Ordering::Relaxed);
        look.next
    }

    async fn serve_class(self: &Rc<Self>, class: &mut [LaneStats], lower: &mut [LaneStats], look: &mut Look<'_>) {
        let passes_over = lower.iter().any(|lane| lane.ready > 0);
        loop {
            let mut progress = false;
            for lane in &mut *class {
                let leased = self.serve(lane, LEASE_BATCH_MAX, look).await;
                progress |= leased > 0;
                if leased > 0 && passes_over {
                    self.floor.borrow_mut().pass_over(leased);
                    self.serve_lower(lower, look).await;
                }
            }
            if !progress {
                return;
            }
        }
    }

    /// One message of a lower class, when it is its turn.
    async fn serve_lower(self: &Rc<Self>, lower: &mut [LaneStats], look: &mut Look<'_>) {
        let lanes = self.floor.borrow_mut().lanes(lower);
        for at in lanes {
            if self.serve(&mut lower[at], 1, look).await > 0 {
                return self.floor.borrow_mut().served();
            }
        }
    }

    /// Leases what may leave of one lane, `most` items, and starts it. Returns how many items that was.
    async fn serve(self: &Rc<Self>, lane: &mut LaneStats, most: usize, look: &mut Look<'_>) -> usize {
        let leased = self.serve_some(lane, most, look).await;
        lane.ready = lane.ready.saturating_sub(leased);
        leased
    }

    async fn serve_some(self: &Rc<Self>, lane: &mut LaneStats, most: usize, look: &mut Look<'_>) -> usize {
        if let Some(due) = lane.next_due_unix_ms {
            look.next.within_ms(due.saturating_sub(now_unix_ms()));
        }
        if lane.ready == 0 {
            return 0;
        }
        let table = look.table.clone();
        let destination = table.destination_of_lane(&lane.lane.key);
        let senders = self.waiting_senders(lane);
        if destination.route == Route::None {
            return self.answer_waiting(lane, senders, COMMIT_WAIT_MS).await;
        }
        let mode = mode_of(&lane.lane, &look.modes);
        let now = self.now_ms();
        let judged = look.filters.judges(&lane.lane.key) && !table.is_relayed(&lane.lane.key);
        let hop_wait = self.with_gate(&destination, |gate| gate.keeps_waiting_at(now));
        let filter_wait = if judged { self.gates_of_filters.borrow().keeps_waiting_at(now) } else { None };
        if let Some(wait) = hop_wait.max(filter_wait) {
            look.next.within_ms(wait);
            look.next.blocked = true;
            if mode == Mode::Hold {
                return 0;
            }
            let answered = self.answer_waiting(lane, senders, wait).await;
            if hop_wait.is_some() && look.next.expire {
                self.expire(lane, look).await;
            } else if hop_wait.is_none() {
                self.look_for_judged(lane, mode, look).await;
            }
            return answered;
        }
        let allowed = self.allowed(lane, mode, senders, &mut look.next);
        let mut room = self.room(look).min(self.with_gate(&destination, |gate| gate.free_at(now)));
        if judged {
            room = room.min(self.gates_of_filters.borrow().free_at(now));
        }
        let n = allowed.min(room).min(most);
        if n == 0 {
            look.next.blocked |= allowed > 0;
            return 0;
        }
        let cutoff = (mode == Mode::Hold).then(|| self.releases.borrow().newest(&lane.lane).unwrap_or(ItemId(0)));
        let leases = self.spool.lease(&lane.lane, n, now_unix_ms() + millis(LEASE)).await;
        let leased = leases.len();
        self.take(&lane.lane, mode, leased);
        for lease in leases {
            self.start(lease, cutoff, look).await;
        }
        leased
    }

    fn room(&self, look: &Look<'_>) -> usize {
        DELIVERIES_MAX.saturating_sub(look.tasks.len())
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

    /// The destination or a filter backs off, or there is no route: senders must not wait for it. Their items are
    /// postponed, upon which the door commits them and answers at the receipt.
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
    async fn expire(self: &Rc<Self>, lane: &LaneStats, look: &mut Look<'_>) {
        let (now, now_ms) = (now_unix_ms(), self.now_ms());
        let old = lane.oldest_unix_ms.is_some_and(|at| self.retry.is_to_be_looked_at(at, now));
        if !old || !self.expire_turns.borrow_mut().take_at(&lane.lane, now_ms, EXPIRE_PAUSE_MS) {
            return;
        }
        for lease in self.spool.lease(&lane.lane, EXPIRE_BATCH_MAX, now + millis(LEASE)).await {
            self.start(lease, None, look).await;
        }
    }

    /// A filter is away: what was judged before, and what needs no judgement, leaves all the same. A lane
    /// does not say which that is, so a few are looked at now and then, and the others are put back.
    async fn look_for_judged(self: &Rc<Self>, lane: &LaneStats, mode: Mode, look: &mut Look<'_>) {
        let now_ms = self.now_ms();
        let taken = self.unjudged_turns.borrow_mut().take_at(&lane.lane, now_ms, UNJUDGED_PAUSE_MS);
        // Also after a look that came between two turns, or the next would be half a minute away.
        look.next.within_ms(self.unjudged_turns.borrow().wait_at(now_ms));
        if !taken {
            return;
        }
        let n = self.allowed(lane, mode, 0, &mut look.next).min(self.room(look)).min(UNJUDGED_BATCH_MAX);
        for lease in self.spool.lease(&lane.lane, n, now_unix_ms() + millis(LEASE)).await {
            self.start(lease, None, look).await;
        }
    }

    /// Returns an item that no filter can judge now. Until when is certain only while nobody asks the filter: otherwise
    /// it may be back at any moment, and what is then not due is left behind by all of the lower classes. So it is due
    /// at once, behind those of its lane that were not looked at yet; the turns, not its time, say when it is looked at again.
    async fn put_back_unjudged(&self, lease: Lease) {
        let shut_ms = self.gates_of_filters.borrow().shut_for_at(self.now_ms());
        // Its door must commit it first, or its sender would be answered again and again.
        let wait_ms = if lease.tentative { shut_ms.max(COMMIT_WAIT_MS) } else { shut_ms };
        self.put_back(lease, wait_ms).await;
    }

    /// Returns an item unchanged, to be looked at again after `wait_ms`.
    async fn put_back(&self, lease: Lease, wait_ms: u64) {
        let (id, meta, due) = (lease.id, lease.meta.clone(), now_unix_ms() + wait_ms);
        match self.spool.postpone(lease, meta, due).await {
            Ok(()) => self.put_off(due),
            Err(error) => tracing::debug!(item = %id, %error, "was not put back"),
        }
    }

    /// Starts the judgement or delivery of an item. `cutoff`: it is released from hold, if it is not newer
    /// than that.
    async fn start(self: &Rc<Self>, lease: Lease, cutoff: Option<ItemId>, look: &mut Look<'_>) {
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
        let entry = (lease.lane.clone(), lease.tentative);
        if look.filters.must_judge(&meta, &lease.lane.key) {
            let Some(places) = Places::take(self, &look.filters) else {
                return self.put_back_unjudged(lease).await;
            };
            self.in_flight.borrow_mut().insert(lease.id, entry);
            look.tasks.spawn_local(self.clone().judge_and_deliver(lease, meta, places, cutoff.is_some()));
        } else {
            let plan = Plan::new(self, &lease, &meta, &look.table, &look.modes, &look.filters);
            self.in_flight.borrow_mut().insert(lease.id, entry);
            let load = Load { lease, meta, asked: None, body: None };
            look.tasks.spawn_local(self.clone().deliver(load, plan, cutoff.is_some()));
        }
        self.counters.running.fetch_add(1, Ordering::Relaxed);
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
}
