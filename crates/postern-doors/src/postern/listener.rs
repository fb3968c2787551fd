//! From the gate to the handshakes: connection attempts, the pool that says whose turn it is, and the connections.

use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use postern_net::door::endpoint_config;
use postern_proto::door::{CloseCode, PeerClass};
use quinn::{Endpoint, Incoming, TokioRuntime, VarInt};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::house::House;
use super::options::PosternOptions;
use super::peer::Peer;
use super::pool::Pool;
use super::share::place_of;
use super::stats::PosternStats;
use super::threshold::Threshold;
use crate::door::attend;
use crate::gate::{Admission, Busy, GateSocket, cid_generator};
use crate::limits;
use crate::runtime::Core;
use crate::stats::count;

/// What one life of the thread has.
pub(super) struct Site<'a> {
    pub(super) options: &'a PosternOptions,
    pub(super) stats: &'a Arc<PosternStats>,
    pub(super) core: Rc<Core>,
    pub(super) news: Arc<Notify>,
    /// What the thread does when it is about to sleep, and has to do under a flood too.
    pub(super) busy: Busy,
}

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was told to.
    Stopped,
    /// QUIC's own task is gone.
    Broken,
}

/// An attempt that waits for its handshake.
struct Attempt {
    incoming: Incoming,
    admission: Admission,
    came: Instant,
}

/// Runs until it is told to stop.
pub(super) async fn run(site: Site<'_>, mut stopped: watch::Receiver<Option<Duration>>) -> io::Result<Ended> {
    let Site { options, stats, core, news, busy } = site;
    let attendants = attend(&core, news);
    let socket = GateSocket::new(&options.sockets, Arc::clone(&options.gate), busy)?;
    let gate = Arc::clone(&options.gate);
    let config = endpoint_config(&options.reset_secret, move || Box::new(cid_generator(Arc::clone(&gate))));
    let strangers = quinn::ServerConfig::clone(&options.profile.of(PeerClass::Stranger));
    let endpoint = Endpoint::new_with_abstract_socket(config, Some(strangers), socket, Arc::new(TokioRuntime))?;
    let (over, mut overs) = mpsc::unbounded_channel();
    let mut listener = Listener {
        pool: Pool::new(),
        threshold: Rc::new(Threshold {
            core: Rc::clone(&core),
            house: House::new(options.peers_max, options.window_bytes_max, Arc::clone(stats)),
            gate: Arc::clone(&options.gate),
            prover: Arc::clone(&options.prover),
            stats: Arc::clone(stats),
            proofs: std::cell::Cell::default(),
            stopped: stopped.clone(),
            lifetime_max: options.lifetime_max,
        }),
        options,
        stats: Arc::clone(stats),
        over,
    };
    let mut looks = tokio::time::interval(limits::TICK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let ended = loop {
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => listener.offer(incoming),
                None => break Ended::Broken,
            },
            Some(class) = overs.recv() => listener.pool.end(class),
            _ = looks.tick() => {}
            // An error means that the handle is gone without a word: then the door closes as well.
            _ = stopped.wait_for(Option::is_some) => break Ended::Stopped,
        }
        listener.begin().await;
        core.flush_if_old();
    };
    let grace = stopped.borrow().unwrap_or(limits::STOP_GRACE_DEFAULT);
    endpoint.set_server_config(None);
    core.slots.stop();
    let deadline = Instant::now() + grace;
    while ended == Ended::Stopped && !core.slots.is_empty() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if ended == Ended::Stopped {
        // Peers close with their last replies acknowledged.
        let _late = tokio::time::timeout(limits::LINGER, endpoint.wait_idle()).await;
        // Who has not is told why, also in the middle of a message: what is merely dropped says nothing, and the peer would
        // wait for its own silence to end. The second wait is for the packet that says so to be sent.
        let code = CloseCode::ShuttingDown;
        endpoint.close(VarInt::from_u32(code.code()), code.as_str().as_bytes());
        let _unheard = tokio::time::timeout(limits::LINGER, endpoint.wait_idle()).await;
    }
    attendants.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(ended)
}

struct Listener<'a> {
    pool: Pool<Attempt>,
    threshold: Rc<Threshold>,
    options: &'a PosternOptions,
    stats: Arc<PosternStats>,
    over: mpsc::UnboundedSender<PeerClass>,
}

impl Listener<'_> {
    /// Puts an attempt in its line. Who finds no room is ignored: nothing is sent, and an honest client tries again.
    fn offer(&mut self, incoming: Incoming) {
        count(&self.stats.attempts);
        let admission = {
            let gate = self.options.gate.lock().unwrap_or_else(PoisonError::into_inner);
            gate.admission(&incoming.orig_dst_cid())
        };
        let Some(admission) = admission else {
            count(&self.stats.unknown_attempts);
            return incoming.ignore();
        };
        let (class, place) = place_of(&admission);
        let attempt = Attempt { incoming, admission, came: Instant::now() };
        if let Some(turned_away) = self.pool.offer(class, place, attempt) {
            count(&self.stats.crowded_out);
            turned_away.incoming.ignore();
        }
    }

    /// Begins those whose turn it is, a few between two looks at everything else.
    async fn begin(&mut self) {
        for begun in 1.. {
            let Some((class, attempt)) = self.pool.next() else { break };
            let Attempt { incoming, admission, came } = attempt;
            let deadline = came + self.options.handshake.unwrap_or(Duration::from_secs(class.limits().handshake_s));
            if Instant::now() >= deadline {
                count(&self.stats.waited_too_long);
                incoming.ignore();
                self.pool.end(class);
                continue;
            }
            count(&self.stats.begun);
            let (window, granted) = self.threshold.house.window(class);
            let peer = Peer { threshold: Rc::clone(&self.threshold), admission, class, window, deadline };
            let (profile, over) = (self.options.profile.of(granted), self.over.clone());
            tokio::task::spawn_local(async move { peer.serve(incoming, profile, over).await });
            if begun % limits::HANDSHAKES_BEFORE_YIELD == 0 {
                tokio::task::yield_now().await;
            }
        }
        self.stats.waiting.store(self.pool.waiting().iter().sum::<usize>() as u64, Relaxed);
        self.stats.shaking.store(u64::from(self.pool.under_way().iter().sum::<u32>()), Relaxed);
    }
}
