use postern_spool::{Body, EventKind, NewItem, Spool, SpoolOptions, When};
use tokio::sync::{Notify as Bell, watch};
use tokio::task::LocalSet;

use super::*;
use crate::carries::Carries;
use crate::drain::DrainOptions;
use crate::limits::LEASE;
use crate::schedule::millis;
use crate::stats::Counters;

fn meta() -> Meta {
    Meta {
        arrival: local_arrival("mx.example", now_unix_ms()),
        sender: None,
        recipients: vec![Recipient {
            address: Address { local: "ann".into(), domain: "a.example".into() },
            original: None,
            notify: Notify::default(),
        }],
        eight_bit: false,
        smtputf8: false,
        dsn: DsnRequest::default(),
        size: 1,
        judged: false,
        attempts: 0,
        tried_since_unix_ms: None,
        last_error: None,
        note: None,
        checks: Default::default(),
        judgement: None,
    }
}

fn worker(spool: &Spool) -> Rc<Worker> {
    let routes = Arc::new(arc_swap::ArcSwap::from_pointee(RouteTable::new(Route::None)));
    let (carries, _) = watch::channel(Carries::NOTHING);
    let counters = Arc::new(Counters::default());
    Rc::new(Worker::new(spool.clone(), routes, Arc::default(), DrainOptions::default(), counters, carries))
}

/// Puts one item in and leases it.
async fn lease_one(spool: &Spool) -> Lease {
    let (bell, lane) = (Arc::new(Bell::new()), Lane::new("a.example", 0));
    let ring = bell.clone();
    let port = spool.port(Arc::new(move || ring.notify_one()));
    let body = Body::Inline(b"x".to_vec());
    let item = NewItem { id: spool.new_id(), lane: lane.clone(), meta: meta().to_bytes(), due_unix_ms: 0, body };
    port.append(item, When::Commit);
    port.flush();
    let mut events = Vec::new();
    while events.is_empty() {
        bell.notified().await;
        port.drain_events(&mut events);
    }
    assert!(matches!(events[0].kind, EventKind::Committed(_)));
    spool.lease(&lane, 1, now_unix_ms() + millis(LEASE)).await.remove(0)
}

#[tokio::test]
async fn a_delivery_that_panics_is_counted_and_its_item_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let options = SpoolOptions { free_low_bytes: 0, free_high_bytes: 1, ..SpoolOptions::new(dir.path()) };
    let (spool, _) = Spool::open(options).unwrap();
    let test = async {
        let (worker, lease) = (worker(&spool), lease_one(&spool).await);
        let (id, route) = (lease.id, Route::parse("lmtp:127.0.0.1:9").unwrap());
        let destination = Destination::hop(&route);
        let permit = Permit::take(&worker, &destination).unwrap();
        // A bug: a recipient that the message does not have.
        let groups = vec![Group { permit, members: vec![7] }];
        let plan = Plan { groups, decided: vec![None], detail: None, mailboxes_max: 1, busy: false };
        let load = Load { lease, meta: meta(), asked: None, body: None };
        worker.clone().deliver(load, plan, false).await;
        assert_eq!(worker.counters.snapshot().panics, 1);
        assert_eq!(worker.with_gate(&destination, |gate| gate.running()), 0, "its place is free again");
        let left = Meta::from_bytes(&spool.show(id).await.unwrap().meta).unwrap();
        assert_eq!((left.attempts, left.last_error.as_deref()), (1, Some("internal error")));
        assert_eq!(spool.lanes().await[0].waiting, 1);
    };
    LocalSet::new().run_until(test).await;
}
