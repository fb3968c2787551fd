//! Keeps the kernel's steering of accept queues (`postern_net::steering`) in step with the trust
//! book, and says for `status` how it stands.
//!
//! Never decides who is known: the book does. Failing changes nothing but the waiting time of the
//! known: the doors judge each connection by its address whichever queue it came from.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use postern_net::steering::{Held, Steering};
use postern_trust::Book;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::listeners::Group;
use super::now_unix_ms;

/// The task's state.
pub(crate) struct SteeringTask {
    doors: Vec<(Steering, Rc<RefCell<State>>)>,
    book: Arc<Book>,
    /// What the kernel was last given.
    networks: Option<Vec<IpNet>>,
}

/// Shows the state.
#[derive(Clone)]
pub(crate) struct SteeringHandle(Vec<Rc<RefCell<State>>>);

/// How one address stands.
struct State {
    addr: SocketAddr,
    /// Why nothing steers here.
    plain: Option<String>,
    held: Option<Held>,
    replaced_unix_ms: Option<u64>,
    /// Why the last replacement failed; the program before it goes on.
    failure: Option<String>,
}

impl SteeringTask {
    /// Takes the steering out of the listeners' groups, and gives the kernel what the book knows by
    /// now, so that the first connection after a restart is steered as the last one before it was.
    pub(crate) fn new(groups: &mut [Group], book: Arc<Book>) -> (Self, SteeringHandle) {
        let (mut doors, mut states) = (Vec::new(), Vec::new());
        for group in groups {
            let taken = std::mem::replace(&mut group.steering, Err("taken".to_owned()));
            let plain = taken.as_ref().err().cloned();
            let addr = group.addr;
            match &plain {
                None => tracing::info!(%addr, "known networks have accept queues of their own"),
                Some(why) => tracing::warn!(%addr, why, "known networks wait in one queue with all others"),
            }
            let state = State { addr, plain, held: None, replaced_unix_ms: None, failure: None };
            let state = Rc::new(RefCell::new(state));
            states.push(state.clone());
            doors.extend(taken.ok().map(|steering| (steering, state)));
        }
        let mut task = Self { doors, book, networks: None };
        task.refresh();
        (task, SteeringHandle(states))
    }

    /// Runs until it is dropped, which must be before the doors close: it keeps their queues open.
    pub(crate) async fn run(mut self) {
        let mut ticks = tokio::time::interval(REFRESH_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.refresh();
        }
    }

    fn refresh(&mut self) {
        if self.doors.is_empty() {
            return;
        }
        let networks = self.book.known_networks(NETWORKS_MAX, now_unix_ms() / 1000);
        if self.networks.as_ref() == Some(&networks) {
            return;
        }
        let mut all = true;
        for (steering, state) in &mut self.doors {
            all &= state.borrow_mut().note(steering.attach(&networks).map_err(|error| error.to_string()));
        }
        // What failed is tried again in a second, be it changed by then or not.
        self.networks = all.then_some(networks);
    }
}

impl State {
    fn note(&mut self, result: Result<Held, String>) -> bool {
        let addr = self.addr;
        match result {
            Ok(held) => {
                if held.replaced {
                    self.replaced_unix_ms = Some(now_unix_ms());
                    let (networks, left_out) = (held.networks, held.left_out);
                    tracing::debug!(%addr, networks, left_out, "steering replaced");
                }
                self.held = Some(held);
                self.failure = None;
                true
            }
            Err(error) => {
                if self.failure.as_ref() != Some(&error) {
                    tracing::warn!(%addr, error, "steering is not up to date: newly known networks wait with all others");
                }
                self.failure = Some(error);
                false
            }
        }
    }
}

impl SteeringHandle {
    /// One object for each address of the public door.
    pub(crate) fn show(&self) -> Value {
        let show = |state: &Rc<RefCell<State>>| {
            let state = state.borrow();
            json!({
                "address": state.addr,
                "active": state.plain.is_none(),
                "why": state.plain.as_ref().or(state.failure.as_ref()),
                "networks": state.held.map_or(0, |held| held.networks),
                "left_out": state.held.map_or(0, |held| held.left_out),
                "instructions": state.held.map_or(0, |held| held.instructions),
                "replaced_unix_ms": state.replaced_unix_ms,
            })
        };
        self.0.iter().map(show).collect()
    }
}

/// A pin, or an address that became known, waits this long for its queue at most.
const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// More than could fit: even neighbours that share need an instruction each. It bounds the work, to
/// some 5 ms of this thread when the book is full and changes.
const NETWORKS_MAX: usize = 4096;

#[cfg(test)]
mod tests;
