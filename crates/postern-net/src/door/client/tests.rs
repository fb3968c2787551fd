//! The client against a door of the specification, on the loopback.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;

use postern_proto::door::limits::{CHALLENGE_BYTES, TICKET_TOKEN_BYTES};
use postern_proto::door::{
    Frame, Keyring, Kind, Master, PeerClass, Shape, Share, TicketBody, Token, check_ticket, mint, shape,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use super::*;
use crate::door::rig::{Act, Came, Rig, Tickets};
use crate::door::{AltDoor, DoorStream, Grant};

mod forged;

const DOMAIN: &str = "friend.example";
const DAY_S: u64 = 86_400;

/// More than a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Long enough that a test which waits for one of them hangs visibly, short where a test says so.
fn patient() -> Deadlines {
    let long = PATIENCE;
    Deadlines {
        silence: long,
        ticket: long,
        handshake: long,
        accept: long,
        stream: long,
        linger: long,
        appointment: long,
    }
}

fn options(dir: &Path) -> DoorClientOptions {
    let key = KeyPair::load_or_make(&dir.join("key.pem")).expect("a key");
    let purse = Purse::open(&dir.join("purse")).expect("a purse");
    let deadlines = patient();
    DoorClientOptions { deadlines, ..DoorClientOptions::new(key, "sender.example".to_owned(), purse) }
}

fn to(rig: &Rig) -> DoorAddress {
    DoorAddress {
        domain: DOMAIN.to_owned(),
        addresses: vec![rig.address],
        keys: vec![rig.key.public().clone()],
        digests: Vec::new(),
        alternates: Vec::new(),
    }
}

fn setup() -> (tempfile::TempDir, DoorClientOptions, Rig) {
    let dir = tempfile::tempdir().expect("a directory");
    let options = options(dir.path());
    (dir, options, Rig::start())
}

/// Until the background task has put them away.
async fn until_tickets(purse: &Purse, count: usize) {
    let there = async {
        while purse.tickets(DOMAIN) != count {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, there).await.expect("the tickets");
}

async fn echo(link: &Link, text: &[u8]) {
    echo_on(link.open().await.expect("a stream"), text).await;
}

async fn echo_on(stream: DoorStream, text: &[u8]) {
    let (mut recv, mut send) = tokio::io::split(stream);
    let mut back = Vec::new();
    let written = async {
        send.write_all(text).await.expect("written");
        send.shutdown().await.expect("finished");
    };
    tokio::join!(written, async { recv.read_to_end(&mut back).await.expect("read") });
    assert!(back == text);
}

#[tokio::test]
async fn a_stranger_comes_by_hello_and_cookie_and_next_time_by_ticket() {
    let (_dir, options, rig) = setup();
    rig.next(Act::accept(3));
    let (own, purse) = (options.key.public().to_string(), options.purse.clone());
    let client = DoorClient::new(options);
    let link = client.connect(&to(&rig)).await.expect("a link");
    assert_eq!(rig.came(), [Came::Hello, Came::Cookie]);
    assert_eq!(rig.idents(), [("sender.example".to_owned(), own)]);
    assert_eq!((link.class(), link.limits().streams), (PeerClass::Proven, 4));
    assert_eq!(link.limits().hostname, "mx.rig.example");
    assert_eq!(link.server_key().as_ref(), Some(rig.key.public()));
    echo(&link, b"EHLO sender.example\r\n").await;
    echo(&link, &vec![b'x'; 1 << 20]).await;
    until_tickets(&purse, 3).await;
    let second = client.connect(&to(&rig)).await.expect("a second link");
    assert_eq!(rig.came(), [Came::Ticket]);
    assert_eq!(purse.tickets(DOMAIN), 2);
    assert!(link.is_open() && second.is_open());
}

#[tokio::test]
async fn another_key_of_ours_is_shown_by_the_next_attempt_and_ends_no_link() {
    let (_dir, options, rig) = setup();
    let client = DoorClient::new(options);
    let link = client.connect(&to(&rig)).await.expect("a link");
    let before = rig.idents();
    let next = KeyPair::from_pkcs8(&KeyPair::generate().expect("made")).expect("a key");
    client.clone().set_key(next.clone());
    let second = client.connect(&to(&rig)).await.expect("a second link");
    let after = rig.idents();
    let shown = after.last().map(|(_, key)| key.clone());
    assert_eq!(shown, Some(next.public().to_string()), "{before:?}");
    assert!(before.iter().all(|(_, key)| *key != next.public().to_string()));
    echo(&link, b"EHLO sender.example\r\n").await;
    assert!(link.is_open() && second.is_open());
}

#[tokio::test]
async fn a_ticket_token_and_a_connection_id_of_16_octets_arrive_as_specified() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut options = options(dir.path());
    options.deadlines.ticket = Duration::from_millis(50);
    let now_s = options.wall.now_s();
    let now = u32::try_from(now_s).expect("this century");
    let keys = Keyring::new(&Master::new([5; 32]), now_s);
    let expiry_min = now / 60 + 60;
    let body =
        TicketBody { domain_tag: 1, prefix_tag: 2, expiry_min, class: PeerClass::Known, share: Share::default() };
    let ticket = mint(&keys, Kind::Known, [8; 12], &body);
    let grant = Grant { ticket: ticket.bytes, key: ticket.key, expires_s: now_s + 3600 };
    options.purse.put(DOMAIN, grant, now_s).expect("put");
    let purse = options.purse.clone();
    let listener = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
    let door = DoorAddress {
        domain: DOMAIN.to_owned(),
        addresses: vec![listener.local_addr().expect("bound")],
        keys: vec![options.key.public().clone()],
        digests: Vec::new(),
        alternates: Vec::new(),
    };
    let client = DoorClient::new(options);
    let captured = async {
        let mut datagrams = Vec::new();
        let mut octets = [0; 2048];
        // The first of QUIC, and a HELLO in the end.
        while datagrams.is_empty() || datagrams.last().is_some_and(|last: &Vec<u8>| last[0] != 0x11) {
            let (length, from) = listener.recv_from(&mut octets).await.expect("received");
            // The same port for both.
            assert!(from.ip().is_loopback());
            datagrams.push(octets[..length].to_vec());
        }
        datagrams
    };
    let datagrams = tokio::select! {
        result = client.connect(&door) => panic!("nobody has answered: {result:?}"),
        datagrams = captured => datagrams,
    };
    assert!(datagrams[0].len() >= 1200);
    let Shape::Initial { dcid, token: Token::Ticket(token) } = shape(&datagrams[0]) else { panic!("no ticket") };
    assert_eq!(token.len(), TICKET_TOKEN_BYTES);
    assert_eq!(check_ticket(&keys, token, dcid, now), Ok(()));
    assert!(check_ticket(&keys, token, &[0; 16], now).is_err(), "good for its own connection id only");
    let Some(Shape::Hello { .. }) = datagrams.last().map(|last| shape(last)) else { panic!("no HELLO") };
    assert_eq!(purse.tickets(DOMAIN), 0, "burnt");
}

#[tokio::test]
async fn a_ticket_that_the_gate_demotes_leads_to_the_cookie_at_once() {
    let (_dir, options, rig) = setup();
    rig.next(Act::accept(1));
    let purse = options.purse.clone();
    let client = DoorClient::new(options);
    client.connect(&to(&rig)).await.expect("a link");
    until_tickets(&purse, 1).await;
    rig.came();
    rig.tickets(Tickets::Demoted);
    // All deadlines are a minute: only the CHALLENGE itself can make it this quick.
    timeout(PATIENCE / 2, client.connect(&to(&rig))).await.expect("quickly").expect("a link");
    assert_eq!(rig.came(), [Came::Ticket, Came::Cookie]);
}

#[tokio::test]
async fn a_ticket_that_nobody_answers_leads_to_the_cookie_after_a_while() {
    let (_dir, mut options, rig) = setup();
    options.deadlines.ticket = Duration::from_millis(50);
    rig.next(Act::accept(1));
    let purse = options.purse.clone();
    let client = DoorClient::new(options);
    client.connect(&to(&rig)).await.expect("a link");
    until_tickets(&purse, 1).await;
    rig.came();
    rig.tickets(Tickets::Dropped);
    client.connect(&to(&rig)).await.expect("a link");
    assert_eq!(rig.came(), [Came::Hello, Came::Cookie]);
}

#[tokio::test]
async fn a_ticket_given_to_another_domain_leads_to_the_cookie() {
    let (_dir, options, rig) = setup();
    rig.next(Act::accept(1));
    let purse = options.purse.clone();
    let client = DoorClient::new(options);
    client.connect(&to(&rig)).await.expect("a link");
    until_tickets(&purse, 1).await;
    rig.came();
    rig.next(Act::Close(CloseCode::ForeignTicket));
    client.connect(&to(&rig)).await.expect("a link");
    assert_eq!(rig.came(), [Came::Ticket, Came::Hello, Came::Cookie]);
}

#[tokio::test]
async fn a_client_whose_clock_is_a_day_off_comes_by_ticket_before_and_after_a_restart() {
    for ahead in [true, false] {
        let (dir, mut options, rig) = setup();
        let off = WallClock::new(move || {
            let now_s = WallClock::system().now_s();
            if ahead { now_s + DAY_S + 60 } else { now_s - DAY_S - 60 }
        });
        options.wall = off.clone();
        rig.next(Act::accept(4));
        let purse = options.purse.clone();
        let client = DoorClient::new(options);
        client.connect(&to(&rig)).await.expect("a link");
        until_tickets(&purse, 4).await;
        client.connect(&to(&rig)).await.expect("by ticket");
        assert_eq!(rig.came(), [Came::Hello, Came::Cookie, Came::Ticket], "ahead: {ahead}");
        drop((client, purse));
        let again = DoorClient::new(DoorClientOptions { wall: off, ..self::options(dir.path()) });
        again.connect(&to(&rig)).await.expect("by ticket");
        assert_eq!(rig.came(), [Came::Ticket], "ahead: {ahead}");
        // The clock is put right while the process is down: the offset is wrong, once.
        drop(again);
        let mut right = self::options(dir.path());
        right.deadlines.ticket = Duration::from_millis(100);
        let right = DoorClient::new(right);
        right.connect(&to(&rig)).await.expect("a link");
        let came = rig.came();
        if ahead {
            // To a clock that ran ahead of the server's by a day, the tickets seem to have two days to live; but their
            // proof has the wrong time.
            assert_eq!(came, [Came::BadTicket, Came::Hello, Came::Cookie]);
        }
        assert_eq!(came.last(), Some(&Came::Cookie));
        // As long as the answer may have been under way on a busy machine; it was a day.
        assert!(right.purse().clock_offset(DOMAIN).expect("known").abs() <= 60);
    }
}

#[tokio::test]
async fn an_appointment_that_is_near_is_waited_for_and_one_that_is_far_is_told() {
    let (_dir, mut options, rig) = setup();
    options.deadlines.appointment = Duration::from_secs(30);
    let wall = options.wall.clone();
    let client = DoorClient::new(options);
    rig.wait_s(1);
    // A cookie that came too early would be a bad one.
    client.connect(&to(&rig)).await.expect("a link");
    assert_eq!(rig.came(), [Came::Hello, Came::Cookie]);
    rig.wait_s(600);
    let due = wall.now_s() + 600;
    let told = timeout(PATIENCE, client.connect(&to(&rig))).await.expect("it does not wait");
    let Err(DoorError::Appointment { not_before_unix_s }) = told else { panic!("no time") };
    let late = wall.now_s() + 600 - due;
    assert!((due - 2..=due + late + 2).contains(&not_before_unix_s), "{not_before_unix_s} for {due}");
    // A HELLO that was sent twice has come by then, too.
    sleep(Duration::from_millis(50)).await;
    assert_eq!(rig.came(), [Came::Hello]);
    // Asking again would only move the appointment: it is kept.
    rig.wait_s(0);
    let again = client.connect(&to(&rig)).await;
    assert!(
        matches!(again, Err(DoorError::Appointment { not_before_unix_s: at }) if at.abs_diff(not_before_unix_s) <= 2)
    );
    assert_eq!(rig.came(), []);
}

#[tokio::test]
async fn a_cookie_that_is_put_off_comes_again_at_its_time() {
    let (_dir, mut options, rig) = setup();
    options.deadlines.appointment = Duration::from_secs(30);
    let client = DoorClient::new(options);
    rig.put_off_s(1);
    client.connect(&to(&rig)).await.expect("a link");
    assert_eq!(rig.came(), [Came::Hello, Came::EarlyCookie, Came::Cookie]);
    rig.wait_s(0);
    rig.put_off_s(900);
    let far = client.connect(&to(&rig)).await;
    assert!(matches!(far, Err(DoorError::Appointment { .. })), "{far:?}");
}

#[tokio::test]
async fn a_lost_hello_is_sent_again() {
    let (_dir, options, rig) = setup();
    rig.deaf(2);
    DoorClient::new(options).connect(&to(&rig)).await.expect("a link");
    let came = rig.all_that_came();
    assert!(came.starts_with(&[Came::Hello; 3]) && came.last() == Some(&Came::Cookie), "{came:?}");
}

#[tokio::test]
async fn a_challenge_to_another_nonce_is_not_believed() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut options = options(dir.path());
    options.deadlines.silence = Duration::from_millis(300);
    let listener = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
    let door = DoorAddress {
        domain: DOMAIN.to_owned(),
        addresses: vec![listener.local_addr().expect("bound")],
        keys: vec![options.key.public().clone()],
        digests: Vec::new(),
        alternates: Vec::new(),
    };
    let client = DoorClient::new(options);
    let forger = async {
        let mut octets = [0; 2048];
        loop {
            let (_, from) = listener.recv_from(&mut octets).await.expect("received");
            assert!(matches!(shape(&octets[..1200]), Shape::Hello { .. }), "only HELLO, no Initial");
            let mut answer = [0; CHALLENGE_BYTES];
            answer[..2].copy_from_slice(&[0x12, 1]);
            answer[4..12].copy_from_slice(&octets[4..12]);
            answer[4] ^= 1;
            listener.send_to(&answer, from).await.expect("sent");
        }
    };
    tokio::select! {
        result = client.connect(&door) => assert!(matches!(result, Err(DoorError::Silent)), "{result:?}"),
        () = forger => {}
    }
}

#[tokio::test]
async fn a_silent_door_is_silent_within_the_deadline_and_the_second_one_is_tried_at_once() {
    let (_dir, mut options, rig) = setup();
    options.deadlines.silence = Duration::from_millis(400);
    let purse = options.purse.clone();
    let client = DoorClient::new(options);
    let hole = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    let mut door = DoorAddress { addresses: vec![hole.local_addr().expect("bound")], ..to(&rig) };
    let started = Instant::now();
    // The other deadlines are a minute.
    let silent = timeout(PATIENCE / 2, client.connect(&door)).await.expect("within the deadline");
    assert!(matches!(silent, Err(DoorError::Silent)));
    assert!(started.elapsed() >= Duration::from_millis(400), "{:?}", started.elapsed());
    // The rig has to answer in that time too, and is asked again should the machine stand still for as long.
    let let_in = async |door: &DoorAddress| {
        for _ in 0..20 {
            match client.connect(door).await {
                Err(DoorError::Silent) => {}
                other => return other,
            }
        }
        Err(DoorError::Silent)
    };
    door.alternates = vec![rig.address];
    let_in(&door).await.expect("by the second door of the caller");
    door.alternates = Vec::new();
    purse.set_alt(DOMAIN, AltDoor { host: "127.0.0.1".to_owned(), port: rig.address.port() }).expect("kept");
    let_in(&door).await.expect("by the second door that was told");
}

#[tokio::test]
async fn a_second_door_that_is_told_is_remembered() {
    let (_dir, options, rig) = setup();
    let told = AltDoor { host: "hidden.friend.example".to_owned(), port: 7777 };
    let alt = Some((told.host.clone(), told.port));
    rig.next(Act::Accept { class: PeerClass::Known, streams: 1, tickets: 0, alt });
    let purse = options.purse.clone();
    let link = DoorClient::new(options).connect(&to(&rig)).await.expect("a link");
    let there = async {
        while purse.alt(DOMAIN).is_none() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, there).await.expect("told");
    assert_eq!(purse.alt(DOMAIN), Some(told));
    drop(link);
}

#[tokio::test]
async fn a_server_with_another_key_is_not_talked_to_and_one_of_two_keys_is_enough() {
    let (_dir, options, rig) = setup();
    let other = options.key.public().clone();
    let client = DoorClient::new(options);
    let wrong = DoorAddress { keys: vec![other.clone()], ..to(&rig) };
    assert!(matches!(client.connect(&wrong).await, Err(DoorError::WrongKey)));
    let none = DoorAddress { keys: Vec::new(), ..to(&rig) };
    assert!(matches!(client.connect(&none).await, Err(DoorError::Address(_))));
    assert!(rig.idents().is_empty());
    let impostor = Rig::start();
    let second = DoorAddress { addresses: vec![impostor.address], alternates: vec![rig.address], ..to(&rig) };
    client.connect(&second).await.expect("by the second door, which has the key");
    assert!(impostor.idents().is_empty());
    let by_digest = DoorAddress { keys: vec![other.clone()], digests: vec![rig.key.public().sha256()], ..to(&rig) };
    client.connect(&by_digest).await.expect("a key of which only the digest is known");
    let other_digest = DoorAddress { keys: Vec::new(), digests: vec![other.sha256()], ..to(&rig) };
    assert!(matches!(client.connect(&other_digest).await, Err(DoorError::WrongKey)));
    let both = DoorAddress { keys: vec![other, rig.key.public().clone()], ..to(&rig) };
    client.connect(&both).await.expect("a link");
}

#[tokio::test]
async fn what_the_server_says_instead_of_accept_is_told() {
    let (_dir, options, rig) = setup();
    let mut hasty = options.clone();
    hasty.deadlines.accept = Duration::from_millis(300);
    let (client, hasty) = (DoorClient::new(options), DoorClient::new(hasty));
    let mut early = Vec::new();
    Frame::AltDoor { host: "x.example".to_owned(), port: 1 }.encode(&mut early);
    for (act, error) in [
        (Act::Park(900), "the server asks to come again in 900 s"),
        (Act::Close(CloseCode::NoProof), "the server closed: no proof of identity"),
        (Act::Close(CloseCode::TooMany), "the server closed: too many connections"),
        (Act::Mute, "no ACCEPT came in time"),
        (Act::Raw(vec![0xff, 0xff, 1]), "a control frame cannot be read: TooLong"),
        (Act::Raw(early), "ALT_DOOR came before ACCEPT"),
    ] {
        rig.next(act.clone());
        let client = if matches!(act, Act::Mute) { &hasty } else { &client };
        assert_eq!(client.connect(&to(&rig)).await.expect_err("no link").to_string(), error, "{act:?}");
    }
}

#[tokio::test]
async fn frames_of_a_later_version_are_read_over() {
    let (_dir, options, rig) = setup();
    rig.next(Act::Later);
    let purse = options.purse.clone();
    let link = DoorClient::new(options).connect(&to(&rig)).await.expect("a link");
    until_tickets(&purse, 1).await;
    echo(&link, b"still there").await;
}

#[tokio::test]
async fn streams_are_bounded_by_what_the_server_granted() {
    let (_dir, mut options, rig) = setup();
    options.deadlines.stream = Duration::from_millis(200);
    rig.next(Act::Accept { class: PeerClass::Proven, streams: 2, tickets: 0, alt: None });
    let link = DoorClient::new(options).connect(&to(&rig)).await.expect("a link");
    let held = (link.open().await.expect("one"), link.open().await.expect("two"));
    assert_eq!(link.free_streams(), 0);
    assert!(matches!(link.open().await, Err(DoorError::Busy)));
    drop(held.0);
    // The server may take longer to see it than a stream is waited for.
    let third = loop {
        match link.open().await {
            Err(DoorError::Busy) => {}
            other => break other.expect("a third one"),
        }
    };
    echo_on(third, b"the third").await;
}

#[tokio::test]
async fn half_a_message_never_looks_like_a_whole_one() {
    let (_dir, options, rig) = setup();
    let link = DoorClient::new(options).connect(&to(&rig)).await.expect("a link");
    let mut stream = link.open().await.expect("a stream");
    stream.write_all(b"BDAT 1000 LAST\r\nhalf").await.expect("written");
    stream.read_exact(&mut [0; 20]).await.expect("the server has it");
    drop(stream);
    let told = async {
        while rig.resets() == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, told).await.expect("a reset, no end");
    echo(&link, b"and the link goes on").await;
    assert_eq!(rig.resets(), 1);
}

#[tokio::test]
async fn a_link_ends_when_it_idles_or_its_last_holder_goes_and_not_before() {
    let (_dir, mut options, rig) = setup();
    options.deadlines.linger = Duration::from_millis(100);
    let client = DoorClient::new(options);
    let link = client.connect(&to(&rig)).await.expect("a link");
    let mut stream = link.open().await.expect("a stream");
    assert!(timeout(Duration::from_millis(400), link.closed()).await.is_err(), "a stream is open");
    stream.write_all(b"x").await.expect("written");
    drop(stream);
    timeout(PATIENCE, link.closed()).await.expect("it idles");
    assert!(!link.is_open());
    assert!(link.open().await.is_err());

    let link = client.connect(&to(&rig)).await.expect("a link");
    let mut stream = link.open().await.expect("a stream");
    drop(link);
    stream.write_all(b"the stream holds the link").await.expect("written");
    stream.shutdown().await.expect("finished");
    let mut back = Vec::new();
    stream.read_to_end(&mut back).await.expect("read");
    assert_eq!(back, b"the stream holds the link");
}
