//! A postern with everything real but DNS, and what stands behind it.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use postern_doors::gate::{DoorSockets, Gate, GateOptions, SharedGate};
use postern_doors::postern::{Answer, Claim, Postern, PosternOptions, PosternStatsSnapshot, Proof, Prover, Standing};
use postern_doors::{Admission, Policy, Recipients};
use postern_net::door::{KeyPair, PublicKey, ServerProfile};
use postern_proto::door::{Keyring, Master};
use postern_proto::envelope::Via;
use postern_proto::mode::{Mode, Modes};
use postern_proto::session::SessionOptions;
use postern_spool::{Lane, Lease, Spool, SpoolOptions};
use tokio::sync::watch;

use crate::blunt::PATIENCE;
use crate::client::Peer;

/// A postern for `example.com`, any recipient.
pub(crate) struct Stage {
    pub(crate) postern: Option<Postern>,
    pub(crate) spool: Spool,
    pub(crate) policy: Arc<ArcSwap<Policy>>,
    pub(crate) modes: Arc<ArcSwap<Modes>>,
    prover: Arc<Book>,
    dir: tempfile::TempDir,
}

/// Whose key is whose, and who is pinned to somebody that is in none of these tests.
#[derive(Default)]
struct Book {
    keys: Mutex<HashMap<String, (PublicKey, Proof)>>,
    barred: Mutex<Vec<String>>,
    changes: watch::Sender<u64>,
    asked: AtomicUsize,
}

impl Prover for Book {
    fn prove(&self, claim: Claim<'_>, answer: Answer) {
        self.asked.fetch_add(1, Relaxed);
        answer.tell(match self.keys.lock().unwrap().get(claim.domain) {
            Some((known, proof)) if known == claim.key => proof.clone(),
            _ => Proof::Unproven { why: "not in the book".to_owned() },
        });
    }

    fn is_barred(&self, domain: &str, _: &str, _: &PublicKey) -> bool {
        self.barred.lock().unwrap().iter().any(|barred| barred == domain)
    }

    fn is_pinned(&self, domain: &str, key: &PublicKey) -> bool {
        let keys = self.keys.lock().unwrap();
        keys.get(domain).is_some_and(|(known, proof)| known == key && matches!(proof, Proof::Pinned(_)))
    }

    fn pin_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// What tests change.
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    pub(crate) strangers_per_second: u32,
    pub(crate) window_bytes_max: u64,
    pub(crate) streams_max: usize,
    pub(crate) body: Option<Duration>,
    /// `None`: as long as the class may, 3 s for a stranger, which a machine that stands still can take for one handshake.
    pub(crate) handshake: Option<Duration>,
    pub(crate) lifetime_max: Option<Duration>,
    /// Who comes first, as a site judges it.
    pub(crate) admission: Option<Admission>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Collect,
            strangers_per_second: 10_000,
            window_bytes_max: 256 << 20,
            streams_max: 1_000,
            body: None,
            handshake: Some(PATIENCE),
            lifetime_max: None,
            admission: None,
        }
    }
}

fn gate(strangers_per_second: u32) -> SharedGate {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let options = GateOptions { strangers_per_second, ..GateOptions::default() };
    Arc::new(Mutex::new(Gate::new(Keyring::new(&Master::new([7; 32]), now_s), options, [3; 16])))
}

impl Stage {
    pub(crate) fn new(settings: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(SpoolOptions::new(dir.path())).unwrap();
        let policy = Policy { domains: [("example.com".to_owned(), Recipients::Any)].into(), ..Policy::default() };
        let mut stage = Self {
            postern: None,
            spool,
            prover: Arc::default(),
            policy: Arc::new(ArcSwap::from_pointee(policy)),
            modes: Arc::new(ArcSwap::from_pointee(Modes { default: settings.mode, ..Modes::default() })),
            dir,
        };
        stage.open(&settings);
        stage
    }

    /// How often somebody's key was asked about.
    pub(crate) fn asked(&self) -> usize {
        self.prover.asked.load(Relaxed)
    }

    /// Opens the door; another one each time, with the same secrets.
    pub(crate) fn open(&mut self, settings: &Settings) {
        let mut session = SessionOptions::new("mx.example.com".into(), Via::Public);
        session.limits.body = settings.body.unwrap_or(session.limits.body);
        let own = KeyPair::from_pkcs8(&KeyPair::generate().unwrap()).unwrap();
        let sockets = DoorSockets::open("127.0.0.1:0".parse().unwrap(), 0).unwrap();
        let prover = Arc::clone(&self.prover) as _;
        let gate = gate(settings.strangers_per_second);
        let options = PosternOptions {
            handshake: settings.handshake,
            lifetime_max: settings.lifetime_max,
            admission: settings.admission.clone(),
            peers_max: 100,
            streams_max: settings.streams_max,
            window_bytes_max: settings.window_bytes_max,
            ..PosternOptions::new(sockets, gate, ServerProfile::new(&own), [9; 32], prover, session)
        };
        let opened =
            Postern::start(self.spool.clone(), Arc::clone(&self.policy), Arc::clone(&self.modes), options).unwrap();
        self.postern = Some(opened);
    }

    pub(crate) fn postern(&self) -> &Postern {
        self.postern.as_ref().unwrap()
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.postern().addr()
    }

    pub(crate) fn stats(&self) -> PosternStatsSnapshot {
        self.postern().stats().snapshot()
    }

    /// A peer that the prover says this of.
    pub(crate) fn peer(&self, domain: &str, proof: Proof) -> Peer {
        let peer = Peer::new(domain);
        self.prover.keys.lock().unwrap().insert(domain.to_owned(), (peer.key.clone(), proof));
        peer
    }

    pub(crate) fn known(&self, domain: &str) -> Peer {
        self.peer(domain, Proof::Known(Standing::unsigned(domain)))
    }

    pub(crate) fn proven(&self, domain: &str) -> Peer {
        self.peer(domain, Proof::Proven(Standing::unsigned(domain)))
    }

    /// The operator takes back what proves a domain.
    pub(crate) fn unpin(&self, domain: &str) {
        self.prover.keys.lock().unwrap().remove(domain);
        self.prover.changes.send_modify(|changes| *changes += 1);
    }

    /// The operator pins a domain to a key that no peer of these tests has.
    pub(crate) fn bar(&self, domain: &str) {
        self.prover.barred.lock().unwrap().push(domain.to_owned());
        self.prover.changes.send_modify(|changes| *changes += 1);
    }

    pub(crate) async fn leases(&self) -> Vec<Lease> {
        self.spool.lease(&Lane::new("example.com", 1), 100, u64::MAX).await
    }

    /// All lanes that peers of these tests can fall into.
    pub(crate) async fn stored(&self) -> usize {
        let mut stored = 0;
        for class in 0..5 {
            stored += self.spool.lease(&Lane::new("example.com", class), 100, u64::MAX).await.len();
        }
        stored
    }

    /// Waits until the counters are so.
    pub(crate) async fn until(&self, wanted: impl Fn(&PosternStatsSnapshot) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !wanted(&self.stats()) {
            assert!(Instant::now() < until, "it never came to be: {:?}", self.stats());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        if let Some(postern) = self.postern.take() {
            runtime.block_on(postern.stop(Duration::ZERO));
        }
        runtime.block_on(self.spool.shutdown());
        let _kept_until_now = &self.dir;
    }
}

/// A test with a limit.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(3 * PATIENCE, test).await.expect("it takes too long") })
}

/// Does something and counts how often this thread could have done something else every 10 ms meanwhile: a clock that
/// stands still when the machine does, for upper bounds.
pub(crate) async fn beats<T>(what: impl Future<Output = T>) -> (T, u32) {
    let mut what = std::pin::pin!(what);
    for beats in 0.. {
        if let Ok(done) = tokio::time::timeout(Duration::from_millis(10), &mut what).await {
            return (done, beats);
        }
    }
    unreachable!("the test is over long before");
}

/// [`beats`] in a second, at most.
pub(crate) const BEATS_PER_SECOND: u32 = 100;
