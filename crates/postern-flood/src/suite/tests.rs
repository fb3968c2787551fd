use std::ops::ControlFlow;

use super::{Options, SuiteReport, Verdict, run};
use crate::plan::FloodError;
use crate::sink::{Faults, Sink};

fn play(sink: &Sink, only: &str) -> SuiteReport {
    let options = Options {
        target: sink.addr,
        recipient: "ann@localhost".to_owned(),
        unknown: Some("nobody".to_owned()),
        only: Some(only.to_owned()),
        quick: true,
        seed: 1,
    };
    run(&options, |_, _, _| ControlFlow::Continue(())).unwrap()
}

fn check(faults: Faults, case: &str, expected: Verdict) {
    // Verdicts have a patience, and what a machine that stood still has spoilt is played again.
    let mut found = Vec::new();
    for _ in 0..5 {
        let report = play(&Sink::start(faults), case);
        let verdicts: Vec<Verdict> = report.cases.iter().map(|case| case.verdict).collect();
        if verdicts == [expected] {
            return;
        }
        found.extend(report.cases.into_iter().map(|case| (case.name, case.verdict, case.measured)));
    }
    panic!("{faults:?} {case}: {found:?}");
}

#[test]
fn smuggling_is_caught_where_a_lone_line_feed_ends_the_data() {
    check(Faults::default(), "smuggling-data", Verdict::Pass);
    check(Faults { lone_line_feeds: true, ..Faults::default() }, "smuggling-data", Verdict::Fail);
}

#[test]
fn recipients_told_apart_are_caught() {
    check(Faults { tells_unknown_apart: true, ..Faults::default() }, "dictionary", Verdict::Fail);
    check(Faults::default(), "dictionary", Verdict::Pass);
}

#[test]
fn a_server_that_stops_taking_mail_passes_nothing() {
    let sink = Sink::start(Faults { no_receipt: true, ..Faults::default() });
    let options = Options {
        target: sink.addr,
        recipient: "ann@localhost".into(),
        unknown: None,
        only: Some("order".into()),
        quick: true,
        seed: 1,
    };
    let result = run(&options, |_, _, _| ControlFlow::Continue(()));
    assert!(matches!(result, Err(FloodError::Unreachable(..))), "{result:?}");
}

#[test]
fn grammar_is_judged_by_what_is_obeyed() {
    check(Faults::default(), "order", Verdict::Pass);
    check(Faults::default(), "eight-bit", Verdict::Pass);
    check(Faults { dies_of_nul: true, ..Faults::default() }, "eight-bit", Verdict::Pass);
    // The sink takes any domain: it relays.
    check(Faults::default(), "addresses", Verdict::Fail);
}

#[test]
fn what_a_server_does_not_offer_is_skipped() {
    check(Faults::default(), "starttls-injection", Verdict::Skip);
    check(Faults::default(), "smuggling-bdat", Verdict::Skip);
}

#[test]
fn a_crowd_is_judged_by_the_friend_beside_it() {
    check(Faults::default(), "crowd-hold", Verdict::Pass);
}

#[test]
fn a_name_that_no_case_has_is_an_error() {
    let sink = Sink::start(Faults::default());
    let options = Options {
        target: sink.addr,
        recipient: "ann@localhost".into(),
        unknown: None,
        only: Some("nonsense".into()),
        quick: true,
        seed: 1,
    };
    assert!(matches!(run(&options, |_, _, _| ControlFlow::Continue(())), Err(FloodError::Plan(_))));
}
