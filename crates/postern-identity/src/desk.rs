//! The desk's front: where doors hand in questions and never wait.
//!
//! Owns the thread, the lines of questions (one per class, so that strangers fill their own only) and the
//! refusal of what the weather does not allow. What happens to a question behind it is in `worker.rs`.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use postern_trust::pressure::Level;
use postern_trust::{CLASSES, Class, EvidenceSender};
use tokio::sync::{mpsc, watch};

use crate::dns::{self, Dns};
use crate::limits;
use crate::options::IdentityOptions;
use crate::question::{OnAnswer, OnNetworks, Question};
use crate::stats::{Counters, IdentityStats, Unaffordable, count};
use crate::worker;

/// Why the desk cannot start.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The resolver cannot be set up.
    #[error("DNS cannot be used: {0}; look at /etc/resolv.conf, or name a server in the configuration")]
    Resolver(String),
    /// Not a domain name.
    #[error("{0} is not a domain name")]
    Zone(String),
    /// No thread or runtime.
    #[error("the thread that asks DNS cannot start: {0}")]
    Thread(#[from] std::io::Error),
}

/// One thing to do for the worker.
pub(crate) enum Errand {
    Question(Question, OnAnswer),
    Networks(Box<str>, OnNetworks),
}

/// Asks DNS for all doors on a thread of its own. Clones are the same desk.
#[derive(Clone)]
pub struct IdentityDesk {
    inner: Arc<Inner>,
}

struct Inner {
    lines: [mpsc::Sender<Errand>; CLASSES],
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    providers: watch::Sender<Vec<String>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What both sides of the desk see.
pub(crate) struct Shared {
    pub(crate) counters: Counters,
    level: AtomicU8,
}

impl Shared {
    /// The pressure, as last heard.
    pub(crate) fn is_red(&self) -> bool {
        self.level.load(Relaxed) == Level::Red as u8
    }
}

impl IdentityDesk {
    /// Starts the thread. Nothing is asked before somebody asks, but for the networks of providers.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn start(options: IdentityOptions, evidence: EvidenceSender) -> Result<Self, IdentityError> {
        let counters = Counters::new(options.zones.iter().map(|zone| zone.name.clone()));
        let shared = Arc::new(Shared { counters, level: AtomicU8::new(Level::Calm as u8) });
        let mut receivers = Vec::with_capacity(CLASSES);
        let lines = std::array::from_fn(|_| {
            let (sender, receiver) = mpsc::channel(limits::QUEUE_MAX);
            receivers.push(receiver);
            sender
        });
        let (stop, stopped) = watch::channel(false);
        let (providers, followed) = watch::channel(options.providers.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let dns = {
            let _inside = runtime.enter();
            Dns::new(options.resolver, options.budgets.lookup).map_err(IdentityError::Resolver)?
        };
        let worker = worker::Setup::new(options, dns, Arc::clone(&shared), evidence)?;
        let thread = std::thread::Builder::new()
            .name("identity".to_owned())
            .spawn(move || tokio::task::LocalSet::new().block_on(&runtime, worker.run(receivers, stopped, followed)))?;
        Ok(Self { inner: Arc::new(Inner { lines, shared, stop, providers, thread: Mutex::new(Some(thread)) }) })
    }

    /// Hands in a question. `false`: no room or not affordable, `answer` is dropped and nobody answers it.
    /// Never waits: one atomic operation or two, and a slot in a queue.
    pub fn ask(&self, question: Question, answer: OnAnswer) -> bool {
        self.set_level(question.level);
        let refused = match (question.level, question.class) {
            (Level::Red, _) => Some(Unaffordable::Red),
            // Whom we know needs no DNS, and whom we suspect can only become what he is.
            (Level::Busy, Class::Pinned | Class::Known | Class::Suspect) => Some(Unaffordable::Busy),
            _ => None,
        };
        if let Some(why) = refused {
            self.inner.shared.counters.not_affordable(why);
            return false;
        }
        let line = &self.inner.lines[question.class as usize];
        let taken = line.try_send(Errand::Question(question.normalised(), answer)).is_ok();
        if taken {
            count(&self.inner.shared.counters.asked);
        } else {
            self.inner.shared.counters.not_affordable(Unaffordable::QueueFull);
        }
        taken
    }

    /// The networks that `domain` names in its SPF record: `ip4`, `ip6`, `include`, `redirect`, within
    /// bounds (512 networks, 10 records). For steering by the networks of shared providers that we know.
    /// `false` as for [`Self::ask`].
    pub fn expand_spf_networks(&self, domain: &str, answer: OnNetworks) -> bool {
        if self.inner.shared.is_red() {
            self.inner.shared.counters.not_affordable(Unaffordable::Red);
            return false;
        }
        let taken =
            self.inner.lines[Class::Provider as usize].try_send(Errand::Networks(domain.into(), answer)).is_ok();
        if !taken {
            self.inner.shared.counters.not_affordable(Unaffordable::QueueFull);
        }
        taken
    }

    /// The pressure now: in the red the desk does not ask on its own behalf either. Every question says
    /// it too; this is for the hours in which nobody asks.
    pub fn set_level(&self, level: Level) {
        self.inner.shared.level.store(level as u8, Relaxed);
    }

    /// Other shared providers, as after a reload: networks of new ones are read at once, the rest when they are due. The
    /// same as before changes nothing, so it may be told again and again. What is no domain is left out.
    pub fn set_providers(&self, mut domains: Vec<String>) {
        domains.retain(|domain| dns::domain(domain).is_some());
        self.inner.providers.send_if_modified(|before| {
            let changed = *before != domains;
            *before = domains;
            changed
        });
    }

    /// What was done so far.
    pub fn stats(&self) -> IdentityStats {
        self.inner.shared.counters.stats()
    }

    /// Ends the thread; open questions are not answered. Also done when the last clone goes.
    pub fn stop(&self) {
        self.inner.stop();
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
            tracing::error!("the thread that asks DNS has panicked");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for IdentityDesk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityDesk").finish_non_exhaustive()
    }
}
