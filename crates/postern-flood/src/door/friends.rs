//! Friends of a door under attack: established links with messages at a steady rate, and new connections, each timed.
//!
//! The same for a stock QUIC server and for one behind a gate: only the token differs, which the caller makes. Messages
//! come when they are due, whatever became of those before (an open loop): a server that stalls is not spared.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postern_net::door::KeyPair;
use postern_proto::door::limits::CID_BYTES;
use quinn::{Connection, Endpoint};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::attempt::Dialler;
use super::stock::ANSWER;
use crate::plan::FloodError;
use crate::report::Percentiles;
use crate::{stats, target};

/// Who comes and how often.
#[derive(Clone, Debug)]
pub struct DoorFriends {
    /// The server.
    pub target: SocketAddr,
    /// Where they come from.
    pub from: IpAddr,
    /// Links that are there before the time begins.
    pub links: u32,
    /// Messages a second on all links together, a stream each.
    pub messages_per_second: u32,
    /// New connections a second, with one message each.
    pub connections_per_second: u32,
    /// Octets of a message.
    pub message_bytes: usize,
    /// How long they offer.
    pub duration: Duration,
    /// What is answered later does not count.
    pub patience: Duration,
}

impl DoorFriends {
    /// Four links with 100 messages of 4 KiB a second and 20 connections a second, from 127.200.0.1, for four seconds,
    /// patience 3 s: what the experiments before this program did.
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            from: IpAddr::from([127, 200, 0, 1]),
            links: 4,
            messages_per_second: 100,
            connections_per_second: 20,
            message_bytes: 4_096,
            duration: Duration::from_secs(4),
            patience: Duration::from_secs(3),
        }
    }
}

/// What became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Goodput {
    /// Due in the time.
    pub offered: u64,
    /// Answered within the patience.
    pub in_time: u64,
    /// From when it was due to the answer; what was not answered counts as the whole patience.
    pub latency: Percentiles,
}

impl Goodput {
    /// Answered in time, of those offered.
    pub fn percent(&self) -> f64 {
        self.in_time as f64 * 100.0 / self.offered.max(1) as f64
    }
}

/// Both kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FriendsFigures {
    /// Messages on established links.
    pub established: Goodput,
    /// New connections, their message included.
    pub new: Goodput,
}

/// Makes the token for a connection id; empty: none.
pub type Tokens = Arc<dyn Fn(&[u8; CID_BYTES]) -> Vec<u8> + Send + Sync>;

/// The links stand: what [`Friends::offer`] is called on when the attack has begun.
pub struct Friends {
    plan: DoorFriends,
    endpoint: Endpoint,
    dialler: Dialler,
    tokens: Tokens,
    links: Vec<Connection>,
    tally: Arc<[Mutex<Tally>; 2]>,
}

#[derive(Default)]
struct Tally {
    offered: u64,
    in_time: u64,
    samples_us: Vec<u32>,
}

const ESTABLISHED: usize = 0;
const NEW: usize = 1;

impl Friends {
    /// Opens the links. Inside a runtime.
    ///
    /// # Errors
    /// The target may be somebody else's; the server does not take them even without an attack.
    pub async fn connect(plan: DoorFriends, tokens: Tokens) -> Result<Self, FloodError> {
        target::check(plan.target.ip())?;
        let system = |what: &str| {
            let what = what.to_owned();
            move |error: String| FloodError::System(what, std::io::Error::other(error))
        };
        let key = KeyPair::generate().map_err(|error| system("a key")(error.to_string()))?;
        let dialler = Dialler::new(&key).map_err(|error| system("TLS")(error.to_string()))?;
        let endpoint = Endpoint::client((plan.from, 0).into())
            .map_err(|error| FloodError::System("a UDP socket".into(), error))?;
        let mut friends = Self { plan, endpoint, dialler, tokens, links: Vec::new(), tally: Arc::default() };
        for _ in 0..friends.plan.links {
            let dial = timeout(friends.plan.patience, friends.dial());
            let link = dial.await.unwrap_or_else(|_| Err("no answer".to_owned()));
            friends.links.push(link.map_err(|error| FloodError::Unreachable(friends.plan.target, error))?);
        }
        Ok(friends)
    }

    /// Offers for the time of the plan, waits for the last answer or its deadline, and says what became of all.
    pub async fn offer(self) -> FriendsFigures {
        let began = Instant::now();
        let plan = &self.plan;
        let mut tasks = JoinSet::new();
        let mut next = [0_u32; 2];
        let rates = [if self.links.is_empty() { 0 } else { plan.messages_per_second }, plan.connections_per_second];
        loop {
            let due = |kind: usize| {
                let at = Duration::from_secs_f64(f64::from(next[kind]) / f64::from(rates[kind].max(1)));
                (rates[kind] > 0 && at < plan.duration).then_some((began + at, kind))
            };
            let Some((at, kind)) = [due(ESTABLISHED), due(NEW)].into_iter().flatten().min() else { break };
            tokio::time::sleep_until(at).await;
            let link = (kind == ESTABLISHED).then(|| self.links[next[kind] as usize % self.links.len()].clone());
            next[kind] += 1;
            tasks.spawn(self.message(kind, at, link));
        }
        while tasks.join_next().await.is_some() {}
        self.endpoint.close(0_u8.into(), b"");
        FriendsFigures { established: self.goodput(ESTABLISHED), new: self.goodput(NEW) }
    }

    fn message(&self, kind: usize, due: Instant, link: Option<Connection>) -> impl Future<Output = ()> + use<> {
        let (tally, patience, bytes) = (Arc::clone(&self.tally), self.plan.patience, self.plan.message_bytes);
        let dial = link.is_none().then(|| self.dial());
        async move {
            let answered = timeout(patience, async {
                let link = match (link, dial) {
                    (Some(link), _) => link,
                    (None, Some(dial)) => dial.await?,
                    (None, None) => return Err("nobody to write to".to_owned()),
                };
                let answered = exchange(&link, bytes).await;
                if kind == NEW {
                    link.close(0_u8.into(), b"");
                }
                answered
            });
            let in_time = matches!(answered.await, Ok(Ok(())));
            let took = if in_time { due.elapsed() } else { patience };
            let mut tally = tally[kind].lock().unwrap_or_else(PoisonError::into_inner);
            tally.offered += 1;
            tally.in_time += u64::from(in_time && took <= patience);
            tally.samples_us.push(stats::sample(took.as_micros() as u64));
        }
    }

    fn dial(&self) -> impl Future<Output = Result<Connection, String>> + use<> {
        let mut dcid = [0; CID_BYTES];
        fastrand::fill(&mut dcid);
        let connecting = self.dialler.dial(&self.endpoint, self.plan.target, dcid, &(self.tokens)(&dcid));
        async move { connecting.map_err(|error| error.to_string())?.await.map_err(|error| error.to_string()) }
    }

    fn goodput(&self, kind: usize) -> Goodput {
        let mut tally = self.tally[kind].lock().unwrap_or_else(PoisonError::into_inner);
        let (offered, in_time) = (tally.offered, tally.in_time);
        Goodput { offered, in_time, latency: Percentiles::of(&mut tally.samples_us) }
    }
}

async fn exchange(link: &Connection, bytes: usize) -> Result<(), String> {
    let (mut message, mut answer) = link.open_bi().await.map_err(|error| error.to_string())?;
    message.write_all(&vec![b'm'; bytes]).await.map_err(|error| error.to_string())?;
    message.finish().map_err(|error| error.to_string())?;
    let answer = answer.read_to_end(ANSWER.len()).await.map_err(|error| error.to_string())?;
    if answer == ANSWER { Ok(()) } else { Err("another answer".to_owned()) }
}

#[cfg(test)]
mod tests;
