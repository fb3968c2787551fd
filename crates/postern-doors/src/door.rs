//! A door as a whole: its threads, its listeners, how it starts and stops.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use postern_net::socket::ReserveDescriptor;
use postern_proto::mode::Modes;
use postern_proto::session::SessionOptions;
use postern_spool::Spool;
use postern_trust::Class;
use postern_trust::pressure::Level;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{JoinHandle, LocalSet};

use crate::admission::Admission;
use crate::callout::CalloutCache;
use crate::crowd::Crowd;
use crate::limits;
use crate::policy::Policy;
use crate::runtime::{Core, Seat, Shared, now_unix_ms};
use crate::shell::Shell;
use crate::stats::{DoorStats, count};

/// Told to a client for whom there is no room. It never waits for the client to take it.
const BUSY: &[u8] = b"421 4.3.2 Too many connections, try again later\r\n";

/// What a door is made of.
pub struct DoorOptions {
    /// One entry for each thread; all have the same address.
    pub listeners: Vec<DoorListeners>,
    /// Name, sizes and deadlines for the sessions; `offers` are filled in from the policy.
    pub session: SessionOptions,
    /// Makes STARTTLS possible.
    pub tls: Option<Arc<ServerConfig>>,
    /// Peers that begin with a PROXY header.
    pub proxy_from: Vec<IpNet>,
    /// Peers that may use XCLIENT.
    pub xclient_from: Vec<IpNet>,
    /// [`limits::CONNECTIONS_MAX_DEFAULT`].
    pub connections_max: usize,
    /// Where callouts are remembered.
    pub callouts: Option<CalloutCache>,
    /// Who comes first; without it everybody is alike.
    pub admission: Option<Admission>,
}

/// What one thread listens on: bound, non-blocking.
#[derive(Debug)]
pub struct DoorListeners {
    /// Everybody, or those whom the kernel does not take for known.
    pub strangers: TcpListener,
    /// A queue of their own for the known (`docs/design/steering.md`).
    pub known: Option<TcpListener>,
}

/// A running door.
pub struct Doors {
    addr: SocketAddr,
    stats: Arc<DoorStats>,
    crowd: Arc<Crowd>,
    stop: watch::Sender<Option<Duration>>,
    threads: Vec<oneshot::Receiver<()>>,
}

/// A door could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No listener was given.
    #[error("a door needs a listener")]
    NoListener,
    /// The system's words.
    #[error("the door could not be opened: {0}")]
    Io(#[from] io::Error),
}

impl Doors {
    /// Opens the door: one thread with a runtime for each listener.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(
        spool: Spool,
        policy: Arc<ArcSwap<Policy>>,
        modes: Arc<ArcSwap<Modes>>,
        options: DoorOptions,
    ) -> Result<Self, StartError> {
        let addr = options.listeners.first().ok_or(StartError::NoListener)?.strangers.local_addr()?;
        let stats = Arc::new(DoorStats::default());
        let crowd = Arc::new(Crowd::new(options.listeners.len()));
        let shared = Arc::new(Shared {
            spool,
            policy,
            modes,
            session: options.session,
            tls: options.tls,
            proxy_from: options.proxy_from,
            xclient_from: options.xclient_from,
            connections_max: options.connections_max,
            callouts: options.callouts,
            stats: Arc::clone(&stats),
            admission: options.admission,
            crowd: Arc::clone(&crowd),
        });
        let (stop, stopped) = watch::channel(None);
        let threads = options
            .listeners
            .into_iter()
            .enumerate()
            .map(|(index, listeners)| start_thread(index, listeners, Arc::clone(&shared), stopped.clone()))
            .collect::<io::Result<_>>()?;
        Ok(Self { addr, stats, crowd, stop, threads })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its counters.
    pub fn stats(&self) -> &Arc<DoorStats> {
        &self.stats
    }

    /// Who is in, by class.
    pub fn crowd(&self) -> &Arc<Crowd> {
        &self.crowd
    }

    /// Accepts no more, lets messages under way end within `grace`, then closes.
    pub async fn stop(self, grace: Duration) {
        self.stop.send_replace(Some(grace));
        for thread in self.threads {
            // A thread that is gone has stopped too.
            let _gone = thread.await;
        }
    }
}

fn start_thread(
    index: usize,
    listeners: DoorListeners,
    shared: Arc<Shared>,
    stopped: watch::Receiver<Option<Duration>>,
) -> io::Result<oneshot::Receiver<()>> {
    let news = Arc::new(Notify::new());
    let wake = Arc::clone(&news);
    let port = Arc::new(Mutex::new(shared.spool.port(Arc::new(move || wake.notify_one()))));
    let parking = Arc::clone(&port);
    let woken = Arc::new(AtomicU64::new(0));
    let unparking = Arc::clone(&woken);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(move || parking.lock().unwrap_or_else(PoisonError::into_inner).flush())
        .on_thread_unpark(move || {
            unparking.fetch_add(1, Relaxed);
        })
        .build()?;
    // Each queue has one: who is known must be told as well.
    let reserves = (ReserveDescriptor::new()?, ReserveDescriptor::new()?);
    let (ended, end) = oneshot::channel();
    std::thread::Builder::new().name(format!("door-{index}")).spawn(move || {
        let core = Rc::new(Core::new(shared, Seat { thread: index, port, news: Arc::clone(&news), woken }));
        let local = LocalSet::new();
        runtime.block_on(local.run_until(run(core, listeners, reserves, news, stopped)));
        // Dropping the set drops the connections that outlived the grace.
        drop(local);
        drop(runtime);
        let _nobody_waits = ended.send(());
    })?;
    Ok(end)
}

async fn run(
    core: Rc<Core>,
    listeners: DoorListeners,
    (reserve, reserve_of_known): (ReserveDescriptor, ReserveDescriptor),
    news: Arc<Notify>,
    mut stopped: watch::Receiver<Option<Duration>>,
) {
    let attendants = attend(&core, news);
    let mut acceptors = tokio::task::JoinSet::new();
    if let Some(known) = listeners.known {
        acceptors.spawn_local(accept(Rc::clone(&core), known, reserve_of_known, true));
    }
    acceptors.spawn_local(accept(Rc::clone(&core), listeners.strangers, reserve, false));
    // An error means that the handle is gone without a word: then the door closes as well.
    let grace = stopped.wait_for(Option::is_some).await.map_or(None, |grace| *grace);
    acceptors.abort_all();
    core.slots.stop();
    let deadline = tokio::time::Instant::now() + grace.unwrap_or(limits::STOP_GRACE_DEFAULT);
    while !core.slots.is_empty() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for task in attendants {
        task.abort();
    }
}

/// The tasks that serve all connections of a thread: news of the spool, deadlines, turns, evictions.
pub(crate) fn attend(core: &Rc<Core>, news: Arc<Notify>) -> [JoinHandle<()>; 4] {
    let dispatcher = tokio::task::spawn_local({
        let core = Rc::clone(core);
        async move {
            loop {
                news.notified().await;
                core.dispatch();
            }
        }
    });
    let ticker = tokio::task::spawn_local({
        let core = Rc::clone(core);
        async move {
            let mut ticks = tokio::time::interval(limits::TICK);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                let due = ticks.tick().await;
                core.usher.note_lag(due.elapsed());
                core.slots.fire(core.now());
                core.usher.send_idle_away(core.now(), &core.slots);
                core.flush_if_old();
            }
        }
    });
    let pacer = tokio::task::spawn_local(call_strangers(Rc::clone(core)));
    let evictor = tokio::task::spawn_local({
        let core = Rc::clone(core);
        async move {
            loop {
                core.usher.bell().await;
                core.usher.serve_wanted(&core.slots);
            }
        }
    });
    [dispatcher, ticker, pacer, evictor]
}

/// Calls the next strangers whenever the thread has been round: sockets looked at, the known served.
async fn call_strangers(core: Rc<Core>) {
    let mut called = Vec::new();
    loop {
        core.turns.bell.notified().await;
        while core.turns.has_waiting() {
            tokio::task::yield_now().await;
            core.turns.next(&mut called);
            for slot in called.drain(..).filter_map(|index| core.slots.get(index)) {
                slot.call();
            }
            core.flush_if_old();
        }
    }
}

async fn accept(core: Rc<Core>, listener: TcpListener, mut reserve: ReserveDescriptor, known: bool) {
    let before_yield = if known { limits::ACCEPTS_BEFORE_YIELD } else { limits::STRANGERS_BEFORE_YIELD };
    let own = listener.try_clone();
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the listener cannot be used"),
    };
    // Replies are small and each is waited for. Accepted sockets inherit this (tcp(7)), which
    // spares a system call for each.
    if let Err(error) = rustix::net::sockopt::set_tcp_nodelay(&listener, true) {
        tracing::warn!(%error, "TCP_NODELAY could not be set: replies may be late");
    }
    let local = listener.local_addr().ok().filter(|addr| !addr.ip().is_unspecified());
    let stats = Arc::clone(&core.shared.stats);
    let (mut in_a_row, mut retries) = (0, 0);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                count(&stats.accepted);
                admit(&core, stream, peer, local);
                in_a_row += 1;
                if in_a_row >= before_yield {
                    in_a_row = 0;
                    core.flush_if_old();
                    tokio::task::yield_now().await;
                }
            }
            Err(error) => {
                count(&stats.accept_errors);
                if ReserveDescriptor::is_for(&error) {
                    let makes_room = core.usher.make_room_at_once(&core.slots);
                    // The known are not turned away for want of what somebody is about to give back.
                    if known && makes_room && retries < limits::DESCRIPTOR_RETRIES {
                        retries += 1;
                        tokio::task::yield_now().await;
                        continue;
                    }
                }
                retries = 0;
                let turned_away = match &own {
                    Ok(own) if ReserveDescriptor::is_for(&error) => reserve.turn_away(own, BUSY).unwrap_or(false),
                    _ => false,
                };
                if turned_away {
                    count(&stats.turned_away);
                    core.flush_if_old();
                } else if !is_of_one_connection(&error) {
                    tracing::warn!(%error, "no connection can be accepted at the moment");
                    tokio::time::sleep(limits::ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

fn admit(core: &Rc<Core>, stream: TcpStream, peer: SocketAddr, local: Option<SocketAddr>) {
    let (ip, now_s) = (peer.ip().to_canonical(), now_unix_ms() / 1000);
    // A balancer is judged when it has said for whom it speaks; until then it must not wait behind
    // the very strangers that it brings.
    let proxied = core.shared.proxy_from.iter().any(|net| net.contains(&ip));
    let class = if proxied { Class::Known } else { core.usher.class_of(ip, now_s) };
    if !proxied {
        core.usher.note_connected(class, ip, now_s);
    }
    if !core.usher.admit(class, &core.slots, &core.shared.stats) {
        // A fresh socket's buffer takes this; should it not, the client learns it by the close.
        let _untold = stream.try_write(BUSY);
        return;
    }
    if class > Class::Known && core.usher.level() > Level::Calm {
        // Not worth a word when it fails: the kernel then gives what it gives to everybody.
        let _unbounded = rustix::net::sockopt::set_socket_recv_buffer_size(&stream, limits::STRANGERS_BUFFER_BYTES);
    }
    // Only a listener on all addresses leaves open which one the client has found.
    if let Some(local) = local.or_else(|| stream.local_addr().ok()) {
        tokio::task::spawn_local(Shell::new(core, stream, (peer, local), class));
    }
}

/// Errors of accept that belong to the connection that was not made (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
