//! The postern against peers that take more than they may, or leave in the middle: real gate, real QUIC, real spool. Its
//! peers are made here, because the client of `postern-net` does none of this.

#[path = "hostile/client.rs"]
mod client;
mod stage;

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use client::{Peer, Refused, flight};
use postern_doors::gate::{DoorSockets, Gate, GateOptions, SharedGate};
use postern_doors::postern::{Postern, PosternOptions, PosternStatsSnapshot, Proof, Prover};
use postern_doors::{DoorListeners, DoorOptions, Doors, Policy, Recipients};
use postern_net::door::{KeyPair, PublicKey, ServerProfile};
use postern_net::socket;
use postern_proto::door::{CloseCode, Frame, Keyring, Master};
use postern_proto::envelope::Via;
use postern_proto::mode::{Mode, Modes};
use postern_proto::session::SessionOptions;
use postern_spool::{BodySource, Lane, Lease, Spool, SpoolOptions};

/// A postern for `example.com`, any recipient, and what stands behind it.
struct Stage {
    postern: Option<Postern>,
    spool: Spool,
    prover: Arc<Book>,
    policy: Arc<ArcSwap<Policy>>,
    modes: Arc<ArcSwap<Modes>>,
    dir: tempfile::TempDir,
}

/// Whose key is whose.
#[derive(Default)]
struct Book(Mutex<HashMap<String, (PublicKey, Proof)>>);

impl Prover for Book {
    fn prove(&self, domain: &str, _: Option<&str>, key: &PublicKey, answer: Box<dyn FnOnce(Proof) + Send>) {
        answer(match self.0.lock().unwrap().get(domain) {
            Some((known, proof)) if known == key => proof.clone(),
            _ => Proof::Unproven { why: "not in the book".to_owned() },
        });
    }
}

/// What tests change.
struct Settings {
    mode: Mode,
    window_bytes_max: u64,
    body: Option<Duration>,
    lifetime_max: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { mode: Mode::Collect, window_bytes_max: 256 << 20, body: None, lifetime_max: None }
    }
}

fn gate() -> SharedGate {
    let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let options = GateOptions { strangers_per_second: 10_000, ..GateOptions::default() };
    Arc::new(Mutex::new(Gate::new(Keyring::new(&Master::new([7; 32]), now_s), options, [3; 16])))
}

impl Stage {
    fn new(settings: Settings) -> Self {
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

    /// Opens the door; another one each time, with the same secrets.
    fn open(&mut self, settings: &Settings) {
        let mut session = SessionOptions::new("mx.example.com".into(), Via::Public);
        session.limits.body = settings.body.unwrap_or(session.limits.body);
        let own = KeyPair::from_pkcs8(&KeyPair::generate().unwrap()).unwrap();
        let sockets = DoorSockets::open("127.0.0.1:0".parse().unwrap()).unwrap();
        let prover = Arc::clone(&self.prover) as _;
        let options = PosternOptions {
            lifetime_max: settings.lifetime_max,
            peers_max: 100,
            streams_max: 1_000,
            window_bytes_max: settings.window_bytes_max,
            ..PosternOptions::new(sockets, gate(), ServerProfile::new(&own), [9; 32], prover, session)
        };
        let opened =
            Postern::start(self.spool.clone(), Arc::clone(&self.policy), Arc::clone(&self.modes), options).unwrap();
        self.postern = Some(opened);
    }

    fn addr(&self) -> SocketAddr {
        self.postern.as_ref().unwrap().addr()
    }

    fn stats(&self) -> PosternStatsSnapshot {
        self.postern.as_ref().unwrap().stats().snapshot()
    }

    /// A peer that the prover says this of.
    fn peer(&self, domain: &str, proof: Proof) -> Peer {
        let peer = Peer::new(domain);
        self.prover.0.lock().unwrap().insert(domain.to_owned(), (peer.key.clone(), proof));
        peer
    }

    fn known(&self, domain: &str) -> Peer {
        self.peer(domain, Proof::Known { org: domain.to_owned() })
    }

    async fn leases(&self) -> Vec<Lease> {
        self.spool.lease(&Lane::new("example.com", 1), 100, u64::MAX).await
    }

    /// All lanes that peers of these tests can fall into.
    async fn stored(&self) -> usize {
        let mut stored = 0;
        for class in 0..5 {
            stored += self.spool.lease(&Lane::new("example.com", class), 100, u64::MAX).await.len();
        }
        stored
    }

    /// Waits until the counters are so.
    async fn until(&self, wanted: impl Fn(&PosternStatsSnapshot) -> bool) {
        for _ in 0..1_000 {
            if wanted(&self.stats()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never came to be: {:?}", self.stats());
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
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(40), test).await.expect("it takes too long") })
}

#[test]
fn several_messages_follow_each_other_on_several_streams_at_once() {
    let stage = Stage::new(Settings::default());
    run(async {
        let link = stage.known("peer.example").enter(stage.addr(), None).await.unwrap();
        let mut streams = Vec::new();
        for n in 0..8 {
            let mut mail = link.stream().await;
            let messages: String = (0..5).map(|m| flight("bob@peer.example", &format!("{n}.{m}"))).collect();
            mail.say(&format!("EHLO mta.peer.example\r\n{messages}")).await;
            streams.push(mail);
        }
        for mail in &mut streams {
            mail.reply().await;
            for _ in 0..5 {
                mail.reply().await;
                mail.reply().await;
                let reply = mail.reply().await;
                assert!(reply.starts_with("250 2.0.0 Queued"), "{reply}");
            }
        }
        assert_eq!(stage.leases().await.len(), 40);
        assert_eq!(stage.stats().streams, 8);
        drop(streams);
        stage.until(|stats| stats.streams == 0).await;
    });
}

#[test]
fn a_large_message_comes_whole() {
    let stage = Stage::new(Settings::default());
    run(async {
        let link = stage.known("peer.example").enter(stage.addr(), None).await.unwrap();
        let mut mail = link.stream().await;
        let body = "0123456789abcdef".repeat(60) + "\r\n";
        let body = body.repeat(2_000);
        mail.say("EHLO mta.peer.example\r\n").await;
        mail.say(&flight("bob@peer.example", &body)).await;
        for _ in 0..3 {
            mail.reply().await;
        }
        let reply = mail.reply().await;
        assert!(reply.starts_with("250 2.0.0"), "{reply}");
        let leases = stage.leases().await;
        let BodySource::File { len, .. } = leases[0].body else { panic!("a large body has a file") };
        assert_eq!(len, (body.len() + "From: bob@peer.example\r\nSubject: x\r\n\r\n\r\n".len()) as u64);
    });
}

#[test]
fn streams_that_are_opened_before_the_proof_are_never_served() {
    let stage = Stage::new(Settings::default());
    run(async {
        let (_endpoint, connection) = Peer::new("nobody.example").shake(stage.addr(), None).await.unwrap();
        let (mut control, _) = connection.open_bi().await.unwrap();
        let (mut mail, mut replies) = connection.open_bi().await.unwrap();
        mail.write_all(format!("EHLO x\r\n{}", flight("bob@nobody.example", "Hi")).as_bytes()).await.unwrap();
        let mut ident = Vec::new();
        Frame::Ident { domain: "nobody.example".into(), owner: None, vouches: Vec::new() }.encode(&mut ident);
        control.write_all(&ident).await.unwrap();
        assert!(replies.read(&mut [0; 100]).await.is_err(), "not a word");
        assert_eq!(stage.stored().await, 0);
    });
}

#[test]
fn an_author_of_another_domain_has_to_use_the_mx_and_nothing_is_stored() {
    let stage = Stage::new(Settings::default());
    run(async {
        let peer = stage.peer("mail.corp.example", Proof::Proven { org: "corp.example".to_owned() });
        let link = peer.enter(stage.addr(), None).await.unwrap();
        let mut mail = link.stream().await;
        mail.say("EHLO mta.corp.example\r\n").await;
        mail.reply().await;
        let large = format!("{}\r\n", "x".repeat(900)).repeat(300);
        let message = format!("From: bank@bank.example\r\n\r\n{large}");
        for text in [
            flight("bank@bank.example", "Pay here"),
            // The envelope sender says what it likes.
            format!(
                "MAIL FROM:<bob@corp.example>\r\nRCPT TO:<ann@example.com>\r\nBDAT {} LAST\r\n{message}",
                message.len()
            ),
        ] {
            mail.say(&text).await;
            mail.reply().await;
            mail.reply().await;
            let reply = mail.reply().await;
            assert!(reply.starts_with("550 5.7.1 USE-MX"), "{reply}");
        }
        assert_eq!(stage.stored().await, 0);
        for from in ["a@mail.corp.example", "b@corp.example", "c@news.corp.example"] {
            mail.say(&flight(from, "Hello")).await;
            mail.reply().await;
            mail.reply().await;
            let reply = mail.reply().await;
            assert!(reply.starts_with("250 2.0.0 Queued"), "{reply}");
        }
        assert_eq!(stage.stored().await, 3);
        assert_eq!(stage.postern.as_ref().unwrap().sessions().snapshot().use_mx, 2);
    });
}

#[test]
fn a_ticket_admits_again_after_the_door_was_closed_and_opened() {
    let mut stage = Stage::new(Settings::default());
    let peer = stage.known("peer.example");
    let tickets = run(async { peer.enter(stage.addr(), None).await.unwrap().tickets });
    run(stage.postern.take().unwrap().stop(Duration::ZERO));
    stage.open(&Settings::default());
    run(async {
        let link = peer.enter(stage.addr(), Some(tickets[0])).await.unwrap();
        // One for the one that is used up, and one more.
        assert!(link.tickets.len() <= 2);
        assert_eq!(stage.stats().unknown_attempts, 0);
    });
}

#[test]
fn a_peer_whose_key_cannot_be_looked_up_now_is_told_to_come_again() {
    let stage = Stage::new(Settings::default());
    run(async {
        let refused = stage.peer("peer.example", Proof::NotNow).enter(stage.addr(), None).await.err().unwrap();
        assert!(matches!(refused, Refused::Parked(seconds) if seconds > 0), "{refused:?}");
        stage.until(|stats| stats.parked == 1).await;
        assert_eq!(stage.stats().tickets, 0);
    });
}

#[test]
fn abandoned_handshakes_are_bounded_and_expire_and_the_known_get_past_them() {
    let stage = Stage::new(Settings::default());
    run(async {
        let friend = stage.known("friend.example");
        let ticket = friend.enter(stage.addr(), None).await.unwrap().tickets[0];
        let nobody = Arc::new(Peer::new("nobody.example"));
        let mut crowd = tokio::task::JoinSet::new();
        let addr = stage.addr();
        for _ in 0..190 {
            let nobody = Arc::clone(&nobody);
            crowd.spawn(async move {
                // Through TLS, and then not a word.
                let held = nobody.shake(addr, None).await;
                std::future::pending::<()>().await;
                drop(held);
            });
        }
        stage.until(|stats| stats.shaking >= 120).await;
        assert!(stage.stats().shaking <= 148, "{:?}", stage.stats());
        let begun = Instant::now();
        friend.enter(addr, Some(ticket)).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(2), "a friend waited for {:?}", begun.elapsed());
        stage.until(|stats| stats.expired >= 120).await;
        assert!(stage.stats().waiting <= 24);
        crowd.abort_all();
        stage.until(|stats| (stats.shaking, stats.waiting) == (0, 0)).await;
    });
}

#[test]
fn a_message_below_the_floor_closes_the_connection_and_an_idle_one_is_not_slow() {
    let stage = Stage::new(Settings { body: Some(Duration::from_secs(1)), ..Settings::default() });
    run(async {
        let idle = stage.known("idle.example").enter(stage.addr(), None).await.unwrap();
        let mut waiting = idle.stream().await;
        waiting.say("EHLO mta.idle.example\r\n").await;
        waiting.reply().await;
        let link = stage.known("slow.example").enter(stage.addr(), None).await.unwrap();
        let mut mail = link.stream().await;
        mail.say("EHLO mta.slow.example\r\nMAIL FROM:<>\r\nRCPT TO:<ann@example.com>\r\nBDAT 100000 LAST\r\n").await;
        let drip = async {
            loop {
                // A tenth of the floor of 1 KiB/s.
                if mail.send.write_all(&[b'x'; 50]).await.is_err() {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        let code = tokio::select! {
            code = link.closed() => code,
            () = drip => 0,
        };
        assert_eq!(code, CloseCode::TooSlow as u64);
        assert_eq!(stage.stats().too_slow, 1);
        waiting.say("NOOP\r\n").await;
        assert!(waiting.reply().await.starts_with("250 "));
        assert_eq!(stage.stored().await, 0);
    });
}

#[test]
fn a_connection_lives_as_long_as_it_may_and_its_last_message_is_answered() {
    let stage = Stage::new(Settings { lifetime_max: Some(Duration::from_millis(1_500)), ..Settings::default() });
    run(async {
        let link = stage.known("peer.example").enter(stage.addr(), None).await.unwrap();
        let (mut idle, mut busy) = (link.stream().await, link.stream().await);
        idle.say("EHLO mta.peer.example\r\n").await;
        idle.reply().await;
        let (first, rest) = (flight("bob@peer.example", "Hello"), 10);
        busy.say("EHLO mta.peer.example\r\n").await;
        busy.say(&first[..first.len() - rest]).await;
        let goodbye = idle.line().await;
        assert!(goodbye.starts_with("421 "), "{goodbye}");
        // In the middle of a message it is waited for.
        busy.say(&first[first.len() - rest..]).await;
        for _ in 0..3 {
            busy.reply().await;
        }
        let reply = busy.reply().await;
        assert!(reply.starts_with("250 2.0.0 Queued"), "{reply}");
        assert_eq!(link.closed().await, CloseCode::LifetimeOver as u64);
        assert_eq!(stage.leases().await.len(), 1);
    });
}

#[test]
fn a_panic_of_the_listener_is_confined_and_the_public_door_goes_on() {
    let stage = Stage::new(Settings::default());
    let listener = socket::listen("127.0.0.1:0".parse().unwrap(), socket::BACKLOG, false).unwrap();
    let options = DoorOptions {
        listeners: vec![DoorListeners { strangers: listener, known: None }],
        session: SessionOptions::new("mx.example.com".into(), Via::Public),
        tls: None,
        proxy_from: Vec::new(),
        xclient_from: Vec::new(),
        connections_max: 100,
        callouts: None,
        admission: None,
    };
    let public =
        Doors::start(stage.spool.clone(), Arc::clone(&stage.policy), Arc::clone(&stage.modes), options).unwrap();
    let mut tcp = stage::Client::connect(public.addr());
    tcp.expect("220 ");
    tcp.begin_body();
    run(async {
        let peer = stage.known("peer.example");
        let link = peer.enter(stage.addr(), None).await.unwrap();
        let begun = Instant::now();
        stage.postern.as_ref().unwrap().inject_panic();
        stage.until(|stats| stats.rebuilt == 1).await;
        // Packets of those whom the old life knew are answered by nobody, or by a reset; those with a ticket come in.
        let again = peer.enter(stage.addr(), Some(link.tickets[0])).await.unwrap();
        println!("in again after {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(5));
        let mut mail = again.stream().await;
        mail.say(&format!("EHLO mta.peer.example\r\n{}", flight("bob@peer.example", "Hello"))).await;
        for _ in 0..3 {
            mail.reply().await;
        }
        assert!(mail.reply().await.starts_with("250 2.0.0 Queued"));
        assert!((stage.stats().rebuilt, stage.stats().open) == (1, 1));
    });
    // The connection that was in the middle of a message was never touched.
    tcp.write(b"Subject: x\r\n\r\nHello\r\n.\r\n");
    tcp.expect("250 2.0.0 Queued");
    assert_eq!((public.stats().snapshot().panics, public.stats().snapshot().open), (0, 1));
    run(public.stop(Duration::ZERO));
}

#[test]
fn an_insider_cannot_hoard_windows() {
    // Room for one window of the known, and a little.
    let budget = 5 << 20;
    let stage = Stage::new(Settings { mode: Mode::Through, window_bytes_max: budget, ..Settings::default() });
    run(async {
        let peer = stage.known("hoarder.example");
        let mut links = vec![peer.enter(stage.addr(), None).await.unwrap()];
        let tickets = links[0].tickets.clone();
        for ticket in tickets.into_iter().take(3) {
            links.push(peer.enter(stage.addr(), Some(ticket)).await.unwrap());
        }
        let small = 64 << 10;
        let granted = stage.stats().window_bytes;
        assert!(granted <= budget + links.len() as u64 * small, "{:?}", stage.stats());
        assert_eq!(stage.stats().narrowed, 3);
        // A message whose outcome nobody tells, and behind it as much as goes. It goes no further than the windows, one
        // read of the session (64 KiB) and what the client itself keeps.
        let (mut taken, mut held) = (0, Vec::new());
        // The first came as a stranger: its streams keep a stranger's windows, and it may have many.
        for link in std::iter::repeat_n(&links[0], 12).chain(&links[1..]) {
            let mut mail = link.stream().await;
            mail.say(&format!("EHLO x\r\n{}", flight("bob@hoarder.example", "Hello"))).await;
            for _ in 0..3 {
                mail.reply().await;
            }
            let block = vec![b'x'; 64 << 10];
            while let Ok(Ok(written)) = tokio::time::timeout(Duration::from_millis(500), mail.send.write(&block)).await
            {
                taken += written as u64;
            }
            held.push(mail);
        }
        let streams = held.len() as u64;
        let kept = streams * small + links.len() as u64 * client::SEND_WINDOW_BYTES;
        assert!(taken >= streams * small / 2, "{taken} octets taken: nobody tried");
        assert!(taken <= granted + kept, "{taken} octets taken, {granted} granted");
        assert_eq!(stage.stats().window_bytes, granted);
        drop((links, held));
        stage.until(|stats| stats.window_bytes == 0).await;
    });
}

#[test]
fn a_stop_says_goodbye_on_streams_and_closes_with_its_code() {
    let mut stage = Stage::new(Settings::default());
    let postern = stage.postern.take().unwrap();
    let peer = stage.known("peer.example");
    run(async {
        let link = peer.enter(postern.addr(), None).await.unwrap();
        let mut mail = link.stream().await;
        mail.say("EHLO mta.peer.example\r\n").await;
        mail.reply().await;
        let stopped = tokio::spawn(postern.stop(Duration::from_secs(5)));
        let goodbye = mail.line().await;
        assert!(goodbye.starts_with("421 4.3.2"), "{goodbye}");
        assert_eq!(link.closed().await, CloseCode::ShuttingDown as u64);
        stopped.await.unwrap();
    });
}

#[test]
fn a_first_frame_that_is_not_ident_is_a_protocol_error() {
    let stage = Stage::new(Settings::default());
    run(async {
        for octets in [&b"\x00\x00"[..], b"\xff\xff", b"\x00\x05\x82\x18\x64\xa0\x00"] {
            let (_endpoint, connection) = stage.known("peer.example").shake(stage.addr(), None).await.unwrap();
            let (mut control, _receive) = connection.open_bi().await.unwrap();
            control.write_all(octets).await.unwrap();
            match connection.closed().await {
                quinn::ConnectionError::ApplicationClosed(close) => {
                    assert_eq!(close.error_code.into_inner(), CloseCode::Protocol as u64);
                }
                other => panic!("{other}"),
            }
        }
        assert_eq!(stage.stats().protocol_errors, 3);
    });
}
