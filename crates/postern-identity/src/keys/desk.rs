//! The desk's front: where doors ask about keys. Owns the thread, the line of questions and the pins, which are answered
//! right here.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use postern_net::dns::{DnsTrust, Resolver, ResolverOptions};
use tokio::sync::{Notify, oneshot, watch};

use super::line::{Line, Waiting};
use super::pinned::InForce;
use super::{KeyOptions, KeyProof, KeyQuestion, NotNow, PinWord, PinnedPeers, worker};
use crate::desk::IdentityError;
use crate::stats::count;

/// Who waits for an answer. A closure that takes it is one who never leaves.
pub trait Asker: Send {
    /// The answer. Called once at most, on the desk's thread or before [`KeyDesk::ask`] returns; it must not wait.
    fn tell(self: Box<Self>, proof: KeyProof);

    /// Nobody waits any more: the question need not be worked on.
    fn has_left(&self) -> bool {
        false
    }

    /// Ready when nobody waits any more.
    fn poll_left(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let _never = context;
        Poll::Pending
    }
}

impl<F: FnOnce(KeyProof) + Send> Asker for F {
    fn tell(self: Box<Self>, proof: KeyProof) {
        self(proof);
    }
}

/// Dropped untold when the desk stops, or when it has left.
pub type OnProof = Box<dyn Asker>;

/// A question and who asked it.
pub(super) struct Errand {
    pub(super) question: KeyQuestion,
    pub(super) asker: OnProof,
}

impl Waiting for Errand {
    fn is_unwanted(&self) -> bool {
        self.asker.has_left()
    }
}

/// Where the front puts questions and the thread takes them.
pub(super) struct Counter {
    /// `None`: the thread has ended.
    line: Mutex<Option<Line<Errand>>>,
    pub(super) news: Notify,
}

impl Counter {
    fn new() -> Self {
        Self { line: Mutex::new(Some(Line::new())), news: Notify::new() }
    }

    /// Whatever is done with the line; `None` when nobody works on it any more.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Line<Errand>) -> T) -> Option<T> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(act)
    }

    /// The thread ends: what waits is dropped.
    pub(super) fn close(&self) {
        // Outside the lock: who is dropped may ask again.
        let _waiting = self.line.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Proves keys, on a thread of its own. Clones are the same desk.
#[derive(Clone)]
pub struct KeyDesk {
    inner: Arc<Inner>,
}

struct Inner {
    counter: Arc<Counter>,
    pinned: Arc<InForce>,
    counters: Arc<Counters>,
    stop: watch::Sender<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyStats {
    /// Questions, those that pins answer included.
    pub asked: u64,
    /// Answered from pins.
    pub pinned: u64,
    /// Answered "proven", the stale ones included.
    pub proven: u64,
    /// Of these, from memory while DNS failed.
    pub stale: u64,
    /// Answered "unproven".
    pub unproven: u64,
    /// Answered "not now".
    pub not_now: u64,
    /// Not answered, because whoever asked had left.
    pub left: u64,
    /// Look-ups sent to the name server.
    pub lookups: u64,
    /// Look-ups answered from the cache.
    pub cache_hits: u64,
    /// Look-ups without an answer.
    pub failed: u64,
    /// Look-ups in flight now.
    pub in_flight: u64,
    /// Answers kept now; never above 2,048.
    pub cached: u64,
}

/// Behind [`KeyStats`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) asked: AtomicU64,
    pub(super) pinned: AtomicU64,
    pub(super) proven: AtomicU64,
    pub(super) stale: AtomicU64,
    pub(super) unproven: AtomicU64,
    pub(super) not_now: AtomicU64,
    pub(super) left: AtomicU64,
    pub(super) lookups: AtomicU64,
    pub(super) cache_hits: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) in_flight: AtomicU64,
    pub(super) cached: AtomicU64,
}

impl KeyDesk {
    /// Starts the thread. Nothing is asked before somebody asks.
    ///
    /// # Errors
    /// [`IdentityError`]: the resolver, its trust anchor, or the thread.
    pub fn start(options: KeyOptions) -> Result<Self, IdentityError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let resolver = {
            let _inside = runtime.enter();
            let resolver = ResolverOptions {
                server: options.resolver,
                trust: options.trust.clone(),
                // Ours bounds octets and failures too.
                cache_entries: 0,
                ..ResolverOptions::new(options.lookup)
            };
            Resolver::with_options(&resolver).map_err(|error| IdentityError::Resolver(error.to_string()))?
        };
        let counters = Arc::new(Counters::default());
        let pinned = Arc::new(InForce::new(options.pinned.clone()));
        let validates = options.trust != DnsTrust::None;
        let (counted, pins) = (Arc::clone(&counters), Arc::clone(&pinned));
        let office = worker::Setup { resolver, validates, options, counters: counted, pinned: pins };
        let counter = Arc::new(Counter::new());
        let desk_side = Arc::clone(&counter);
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name("identity-keys".to_owned())
            .spawn(move || tokio::task::LocalSet::new().block_on(&runtime, office.run(desk_side, stopped)))?;
        Ok(Self { inner: Arc::new(Inner { counter, pinned, counters, stop, thread: Mutex::new(Some(thread)) }) })
    }

    /// Asks. Never waits; every question is answered, by "not now" when there is no room. To be called only after TLS has
    /// proved that the peer holds the key.
    pub fn ask(&self, question: KeyQuestion, asker: OnProof) {
        let counters = &self.inner.counters;
        count(&counters.asked);
        let pinned = self.pinned().prove(&question);
        if let Some(proof) = pinned {
            count(&counters.pinned);
            counters.answered(&proof);
            return asker.tell(proof);
        }
        let (class, mut gone) = (question.class, Vec::new());
        let mut errand = Some(Errand { question, asker });
        let turned_away = self.inner.counter.with(|line| {
            let errand = errand.take()?;
            line.push(class, errand, |unwanted| gone.push(unwanted)).err()
        });
        gone.iter().for_each(|_| count(&counters.left));
        // Not told while the line is locked: who is told may ask again.
        if let Some(Errand { asker, .. }) = turned_away.flatten().or(errand) {
            let proof = KeyProof::NotNow(NotNow::Full);
            counters.answered(&proof);
            return asker.tell(proof);
        }
        self.inner.counter.news.notify_one();
    }

    /// Asks and waits, no longer than [`KeyOptions::question`]. From any runtime.
    pub async fn prove(&self, question: KeyQuestion) -> KeyProof {
        let (sender, receiver) = oneshot::channel();
        // Who asked may have gone.
        self.ask(question, Box::new(move |proof| drop(sender.send(proof))));
        receiver.await.unwrap_or(KeyProof::NotNow(NotNow::Full))
    }

    /// Other pins, from now on.
    pub fn set_pinned(&self, pinned: PinnedPeers) {
        self.inner.pinned.replace(pinned);
    }

    /// The pins in force.
    pub fn pinned(&self) -> Arc<PinnedPeers> {
        self.inner.pinned.now()
    }

    /// Rings whenever the pins have changed: what was proven by them is to be looked at again.
    pub fn pin_changes(&self) -> watch::Receiver<u64> {
        self.inner.pinned.changes()
    }

    /// What the pins in force say; see [`PinnedPeers::word`]. No DNS, no waiting.
    pub fn pin_word(&self, domain: &str, org: &str, spki: &[u8]) -> PinWord {
        self.pinned().word(domain, org, spki)
    }

    /// What was done so far.
    pub fn stats(&self) -> KeyStats {
        let Counters {
            asked,
            pinned,
            proven,
            stale,
            unproven,
            not_now,
            left,
            lookups,
            cache_hits,
            failed,
            in_flight,
            cached,
        } = &*self.inner.counters;
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        KeyStats {
            asked: read(asked),
            pinned: read(pinned),
            proven: read(proven),
            stale: read(stale),
            unproven: read(unproven),
            not_now: read(not_now),
            left: read(left),
            lookups: read(lookups),
            cache_hits: read(cache_hits),
            failed: read(failed),
            in_flight: read(in_flight),
            cached: read(cached),
        }
    }

    /// Ends the thread; open questions are not answered. Also done when the last clone goes.
    pub fn stop(&self) {
        self.inner.stop();
    }
}

impl Counters {
    pub(super) fn answered(&self, proof: &KeyProof) {
        count(match proof {
            KeyProof::Proven { .. } => &self.proven,
            KeyProof::Unproven(_) => &self.unproven,
            KeyProof::NotNow(_) => &self.not_now,
        });
    }
}

impl Inner {
    fn stop(&self) {
        // Nobody listens when the thread has ended by itself.
        let _ = self.stop.send(true);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // An answer that drops the last desk runs on the desk's own thread.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id())
            && thread.join().is_err()
        {
            tracing::error!("the thread that proves keys has panicked");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for KeyDesk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyDesk").finish_non_exhaustive()
    }
}
