//! The record of each message says whether a filter has spoken; nothing that was buffered may lose that on the disk.
//!
//! Needs no peer. It stands with the tests of the whole because neither the envelope nor the spool alone can break it.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use postern_proto::envelope::{Arrival, DsnRequest, Meta, Via};
use postern_spool::{Body, EventKind, Lane, NewItem, Spool, SpoolOptions, When};

use crate::harness::Scratch;

fn meta(judged: bool) -> Meta {
    let address: SocketAddr = "192.0.2.1:25".parse().expect("an address");
    let arrival = Arrival {
        at_unix_ms: 0,
        peer: address,
        peer_name: None,
        local: address,
        by: "mail.example.com".to_owned(),
        helo: "client.example.net".to_owned(),
        esmtp: true,
        tls: None,
        via: Via::Public,
    };
    Meta {
        arrival,
        sender: None,
        recipients: Vec::new(),
        eight_bit: false,
        smtputf8: false,
        dsn: DsnRequest::default(),
        size: 5,
        judged,
        attempts: 0,
        tried_since_unix_ms: None,
        last_error: None,
        note: None,
        checks: Default::default(),
        judgement: None,
    }
}

fn options(scratch: &Scratch) -> SpoolOptions {
    SpoolOptions { free_low_bytes: 0, free_high_bytes: 0, ..SpoolOptions::new(scratch.path()) }
}

#[test]
fn what_a_filter_has_judged_stays_judged_in_the_spool_over_a_restart() {
    let scratch = Scratch::new("judged");
    let (spool, _) = Spool::open(options(&scratch)).expect("a new spool opens");
    let (wake, woken) = mpsc::channel();
    let port = spool.port(Arc::new(move || wake.send(()).unwrap_or_default()));
    let lane = Lane::new("example.com", 0);
    for judged in [true, false] {
        let body = Body::Inline(b"hello".to_vec());
        let item =
            NewItem { id: spool.new_id(), lane: lane.clone(), meta: meta(judged).to_bytes(), due_unix_ms: 0, body };
        port.append(item, When::Commit);
    }
    port.flush();
    let mut events = Vec::new();
    while events.len() < 2 {
        woken.recv_timeout(Duration::from_secs(60)).expect("a commit wakes its door");
        port.drain_events(&mut events);
    }
    assert!(events.iter().all(|event| matches!(event.kind, EventKind::Committed(_))), "{events:?}");
    drop((port, spool));
    let (spool, _) = Spool::open(options(&scratch)).expect("it opens again");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let leases = runtime.block_on(spool.lease(&lane, 10, u64::MAX / 2));
    let mut judged: Vec<bool> =
        leases.iter().map(|lease| Meta::from_bytes(&lease.meta).expect("our own bytes").judged).collect();
    judged.sort_unstable();
    assert_eq!(judged, [false, true]);
}
