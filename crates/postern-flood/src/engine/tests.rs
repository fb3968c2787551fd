use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::Flood;
use crate::plan::{Behaviour, Crowd, FloodError, Friends, Plan};
use crate::report::Report;
use crate::sink::{Faults, Sink, Taken};

/// More than a loaded machine needs, in milliseconds.
const PATIENCE_MS: u32 = 60_000;

fn plan(sink: &Sink) -> Plan {
    let mut plan = Plan::new(sink.addr);
    plan.offer_ms = 400;
    plan
}

fn run(plan: &Plan) -> Report {
    Flood::run(plan, |_| ControlFlow::Continue(())).unwrap()
}

/// Until the crowds have made all their connections and none of them is left, however long the machine takes for that.
fn run_to_the_count(plan: &Plan) -> Report {
    let (offer_ms, connects) = (plan.offer_ms, plan.connects_max.unwrap());
    let plan = Plan { offer_ms: PATIENCE_MS.into(), ..plan.clone() };
    let report = Flood::run(&plan, |progress| {
        let over = progress.elapsed_ms >= offer_ms && progress.attempts >= connects && progress.open == 0;
        if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    report.unwrap()
}

#[test]
fn a_seeded_plan_gives_the_same_sequence() {
    let friends = |seed: u64| -> Vec<Taken> {
        let sink = Sink::start(Faults::default());
        let mut plan = plan(&sink);
        plan.seed = seed;
        let known = Friends::new("known", 5, 100.0);
        plan.friends.push(Friends { bytes: 900, patience_ms: PATIENCE_MS, ..known });
        run(&plan);
        sink.taken()
    };
    let crowd = |seed: u64| -> Vec<String> {
        let sink = Sink::start(Faults::default());
        let mut plan = plan(&sink);
        plan.seed = seed;
        plan.connects_max = Some(40);
        plan.crowds.push(Crowd { bytes: 700, ..Crowd::new(Behaviour::Spam, 4) });
        run_to_the_count(&plan);
        // Which of four members takes which message depends on the server's speed.
        sink.taken().into_iter().map(|taken| taken.id).collect()
    };
    let (one, again, other) = (friends(7), friends(7), friends(8));
    assert!(one.iter().all(|taken| taken.id.contains("-f0-")) && !one.is_empty());
    assert_eq!(one, again);
    assert_ne!(one, other);
    let ids = crowd(7);
    assert!(ids.iter().all(|id| id.contains("-c0-")) && ids.len() >= 40, "{ids:?}");
    assert_eq!(ids, crowd(7));
}

#[test]
fn each_friend_has_an_address_of_its_own() {
    let sink = Sink::start(Faults::default());
    let mut plan = plan(&sink);
    plan.friends.push(Friends::new("known", 5, 100.0));
    let fresh =
        Friends { fresh: true, from: "127.201.0.0/16".parse().unwrap(), ..Friends::new("never seen", 5, 100.0) };
    plan.friends.push(fresh);
    let report = run(&plan);
    let from = |prefix: &str| -> BTreeSet<String> {
        sink.taken().into_iter().map(|taken| taken.from).filter(|from| from.starts_with(prefix)).collect()
    };
    assert_eq!(from("127.200.").len(), 5);
    assert_eq!(from("127.201.").len() as u64, report.friends[1].offered);
    assert!(report.friends.iter().all(|friends| friends.success_percent == 100.0), "{report}");
}

#[test]
fn the_ledger_names_exactly_what_was_answered_250() {
    let sink = Sink::start(Faults { defers_first: true, ..Faults::default() });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let mut plan = plan(&sink);
    plan.ledger = Some(path.clone());
    plan.friends.push(Friends { retry_ms: 10_000, ..Friends::new("patient", 5, 50.0) });
    plan.friends.push(Friends { from: "127.202.0.0/16".parse().unwrap(), ..Friends::new("hasty", 5, 50.0) });
    let report = run(&plan);
    let mut told: Vec<String> = std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    told.sort();
    let arrived: Vec<String> = sink.taken().into_iter().map(|taken| taken.id).collect();
    assert!(!told.is_empty());
    assert_eq!(told, arrived);
    let [patient, hasty] = &report.friends[..] else { panic!("two groups") };
    assert_eq!((patient.success_percent, patient.in_time_percent), (100.0, 100.0), "{report}");
    assert!(patient.final_reply.p50_ms > 1_000.0, "the first retry comes after a second: {report}");
    assert_eq!(hasty.success_percent, 0.0, "who never tries again is never taken: {report}");
    assert_eq!(hasty.refused.get(&451), Some(&hasty.offered));
}

#[test]
fn a_round_trip_is_played_to_each_step() {
    let play = || {
        let sink = Sink::start(Faults::default());
        let mut plan = plan(&sink);
        plan.friends.push(Friends { rtt_ms: 200, patience_ms: PATIENCE_MS, ..Friends::new("far", 5, 30.0) });
        let report = run(&plan);
        let far = &report.friends[0];
        // Two round trips to the greeting; EHLO, MAIL, RCPT, DATA and the dot are one more each.
        assert!(far.greeting.p50_ms > 399.0 && far.final_reply.p50_ms > 1_399.0, "{report}");
        far.greeting.p50_ms < 700.0 && far.final_reply.p50_ms < 2_000.0
    };
    // A busy machine plays them late, never early: one good run shows that there are no more than these.
    assert!((0..10).any(|_| play()), "more round trips than steps");
}

#[test]
fn patience_ends() {
    let sink = Sink::start(Faults { no_receipt: true, ..Faults::default() });
    let mut plan = plan(&sink);
    plan.friends.push(Friends { patience_ms: 100, ..Friends::new("hasty", 5, 30.0) });
    let report = run(&plan);
    assert_eq!(report.friends[0].timeouts, report.friends[0].offered, "{report}");
    assert_eq!(report.friends[0].success_percent, 0.0);
    // Only its own end ends a message here: the sink waits for ever.
    assert!(report.seconds < f64::from(PATIENCE_MS) / 1_000.0, "{report}");
}

#[test]
fn every_crowd_comes_and_is_counted() {
    // As long as a quiet machine needs; as long as a busy one does, when that was too short for somebody to come.
    assert!([400, 4_000, 40_000].into_iter().any(every_crowd_has_come_within), "a crowd has not come");
}

fn every_crowd_has_come_within(offer_ms: u64) -> bool {
    let sink = Sink::start(Faults::default());
    let mut plan = plan(&sink);
    for behaviour in Behaviour::ALL {
        plan.crowds.push(Crowd { rate: 200, ..Crowd::new(behaviour, 4) });
    }
    plan.offer_ms = offer_ms;
    plan.friends.push(Friends { patience_ms: PATIENCE_MS, ..Friends::new("known", 5, 20.0) });
    let report = run(&plan);
    for crowd in &report.crowds {
        assert!(crowd.connect_errors.is_empty(), "{}: {report}", crowd.name);
    }
    let crowd = |behaviour: Behaviour| report.crowds.iter().find(|crowd| crowd.name == behaviour.as_str()).unwrap();
    assert!(crowd(Behaviour::Hold).attempts <= 4, "nobody sends them away: {report}");
    assert_eq!(report.friends[0].success_percent, 100.0, "{report}");
    assert!(!report.series.is_empty());
    let taken = sink.taken();
    let came = [
        report.crowds.iter().all(|crowd| crowd.attempts >= 4 && crowd.connected >= 4),
        crowd(Behaviour::Spam).accepted > 0 && crowd(Behaviour::Early).accepted > 0,
        crowd(Behaviour::Harvest).recipients_accepted > 0,
        crowd(Behaviour::LineBomb).bytes_sent > 10_000,
        // The backscatter comes from <>.
        taken.iter().any(|taken| taken.sender.is_empty()),
    ];
    println!("in {offer_ms} ms: {came:?}");
    came == [true; 5]
}

#[test]
fn a_run_ends_when_asked_and_tells_what_there_was() {
    let sink = Sink::start(Faults::default());
    let mut plan = plan(&sink);
    plan.offer_ms = 60_000;
    plan.crowds.push(Crowd::new(Behaviour::Hold, 10));
    let mut calls = 0;
    let report = Flood::run(&plan, |progress| {
        calls += 1;
        if progress.attempts >= 10 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert!(report.stopped_early && report.seconds < 60.0 && calls > 0);
    assert_eq!(report.crowds[0].attempts, 10);
}

#[test]
fn a_count_bounds_all_crowds_together() {
    let sink = Sink::start(Faults::default());
    let mut plan = plan(&sink);
    plan.connects_max = Some(25);
    plan.crowds.push(Crowd::new(Behaviour::Churn, 4));
    plan.crowds.push(Crowd { fresh: true, ..Crowd::new(Behaviour::Churn, 4) });
    let report = run_to_the_count(&plan);
    assert_eq!(report.crowds.iter().map(|crowd| crowd.attempts).sum::<u64>(), 25);
}

#[test]
fn nobody_at_the_target_is_an_error() {
    // No test listens at that address, and the kernel gives no such port away.
    let closed = "127.93.0.1:9".parse().unwrap();
    let result = Flood::run(&Plan::new(closed), |_| ControlFlow::Continue(()));
    assert!(matches!(result, Err(FloodError::Unreachable(..))), "{result:?}");
}
