//! The drain as the program sees it: options, start, handle. The work is in `worker`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use postern_proto::mode::Modes;
use postern_spool::Spool;
use postern_trust::EvidenceSender;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::LocalSet;

use crate::carries::Carries;
use crate::filters::FilterTable;
use crate::health::Health;
use crate::limits::FILE_THREADS_MAX;
use crate::outward::OutboundOptions;
use crate::route::RouteTable;
use crate::stats::{Counters, DrainStats};
use crate::worker::Worker;

/// How the drain behaves; the defaults are meant to work.
#[derive(Clone, Debug)]
pub struct DrainOptions {
    /// Our name: EHLO, Received, reports, and the domain of a bare `postmaster`.
    pub hostname: String,
    /// The From address of reports; `MAILER-DAEMON@hostname` by default.
    pub report_from: Option<String>,
    /// Wait before the second attempt; each further wait is twice the last. 1 min: a greylisting
    /// or restarting hop is back by then.
    pub retry_first: Duration,
    /// The longest wait between attempts. 4 h: RFC 5321 section 4.5.4.1 asks for several attempts
    /// a day over the whole time.
    pub retry_max: Duration,
    /// After this long a message fails, counted from when it was first free to leave: what `hold`
    /// keeps does not age. 5 days, RFC 5321 section 4.5.4.1 ("at least 4-5 days").
    pub expire_after: Duration,
    /// Deliveries under way to one destination: 20, what Postfix opens to one destination and what
    /// hops are tuned for.
    pub concurrency_max: usize,
    /// Wait after the first failure to reach a destination; doubles. 1 s.
    pub backoff_first: Duration,
    /// The longest such wait. 5 min: asking a dead hop that often costs nothing.
    pub backoff_max: Duration,
    /// Dead letters kept; the oldest is dropped for one more, and the log names it. 10,000: strangers
    /// can make them (one recipient taken, one refused), nobody reads more, and with inline bodies of
    /// 128 KiB they are 1.3 GB of the disk at worst.
    pub dead_letters_max: usize,
    /// The filters that judge mail before it leaves; to be replaced as a whole while the drain runs, with
    /// [`DrainHandle::wake`] behind it. None by default.
    pub filters: Arc<ArcSwap<FilterTable>>,
    /// How long the quarantine keeps a message. 30 d: time to miss it, and to ask for it.
    pub quarantine_keep: Duration,
    /// Messages the quarantine holds; the oldest is dropped for one more, and the log says so. 100,000:
    /// strangers fill it, at a typical 10 KiB it is 1 GB of the disk.
    pub quarantine_max: usize,
    /// Bytes of messages that the quarantine holds; the oldest is dropped for one more, and the log says so. 4 GiB, a
    /// sixteenth of what the spool takes: 2,600 spams of 25 MB would fill it, and mail would be refused for their sake.
    pub quarantine_bytes_max: u64,
    /// Where what is learnt of senders goes: the filters' judgements, unknown recipients, and whom this
    /// site writes to.
    pub evidence: Option<EvidenceSender>,
    /// How mail reaches domains that are not ours, for the route `mx` and for doors before a fixed relay. Without it mail
    /// for `mx` is kept.
    pub outbound: Option<OutboundOptions>,
    /// Messages per second that leave in mode `collect`; `None` is as fast as the hops take them.
    pub collect_rate: Option<u32>,
    /// How often a next hop whose capabilities are known is asked again. 10 min.
    pub probe_every: Duration,
    /// The same while one is unknown. 10 s: until it answers the doors offer less.
    pub probe_unknown_every: Duration,
}

impl Default for DrainOptions {
    fn default() -> Self {
        Self {
            hostname: "localhost".to_owned(),
            report_from: None,
            retry_first: Duration::from_secs(60),
            retry_max: Duration::from_secs(4 * 3600),
            expire_after: Duration::from_secs(5 * 24 * 3600),
            concurrency_max: 20,
            backoff_first: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            dead_letters_max: 10_000,
            filters: Arc::default(),
            quarantine_keep: Duration::from_secs(30 * 24 * 3600),
            quarantine_max: 100_000,
            quarantine_bytes_max: 4 << 30,
            evidence: None,
            outbound: None,
            collect_rate: None,
            probe_every: Duration::from_secs(600),
            probe_unknown_every: Duration::from_secs(10),
        }
    }
}

/// The drain; [`Drain::start`] is all it does.
#[derive(Debug)]
pub struct Drain;

/// Speaks to a running drain; cheap to clone. When the last one is dropped the drain stops.
#[derive(Clone)]
pub struct DrainHandle {
    commands: mpsc::Sender<Command>,
    counters: Arc<Counters>,
    carries: watch::Receiver<Carries>,
    routes: Arc<ArcSwap<RouteTable>>,
    filters: Arc<ArcSwap<FilterTable>>,
    /// Closes when the thread has ended.
    ended: watch::Receiver<()>,
}

/// What a `drain` command lets leave, in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Let go by the command, at its rate when one was given: what was held, and retries that are
    /// brought forward (10,000 at most; further ones leave when they are due).
    pub covered_by_rate: usize,
    /// Free to leave without the command, due already, and as fast as the hops take them: a rate
    /// does not slow what nobody holds.
    pub leaving_anyway: usize,
}

/// What the handle asks of the worker.
pub(crate) enum Command {
    /// See [`DrainHandle::release`].
    Release { domain: Option<String>, rate: Option<u32>, answer: oneshot::Sender<Released> },
    /// Something outside the spool changed.
    Wake,
    /// No more deliveries; end when those under way are done.
    Stop,
}

/// Commands waiting for the worker; it looks at them between two deliveries, so few suffice.
const COMMANDS_MAX: usize = 64;

impl Drain {
    /// Starts the drain on a thread of its own.
    ///
    /// # Errors
    /// When the system gives no thread or no event queue.
    pub fn start(
        spool: Spool,
        routes: Arc<ArcSwap<RouteTable>>,
        modes: Arc<ArcSwap<Modes>>,
        options: DrainOptions,
    ) -> std::io::Result<DrainHandle> {
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (carries_out, carries) = watch::channel(Carries::NOTHING);
        let (ended_out, ended) = watch::channel(());
        let counters = Arc::new(Counters::default());
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(FILE_THREADS_MAX)
            .thread_name("drain-files")
            .build()?;
        let shared = counters.clone();
        let (routes_too, filters) = (routes.clone(), options.filters.clone());
        thread::Builder::new().name("drain".to_owned()).spawn(move || {
            let local = LocalSet::new();
            local.block_on(&runtime, Worker::new(spool, routes, modes, options, shared, carries_out).run(inbox));
            drop(local);
            runtime.shutdown_timeout(Duration::from_secs(1));
            drop(ended_out);
        })?;
        Ok(DrainHandle { commands, counters, carries, routes: routes_too, filters, ended })
    }
}

impl DrainHandle {
    /// Lets the mail leave that is there now and would otherwise stay (mode `hold`) or wait for
    /// its turn (a limited `collect`), at `rate` messages per second when given. `None` is every
    /// domain. Retry times are brought forward, at the rate too.
    pub async fn release(&self, domain: Option<String>, rate: Option<u32>) -> Released {
        let (answer, released) = oneshot::channel();
        match self.commands.send(Command::Release { domain, rate, answer }).await {
            Ok(()) => released.await.unwrap_or_default(),
            Err(_) => Released::default(),
        }
    }

    /// [`Self::release`]; returns how many messages are leaving in all.
    pub async fn drain_now(&self, domain: Option<String>, rate: Option<u32>) -> usize {
        let released = self.release(domain, rate).await;
        released.covered_by_rate + released.leaving_anyway
    }

    /// Counters and states, for `status`.
    pub fn stats(&self) -> DrainStats {
        self.counters.snapshot()
    }

    /// What keeps mail for `domain` (lower case) from being judged or from leaving now.
    pub fn health(&self, domain: &str) -> Health {
        let (routes, filters) = (self.routes.load(), self.filters.load());
        self.counters.health(routes.route_of_lane(domain), filters.judges(domain).then_some(&*filters))
    }

    /// What all routes carry; changes as next hops are asked.
    pub fn carries(&self) -> watch::Receiver<Carries> {
        self.carries.clone()
    }

    /// To be called after the routes or the modes have changed: what may leave is looked at again.
    pub fn wake(&self) {
        // Full is fine: whatever is before it wakes the worker too.
        let _ = self.commands.try_send(Command::Wake);
    }

    /// Starts no more deliveries and returns when those under way are done, 8 s at most.
    pub async fn stop(&self) {
        let _ = self.commands.send(Command::Stop).await;
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    /// Deliveries under way.
    pub fn running(&self) -> u64 {
        self.counters.running.load(Ordering::Relaxed)
    }
}
