//! A look-up with everything round it: cache, equal ones in flight, the gate, the name server.
//!
//! A look-up that has begun ends for itself, whoever asked: others may have joined it, and its answer is
//! worth keeping. Its end (an answer, its time, a panic) is in one place, `Flight::drop`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use postern_trust::Class;
use tokio::sync::oneshot;

use crate::cache::Cache;
use crate::desk::Shared;
use crate::dns::{Answer, Dns, Key};
use crate::gate::{self, Gate};
use crate::limits;
use crate::options::Budgets;
use crate::stats::{Unaffordable, count};

/// Shared by all questions of the desk.
pub(crate) struct Lookups {
    dns: Dns,
    budgets: Budgets,
    shared: Arc<Shared>,
    started: Instant,
    state: RefCell<State>,
}

struct State {
    cache: Cache<Key, Answer>,
    gate: Gate,
    flying: HashMap<Key, Vec<oneshot::Sender<Answer>>>,
}

/// Who pays for a look-up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payer<'a> {
    pub(crate) class: Class,
    /// A list, which has an account of its own; else the name's domain.
    pub(crate) list: Option<&'a str>,
}

/// An answer, and whether it was fetched for this very question.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) answer: Answer,
    pub(crate) fresh: bool,
}

impl Lookups {
    pub(crate) fn new(dns: Dns, budgets: Budgets, shared: Arc<Shared>) -> Self {
        let state =
            State { cache: Cache::new(limits::CACHE_ENTRIES_MAX), gate: Gate::new(&budgets), flying: HashMap::new() };
        Self { dns, budgets, shared, started: Instant::now(), state: RefCell::new(state) }
    }

    /// Ends within the budget of one look-up.
    pub(crate) async fn get(self: &Rc<Self>, key: Key, payer: Payer<'_>) -> Result<Told, Unaffordable> {
        let counters = &self.shared.counters;
        let (receiver, fresh) = {
            let mut state = self.state.borrow_mut();
            let now = Instant::now();
            if let Some(answer) = state.cache.get(&key, now) {
                count(&counters.cache_hits);
                return Ok(Told { answer, fresh: false });
            }
            let (sender, receiver) = oneshot::channel();
            if let Some(waiting) = state.flying.get_mut(&key) {
                count(&counters.joined);
                waiting.push(sender);
                (receiver, false)
            } else {
                let account: Box<str> = payer.list.unwrap_or_else(|| gate::account(&key.name)).into();
                let share = self.budgets.per_domain * if payer.list.is_some() { 4 } else { 1 };
                state.gate.enter(self.millis(now), payer.class, &account, share).inspect_err(|why| {
                    counters.not_affordable(*why);
                })?;
                count(&counters.lookups);
                counters.in_flight.store(state.gate.in_flight(), Relaxed);
                state.flying.insert(key.clone(), vec![sender]);
                let flight = Flight {
                    lookups: Rc::clone(self),
                    key,
                    class: payer.class,
                    account,
                    began: now,
                    landed: (Answer::Failed, limits::TTL_FAILED),
                };
                tokio::task::spawn_local(flight.fly());
                (receiver, true)
            }
        };
        // The flight tells before it goes, so only a stopping runtime gets here without an answer.
        let answer = receiver.await.unwrap_or(Answer::Failed);
        Ok(Told { answer, fresh })
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }
}

/// A look-up on its way; it lands when it is dropped.
struct Flight {
    lookups: Rc<Lookups>,
    key: Key,
    class: Class,
    account: Box<str>,
    began: Instant,
    landed: (Answer, Duration),
}

impl Flight {
    async fn fly(mut self) {
        self.landed = self.lookups.dns.ask(&self.key).await;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let now = Instant::now();
        let (answer, ttl) = self.landed.clone();
        let mut state = self.lookups.state.borrow_mut();
        let counters = &self.lookups.shared.counters;
        // An answer that took most of its time cost as much as none.
        let slow = now.saturating_duration_since(self.began) * 2 >= self.lookups.budgets.lookup;
        state.gate.leave(self.lookups.millis(now), self.class, &self.account, slow);
        if answer == Answer::Failed {
            count(&counters.failed);
        }
        state.cache.put(self.key.clone(), answer.clone(), now + ttl, now);
        counters.in_flight.store(state.gate.in_flight(), Relaxed);
        counters.cached.store(state.cache.taken() as u64, Relaxed);
        for waiting in state.flying.remove(&self.key).unwrap_or_default() {
            // Who waited may have run out of time.
            let _ = waiting.send(answer.clone());
        }
    }
}
