//! The handle that doors, drain and operator hold: turns calls into messages for the engine thread and waits for the
//! reply. Executor-agnostic; dropping the last handle and port stops the threads.

use std::fs::File;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{oneshot, watch};

use crate::engine::Engine;
use crate::event::{FinishError, OpenError, RecoveryReport, SpoolError};
use crate::inbox::{Inbox, Message};
use crate::item::{Child, Fate, ID_SEQUENCE_BITS, Item, ItemId, ItemSummary, Lane, LaneStats, Lease};
use crate::limits::SpoolOptions;
use crate::port::Port;
use crate::real_disk::{RealDisk, SEGMENT_BYTES_MAX, open_dir};
use crate::recovery::recover;
use crate::request::{Reply, Request};
use crate::runtime::{Shared, start, unix_ms};

/// An open spool. Clones are handles to the same one.
#[derive(Clone)]
pub struct Spool {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    last_id: AtomicU64,
    next_port: AtomicU32,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Holds the lock on the directory; dropped after the threads have ended.
    _lock: File,
}

/// A snapshot of the spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpoolStats {
    /// Items in the spool, tentative ones included.
    pub items: usize,
    /// Their body bytes.
    pub bytes: u64,
    /// Items nothing is promised for yet.
    pub tentative: usize,
    /// Their bytes in memory.
    pub tentative_bytes: usize,
    /// Items the drain is working on.
    pub leased: usize,
    /// Items held by an operator.
    pub held: usize,
    /// Items in a dead-letter lane.
    pub dead: usize,
    /// Groups written and synced since the start.
    pub commits: u64,
    /// Messages made durable since the start, children included.
    pub messages_committed: u64,
    /// Segment files.
    pub segments: usize,
    /// Segment files that wait to be used again.
    pub segments_free: usize,
    /// Free bytes on the disk when last looked at.
    pub free_bytes: u64,
    /// New items are refused for lack of space.
    pub refusing: bool,
    /// Why nothing more is accepted by this process.
    pub failed: Option<String>,
    /// Items that could not be read back and are held, since the start.
    pub damaged: u64,
    /// Items that cannot be read now. Each keeps its segment and all later ones from being used again, so the log grows
    /// until it is deleted.
    pub unreadable: usize,
    /// Appends refused since the start.
    pub refused: u64,
}

impl Spool {
    /// Locks the directory, recovers what is in it, starts the threads. Blocks while the log is read.
    pub fn open(options: SpoolOptions) -> Result<(Self, RecoveryReport), OpenError> {
        if !(16 << 10..=SEGMENT_BYTES_MAX).contains(&options.segment_bytes)
            || !options.segment_bytes.is_multiple_of(4096)
        {
            return Err(OpenError::Options("segment_bytes must be a multiple of 4096, from 16 KiB to 1 GiB"));
        }
        if options.free_low_bytes > options.free_high_bytes {
            return Err(OpenError::Options("free_low_bytes must not be above free_high_bytes"));
        }
        let io = |source| OpenError::Io { path: options.dir.clone(), source };
        let lock = open_dir(&options.dir)?;
        let mut disk = RealDisk::new(&options.dir, options.flush_delay).map_err(io)?;
        let recovered = recover(&mut disk, &options).map_err(io)?;
        let report = recovered.report.clone();
        if report.torn > 0 || !report.damaged.is_empty() {
            tracing::warn!(torn = report.torn, damaged = report.damaged.len(), "the spool was torn; copies are kept");
        }
        let now = unix_ms();
        let last_id = recovered.id_high().0.max(now << ID_SEQUENCE_BITS);
        let seed = getrandom::u64().map_err(|error| io(std::io::Error::other(error)))?;
        let engine = Engine::new(options.clone(), recovered, seed, now);
        let shared = Arc::new(Shared {
            inbox: Arc::new(Inbox::default()),
            stats: Mutex::new(engine.stats()),
            changed: watch::Sender::new(0),
        });
        let thread = start(engine, disk, shared.clone(), options.dir.clone(), options.gather).map_err(io)?;
        let inner = Inner {
            shared,
            last_id: AtomicU64::new(last_id),
            next_port: AtomicU32::new(0),
            thread: Mutex::new(Some(thread)),
            _lock: lock,
        };
        Ok((Self { inner: Arc::new(inner) }, report))
    }

    /// One for each door runtime. `wake` is called from the engine thread, at most once for each group of answers, and
    /// not again before they have been drained.
    pub fn port(&self, wake: Arc<dyn Fn() + Send + Sync>) -> Port {
        let number = self.inner.next_port.fetch_add(1, Ordering::Relaxed);
        let port = Port::new(number, self.inner.shared.inbox.clone(), wake);
        let _ = self.inner.shared.inbox.push(Message::OpenPort { port: number, outbox: port.outbox() });
        port
    }

    /// A new id: higher than every id before it, in this process and in those before.
    pub fn new_id(&self) -> ItemId {
        let floor = unix_ms() << ID_SEQUENCE_BITS;
        let next = |last: u64| Some(floor.max(last + 1));
        let last = self.inner.last_id.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        ItemId(floor.max(last.unwrap_or_default() + 1))
    }

    /// The state of every lane that holds anything.
    pub async fn lanes(&self) -> Vec<LaneStats> {
        match self.ask(Request::Lanes).await {
            Some(Reply::Lanes(lanes)) => lanes,
            _ => Vec::new(),
        }
    }

    /// Leases up to `n` items of a lane (256 at most) that are due and not held: tentative ones first, then in the order
    /// they became due. A lease that is not finished by `until_unix_ms` runs out.
    pub async fn lease(&self, lane: &Lane, n: usize, until_unix_ms: u64) -> Vec<Lease> {
        match self.ask(Request::Lease { lane: lane.clone(), n, until_unix_ms }).await {
            Some(Reply::Leased(leases)) => leases,
            _ => Vec::new(),
        }
    }

    /// Gives a lease back for later, with new metadata. Durable when it returns; a tentative item stays in memory and its
    /// door hears `Fate::Unsettled`.
    pub async fn postpone(&self, lease: Lease, meta: Vec<u8>, due_unix_ms: u64) -> Result<(), SpoolError> {
        self.done(Request::Postpone { lease, meta, due_unix_ms }).await
    }

    /// Ends an item; its children become durable in the same record. A tentative item's door hears the fate, Delivered
    /// only after the children are durable; with Refused or Deferred they are not stored.
    pub async fn finish(&self, lease: Lease, fate: Fate, children: Vec<Child>) -> Result<(), FinishError> {
        let children = children.into_iter().map(|child| (self.new_id(), child)).collect();
        match self.ask(Request::Finish { lease, fate, children }).await {
            Some(Reply::Finished(result)) => result,
            _ => Err(SpoolError::Stopped.into()),
        }
    }

    /// Counts up when something may have become leasable.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.inner.shared.changed.subscribe()
    }

    /// A snapshot, as of the last group.
    pub fn stats(&self) -> SpoolStats {
        self.inner.shared.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A page of items in the order of their ids (1,000 at most), of the lanes with this key or of all.
    pub async fn list(&self, lane_key: Option<String>, after: Option<ItemId>, n: usize) -> Vec<ItemSummary> {
        match self.ask(Request::List { lane_key, after, n }).await {
            Some(Reply::Listed(items)) => items,
            _ => Vec::new(),
        }
    }

    /// One item in full.
    pub async fn show(&self, id: ItemId) -> Option<Item> {
        match self.ask(Request::Show(id)).await {
            Some(Reply::Shown(item)) => item.map(|boxed| *boxed),
            _ => None,
        }
    }

    /// Holds an item back, or lets it go.
    pub async fn hold(&self, id: ItemId, held: bool) -> Result<(), SpoolError> {
        self.done(Request::Hold(id, held)).await
    }

    /// Makes an item due at another time.
    pub async fn retry(&self, id: ItemId, due_unix_ms: u64) -> Result<(), SpoolError> {
        self.done(Request::Retry(id, due_unix_ms)).await
    }

    /// Removes an item for good.
    pub async fn delete(&self, id: ItemId) -> Result<(), SpoolError> {
        self.done(Request::Delete(id)).await
    }

    /// Commits what is queued and stops. Tentative items are refused: nobody was promised anything. Later calls are
    /// answered as by a stopped spool.
    pub async fn shutdown(&self) {
        let _ = self.inner.shared.inbox.push(Message::Stop);
        // The engine drops its end of a request that it will not answer; this one is never answered.
        let (reply, stopped) = oneshot::channel();
        let _ = self.inner.shared.inbox.push(Message::Request { request: Request::Release(Vec::new()), reply });
        let _ = stopped.await;
        self.inner.join();
    }

    async fn done(&self, request: Request) -> Result<(), SpoolError> {
        match self.ask(request).await {
            Some(Reply::Done(result)) => result,
            _ => Err(SpoolError::Stopped),
        }
    }

    async fn ask(&self, request: Request) -> Option<Reply> {
        let (reply, answer) = oneshot::channel();
        self.inner.shared.inbox.push(Message::Request { request, reply }).ok()?;
        answer.await.ok()
    }
}

impl Inner {
    fn join(&self) {
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The last handle may go with the waker of a port, in the engine thread itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = self.shared.inbox.push(Message::Stop);
        self.join();
    }
}
