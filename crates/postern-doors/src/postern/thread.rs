//! The thread of the postern: its lives, its end.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use postern_proto::envelope::Via;
use postern_proto::mode::Modes;
use postern_proto::session::SessionOptions;
use postern_spool::Spool;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::LocalSet;

use super::listener::{self, Ended, Site};
use super::options::PosternOptions;
use super::stats::PosternStats;
use crate::crowd::Crowd;
use crate::door::StartError;
use crate::gate::{GateStats, SharedGate};
use crate::limits;
use crate::policy::Policy;
use crate::runtime::{Core, Seat, Shared};
use crate::stats::{DoorStats, count};

/// A running postern.
pub struct Postern {
    addr: SocketAddr,
    stats: Arc<PosternStats>,
    sessions: Arc<DoorStats>,
    crowd: Arc<Crowd>,
    gate: SharedGate,
    stop: watch::Sender<Option<Duration>>,
    panic: Arc<Notify>,
    ended: oneshot::Receiver<()>,
}

/// What the thread has of its maker.
struct Life {
    options: PosternOptions,
    shared: Arc<Shared>,
    stats: Arc<PosternStats>,
    stopped: watch::Receiver<Option<Duration>>,
    panic: Arc<Notify>,
}

impl Postern {
    /// Opens it.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(
        spool: Spool,
        policy: Arc<ArcSwap<Policy>>,
        modes: Arc<ArcSwap<Modes>>,
        options: PosternOptions,
    ) -> Result<Self, StartError> {
        let addr = options.sockets.addr()?;
        let mut session = SessionOptions { via: Via::Postern, author: true, xclient: false, ..options.session.clone() };
        session.limits.body = session.limits.body.min(limits::FLOOR_WINDOW);
        session.limits.body_per_message = true;
        let (stats, sessions) = (Arc::new(PosternStats::default()), Arc::new(DoorStats::default()));
        let crowd = Arc::new(Crowd::new(1));
        let shared = Arc::new(Shared {
            spool,
            policy,
            modes,
            session,
            tls: None,
            proxy_from: Vec::new(),
            xclient_from: Vec::new(),
            connections_max: options.streams_max,
            callouts: options.callouts.clone(),
            stats: Arc::clone(&sessions),
            admission: options.admission.clone(),
            crowd: Arc::clone(&crowd),
        });
        let (stop, stopped) = watch::channel(None);
        let (over, ended) = oneshot::channel();
        let (gate, panic) = (Arc::clone(&options.gate), Arc::new(Notify::new()));
        let life = Life { options, shared, stats: Arc::clone(&stats), stopped, panic: Arc::clone(&panic) };
        std::thread::Builder::new().name("postern".to_owned()).spawn(move || {
            life.live();
            let _nobody_waits = over.send(());
        })?;
        Ok(Self { addr, stats, sessions, crowd, gate, stop, panic, ended })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Counters of connections.
    pub fn stats(&self) -> &Arc<PosternStats> {
        &self.stats
    }

    /// Counters of sessions, as of any other door.
    pub fn sessions(&self) -> &Arc<DoorStats> {
        &self.sessions
    }

    /// Who is in, by class.
    pub fn crowd(&self) -> &Arc<Crowd> {
        &self.crowd
    }

    /// Counters of the gate.
    pub fn gate(&self) -> GateStats {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner).stats()
    }

    /// The gate itself: for a look from another thread.
    pub fn shared_gate(&self) -> SharedGate {
        Arc::clone(&self.gate)
    }

    /// Takes no more in, lets messages under way end within `grace`, then closes.
    pub async fn stop(self, grace: Duration) {
        self.stop.send_replace(Some(grace));
        // A thread that is gone has stopped too.
        let _gone = self.ended.await;
    }

    /// Makes the thread panic: for tests of what happens then.
    #[doc(hidden)]
    pub fn inject_panic(&self) {
        self.panic.notify_one();
    }

    /// The same for whoever does not have the door itself.
    #[doc(hidden)]
    pub fn panic_injector(&self) -> impl Fn() + 'static {
        let panic = Arc::clone(&self.panic);
        move || panic.notify_one()
    }
}

impl Life {
    /// One life after the other, until it is told to stop.
    fn live(&self) {
        let mut born = None::<Instant>;
        loop {
            if born.replace(Instant::now()).is_some_and(|born| born.elapsed() < limits::REBUILT_LATELY) {
                self.pause();
            }
            match self.once() {
                Ok(Some(Ended::Stopped)) => return,
                Ok(Some(Ended::Broken)) => tracing::error!("the postern's endpoint ended: it is built again"),
                Ok(None) => tracing::error!("the postern's thread panicked: it is built again"),
                Err(error) => tracing::error!(%error, "the postern cannot be built: it is tried again"),
            }
            if self.stopped.borrow().is_some() {
                return;
            }
            count(&self.stats.rebuilt);
        }
    }

    /// No runtime is alive between two lives; whoever stops the door ends the wait.
    fn pause(&self) {
        std::thread::park_timeout(limits::REBUILD_PAUSE);
    }

    /// `None`: it ended in a panic. What the life held is dropped when that is caught: a session that ends because the
    /// thread does has not panicked itself, and is not counted so.
    fn once(&self) -> io::Result<Option<Ended>> {
        let news = Arc::new(Notify::new());
        let wake = Arc::clone(&news);
        let port = Arc::new(Mutex::new(self.shared.spool.port(Arc::new(move || wake.notify_one()))));
        let (parking, flooded) = (Arc::clone(&port), Arc::clone(&port));
        let busy = Box::new(move || flooded.lock().unwrap_or_else(PoisonError::into_inner).flush_if_old());
        let woken = Arc::new(AtomicU64::new(0));
        let unparking = Arc::clone(&woken);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .event_interval(limits::POLLS_BEFORE_SESSIONS)
            .on_thread_park(move || parking.lock().unwrap_or_else(PoisonError::into_inner).flush())
            .on_thread_unpark(move || {
                unparking.fetch_add(1, Relaxed);
            })
            .build()?;
        let seat = Seat { thread: 0, port, news: Arc::clone(&news), woken };
        let core = Rc::new(Core::new(Arc::clone(&self.shared), seat));
        let local = LocalSet::new();
        let site = Site { options: &self.options, stats: &self.stats, core, news, busy };
        let life = local.run_until(async {
            tokio::select! {
                ended = listener::run(site, self.stopped.clone()) => ended,
                () = self.panic.notified() => panic!("a test asked for it"),
            }
        });
        let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(life)));
        // Dropping the set drops the streams that outlived the grace.
        drop(local);
        ended.map_or(Ok(None), |ended| ended.map(Some))
    }
}
