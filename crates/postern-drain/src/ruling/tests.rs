use std::time::Duration;

use postern_net::filter::Filter;
use proptest::prelude::*;

use super::*;
use crate::testing::meta;

const TO: [&str; 3] = ["a@x.example", "b@x.example", "c@y.example"];

fn options(name: &str, kind: &str, on_spam: OnSpam) -> FilterOptions {
    let kind = Kind::parse(kind).unwrap();
    FilterOptions { filter: Filter { name: name.into(), kind, timeout: Duration::from_secs(1) }, workers: 1, on_spam }
}

fn reject() -> Verdict {
    Verdict::Reject(Reply::new(554, Enhanced(5, 7, 1), "no"))
}
fn later() -> Verdict {
    Verdict::Tempfail(Reply::new(451, Enhanced(4, 7, 1), "later"))
}
fn address(text: &str) -> Address {
    Address::parse(text.as_bytes(), false).unwrap()
}

/// What filters `f1`, `f2` … said, in order; those behind the one that ended it were not asked.
fn heard(on_spam: OnSpam, findings: Vec<Finding>) -> Hearing {
    let mut hearing = Hearing::new();
    for (i, finding) in findings.into_iter().enumerate() {
        if !hearing.hear(&options(&format!("f{}", i + 1), "rspamd:127.0.0.1:1", on_spam), finding) {
            break;
        }
    }
    hearing
}

/// One line per ruling: `mark by f1,f2: a@x.example`.
fn line(ruling: &Ruling) -> String {
    let words = |meta: &Meta| {
        let to: Vec<String> = meta.recipients.iter().map(|to| to.address.to_string()).collect();
        let judgement = meta.judgement.as_ref().unwrap();
        assert!(meta.judged);
        format!("{:?} by {}: {}", judgement.action, judgement.by, to.join(" ")).to_lowercase()
    };
    match ruling {
        Ruling::Refuse(reply) => format!("refuse {reply}"),
        Ruling::Defer(reply) => format!("defer {reply}"),
        Ruling::Judged(judged) => match &judged.apart {
            Some(apart) => format!("{}; apart {}", words(&judged.meta), words(apart)),
            None => words(&judged.meta),
        },
    }
}

#[track_caller]
fn check(verdicts: &[Verdict], tentative: bool, on_spam: OnSpam, expected: &str) {
    let hearing = heard(on_spam, verdicts.iter().cloned().map(Finding::new).collect());
    assert_eq!(line(&hearing.rule(&meta(&TO[..1]), tentative, |_| true)), expected);
}

#[test]
fn the_strongest_verdict_decides_and_the_first_refusal_ends_the_judging() {
    use OnSpam::{Mark as M, Quarantine as Q};
    use Verdict::{Accept, Discard, Mark, Quarantine};
    check(&[Accept, Accept], true, M, "accept by f1,f2: a@x.example");
    check(&[Accept, Mark], true, M, "mark by f2: a@x.example");
    check(&[Mark, Accept, Mark], false, M, "mark by f1,f3: a@x.example");
    check(&[Mark, Quarantine], true, M, "quarantine by f2: a@x.example");
    check(&[reject(), Quarantine], true, M, "refuse 554 5.7.1 no");
    check(&[Accept, later()], true, M, "defer 451 4.7.1 later");
    check(&[Mark, later()], false, M, "defer 451 4.7.1 later");
    check(&[reject(), Quarantine], false, M, "mark by f1: a@x.example");
    check(&[Accept, reject()], false, Q, "quarantine by f2: a@x.example");
    check(&[Quarantine, reject()], false, M, "quarantine by f1: a@x.example");
    check(&[Discard], true, M, "mark by f1: a@x.example");
    check(&[Discard], false, Q, "quarantine by f1: a@x.example");
    check(&[Mark], false, Q, "mark by f1: a@x.example");
}

#[test]
fn what_spamd_calls_spam_is_treated_as_configured() {
    for (on_spam, expected) in [(OnSpam::Mark, Action::Mark), (OnSpam::Quarantine, Action::Quarantine)] {
        let mut hearing = Hearing::new();
        assert!(hearing.hear(&options("sa", "spamd:127.0.0.1:783", on_spam), Finding::new(Verdict::Mark)));
        assert_eq!(hearing.action, expected);
    }
}

#[test]
fn recipients_are_removed_added_and_parted() {
    let finding = |change: fn(&mut Finding)| {
        let mut finding = Finding::new(Verdict::Accept);
        change(&mut finding);
        heard(OnSpam::Mark, vec![finding])
    };
    let rule =
        |hearing: &Hearing, tentative| line(&hearing.rule(&meta(&TO), tentative, |domain| domain == "x.example"));
    let removed = finding(|finding| finding.remove_recipients = vec![address("b@x.example")]);
    assert_eq!(rule(&removed, true), "accept by f1: a@x.example c@y.example");
    let added = finding(|finding| {
        finding.add_recipients = vec![address("new@x.example"), address("a@x.example"), address("far@z.example")];
    });
    assert_eq!(rule(&added, true), "accept by f1: a@x.example b@x.example c@y.example new@x.example");
    let Ruling::Judged(judged) = added.rule(&meta(&TO), true, |domain| domain == "x.example") else { panic!() };
    assert_eq!(judged.not_added, 1, "a filter makes no relay of us");
    let all_gone = finding(|finding| finding.remove_recipients = TO.iter().map(|to| address(to)).collect());
    assert_eq!(rule(&all_gone, true), "mark by f1: a@x.example b@x.example c@y.example", "nothing is thrown away");
    let one_refused = finding(|finding| {
        finding.refused_recipients = vec![(1, Reply::new(550, Enhanced(5, 7, 1), "not you"))];
    });
    let expected = "accept by f1: a@x.example c@y.example; apart mark by f1: b@x.example";
    assert_eq!((rule(&one_refused, true), rule(&one_refused, false)), (expected.into(), expected.into()));
    let all_refused = finding(|finding| {
        finding.refused_recipients = (0..3).map(|i| (i, Reply::new(550, Enhanced(5, 7, 1), "none"))).collect();
    });
    assert_eq!(rule(&all_refused, true), "refuse 550 5.7.1 none");
    assert_eq!(rule(&all_refused, false), "mark by f1: a@x.example b@x.example c@y.example");
}

#[test]
fn a_recipient_that_two_filters_refuse_is_served_once() {
    let refusing = || Finding {
        refused_recipients: vec![(1, Reply::new(550, Enhanced(5, 7, 1), "no"))],
        ..Finding::new(Verdict::Accept)
    };
    let ruling = heard(OnSpam::Mark, vec![refusing(), refusing()]).rule(&meta(&TO), false, |_| true);
    assert_eq!(line(&ruling), "accept by f1,f2: a@x.example c@y.example; apart mark by f1,f2: b@x.example");
}

#[test]
fn what_no_filter_has_seen_is_neither_ham_nor_spam() {
    let unasked = || Finding { unasked: true, ..Finding::new(Verdict::Accept) };
    assert_eq!(heard(OnSpam::Mark, vec![unasked(), unasked()]).is_spam(), None);
    assert_eq!(heard(OnSpam::Mark, vec![unasked(), Finding::new(Verdict::Accept)]).is_spam(), Some(false));
    assert_eq!(heard(OnSpam::Mark, vec![Finding::new(Verdict::Mark), unasked()]).is_spam(), Some(true));
}

#[test]
fn who_was_judged_before_is_given_no_further_recipients() {
    let adding = Finding { add_recipients: vec![address("new@x.example")], ..Finding::new(Verdict::Accept) };
    let hearing = heard(OnSpam::Mark, vec![adding]);
    let Ruling::Judged(first) = hearing.rule(&meta(&TO[..1]), false, |_| true) else { panic!() };
    assert_eq!(first.meta.recipients.len(), 2);
    let again = Meta { judged: false, recipients: meta(&TO[..1]).recipients, ..first.meta };
    assert_eq!(line(&hearing.rule(&again, false, |_| true)), "accept by f1: a@x.example");
}

#[test]
fn score_reason_and_sender_are_those_of_who_decided() {
    let said = |verdict, score, reason: &str| Finding {
        score_hundredths: Some(score),
        reason: Some(reason.into()),
        ..Finding::new(verdict)
    };
    let mut last = said(Verdict::Accept, 3, "third");
    last.sender = Some(None);
    let hearing = heard(OnSpam::Mark, vec![said(Verdict::Accept, 1, "first"), said(Verdict::Mark, 2, "second"), last]);
    let Ruling::Judged(judged) = hearing.rule(&meta(&TO), true, |_| true) else { panic!() };
    let judgement = judged.meta.judgement.unwrap();
    assert_eq!((judgement.score_hundredths, judgement.reason.as_deref()), (Some(2), Some("second")));
    assert_eq!(judged.meta.sender, None);
}

#[test]
fn header_changes_are_bounded() {
    let add = |bytes: usize| HeaderChange::Add { name: "X".into(), value: "v".repeat(bytes) };
    let with = |headers| heard(OnSpam::Mark, vec![Finding { headers, ..Finding::new(Verdict::Accept) }]).headers.len();
    assert_eq!(with(vec![add(1); 1000]), HEADER_CHANGES_MAX);
    assert_eq!(with(vec![add(HEADER_CHANGE_BYTES_MAX / 2); 4]), 1);
}

fn any_finding() -> impl Strategy<Value = Finding> {
    let verdict = prop_oneof![
        Just(Verdict::Accept),
        Just(Verdict::Mark),
        Just(Verdict::Quarantine),
        Just(reject()),
        Just(later()),
        Just(Verdict::Discard),
    ];
    let refused = proptest::collection::vec(0..4_usize, 0..3);
    let removed = proptest::collection::vec(0..3_usize, 0..3);
    (verdict, refused, removed).prop_map(|(verdict, refused, removed)| Finding {
        refused_recipients: refused.into_iter().map(|i| (i, Reply::new(550, Enhanced(5, 7, 1), "no"))).collect(),
        remove_recipients: removed.into_iter().map(|i| address(TO[i])).collect(),
        ..Finding::new(verdict)
    })
}

proptest! {
    #[test]
    fn after_a_250_nothing_is_refused_and_nobody_is_forgotten(
        findings in proptest::collection::vec(any_finding(), 1..4),
    ) {
        let removed: Vec<Address> = findings.iter().flat_map(|finding| finding.remove_recipients.clone()).collect();
        match heard(OnSpam::Mark, findings).rule(&meta(&TO), false, |_| true) {
            Ruling::Refuse(_) => prop_assert!(false, "refused after a 250"),
            Ruling::Defer(_) => {}
            Ruling::Judged(judged) => {
                prop_assert!(!judged.meta.recipients.is_empty());
                let apart = judged.apart.iter().flat_map(|apart| &apart.recipients);
                let served: Vec<&Address> = judged.meta.recipients.iter().chain(apart).map(|to| &to.address).collect();
                for to in TO.map(address) {
                    prop_assert!(served.contains(&&to) || removed.contains(&to), "{to} is forgotten");
                }
            }
        }
    }
}
