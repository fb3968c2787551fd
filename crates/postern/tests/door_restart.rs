//! What the postern's friends see of a change of all keys, a `kill -9` and a restart, all in the middle of a flood: the real
//! program, the real client with its purse on disk, and a small flood that a busy machine can bear.
//!
//! No ticket is refused that should pass, no link ends for a change of keys, and nothing that was answered 250 is lost. How
//! long the door is silent is printed here and measured in the bench: a machine that runs other tests says nothing about it.

#[path = "cli/harness.rs"]
mod harness;

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use harness::{PATIENCE, Server, id_in, postern};
use postern_flood::door::{Assault, Attack, DoorFlood, DoorPlan, DoorReport};
use postern_net::door::courier::{Courier, CourierError, Dial, Mail, MailBody, Road};
use postern_net::door::{
    Deadlines, DoorAddress, DoorClient, DoorClientOptions, DoorError, DoorStream, KeyPair, Link, PublicKey, Purse,
};
use postern_proto::address::Address;
use postern_proto::client::{self, Failure, RecipientResult};
use postern_proto::envelope::{DsnRequest, Notify, Recipient};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A server's directory, a friend whose key it has pinned, and where its door is.
struct Site {
    dir: tempfile::TempDir,
    server: Server,
    door: SocketAddr,
    friend: DoorClient,
}

impl Site {
    fn start() -> Self {
        Self::start_with(&FLAGS)
    }

    /// The first life has these flags, the next ones have the usual.
    fn start_with(flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("scratch");
        let server = Server::start(dir.path(), &[flags, &["--door", "127.0.0.1:0"]].concat());
        let key = KeyPair::load_or_make(&dir.path().join("friend.pem")).expect("written");
        let pinned = postern(dir.path(), &["peer", "add", FRIEND, &key.public().to_string()]);
        assert_eq!(pinned.code, 0, "{}", pinned.err);
        let purse = Purse::open(&dir.path().join("purse")).expect("a purse");
        // A ticket is waited for as for anything else: one that is given up for a cookie after a while would hide that it was refused.
        let deadlines = Deadlines { silence: PATIENCE, ticket: PATIENCE, handshake: PATIENCE, ..Deadlines::default() };
        let options = DoorClientOptions { deadlines, ..DoorClientOptions::new(key, FRIEND.to_owned(), purse) };
        Self { door: server.addr("door"), server, friend: DoorClient::new(options), dir }
    }

    /// `kill -9`, and again on the same port; the moment of the `ready` line.
    fn kill_and_start_again(&mut self) -> Instant {
        self.server.kill();
        let door = self.door.to_string();
        self.server = Server::start(self.dir.path(), &[&FLAGS[..], &["--door", &door]].concat());
        Instant::now()
    }

    fn identity(&self, what: &[&str]) -> Value {
        let said = self.server.command(&[&["identity"], what, &["--json"]].concat());
        assert_eq!(said.code, 0, "{what:?}: {}", said.err);
        serde_json::from_str(&said.out).expect("JSON")
    }

    /// The key that the server's files say.
    fn key(&self) -> PublicKey {
        self.identity(&["show"])["public"].as_str().expect("a key").parse().expect("a key")
    }

    fn at(&self, keys: &[PublicKey]) -> DoorAddress {
        let (domain, addresses) = (DOOR.to_owned(), vec![self.door]);
        DoorAddress { domain, addresses, keys: keys.to_vec(), digests: Vec::new(), alternates: Vec::new() }
    }

    async fn connect(&self, keys: &[PublicKey]) -> Link {
        self.friend.connect(&self.at(keys)).await.expect("let in")
    }

    /// Waits until the tickets that a newcomer is given, or so many, are in the purse.
    async fn tickets(&self, at_least: usize) {
        let until = Instant::now() + PATIENCE;
        while self.friend.purse().tickets(DOOR) < at_least {
            assert!(Instant::now() < until, "{} tickets", self.friend.purse().tickets(DOOR));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn gate(&self, counter: &str) -> u64 {
        let status = self.server.status();
        status["door"]["gate"][counter].as_u64().unwrap_or_else(|| panic!("no {counter} in {status}"))
    }
}

/// Lets a client in that has no ticket that is good: a stranger has three seconds for his handshake, and a busy machine may
/// need more.
async fn let_in(client: &DoorClient, door: &DoorAddress) -> Link {
    let until = Instant::now() + PATIENCE;
    loop {
        match client.connect(door).await {
            Ok(link) => return link,
            Err(error) => assert!(Instant::now() < until, "not let in: {error}"),
        }
    }
}

/// An SMTP session on a stream, in flights of one message.
struct Session {
    stream: DoorStream,
    input: Vec<u8>,
}

impl Session {
    async fn open(link: &Link) -> Self {
        let mut session = Self { stream: link.open().await.expect("a stream"), input: Vec::new() };
        session.stream.write_all(b"EHLO mail.friend.example\r\n").await.expect("written");
        assert!(session.reply().await.expect("a reply").starts_with("250"));
        session
    }

    /// The id of message `n`, which is durable.
    async fn send(&mut self, n: u64) -> std::io::Result<String> {
        let body = body(n);
        let head = format!("MAIL FROM:<bob@{FRIEND}>\r\nRCPT TO:<ann@localhost>\r\nBDAT {} LAST\r\n", body.len());
        self.stream.write_all(&[head.as_bytes(), &body].concat()).await?;
        for _ in 0..2 {
            assert!(self.reply().await?.starts_with("250"));
        }
        let reply = self.reply().await?;
        Ok(id_in(&reply).unwrap_or_else(|| panic!("not taken: {reply}")))
    }

    /// The last line of the next reply.
    async fn reply(&mut self) -> std::io::Result<String> {
        loop {
            while let Some(end) = self.input.iter().position(|octet| *octet == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                if line.get(3) == Some(&b' ') {
                    return Ok(String::from_utf8(line).expect("text"));
                }
            }
            let mut octets = [0; 4096];
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut octets)).await.expect("in time")?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            self.input.extend_from_slice(&octets[..read]);
        }
    }
}

fn body(n: u64) -> Vec<u8> {
    format!("From: bob@{FRIEND}\r\nSubject: message {n}\r\n\r\n{}\r\n", "hello ".repeat(n as usize % 50)).into_bytes()
}

/// A flood that goes on until it is stopped, over the death of its target too.
struct Flood {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<DoorReport>,
}

impl Flood {
    /// Returns when its packets have begun to arrive.
    fn start(site: &Site) -> Self {
        let mut plan = DoorPlan::new(site.door);
        plan.offer_ms = 2 * PATIENCE.as_millis() as u64;
        plan.attacks.push(Assault { rate: 500, ..Assault::new(Attack::Naive) });
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let step =
            move |_: &_| if told.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let thread = std::thread::spawn(move || DoorFlood::run(&plan, step).expect("it runs"));
        let flood = Self { stop, thread };
        flood.wait_for(site);
        flood
    }

    /// Waits until this life of the server has seen some of it.
    fn wait_for(&self, site: &Site) {
        let until = Instant::now() + PATIENCE;
        while site.gate("garbage") < 20 {
            assert!(Instant::now() < until, "no flood arrives");
        }
    }

    fn end(self) -> DoorReport {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic")
    }
}

#[tokio::test]
async fn a_change_of_all_keys_a_kill_9_and_a_restart_in_a_flood_refuse_no_ticket_and_lose_nothing() {
    let mut site = Site::start();
    let old = site.key();
    let link = let_in(&site.friend, &site.at(std::slice::from_ref(&old))).await;
    let cookies = site.gate("by_cookie");
    let mut session = Session::open(&link).await;
    let mut answered = vec![(session.send(0).await.expect("taken"), 0)];
    site.tickets(4).await;
    let flood = Flood::start(&site);

    // All keys: what was given out under the old ones is good, and the link goes on.
    site.identity(&["rotate"]);
    let next: PublicKey = site.identity(&["show"])["next"]["public"].as_str().expect("a key").parse().expect("a key");
    let both = [old.clone(), next.clone()];
    assert_eq!(site.connect(&both).await.server_key(), Some(old.clone()), "made and published, not in use");
    assert_eq!(site.identity(&["rotate", "--finish", "--now"])["restart"], false);
    assert_eq!(site.identity(&["rotate", "--secret"])["restart"], false);
    answered.push((session.send(1).await.expect("the link goes on"), 1));
    let by_ticket = site.connect(&both).await;
    assert_eq!(by_ticket.server_key(), Some(next.clone()), "without a restart");
    let late = site.friend.connect(&site.at(std::slice::from_ref(&old))).await.err();
    assert_eq!(late, Some(DoorError::WrongKey), "who has not heard of the next key");
    assert_eq!((site.gate("by_cookie"), site.gate("bad_ticket")), (cookies, 0), "only the first one came by cookie");

    // Killed with a flight under way: its answer may have been lost, its promise not.
    let id = session.send(2).await.expect("taken");
    answered.push((id, 2));
    site.tickets(2).await;
    let sender = tokio::spawn(async move {
        let mut more = Vec::new();
        for n in 3.. {
            match session.send(n).await {
                Ok(id) => more.push((id, n)),
                Err(_) => break,
            }
        }
        more
    });
    let committed = |site: &Site| site.server.status()["spool"]["items"].as_u64().expect("a number");
    let until = Instant::now() + PATIENCE;
    while committed(&site) < 40 {
        assert!(Instant::now() < until, "the friend's mail stands still");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ready = site.kill_and_start_again();
    let again = site.connect(std::slice::from_ref(&next)).await;
    let mut session = Session::open(&again).await;
    let id = session.send(1_000_000).await.expect("taken");
    let gap = ready.elapsed();
    answered.push((id, 1_000_000));
    println!("the first 250 came {gap:?} after `ready`");
    // How long it may take is measured where the machine is quiet (`postern bench`).
    assert!(gap < PATIENCE, "{gap:?}");
    flood.wait_for(&site);

    // Its packets meet a server that does not know them and says so: nobody waits for a silence.
    let gone = tokio::time::timeout(PATIENCE, link.closed()).await.expect("the old link ends");
    assert_ne!(gone, DoorError::Silent, "told by a reset, not by time");
    answered.extend(sender.await.expect("no panic"));
    assert!(answered.len() >= 30, "{} answers", answered.len());
    let mut control = site.server.control();
    for (id, n) in &answered {
        let stored = control.body(id).unwrap_or_else(|| panic!("message {n} was answered 250 as {id} and is lost"));
        assert!(stored.ends_with(&body(*n)), "message {n} is not what was sent");
    }
    for counter in ["by_cookie", "bad_ticket", "burnt_ticket", "bad_cookie"] {
        assert_eq!(site.gate(counter), 0, "{counter} in the second life");
    }
    assert_eq!(site.gate("by_ticket"), 1, "straight in");
    let report = flood.end();
    assert!(report.attacks[0].packets > 100, "{report}");
    drop((again, by_ticket));
}

/// Sends as the drain does: the first message on `link`, what comes after its end on links of its own.
fn courier(site: &Site, link: &Link, key: &PublicKey) -> Courier<DoorError> {
    let (friend, door) = (site.friend.clone(), site.at(std::slice::from_ref(key)));
    let first = Arc::new(Mutex::new(Some(link.clone())));
    let dial: Dial<DoorError> = Arc::new(move || {
        let (friend, door, first) = (friend.clone(), door.clone(), first.lock().expect("no panic").take());
        Box::pin(async move {
            let link = match first {
                Some(link) => link,
                None => friend.connect(&door).await?,
            };
            let road: Arc<dyn Road> = Arc::new(link);
            Ok(road)
        })
    });
    Courier::new(dial, "mail.friend.example".to_owned(), client::Deadlines::default())
}

fn mail(n: u64) -> Arc<Mail> {
    let address = |text: &str| Address::parse(text.as_bytes(), false).expect("an address");
    let to = Recipient { address: address("ann@localhost"), original: None, notify: Notify::default() };
    Arc::new(Mail {
        sender: Some(address(&format!("bob@{FRIEND}"))),
        recipients: vec![to],
        eight_bit: false,
        smtputf8: false,
        dsn: DsnRequest::default(),
        prefix: Vec::new(),
        body: MailBody::Bytes(body(n).into()),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_was_acknowledged_and_not_answered_hears_of_a_kill_9_as_soon_as_the_server_is_back() {
    // Takes a connection and never says a word: the sender of a message through it gets no answer.
    let hop = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let to = format!("smtp:{}", hop.local_addr().expect("bound"));
    let mut site = Site::start_with(&["--mode", "through", "--deliver", &to]);
    let key = site.key();
    let link = let_in(&site.friend, &site.at(std::slice::from_ref(&key))).await;
    site.tickets(2).await;
    let courier = Arc::new(courier(&site, &link, &key));
    let sender = Arc::clone(&courier);
    let waiting = tokio::spawn(async move { sender.send(mail(1)).await });
    let _held = tokio::time::timeout(PATIENCE, hop.accept()).await.expect("in time").expect("it is with the next hop");
    // As long as it takes until all is acknowledged, the packets by which QUIC seeks the path's MTU as well: one of these that was
    // under way at the death would be repeated, and the client hear of it by chance.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished());

    let ready = site.kill_and_start_again();
    let told = tokio::time::timeout(PATIENCE, waiting).await.expect("told before its patience ends").expect("no panic");
    let heard = ready.elapsed();
    let Err(CourierError::Stream(error)) = told else { panic!("nobody answered: {told:?}") };
    assert!(matches!(error.failure, Failure::AfterFinalDot(_)), "it may have been taken: {error:?}");
    let carried = courier.send(mail(2)).await.expect("a new link");
    assert!(matches!(carried.results[..], [RecipientResult::Delivered(_)]), "{carried:?}");
    println!("the message heard of it {heard:?} after `ready`, the next one was taken {:?} after it", ready.elapsed());
    // The keep-alive would have come 15 s after the last packet; a busy machine needs some time of its own.
    assert!(heard < Duration::from_secs(10), "{heard:?}");
    assert_ne!(link.closed().await, DoorError::Silent, "told by a reset, not by time");
    assert_eq!((site.gate("bad_ticket"), site.gate("by_ticket")), (0, 1), "straight in");
}

#[tokio::test]
async fn a_secret_in_other_hands_is_replaced_and_its_tickets_are_void_at_once() {
    let mut site = Site::start();
    let key = [site.key()];
    drop(let_in(&site.friend, &site.at(&key)).await);
    site.tickets(4).await;
    site.server.command(&["identity", "rotate", "--secret"]);
    let third = site.server.command(&["identity", "rotate", "--secret"]);
    assert!(third.code == 1 && third.err.contains("36 days") && third.err.contains("--now"), "{}", third.err);
    let said = site.server.command(&["identity", "rotate", "--secret", "--now"]);
    assert!(said.code == 0 && said.out.contains("void"), "{}{}", said.out, said.err);
    // The friend shows one in vain, and asks for a cookie when it has waited.
    let purse = site.friend.purse().clone();
    let own = KeyPair::load(&site.dir.path().join("friend.pem")).expect("written");
    let client = DoorClient::new(DoorClientOptions::new(own, FRIEND.to_owned(), purse.clone()));
    drop(let_in(&client, &site.at(&key)).await);
    assert!(site.gate("bad_ticket") > 0 && site.gate("by_ticket") == 0, "{}", site.server.status());
    // The rest of the old ones is used up; the new ones outlive a restart.
    site.tickets(4).await;
    site.kill_and_start_again();
    while site.gate("by_ticket") == 0 {
        drop(client.connect(&site.at(&key)).await.expect("let in"));
    }
    for (args, code) in [(&["--now"][..], 64), (&["--secret", "--finish"], 64)] {
        assert_eq!(site.server.command(&[&["identity", "rotate"], args].concat()).code, code, "{args:?}");
    }
}

const FLAGS: [&str; 4] = ["--mode", "collect", "--deliver", "none"];
const FRIEND: &str = "friend.example";
/// The name that its tickets are kept under.
const DOOR: &str = "door.example";
