//! Those whose key is not proven yet: they hold a place until their deadline, and are served nothing.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_doors::gate::{GateOptions, GateStats};
use postern_doors::postern::Proof;
use postern_proto::door::{CloseCode, Frame, make_cid};

use crate::blunt::PATIENCE;
use crate::client::{Peer, Refused, closed, cookie, flight, initial};
use crate::stage::{BEATS_PER_SECOND, Settings, Stage, beats, run};

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
fn abandoned_handshakes_are_bounded_and_the_known_get_past_them() {
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
        // None of them expires in this test: no place becomes free by itself.
        stage.until(|stats| stats.shaking >= 120).await;
        assert!(stage.stats().shaking <= 148, "{:?}", stage.stats());
        let (entered, waited) = beats(friend.enter(addr, Some(ticket))).await;
        entered.unwrap();
        assert!(waited < 2 * BEATS_PER_SECOND, "a friend waited");
        assert!(stage.stats().waiting <= 24 && stage.stats().shaking >= 120, "{:?}", stage.stats());
        crowd.abort_all();
        stage.until(|stats| (stats.shaking, stats.waiting) == (0, 0)).await;
    });
}

#[test]
fn an_abandoned_handshake_expires_at_its_deadline_and_gives_its_place_back() {
    let stage = Stage::new(Settings { handshake: None, ..Settings::default() });
    run(async {
        let began = Instant::now();
        stage.proven("gone.example").begin_and_leave(stage.addr()).await;
        // Who is so slow that TLS itself takes longer is late as well, and another one is needed.
        let peer = stage.proven("mute.example");
        let (_endpoint, mute) = loop {
            if let Ok(mute) = peer.shake(stage.addr(), None).await {
                break mute;
            }
        };
        let all_expired = stage.until(|stats| stats.begun >= 2 && stats.expired + stats.waited_too_long >= stats.begun);
        let ((), waited) = beats(all_expired).await;
        assert!(began.elapsed() >= Duration::from_secs(3) && waited < 6 * BEATS_PER_SECOND, "strangers have 3 s");
        assert_eq!(closed(&mute).await, CloseCode::TooSlow as u64);
        stage.until(|stats| stats.shaking == 0).await;
        let stats = stage.stats();
        assert_eq!((stats.open, stats.accepted, stats.window_bytes), (0, 0, 0));
    });
}

#[test]
fn nothing_is_asked_about_who_has_not_proven_a_key_and_said_whose_it_is() {
    let stage = Stage::new(Settings::default());
    run(async {
        let nobody = Peer::new("nobody.example");
        nobody.begin_and_leave(stage.addr()).await;
        let (_endpoint, connection) = nobody.shake(stage.addr(), None).await.unwrap();
        stage.until(|stats| stats.begun == 2).await;
        assert_eq!(stage.asked(), 0);
        let (mut control, _replies) = connection.open_bi().await.unwrap();
        control.write_all(&nobody.ident()).await.unwrap();
        stage.until(|stats| stats.unproven == 1).await;
        assert_eq!(stage.asked(), 1);
    });
}

#[test]
fn nonsense_on_the_control_stream_closes_the_connection_as_a_protocol_error() {
    let stage = Stage::new(Settings::default());
    run(async {
        let peer = stage.proven("evil.example");
        let mut twice = peer.enter(stage.addr(), None).await.unwrap();
        twice.control.0.write_all(&peer.ident()).await.unwrap();
        assert_eq!(twice.closed().await, CloseCode::Protocol as u64, "IDENT twice");
        for (what, octets) in [
            ("a frame of nothing", &[0, 0][..]),
            ("an announcement of more than a frame may have", &[0xff, 0xff]),
            ("items that are none", &[0, 4, 0xff, 0xff, 0xff, 0xff]),
            ("a frame that nobody knows, with an octet behind it", b"\x00\x05\x82\x18\x64\xa0\x00"),
        ] {
            let mut inside = peer.enter(stage.addr(), None).await.unwrap();
            inside.control.0.write_all(octets).await.unwrap();
            assert_eq!(inside.closed().await, CloseCode::Protocol as u64, "{what} after ACCEPT");
            let (_endpoint, outside) = peer.shake(stage.addr(), None).await.unwrap();
            let (mut control, _replies) = outside.open_bi().await.unwrap();
            control.write_all(octets).await.unwrap();
            assert_eq!(closed(&outside).await, CloseCode::Protocol as u64, "{what} in the place of IDENT");
        }
        assert_eq!(stage.stats().protocol_errors, 9);
    });
}

#[test]
fn cookies_of_one_address_beyond_the_budget_admit_nobody() {
    let strangers_per_second = GateOptions::default().strangers_per_second;
    let stage = Stage::new(Settings { strangers_per_second, ..Settings::default() });
    run(async {
        let addr = stage.addr();
        let tokens = tokio::task::spawn_blocking(move || (0..300).map(|_| cookie(addr)).collect::<Vec<_>>());
        let tokens = tokens.await.unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let began = Instant::now();
        for (n, token) in tokens.iter().enumerate() {
            socket.send_to(&initial(n as u64, token), addr).unwrap();
            // No more under way than the kernel keeps for a thread that sleeps.
            let judged = |gate: GateStats| gate.admitted_cookie + gate.appointments;
            while n % 50 == 49 && judged(stage.postern().gate()) <= n as u64 {
                assert!(began.elapsed() < PATIENCE, "{:?}", stage.postern().gate());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        let (gate, seconds) = (stage.postern().gate(), began.elapsed().as_secs_f64());
        let bytes = stage.postern().shared_gate().lock().unwrap().bytes();
        println!("{gate:?} in {seconds} s; {bytes} octets of tables");
        // Half a second's worth at once after a quiet time.
        let budget = f64::from(strangers_per_second) * (0.5 + seconds) + 1.0;
        assert!(gate.admitted_cookie > 0 && (gate.admitted_cookie as f64) <= budget, "{} of 300", gate.admitted_cookie);
        assert_eq!(gate.admitted_cookie + gate.appointments, 300, "the others were told to come later");
    });
}

/// Sends packets under a connection id until `done`, and says what came back and how long it took.
fn knock(stage: &Stage, socket: &UdpSocket, id: [u8; 16], done: impl Fn(usize) -> bool) -> (Vec<Vec<u8>>, Duration) {
    let (mut answers, began) = (Vec::new(), Instant::now());
    let packet = [&[0x40][..], &id, &[7; 60]].concat();
    socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    while !done(answers.len()) {
        assert!(began.elapsed() < PATIENCE, "{:?}", stage.postern().gate());
        for _ in 0..10 {
            socket.send_to(&packet, stage.addr()).unwrap();
        }
        let mut answer = [0; 2_048];
        while let Ok(read) = socket.recv(&mut answer) {
            answers.push(answer[..read].to_vec());
        }
    }
    (answers, began.elapsed())
}

#[test]
fn packets_of_no_connection_are_answered_by_few_short_resets_and_those_of_another_worker_by_none() {
    let stage = Stage::new(Settings::default());
    let (ours, foreign) = {
        let gate = stage.postern().shared_gate();
        let mut gate = gate.lock().unwrap();
        (gate.new_cid(), make_cid(gate.keys(), gate.worker() + 1, [1; 6]))
    };
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (resets, took) = knock(&stage, &socket, ours, |answers| answers >= 5);
    assert!(resets.len() as u128 <= took.as_millis() + 1, "{} in {took:?}", resets.len());
    let token = |reset: &[u8]| reset[reset.len() - 16..].to_vec();
    for reset in &resets {
        assert!(reset.len() < 77 && token(reset) == token(&resets[0]), "shorter than what it answers");
    }
    // Past the pause between two resets.
    let dropped = stage.postern().gate().bad_id;
    let began = Instant::now();
    let (answers, _) = knock(&stage, &socket, foreign, |_| {
        stage.postern().gate().bad_id >= dropped + 100 && began.elapsed() > Duration::from_millis(200)
    });
    assert!(answers.iter().all(|answer| token(answer) == token(&resets[0])), "only those of before");
}
