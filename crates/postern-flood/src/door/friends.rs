//! The friends of a flood at the door: mail at a steady rate on links that stand, new connections by ticket, honest
//! strangers by cookie and appointment.
//!
//! Each message is timed from when it was due, so that a door that makes everybody wait cannot look fast. What they do not
//! get done within their patience they give up. Runs on the caller's tokio thread.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use quinn::Endpoint;
use quinn::rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::link::{self, LinkError};
use super::plan::{DoorFriends, DoorPlan};
use super::tap::Tap;
use super::tickets::Tickets;
use super::tls::Identity;
use crate::plan::FloodError;
use crate::report::FriendsReport;
use crate::stats::FriendsTally;

mod links;

use links::Standing;

/// Counters of one kind of friends, shared by its tasks.
#[derive(Clone)]
pub(super) struct Counted {
    tally: Arc<Mutex<FriendsTally>>,
    /// When each message was taken, if somebody wants to know.
    moments: Option<Arc<Mutex<Vec<u64>>>>,
}

impl Counted {
    fn new(name: &str, moments: bool) -> Self {
        Self { tally: Arc::new(Mutex::new(FriendsTally::new(name))), moments: moments.then(Arc::default) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, FriendsTally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a message, or a visit, that was due then ended.
    fn ended(&self, due: Instant, how: &Result<(), String>, patience: Duration) {
        if let (Ok(()), Some(moments)) = (how, &self.moments) {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            moments.lock().unwrap_or_else(PoisonError::into_inner).push(now.as_micros() as u64);
        }
        let mut tally = self.lock();
        match how {
            Ok(()) => tally.accepted(due.elapsed().as_micros() as u64, patience.as_millis() as u32),
            Err(cause) => {
                crate::stats::count(&mut tally.total.connect_errors, cause);
                tally.failed();
            }
        }
    }
}

/// All the friends of a plan.
pub(super) struct Friends {
    shared: Arc<Shared>,
    ends: Vec<Endpoint>,
    standing: Counted,
    fresh: Counted,
    strangers: Counted,
    tasks: JoinSet<()>,
    queues: Vec<mpsc::Sender<Instant>>,
}

/// What every task of theirs needs.
pub(super) struct Shared {
    plan: DoorFriends,
    target: std::net::SocketAddr,
    tls: Arc<ClientConfig>,
    stranger_tls: Arc<ClientConfig>,
    tickets: Tickets,
    tap: Tap,
    text: Vec<u8>,
    patience: Duration,
}

impl Friends {
    /// Makes their links; none of them is missing when it returns.
    ///
    /// # Errors
    /// A key cannot be read; the door lets no link in, before any attack: then there is nothing to measure.
    pub(super) async fn arrive(plan: &DoorPlan, friends: &DoorFriends, tap: Tap) -> Result<Self, FloodError> {
        let identity = friends.key.as_deref().map_or_else(Identity::unknown, Identity::load)?;
        let expected = friends.peer_key.as_ref().map(|text| peer_key(text)).transpose()?;
        let tickets = Tickets::default();
        if let Some(dir) = &friends.tickets {
            tickets.read(dir, &friends.domain, friends.from.host(0, plan.seed))?;
        }
        let shared = Arc::new(Shared {
            plan: friends.clone(),
            target: plan.target,
            tls: identity.client(expected.clone()),
            stranger_tls: Identity::unknown()?.client(expected),
            tickets,
            tap,
            text: link::letter_text(&friends.domain, &friends.recipient, friends.bytes),
            patience: Duration::from_millis(u64::from(friends.patience_ms)),
        });
        let names = [("on links", friends.rate), ("new links", friends.fresh_rate)];
        let [standing, fresh] = names.map(|(name, _)| Counted::new(name, friends.moments));
        let mut here = Self {
            shared,
            ends: Vec::new(),
            standing,
            fresh,
            strangers: Counted::new("strangers", friends.moments),
            tasks: JoinSet::new(),
            queues: Vec::new(),
        };
        for n in 0..friends.links.max(u32::from(friends.fresh_rate > 0.0)) {
            let from = friends.from.host(u64::from(n), plan.seed);
            here.ends.push(here.shared.endpoint(from).map_err(|error| system("a friend's socket", error))?);
        }
        for n in 0..friends.links as usize {
            let made = tokio::time::timeout(ARRIVAL, here.shared.link(&here.ends[n], None)).await;
            let (connection, stream) = match made {
                Ok(Ok(made)) => made,
                Ok(Err(error)) => return Err(FloodError::Unreachable(plan.target, error.cause())),
                Err(_) => return Err(FloodError::Unreachable(plan.target, "no link in 30 s".to_owned())),
            };
            let (queue, due) = mpsc::channel(QUEUE);
            here.queues.push(queue);
            let standing = Standing {
                shared: Arc::clone(&here.shared),
                end: here.ends[n].clone(),
                counted: here.standing.clone(),
            };
            here.tasks.spawn(standing.serve(due, connection, stream));
        }
        Ok(here)
    }

    /// Offers what the plan says until `until`, then waits for the last one's patience. `step` is called every 10 ms, and
    /// breaks off by false.
    pub(super) async fn offer(&mut self, until: Instant, mut step: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        let plan = self.shared.plan.clone();
        let mut offered = [0_u64; 3];
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut told = Instant::now();
        let mut strangers = 0_u64;
        loop {
            tick.tick().await;
            let now = Instant::now();
            if now.duration_since(told) >= Duration::from_millis(10) {
                told = now;
                if !step(self) {
                    return;
                }
            }
            // Tasks that are done are let go.
            while self.tasks.try_join_next().is_some() {}
            let over = now >= until;
            let concluded = [&self.standing, &self.fresh].iter().all(|counted| {
                let tally = counted.lock();
                tally.concluded() == tally.total.offered
            });
            if over && (concluded || now >= until + self.shared.patience + GRACE) {
                return;
            }
            if over {
                continue;
            }
            let at = began.elapsed().as_secs_f64();
            for (kind, rate) in [plan.rate, plan.fresh_rate, plan.strangers_rate].into_iter().enumerate() {
                while (offered[kind] as f64) < at * rate {
                    let due = began + Duration::from_secs_f64(offered[kind] as f64 / rate);
                    let n = offered[kind];
                    offered[kind] += 1;
                    match kind {
                        0 => self.write(n, due),
                        1 => self.come(n, due),
                        _ => {
                            self.visit(strangers, due);
                            strangers += 1;
                        }
                    }
                }
            }
        }
    }

    /// A message for one of the links.
    fn write(&self, n: u64, due: Instant) {
        self.standing.lock().offered();
        let queue = &self.queues[n as usize % self.queues.len()];
        if queue.try_send(due).is_err() {
            self.standing.ended(due, &Err("behind on its link".to_owned()), self.shared.patience);
        }
    }

    /// A connection for one message.
    fn come(&mut self, n: u64, due: Instant) {
        self.fresh.lock().offered();
        let (shared, counted) = (Arc::clone(&self.shared), self.fresh.clone());
        let end = self.ends[n as usize % self.ends.len()].clone();
        self.tasks.spawn(async move {
            let whole = async {
                let (connection, mut stream) = shared.link(&end, Some((&counted, due))).await?;
                stream.deliver(&shared.letter()).await?;
                connection.close(0_u32.into(), b"");
                Ok::<(), LinkError>(())
            };
            let how = bounded(whole, shared.patience.saturating_sub(due.elapsed())).await;
            counted.ended(due, &how, shared.patience);
        });
    }

    /// A stranger's first visit: he asks for a cookie, comes at his appointment, and says who he is.
    fn visit(&mut self, n: u64, due: Instant) {
        self.strangers.lock().offered();
        let (shared, counted) = (Arc::clone(&self.shared), self.strangers.clone());
        self.tasks.spawn(async move {
            // Neighbours in time come from different prefixes.
            let from = shared.plan.strangers_from.host(n, 0);
            let how = bounded(shared.visit(from, &counted, due), STRANGER_PATIENCE).await;
            counted.ended(due, &how, shared.patience);
        });
    }

    pub(super) fn counted(&self) -> [&Counted; 3] {
        [&self.standing, &self.fresh, &self.strangers]
    }

    /// When each message was taken, of the kinds that the plan has, in the order of the report.
    pub(super) fn moments(&self) -> Vec<Vec<u64>> {
        let taken = |counted: &Counted| {
            let moments = counted.moments.as_ref()?;
            Some(moments.lock().unwrap_or_else(PoisonError::into_inner).clone())
        };
        self.kinds().iter().filter_map(|counted| taken(counted)).collect()
    }

    fn kinds(&self) -> Vec<&Counted> {
        let plan = &self.shared.plan;
        let rates = [plan.rate, plan.fresh_rate, plan.strangers_rate];
        self.counted().into_iter().zip(rates).filter(|(_, rate)| *rate > 0.0).map(|(counted, _)| counted).collect()
    }

    /// The figures, of the kinds that the plan has. Tickets go back into their purse.
    pub(super) fn report(self) -> Result<Vec<FriendsReport>, FloodError> {
        let plan = &self.shared.plan;
        if let (Some(dir), Some(_)) = (&plan.tickets, self.ends.first()) {
            self.shared.tickets.write(
                dir,
                &plan.domain,
                self.ends[0].local_addr().map_err(|error| system("a friend's socket", error))?.ip(),
            )?;
        }
        Ok(self.kinds().into_iter().map(|counted| counted.lock().report()).collect())
    }
}

async fn bounded(what: impl Future<Output = Result<(), LinkError>>, time: Duration) -> Result<(), String> {
    match tokio::time::timeout(time, what).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.cause()),
        Err(_) => Err("too late".to_owned()),
    }
}

fn peer_key(text: &str) -> Result<Vec<u8>, FloodError> {
    let key: postern_net::door::PublicKey = text.parse().map_err(|_| FloodError::Plan(format!("{text}: no key")))?;
    Ok(key.spki().to_vec())
}

fn system(what: &str, error: io::Error) -> FloodError {
    FloodError::System(what.to_owned(), error)
}

/// Messages that wait for a link. Full: the message has failed.
const QUEUE: usize = 4_096;

/// How long the links may take before the attack begins.
const ARRIVAL: Duration = Duration::from_secs(30);

/// Between the last patience and the end: tasks must still be heard.
const GRACE: Duration = Duration::from_millis(200);

/// As long as an appointment may lie ahead, and more.
const STRANGER_PATIENCE: Duration = Duration::from_secs(3_600);
