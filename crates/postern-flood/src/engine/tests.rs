use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::Flood;
use crate::plan::{Behaviour, Crowd, FloodError, Friends, Plan};
use crate::report::Report;
use crate::sink::{Faults, Sink, Taken};

fn plan(sink: &Sink) -> Plan {
    let mut plan = Plan::new(sink.addr);
    plan.offer_ms = 400;
    plan
}

fn run(plan: &Plan) -> Report {
    Flood::run(plan, |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn a_seeded_plan_gives_the_same_sequence() {
    let play = |seed: u64| -> Vec<Taken> {
        let sink = Sink::start(Faults::default());
        let mut plan = plan(&sink);
        plan.seed = seed;
        plan.connects_max = Some(40);
        plan.crowds.push(Crowd { bytes: 700, ..Crowd::new(Behaviour::Spam, 4) });
        plan.friends.push(Friends { bytes: 900, ..Friends::new("known", 5, 100.0) });
        run(&plan);
        sink.taken()
    };
    let (one, again, other) = (play(7), play(7), play(8));
    assert!(one.iter().any(|taken| taken.id.contains("-f0-")) && one.iter().any(|taken| taken.id.contains("-c0-")));
    // Which of four members takes which of the crowd's messages depends on the server's speed; the friends' do not.
    let friends = |taken: &[Taken]| taken.iter().filter(|t| t.id.contains("-f0-")).cloned().collect::<Vec<_>>();
    assert_eq!(friends(&one), friends(&again));
    let ids = |taken: &[Taken]| taken.iter().map(|t| t.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&one), ids(&again));
    assert_ne!(friends(&one), friends(&other));
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
    let path = std::env::temp_dir().join(format!("flood-ledger-{}", sink.addr.port()));
    let mut plan = plan(&sink);
    plan.ledger = Some(path.clone());
    plan.friends.push(Friends { retry_ms: 10_000, ..Friends::new("patient", 5, 50.0) });
    plan.friends.push(Friends { from: "127.202.0.0/16".parse().unwrap(), ..Friends::new("hasty", 5, 50.0) });
    let report = run(&plan);
    let mut told: Vec<String> = std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    std::fs::remove_file(&path).unwrap();
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
    let sink = Sink::start(Faults::default());
    let mut plan = plan(&sink);
    plan.friends.push(Friends { rtt_ms: 40, ..Friends::new("far", 5, 30.0) });
    let report = run(&plan);
    let far = &report.friends[0];
    // Two round trips to the greeting; EHLO, MAIL, RCPT, DATA and the dot are one more each.
    assert!((79.0..140.0).contains(&far.greeting.p50_ms), "{report}");
    assert!((279.0..400.0).contains(&far.final_reply.p50_ms), "{report}");
}

#[test]
fn patience_ends() {
    let sink = Sink::start(Faults { no_receipt: true, ..Faults::default() });
    let mut plan = plan(&sink);
    plan.friends.push(Friends { patience_ms: 100, ..Friends::new("hasty", 5, 30.0) });
    let report = run(&plan);
    assert_eq!(report.friends[0].timeouts, report.friends[0].offered, "{report}");
    assert_eq!(report.friends[0].success_percent, 0.0);
    assert!(report.seconds < 3.0, "{report}");
}

#[test]
fn every_crowd_comes_and_is_counted() {
    let sink = Sink::start(Faults::default());
    let mut plan = plan(&sink);
    for behaviour in Behaviour::ALL {
        plan.crowds.push(Crowd { rate: 200, ..Crowd::new(behaviour, 4) });
    }
    plan.friends.push(Friends::new("known", 5, 20.0));
    let report = run(&plan);
    for crowd in &report.crowds {
        assert!(crowd.attempts >= 4 && crowd.connected >= 4, "{}: {report}", crowd.name);
        assert!(crowd.connect_errors.is_empty(), "{}: {report}", crowd.name);
    }
    let crowd = |behaviour: Behaviour| report.crowds.iter().find(|crowd| crowd.name == behaviour.as_str()).unwrap();
    assert!(crowd(Behaviour::Spam).accepted > 0 && crowd(Behaviour::Early).accepted > 0, "{report}");
    assert!(crowd(Behaviour::Harvest).recipients_accepted > 0, "{report}");
    assert_eq!(crowd(Behaviour::Hold).attempts, 4, "nobody sends them away: {report}");
    assert!(crowd(Behaviour::LineBomb).bytes_sent > 10_000, "{report}");
    assert_eq!(report.friends[0].success_percent, 100.0, "{report}");
    assert!(sink.taken().iter().any(|taken| taken.sender.is_empty()), "the backscatter came from <>");
    assert!(!report.series.is_empty());
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
    assert!(report.stopped_early && report.seconds < 10.0 && calls > 0);
    assert_eq!(report.crowds[0].attempts, 10);
}

#[test]
fn a_count_bounds_all_crowds_together() {
    let sink = Sink::start(Faults::default());
    let mut plan = plan(&sink);
    plan.connects_max = Some(25);
    plan.crowds.push(Crowd::new(Behaviour::Churn, 4));
    plan.crowds.push(Crowd { fresh: true, ..Crowd::new(Behaviour::Churn, 4) });
    let report = run(&plan);
    assert_eq!(report.crowds.iter().map(|crowd| crowd.attempts).sum::<u64>(), 25);
}

#[test]
fn nobody_at_the_target_is_an_error() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let result = Flood::run(&Plan::new(closed), |_| ControlFlow::Continue(()));
    assert!(matches!(result, Err(FloodError::Unreachable(..))), "{result:?}");
}
