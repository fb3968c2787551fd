//! A real door on a real spool, over loopback; the test plays the drain.

mod stage;

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use postern_proto::envelope::Refusal;
use postern_proto::mode::Mode;
use postern_proto::reply::{Enhanced, Reply};
use postern_spool::{BodySource, Fate, Lane};
use stage::{Door, PATIENCE};

const BODY: &str = "Subject: x\r\n\r\nHello\r\n";

#[test]
fn collect_answers_when_the_message_is_durable_and_keeps_every_octet() {
    let door = Door::start(Mode::Collect);
    let mut client = door.connect();
    client.expect("220 mx.example.com ESMTP Postern");
    let reply = client.send_message(BODY);
    assert!(reply.starts_with("250 2.0.0 Queued as "), "{reply}");
    let (spool, runtime) = (door.spool.clone(), door.runtime());
    let leases = runtime.block_on(spool.lease(&Lane::new("example.com", 0), 10, u64::MAX));
    assert_eq!(leases.len(), 1);
    assert!(reply.ends_with(&leases[0].id.to_string()));
    match &leases[0].body {
        BodySource::Inline(bytes) => assert_eq!(bytes, BODY.as_bytes()),
        BodySource::File { .. } => panic!("a small body has a file of its own"),
    }
}

#[test]
fn through_tells_the_sender_what_the_drain_found() {
    let door = Door::start(Mode::Through);
    let runtime = door.runtime();
    for (fate, expected) in [
        (Fate::Delivered, "250 2.0.0 Delivered as "),
        (
            Fate::Refused(Refusal(Reply::new(552, Enhanced(5, 2, 2), "Over quota")).to_bytes().into()),
            "552 5.2.2 Over quota",
        ),
    ] {
        let mut client = door.connect();
        client.expect("220 ");
        client.begin_message(BODY);
        runtime.block_on(async {
            let mut changed = door.spool.changed();
            loop {
                let mut leases = door.spool.lease(&Lane::new("example.com", 0), 1, u64::MAX).await;
                if let Some(lease) = leases.pop() {
                    assert!(lease.tentative);
                    return door.spool.finish(lease, fate, Vec::new()).await.unwrap();
                }
                changed.changed().await.unwrap();
            }
        });
        let reply = client.line();
        assert!(reply.starts_with(expected), "{reply}");
    }
}

#[test]
fn a_large_body_is_stored_in_a_file_and_comes_back_whole() {
    let door = Door::start(Mode::Hold);
    let mut client = door.connect();
    client.expect("220 ");
    let body: String = std::iter::once("\r\n".to_owned())
        .chain((0..40_000).map(|n| format!("line {n} of a large message\r\n")))
        .collect();
    let reply = client.send_message(&body);
    assert!(reply.starts_with("250 "), "{reply}");
    let lease = door.runtime().block_on(door.spool.lease(&Lane::new("example.com", 0), 1, u64::MAX)).pop().unwrap();
    match lease.body {
        BodySource::Inline(_) => panic!("{} octets are inline", body.len()),
        BodySource::File { file, len } => {
            use std::os::unix::fs::FileExt;
            let mut stored = vec![0; usize::try_from(len).unwrap()];
            file.read_exact_at(&mut stored, 0).unwrap();
            assert!(stored == body.as_bytes());
        }
    }
}

#[test]
fn one_connection_brings_many_messages_and_a_pipelined_batch_is_answered_in_order() {
    let door = Door::start(Mode::Collect);
    let mut client = door.connect();
    client.expect("220 ");
    for _ in 0..20 {
        assert!(client.send_message(BODY).starts_with("250 2.0.0 Queued as "));
    }
    let batch = "MAIL FROM:<>\r\nRCPT TO:<ann@example.com>\r\nBDAT 3 LAST\r\na\r\nMAIL FROM:<>\r\nRCPT TO:<bob@nowhere.example>\r\nRSET\r\nQUIT\r\n";
    client.write(batch.as_bytes());
    for expected in ["250 ", "250 ", "250 2.0.0 Queued", "250 ", "550 5.7.1", "250 ", "221 "] {
        client.expect(expected);
    }
}

#[test]
fn stopping_ends_idle_sessions_at_once_and_closes_the_listener() {
    let door = Door::start(Mode::Collect);
    let mut client = door.connect();
    client.expect("220 ");
    let addr = door.addr();
    let began = std::time::Instant::now();
    door.stop(2 * PATIENCE);
    assert!(began.elapsed() < PATIENCE, "no message is under way, and the grace was waited for");
    assert!(client.line().starts_with("421 4.3.2"));
    assert!(std::net::TcpStream::connect(addr).is_err());
}

#[test]
fn a_full_door_turns_away_without_waiting_and_takes_again_when_there_is_room() {
    let door = Door::start_with(Mode::Collect, 2);
    let mut first = door.connect();
    first.expect("220 ");
    let mut second = door.connect();
    second.expect("220 ");
    door.connect().expect("421 4.3.2");
    first.write(b"QUIT\r\n");
    first.expect("221 ");
    assert!(first.line().is_empty());
    for _ in 0..100 {
        let mut again = door.connect();
        if again.line().starts_with("220 ") {
            return;
        }
    }
    panic!("a place that became free was not given again");
}

#[test]
fn a_client_that_pipelines_without_end_does_not_keep_a_friend_from_the_receipt() {
    let door = Door::start(Mode::Collect);
    let mut friend = door.connect();
    friend.expect("220 ");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let addr = door.addr();
    let said = std::sync::Arc::new(AtomicUsize::new(0));
    let flood = std::thread::spawn({
        let (stop, said) = (stop.clone(), said.clone());
        move || pipeline_without_end(addr, &stop, &said)
    });
    // Before the busy thread handed its requests over, the reply came when the flood ended: never, here, which the client
    // does not wait for. At least this much of a flood, however slow the machine is.
    let mut sent = 0;
    while sent < 20 || said.load(Relaxed) <= 1_000 {
        assert!(friend.send_message(BODY).starts_with("250 2.0.0 Queued"));
        sent += 1;
    }
    stop.store(true, Relaxed);
    flood.join().unwrap();
}

/// Names one recipient for ever, and comes again whenever it is thrown out: there always is a
/// command to be read. Counts how many were said.
fn pipeline_without_end(addr: std::net::SocketAddr, stop: &std::sync::atomic::AtomicBool, said: &AtomicUsize) {
    use std::io::{Read, Write};
    while !stop.load(Relaxed) {
        let Ok(mut stream) = std::net::TcpStream::connect(addr) else { continue };
        let mut reader = stream.try_clone().unwrap();
        let reading = std::thread::spawn(move || while matches!(reader.read(&mut [0; 65536]), Ok(n) if n > 0) {});
        let hello = b"EHLO flood.example\r\nMAIL FROM:<>\r\n";
        let mut alive = stream.write_all(hello).is_ok();
        while alive && !stop.load(Relaxed) {
            alive = stream.write_all(&b"RCPT TO:<ann@example.com>\r\n".repeat(200)).is_ok();
            said.fetch_add(200, Relaxed);
        }
        drop(stream.shutdown(std::net::Shutdown::Both));
        drop(reading.join());
    }
}
