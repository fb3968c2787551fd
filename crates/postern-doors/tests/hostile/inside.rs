//! Insiders: proven, and meaning harm. What they hold is bounded by their class, and others are served meanwhile.

use std::cell::Cell;
use std::time::Duration;

use postern_proto::door::{CloseCode, PeerClass};
use postern_proto::mode::Mode;
use postern_trust::Class;

use crate::blunt::admission;
use crate::client::{Mail, SEND_WINDOW_BYTES, flight};
use crate::stage::{Settings, Stage, run};

#[test]
fn a_message_below_the_floor_ends_its_connection_and_nobody_else_waits() {
    // How often a friend is served meanwhile depends on the machine, and one that stood still says nothing: again, then.
    let served = (0..5).map(|_| serves_a_friend_beside_a_message_below_the_floor()).find(|served| *served >= 2);
    assert!(served.is_some(), "no two messages of a friend beside any of five that were slow");
}

fn serves_a_friend_beside_a_message_below_the_floor() -> usize {
    let stage = Stage::new(Settings { body: Some(Duration::from_secs(2)), ..Settings::default() });
    run(async {
        let idle = stage.known("idle.example").enter(stage.addr(), None).await.unwrap();
        let mut waiting = idle.stream().await;
        waiting.say("EHLO mta.idle.example\r\n").await;
        waiting.reply().await;
        let friend = stage.known("friend.example").enter(stage.addr(), None).await.unwrap();
        let evil = stage.proven("evil.example").enter(stage.addr(), None).await.unwrap();
        assert_eq!(evil.class, PeerClass::Proven);
        let (mut slow, mut neighbour) = (evil.stream().await, evil.stream().await);
        slow.say("EHLO mta.evil.example\r\nMAIL FROM:<>\r\nRCPT TO:<ann@example.com>\r\nBDAT 100000 LAST\r\n").await;
        let Mail { mut send, mut replies } = slow;
        // An eightieth of the floor of 4 KiB/s.
        let drip = async {
            while send.write_all(&[b'x'; 25]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            std::future::pending::<()>().await;
        };
        let delivered = Cell::new(0);
        let others = async {
            while neighbour.send.write_all(b"NOOP\r\n").await.is_ok() && !neighbour.reply().await.is_empty() {
                assert!(friend.deliver("bob@friend.example").await.starts_with("250 2.0.0"));
                delivered.set(delivered.get() + 1);
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            std::future::pending::<()>().await;
        };
        let told = async {
            let mut last = String::new();
            loop {
                match replies.line().await {
                    line if line.is_empty() => return last,
                    line => last = line,
                }
            }
        };
        let last = tokio::select! {
            last = told => last,
            () = drip => unreachable!(),
            () = others => unreachable!(),
        };
        assert!(last.starts_with("421 4.4.2"), "{last}");
        assert_eq!(evil.closed().await, CloseCode::TooSlow as u64);
        assert_eq!(stage.stats().too_slow, 1);
        waiting.say("NOOP\r\n").await;
        assert!(waiting.reply().await.starts_with("250 "));
        // One may have been under way in the end.
        let stored = stage.leases().await.len();
        assert!(
            (delivered.get()..=delivered.get() + 1).contains(&stored),
            "{stored} in the friend's lane: {delivered:?}"
        );
        assert_eq!(stage.stored().await, 0, "of any other");
        delivered.get()
    })
}

/// Writes on each stream until it takes nothing for as long as `stuck`; so many octets were taken. On a busy machine one
/// that takes nothing may only be slow: whoever wants more tries again.
async fn fill(streams: &mut [Mail], stuck: Duration) -> u64 {
    let (noise, mut taken) = ([b'x'; 16_384], 0);
    for mail in streams {
        while let Ok(Ok(written)) = tokio::time::timeout(stuck, mail.send.write(&noise)).await {
            taken += written as u64;
            assert!(taken < 64 << 20, "octets are taken without an end");
        }
    }
    taken
}

#[test]
fn an_insider_that_fills_everything_holds_what_its_class_may_and_a_friend_is_served() {
    let stage = Stage::new(Settings::default());
    run(async {
        let evil = stage.proven("evil.example").that_reads_little().enter(stage.addr(), None).await.unwrap();
        assert_eq!(evil.class, PeerClass::Proven);
        let limits = PeerClass::Proven.limits();
        let mut held = Vec::new();
        for _ in 0..limits.streams {
            let mut mail = evil.stream().await;
            mail.say(&"EHLO x\r\nNOOP\r\n".repeat(8)).await;
            held.push(mail);
        }
        let one_more = tokio::time::timeout(Duration::from_millis(500), evil.connection.open_bi()).await;
        assert!(one_more.is_err(), "a stream more than the class has");
        stage.until(|stats| stats.streams == u64::from(limits.streams)).await;
        // Nobody reads the replies: what is taken now fills windows.
        let mut taken = 0_u64;
        while taken < limits.window_bytes * 3 / 4 {
            taken += fill(&mut held, Duration::from_secs(1)).await;
        }
        let stats = stage.stats();
        println!("{taken} octets taken, {stats:?}");
        assert_eq!((stats.streams, stats.window_bytes), (u64::from(limits.streams), limits.window_bytes));
        assert!(taken <= limits.window_bytes, "{taken} octets taken");
        let friend = stage.known("friend.example").enter(stage.addr(), None).await.unwrap();
        for _ in 0..5 {
            let reply = friend.deliver("bob@friend.example").await;
            assert!(reply.starts_with("250 2.0.0"), "{reply}");
        }
        drop((held, evil));
    });
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
            held.push(mail);
        }
        let streams = held.len() as u64;
        let kept = streams * small + links.len() as u64 * SEND_WINDOW_BYTES;
        while taken < streams * small / 2 {
            taken += fill(&mut held, Duration::from_millis(500)).await;
        }
        assert!(taken <= granted + kept, "{taken} octets taken, {granted} granted");
        assert_eq!(stage.stats().window_bytes, granted);
        drop((links, held));
        stage.until(|stats| stats.window_bytes == 0).await;
    });
}

#[test]
fn a_message_that_is_cut_into_octets_is_below_the_floor_too() {
    let stage = Stage::new(Settings { body: Some(Duration::from_secs(2)), ..Settings::default() });
    run(async {
        let link = stage.known("evil.example").enter(stage.addr(), None).await.unwrap();
        let mut mail = link.stream().await;
        mail.say("EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<ann@example.com>\r\n").await;
        let drip = async {
            while mail.send.write_all(b"BDAT 1\r\nx").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            std::future::pending::<()>().await;
        };
        let code = tokio::select! {
            code = link.closed() => code,
            () = drip => unreachable!(),
        };
        assert_eq!(code, CloseCode::TooSlow as u64);
        assert_eq!(stage.stored().await, 0);
    });
}

#[test]
fn whose_message_is_not_read_for_want_of_memory_is_not_too_slow() {
    let (admission, _hands) = admission(4 << 20);
    let body = Some(Duration::from_secs(1));
    let stage = Stage::new(Settings { body, admission: Some(admission), ..Settings::default() });
    run(async {
        let link = stage.proven("peer.example").enter(stage.addr(), None).await.unwrap();
        let mut mail = link.stream().await;
        mail.say("EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<ann@example.com>\r\n").await;
        for _ in 0..3 {
            assert!(mail.reply().await.starts_with("250"));
        }
        // Others of its class have filled what the class may hold.
        let (crowd, others) = (stage.postern().crowd(), 64 << 20);
        crowd.hold(Class::New, 0, others);
        let mut last = String::new();
        let _stopped = mail.send.write_all(format!("BDAT 100000 LAST\r\n{}", "x".repeat(50)).as_bytes()).await;
        while let line = mail.line().await
            && !line.is_empty()
        {
            last = line;
        }
        assert!(last.starts_with("421 4.4.2"), "the message does not hold memory for ever: {last}");
        crowd.hold(Class::New, others, 0);
        let reply = link.deliver("bob@peer.example").await;
        assert!(reply.starts_with("250 2.0.0"), "{reply}");
        assert_eq!(stage.stats().too_slow, 0);
    });
}

#[test]
fn a_stream_without_room_is_told_so_and_the_others_of_its_connection_go_on() {
    let stage = Stage::new(Settings { streams_max: 2, ..Settings::default() });
    run(async {
        let link = stage.known("peer.example").enter(stage.addr(), None).await.unwrap();
        let mut held = [link.stream().await, link.stream().await];
        for mail in &mut held {
            mail.say("EHLO mta.peer.example\r\n").await;
            mail.reply().await;
        }
        // Begun with a whole message, of which nothing is taken.
        let mut more = link.stream().await;
        let _stopped =
            more.send.write_all(format!("EHLO x\r\n{}", flight("bob@peer.example", "Hello")).as_bytes()).await;
        let told = more.line().await;
        assert!(told.starts_with("421 4.3.2"), "{told}");
        assert_eq!(more.line().await, "", "and not a word more");
        assert_eq!(stage.stats().streams_refused, 1);
        assert_eq!(stage.stored().await, 0);
        let [mut first, second] = held;
        first.say(&flight("bob@peer.example", "Hello")).await;
        for _ in 0..2 {
            first.reply().await;
        }
        assert!(first.reply().await.starts_with("250 2.0.0 Queued"));
        // Room again.
        drop(second);
        stage.until(|stats| stats.streams == 1).await;
        assert!(link.deliver("bob@peer.example").await.starts_with("250 2.0.0 Queued"));
    });
}

#[test]
fn an_insider_gathers_no_more_tickets_in_a_day_than_there_are_for_it() {
    let stage = Stage::new(Settings::default());
    run(async {
        let evil = stage.proven("evil.example");
        for n in 1..=100 {
            let (_endpoint, connection) = evil.shake(stage.addr(), None).await.unwrap();
            let (mut send, _receive) = connection.open_bi().await.unwrap();
            send.write_all(&evil.ident()).await.unwrap();
            stage.until(|stats| stats.accepted == n).await;
            connection.close(0_u32.into(), b"");
            stage.until(|stats| stats.open == 0).await;
        }
        // Four each for half of them, then one.
        assert_eq!(stage.stats().tickets, 128);
        let friend = stage.known("friend.example").enter(stage.addr(), None).await.unwrap();
        assert_eq!(friend.tickets.len(), 4);
    });
}
