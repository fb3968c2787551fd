//! One look-up for a proof, with everything round it: cache, equal ones in flight, the gate, the name server.
//!
//! The same order as for port 25 (`lookups.rs`), with a gate, a cache and a resolver of its own: the two cannot starve
//! each other. A look-up that has begun ends for itself, and its end is in one place, `Flight::drop`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use postern_net::dns::{Resolver, Told};
use postern_net::published::Tlsa;
use postern_trust::Class;
use tokio::sync::oneshot;

use super::desk::Counters;
use super::{KeyOptions, NotNow};
use crate::cache::Cache;
use crate::gate::{self, Gate};
use crate::limits;
use crate::options::Budgets;
use crate::stats::count;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Txt,
    Tlsa,
}

/// A question: lower case, no final dot.
type Key = (Kind, Box<str>);

/// Records at a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Records {
    Texts(Told<Vec<Box<[u8]>>>),
    Tlsa(Told<Vec<Tlsa>>),
}

/// `None`: DNS failed.
type Answer = Option<Rc<Records>>;

/// Who pays: the account of a peer's domain, and how well it is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payer<'a> {
    pub(super) class: Class,
    pub(super) domain: &'a str,
}

impl Payer<'_> {
    /// Whoever was proven before pays from an account of his own: others can claim his name, and spend what a name that
    /// nobody has proven may cost.
    fn account(&self) -> Box<str> {
        let domain = gate::account(self.domain);
        if self.class == Class::Known { format!("{domain} proven").into() } else { domain.into() }
    }
}

pub(super) struct Lookups {
    resolver: Resolver,
    options: KeyOptions,
    counters: Arc<Counters>,
    started: Instant,
    state: RefCell<State>,
}

struct State {
    cache: Cache<Key, Answer>,
    gate: Gate,
    flying: HashMap<Key, Vec<oneshot::Sender<Answer>>>,
}

impl Lookups {
    pub(super) fn new(resolver: Resolver, options: KeyOptions, counters: Arc<Counters>) -> Self {
        let budgets = Budgets { in_flight: options.in_flight, per_second: options.per_second, ..Budgets::default() };
        let cache = Cache::new(limits::KEY_CACHE_ENTRIES_MAX);
        let state = State { cache, gate: Gate::new(&budgets), flying: HashMap::new() };
        Self { resolver, options, counters, started: Instant::now(), state: RefCell::new(state) }
    }

    /// Ends within the time of one look-up.
    pub(super) async fn get(self: &Rc<Self>, kind: Kind, name: &str, payer: Payer<'_>) -> Result<Rc<Records>, NotNow> {
        let key = (kind, Box::from(name));
        let receiver = {
            let mut state = self.state.borrow_mut();
            let now = Instant::now();
            if let Some(answer) = state.cache.get(&key, now) {
                count(&self.counters.cache_hits);
                return answer.ok_or(NotNow::Dns);
            }
            let (sender, receiver) = oneshot::channel();
            if let Some(waiting) = state.flying.get_mut(&key) {
                waiting.push(sender);
            } else {
                let account = payer.account();
                let entered = state.gate.enter(self.millis(now), payer.class, &account, self.options.per_domain);
                entered.map_err(|_| NotNow::Budget)?;
                count(&self.counters.lookups);
                self.counters.in_flight.store(state.gate.in_flight(), Relaxed);
                state.flying.insert(key.clone(), vec![sender]);
                let lookups = Rc::clone(self);
                let flight = Flight {
                    lookups,
                    key,
                    class: payer.class,
                    account,
                    began: now,
                    landed: (None, limits::TTL_FAILED),
                };
                tokio::task::spawn_local(flight.fly());
            }
            receiver
        };
        // The flight tells before it goes, so only a stopping runtime gets here without an answer.
        receiver.await.ok().flatten().ok_or(NotNow::Dns)
    }

    async fn ask(&self, (kind, name): &Key) -> (Answer, Duration) {
        let told = match kind {
            Kind::Txt => self.resolver.texts(name).await.map(Records::Texts),
            Kind::Tlsa => self.resolver.tlsa_at(name).await.map(Records::Tlsa),
        };
        match told {
            Ok(records) if records.octets() <= limits::ANSWER_OCTETS_MAX => {
                let ttl = records.ttl();
                (Some(Rc::new(records)), ttl)
            }
            // More than anybody honest needs is kept nowhere, and proves nothing.
            Ok(_) => (None, limits::TTL_FAILED),
            Err(error) => {
                tracing::debug!(%name, %error, "no answer about a key");
                (None, limits::TTL_FAILED)
            }
        }
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Records {
    fn octets(&self) -> usize {
        match self {
            Self::Texts(told) => told.value.iter().map(|text| text.len() + 16).sum(),
            Self::Tlsa(told) => told.value.iter().map(|record| record.data.len() + 32).sum(),
        }
    }

    fn ttl(&self) -> Duration {
        let (ttl, empty) = match self {
            Self::Texts(told) => (told.ttl, told.value.is_empty()),
            Self::Tlsa(told) => (told.ttl, told.value.is_empty()),
        };
        let max = if empty { limits::TTL_NO_KEY_MAX } else { limits::TTL_KEY_MAX };
        ttl.unwrap_or(limits::TTL_MIN).clamp(limits::TTL_MIN, max)
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
        self.landed = self.lookups.ask(&self.key).await;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let now = Instant::now();
        let (answer, ttl) = self.landed.clone();
        let mut state = self.lookups.state.borrow_mut();
        let counters = &self.lookups.counters;
        // An answer that took most of its time cost as much as none.
        let slow = now.saturating_duration_since(self.began) * 2 >= self.lookups.options.lookup;
        state.gate.leave(self.lookups.millis(now), self.class, &self.account, slow);
        if answer.is_none() {
            count(&counters.failed);
        }
        if self.lookups.options.keep_answers {
            state.cache.put(self.key.clone(), answer.clone(), now + ttl, now);
        }
        counters.in_flight.store(state.gate.in_flight(), Relaxed);
        counters.cached.store(state.cache.taken() as u64, Relaxed);
        for waiting in state.flying.remove(&self.key).unwrap_or_default() {
            // Who waited may have run out of time.
            let _ = waiting.send(answer.clone());
        }
    }
}
