//! The postern with everything real but DNS: gate, sockets, QUIC, sessions and spool, and the client of `postern-net`.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use postern_doors::gate::{DoorSockets, Gate, GateOptions};
use postern_doors::postern::{Answer, Claim, Postern, PosternOptions, Proof, Prover, Standing};
use postern_doors::{Policy, Recipients};
use postern_net::door::{
    Deadlines, DoorAddress, DoorClient, DoorClientOptions, DoorError, DoorStream, KeyPair, PublicKey, Purse,
    ServerProfile,
};
use postern_proto::door::{CloseCode, Keyring, Master, PeerClass};
use postern_proto::envelope::Via;
use postern_proto::mode::{Mode, Modes};
use postern_proto::session::SessionOptions;
use postern_spool::{Spool, SpoolOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// More than a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Says of every key that it is `domain`'s; of other domains that nothing proves it.
struct Pins(Vec<(String, PublicKey)>);

impl Prover for Pins {
    fn prove(&self, claim: Claim<'_>, answer: Answer) {
        let Claim { domain, key, .. } = claim;
        let pinned = self.0.iter().any(|(pinned, own)| pinned == domain && own == key);
        answer.tell(match domain {
            "late.example" => Proof::NotNow,
            _ if pinned => Proof::Pinned(Standing::secure(domain)),
            "dns.example" => Proof::Proven(Standing::unsigned(domain)),
            _ => Proof::Unproven { why: "nobody knows it".to_owned() },
        });
    }

    fn is_barred(&self, _: &str, _: &str, _: &PublicKey) -> bool {
        false
    }

    fn is_pinned(&self, domain: &str, key: &PublicKey) -> bool {
        self.0.iter().any(|(pinned, own)| pinned == domain && own == key)
    }

    fn pin_changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

struct Site {
    postern: Option<Postern>,
    spool: Spool,
    key: PublicKey,
    friend: KeyPair,
    /// One for all: whoever opens it a second time sweeps away what the first is about to put into it.
    purse: Purse,
    _dir: tempfile::TempDir,
}

fn key() -> KeyPair {
    KeyPair::from_pkcs8(&KeyPair::generate().unwrap()).unwrap()
}

impl Site {
    fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(SpoolOptions::new(dir.path().join("spool"))).unwrap();
        let sockets = DoorSockets::open("127.0.0.1:0".parse().unwrap(), 0).unwrap();
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let keys = Keyring::new(&Master::new([7; 32]), now_s);
        let gate = Arc::new(Mutex::new(Gate::new(keys, GateOptions::default(), [5; 16])));
        let (own, friend) = (key(), key());
        let pins = Pins(vec![("friend.example".to_owned(), friend.public().clone())]);
        let mut session = SessionOptions::new("mx.example.com".into(), Via::Postern);
        session.author = true;
        let mut options =
            PosternOptions::new(sockets, gate, ServerProfile::new(&own), [1; 32], Arc::new(pins), session);
        options.handshake = Some(PATIENCE);
        let policy = Policy { domains: [("example.com".to_owned(), Recipients::Any)].into(), ..Policy::default() };
        let modes = Modes { default: Mode::Collect, ..Modes::default() };
        let postern = Postern::start(
            spool.clone(),
            Arc::new(ArcSwap::from_pointee(policy)),
            Arc::new(ArcSwap::from_pointee(modes)),
            options,
        );
        let purse = Purse::open(&dir.path().join("purse")).unwrap();
        Self { postern: Some(postern.unwrap()), spool, key: own.public().clone(), friend, purse, _dir: dir }
    }

    fn postern(&self) -> &Postern {
        self.postern.as_ref().unwrap()
    }

    fn address(&self) -> DoorAddress {
        DoorAddress {
            domain: "example.com".to_owned(),
            addresses: vec![self.postern().addr()],
            keys: vec![self.key.clone()],
            digests: Vec::new(),
            alternates: Vec::new(),
        }
    }

    fn purse(&self) -> Purse {
        self.purse.clone()
    }

    fn client(&self, domain: &str, key: KeyPair) -> DoorClient {
        // Nothing is given up for being slow: what then comes instead is another way in, which these tests count.
        let long = PATIENCE;
        let deadlines =
            Deadlines { silence: long, ticket: long, handshake: long, accept: long, ..Deadlines::default() };
        DoorClient::new(DoorClientOptions { deadlines, ..DoorClientOptions::new(key, domain.to_owned(), self.purse()) })
    }

    fn messages(&self) -> usize {
        self.spool.stats().items
    }
}

fn flight(from: &str, author: &str, n: usize) -> String {
    let body = format!("From: {author}\r\nSubject: {n}\r\n\r\nhello\r\n");
    format!("MAIL FROM:<{from}>\r\nRCPT TO:<ann@example.com>\r\nBDAT {} LAST\r\n{body}", body.len())
}

/// Sends it all, and reads replies until so many final ones came.
async fn talk(stream: &mut DoorStream, text: &str, replies: usize) -> Vec<String> {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    let mut octets = Vec::new();
    while got.len() < replies {
        let mut buffer = [0; 4096];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.expect("in time");
        let read = read.unwrap();
        assert!(read > 0, "ended after {got:?}");
        octets.extend_from_slice(&buffer[..read]);
        got = String::from_utf8_lossy(&octets)
            .lines()
            .filter(|line| line.as_bytes().get(3) == Some(&b' '))
            .map(str::to_owned)
            .collect();
    }
    got
}

#[tokio::test]
async fn a_friend_brings_many_messages_in_one_flight_and_each_is_durable_when_it_is_answered() {
    let site = Site::open();
    let link = site.client("friend.example", site.friend.clone()).connect(&site.address()).await.unwrap();
    assert_eq!(link.class(), PeerClass::Known);
    let mut stream = link.open().await.unwrap();
    let text: String = (0..20).map(|n| flight("bob@friend.example", "Bob <bob@friend.example>", n)).collect();
    let replies = talk(&mut stream, &format!("EHLO mail.friend.example\r\n{text}"), 1 + 3 * 20).await;
    assert!(replies.iter().all(|reply| reply.starts_with("250")), "{replies:?}");
    assert_eq!(site.messages(), 20);
    // Several streams at once, on the same connection.
    let (mut a, mut b) = (link.open().await.unwrap(), link.open().await.unwrap());
    let text = format!("EHLO x\r\n{}", flight("bob@friend.example", "bob@friend.example", 1));
    let (one, two) = tokio::join!(talk(&mut a, &text, 4), talk(&mut b, &text, 4));
    assert!(one.iter().chain(&two).all(|reply| reply.starts_with("250")), "{one:?} {two:?}");
    assert_eq!(site.messages(), 22);
    assert_eq!(site.postern().stats().snapshot().accepted_known, 1);
}

#[tokio::test]
async fn nothing_is_said_that_belongs_to_port_25() {
    let site = Site::open();
    let link = site.client("friend.example", site.friend.clone()).connect(&site.address()).await.unwrap();
    let mut stream = link.open().await.unwrap();
    stream.write_all(b"EHLO x\r\nNOOP\r\n").await.unwrap();
    let mut text = String::new();
    while !text.contains("250 2.0.0") {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    assert!(text.starts_with("250-mx.example.com"), "no greeting: {text}");
    assert!(!text.contains("STARTTLS") && !text.contains("AUTH") && text.contains("CHUNKING"), "{text}");
}

#[tokio::test]
async fn an_author_of_another_domain_is_told_to_use_the_mx_and_nothing_is_stored() {
    let site = Site::open();
    let link = site.client("friend.example", site.friend.clone()).connect(&site.address()).await.unwrap();
    let mut stream = link.open().await.unwrap();
    for (from, author) in [
        ("bob@friend.example", "bank@bank.example"),
        ("x@bank.example", "bob@friend.example"),
        ("bob@friend.example", "bob@friend.example, bank@bank.example"),
        ("bob@friend.example", "\"bank@bank.example\" <bob@notfriend.example>"),
    ] {
        let replies = talk(&mut stream, &format!("EHLO x\r\n{}", flight(from, author, 0)), 4).await;
        assert!(replies[3].starts_with("550 5.7.1 USE-MX"), "{from} {author}: {replies:?}");
    }
    let replies = talk(&mut stream, &flight("bob@friend.example", "bob@sub.friend.example", 0), 3).await;
    assert!(replies[2].starts_with("250"), "below its own domain: {replies:?}");
    assert_eq!(site.messages(), 1);
}

#[tokio::test]
async fn an_unproven_key_delivers_nothing_and_gets_no_ticket() {
    let site = Site::open();
    for domain in ["unknown.example", "friend.example"] {
        let refused = site.client(domain, key()).connect(&site.address()).await.err();
        assert!(matches!(refused, Some(DoorError::Refused(CloseCode::NoProof))), "{domain}: {refused:?}");
    }
    assert_eq!(site.purse().tickets("example.com"), 0);
    assert_eq!(site.postern().stats().snapshot().unproven, 2);
    let parked = site.client("late.example", key()).connect(&site.address()).await.err();
    assert!(matches!(parked, Some(DoorError::Parked { .. })), "{parked:?}");
}

#[tokio::test]
async fn a_ticket_is_for_the_domain_that_it_was_given_to() {
    let site = Site::open();
    let friend = site.client("friend.example", site.friend.clone());
    let link = friend.connect(&site.address()).await.unwrap();
    wait(|| purse_has(&site, 4)).await;
    drop(link);
    // Somebody else, proven himself, with the friend's purse.
    drop(site.client("dns.example", key()).connect(&site.address()).await);
    let stats = site.postern().stats().snapshot();
    assert!(stats.foreign_tickets > 0, "{stats:?}");
}

fn purse_has(site: &Site, tickets: usize) -> bool {
    site.purse().tickets("example.com") >= tickets
}

async fn wait(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "not in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn with_a_ticket_a_friend_walks_in_also_after_the_thread_has_panicked() {
    let site = Site::open();
    let link = site.client("friend.example", site.friend.clone()).connect(&site.address()).await.unwrap();
    wait(|| purse_has(&site, 4)).await;
    let before = site.postern().gate();
    assert_eq!((before.admitted_cookie, before.admitted_ticket), (1, 0));
    site.postern().inject_panic();
    wait(|| site.postern().stats().rebuilt.load(Relaxed) == 1).await;
    let began = Instant::now();
    let again = site.client("friend.example", site.friend.clone()).connect(&site.address()).await.unwrap();
    println!("in again {:?} after the panic", began.elapsed());
    assert_eq!(site.postern().gate().admitted_ticket, 1);
    let mut stream = again.open().await.unwrap();
    let text = format!("EHLO x\r\n{}", flight("bob@friend.example", "bob@friend.example", 1));
    let replies = talk(&mut stream, &text, 4).await;
    assert!(replies[3].starts_with("250"), "{replies:?}");
    drop(link);
}

#[tokio::test]
async fn a_domain_has_no_more_connections_than_its_class() {
    let site = Site::open();
    let mut links = Vec::new();
    for _ in 0..2 {
        links.push(site.client("dns.example", key()).connect(&site.address()).await.unwrap());
    }
    // Tickets of the first two are the domain's own; they help nobody over the limit.
    let third = site.client("dns.example", key()).connect(&site.address()).await;
    assert!(matches!(third, Err(DoorError::Refused(CloseCode::TooMany))), "{third:?}");
    assert_eq!(links[0].class(), PeerClass::Proven);
    drop(links);
}

#[tokio::test]
async fn garbage_and_port_scans_leave_nothing_behind() {
    let site = Site::open();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let to: SocketAddr = site.postern().addr();
    // Of what is sent to a thread that sleeps the kernel keeps some hundred: until enough was read.
    let until = Instant::now() + PATIENCE;
    for n in 0_u32.. {
        if n >= 2_000 && site.postern().gate().received > 500 {
            break;
        }
        assert!(Instant::now() < until, "{:?}", site.postern().gate());
        let mut datagram = vec![(n % 256) as u8; 1_200];
        datagram[1..5].copy_from_slice(&n.to_be_bytes());
        socket.send_to(&datagram, to).unwrap();
    }
    let stats = site.postern().stats().snapshot();
    assert_eq!((stats.attempts, stats.open), (0, 0));
    let friend = site.client("friend.example", site.friend.clone()).connect(&site.address()).await;
    assert!(friend.is_ok(), "{friend:?}");
}
