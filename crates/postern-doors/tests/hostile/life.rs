//! How a connection, a listener and a door end, and what goes on after it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_doors::postern::{Proof, Standing};
use postern_doors::{DoorListeners, DoorOptions, Doors};
use postern_net::socket;
use postern_proto::door::CloseCode;
use postern_proto::envelope::Via;
use postern_proto::session::SessionOptions;

use crate::blunt::{Client, PATIENCE};
use crate::client::flight;
use crate::stage::{BEATS_PER_SECOND, Settings, Stage, beats, run};

#[test]
fn a_connection_lives_as_long_as_it_may_and_its_last_message_is_answered() {
    // Long enough that a message is begun in it: on a machine that stands still a longer one.
    let lifetimes = [1_500, 6_000, 24_000].map(Duration::from_millis);
    assert!(lifetimes.into_iter().any(lives_out_and_is_answered), "in no lifetime is a message begun");
}

/// `false`: the machine was so slow that the life was over before anything had begun.
fn lives_out_and_is_answered(lifetime: Duration) -> bool {
    let stage = Stage::new(Settings { lifetime_max: Some(lifetime), ..Settings::default() });
    run(async {
        let before = Instant::now();
        let link = stage.known("peer.example").enter(stage.addr(), None).await.unwrap();
        let (mut idle, mut busy) = (link.stream().await, link.stream().await);
        idle.say("EHLO mta.peer.example\r\n").await;
        idle.reply().await;
        let (first, rest) = (flight("bob@peer.example", "Hello"), 10);
        busy.say("EHLO mta.peer.example\r\n").await;
        busy.say(&first[..first.len() - rest]).await;
        for _ in 0..3 {
            busy.reply().await;
        }
        if before.elapsed() >= lifetime {
            return false;
        }
        let goodbye = idle.line().await;
        assert!(goodbye.starts_with("421 "), "{goodbye}");
        // In the middle of a message it is waited for.
        busy.say(&first[first.len() - rest..]).await;
        let reply = busy.reply().await;
        assert!(reply.starts_with("250 2.0.0 Queued"), "{reply}");
        assert_eq!(link.closed().await, CloseCode::LifetimeOver as u64);
        assert_eq!(stage.leases().await.len(), 1);
        true
    })
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
        let stopped = tokio::spawn(postern.stop(PATIENCE));
        let goodbye = mail.line().await;
        assert!(goodbye.starts_with("421 4.3.2"), "{goodbye}");
        assert_eq!(link.closed().await, CloseCode::ShuttingDown as u64);
        stopped.await.unwrap();
    });
}

#[test]
fn who_is_in_the_middle_of_a_message_when_the_grace_is_over_is_told_why_the_connection_ends() {
    let mut stage = Stage::new(Settings::default());
    let postern = stage.postern.take().unwrap();
    let peer = stage.known("peer.example");
    run(async {
        let link = peer.enter(postern.addr(), None).await.unwrap();
        let mut mail = link.stream().await;
        let message = flight("bob@peer.example", "Hello");
        mail.say("EHLO mta.peer.example\r\n").await;
        mail.say(&message[..message.len() - 10]).await;
        for _ in 0..3 {
            mail.reply().await;
        }
        postern.stop(Duration::from_millis(1)).await;
        assert_eq!(link.closed().await, CloseCode::ShuttingDown as u64, "not left to find out by itself");
        assert_eq!(stage.stored().await, 0);
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
    let mut tcp = Client::connect(public.addr());
    tcp.expect("220 ");
    tcp.begin_body();
    run(async {
        let peer = stage.known("peer.example");
        let link = peer.enter(stage.addr(), None).await.unwrap();
        stage.postern().inject_panic();
        let come_again = async {
            stage.until(|stats| stats.rebuilt == 1).await;
            // Packets of those whom the old life knew are answered by nobody, or by a reset; those with a ticket come in.
            peer.enter(stage.addr(), Some(link.tickets[0])).await.unwrap()
        };
        let (again, waited) = beats(come_again).await;
        println!("in again after {waited} beats");
        assert!(waited < 5 * BEATS_PER_SECOND);
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
fn a_peer_whose_pin_is_taken_back_is_answered_and_closed_and_its_ticket_brings_no_mail() {
    let stage = Stage::new(Settings::default());
    run(async {
        let thief = stage.peer("peer.example", Proof::Pinned(Standing::secure("peer.example")));
        let link = thief.enter(stage.addr(), None).await.unwrap();
        let other = stage.known("other.example").enter(stage.addr(), None).await.unwrap();
        let (mut idle, mut busy) = (link.stream().await, link.stream().await);
        idle.say("EHLO mta.peer.example\r\n").await;
        idle.reply().await;
        let (message, rest) = (flight("bob@peer.example", "Hello"), 10);
        busy.say("EHLO mta.peer.example\r\n").await;
        busy.say(&message[..message.len() - rest]).await;
        for _ in 0..3 {
            busy.reply().await;
        }
        stage.unpin("peer.example");
        let goodbye = idle.line().await;
        assert!(goodbye.starts_with("421 "), "{goodbye}");
        busy.say(&message[message.len() - rest..]).await;
        let reply = busy.reply().await;
        assert!(reply.starts_with("250 2.0.0 Queued"), "{reply}");
        assert_eq!(link.closed().await, CloseCode::NoProof as u64);
        assert_eq!(stage.stats().revoked, 1);
        // Its ticket leads to the question, and the question has another answer.
        assert!(thief.enter(stage.addr(), Some(link.tickets[0])).await.is_err());
        assert_eq!(stage.stats().unproven, 1);
        assert!(other.deliver("ann@other.example").await.starts_with("250 2.0.0"), "nobody else is touched");
    });
}

#[test]
fn a_peer_proven_by_dns_is_closed_when_its_domain_is_pinned_to_another_key() {
    let stage = Stage::new(Settings::default());
    run(async {
        let link = stage.proven("peer.example").enter(stage.addr(), None).await.unwrap();
        stage.bar("peer.example");
        assert_eq!(link.closed().await, CloseCode::NoProof as u64);
        assert_eq!(stage.stats().revoked, 1);
    });
}
