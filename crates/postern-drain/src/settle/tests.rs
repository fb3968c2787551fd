use postern_proto::address::Address;
use postern_proto::envelope::{Arrival, DsnRequest, Notify, Via};
use proptest::prelude::*;

use super::*;
use crate::drain::DrainOptions;

const NOW: u64 = 1_000_000;

fn meta(via: Via, sender: Option<&str>, recipients: &[&str]) -> Meta {
    let address = |text: &str| Address::parse(text.as_bytes(), false).unwrap();
    Meta {
        arrival: Arrival {
            at_unix_ms: NOW,
            peer: "192.0.2.1:1000".parse().unwrap(),
            peer_name: None,
            local: "127.0.0.1:25".parse().unwrap(),
            by: "mx.example".into(),
            helo: "client.example".into(),
            esmtp: true,
            tls: None,
            via,
        },
        sender: sender.map(address),
        recipients: recipients
            .iter()
            .map(|text| Recipient { address: address(text), original: None, notify: Notify::default() })
            .collect(),
        eight_bit: false,
        smtputf8: false,
        dsn: DsnRequest::default(),
        size: 10,
        judged: false,
        attempts: 0,
        tried_since_unix_ms: None,
        last_error: None,
        note: None,
        checks: Default::default(),
        judgement: None,
    }
}

fn ok() -> Outcome {
    Outcome::Delivered(Handover::WithoutNotify)
}
fn full() -> Outcome {
    Outcome::Refused(Reply::new(552, Enhanced(5, 2, 2), "over quota"))
}
fn busy() -> Outcome {
    Outcome::Deferred(Reply::new(451, Enhanced(4, 3, 0), "busy"))
}
fn gone() -> Outcome {
    Outcome::Unreached("connection refused".into())
}
fn held() -> Outcome {
    Outcome::NotTried { due_unix_ms: NOW + 7, may_leave: false }
}

fn run(meta: &Meta, tentative: bool, now_unix_ms: u64, outcomes: &[Outcome]) -> Settlement {
    let retry = Retry::new(&DrainOptions::default());
    settle(&Attempt { meta, outcomes, lane_key: "a.example", tentative, now_unix_ms, retry: &retry, random: 0 })
}

/// One line per settlement: `finish delivered rest a:1 dead b:1 told 1`.
fn line(settlement: &Settlement) -> String {
    let letters = |letters: &[Letter]| {
        let words = letters.iter().map(|letter| format!("{}:{}", letter.domain, letter.meta.recipients.len()));
        words.collect::<Vec<_>>().join(",")
    };
    match settlement {
        Settlement::Postpone(letter) => format!("postpone {}", letters(std::slice::from_ref(&**letter))),
        Settlement::Finish { verdict, rest, dead, report } => {
            let verdict = match verdict {
                Verdict::Delivered => "delivered".to_owned(),
                Verdict::Refused(reply) | Verdict::Deferred(reply) => reply.to_string(),
            };
            format!("finish {verdict} | rest {} | dead {} | told {}", letters(rest), letters(dead), report.len())
        }
    }
}

fn check(via: Via, tentative: bool, recipients: &[&str], outcomes: &[Outcome], expected: &str) {
    let meta = meta(via, Some("ann@s.example"), recipients);
    assert_eq!(line(&run(&meta, tentative, NOW, outcomes)), expected);
}

const A: &[&str] = &["x@a.example"];
const AA: &[&str] = &["x@a.example", "y@a.example"];
const AB: &[&str] = &["x@a.example", "y@b.example"];

#[test]
fn a_waiting_sender_hears_the_outcome() {
    let check = |recipients, outcomes: &[Outcome], expected| check(Via::Public, true, recipients, outcomes, expected);
    check(A, &[ok()], "finish delivered | rest  | dead  | told 0");
    check(A, &[full()], "finish 552 5.2.2 over quota | rest  | dead  | told 0");
    check(A, &[busy()], "finish 451 4.3.0 busy | rest  | dead  | told 0");
    check(A, &[gone()], "postpone a.example:1");
    check(AA, &[full(), busy()], "finish 451 4.3.0 busy | rest  | dead  | told 0");
    check(AA, &[full(), gone()], "postpone a.example:2");
    check(AA, &[gone(), busy()], "finish 451 4.3.0 busy | rest  | dead  | told 0");
    check(AB, &[gone(), held()], "postpone a.example:2");
}

#[test]
fn once_one_recipient_is_delivered_the_others_become_items_of_their_own() {
    let check = |recipients, outcomes: &[Outcome], expected| check(Via::Public, true, recipients, outcomes, expected);
    check(AA, &[ok(), busy()], "finish delivered | rest a.example:1 | dead  | told 0");
    check(AA, &[ok(), full()], "finish delivered | rest  | dead a.example:1 | told 0");
    check(AB, &[ok(), held()], "finish delivered | rest b.example:1 | dead  | told 0");
}

#[test]
fn a_committed_item_is_postponed_with_the_recipients_that_are_left() {
    let check = |recipients, outcomes: &[Outcome], expected| check(Via::Public, false, recipients, outcomes, expected);
    check(AA, &[ok(), busy()], "postpone a.example:1");
    check(AA, &[ok(), ok()], "finish delivered | rest  | dead  | told 0");
    check(AB, &[ok(), busy()], "finish delivered | rest b.example:1 | dead  | told 0");
    check(AB, &[busy(), busy()], "finish delivered | rest a.example:1,b.example:1 | dead  | told 0");
    check(AA, &[full(), busy()], "finish delivered | rest a.example:1 | dead a.example:1 | told 0");
}

#[test]
fn failures_of_mail_that_proved_its_sender_are_reported_and_others_are_dead_letters() {
    check(Via::Relay, false, AB, &[full(), full()], "finish delivered | rest  | dead  | told 2");
    check(
        Via::Public,
        false,
        AB,
        &[full(), full()],
        "finish delivered | rest  | dead a.example:1,b.example:1 | told 0",
    );
    check(Via::Local, false, A, &[full()], "finish delivered | rest  | dead a.example:1 | told 0");
    check(Via::Postern, false, AB, &[full(), full()], "finish delivered | rest  | dead  | told 2");
    let null_sender = meta(Via::Relay, None, A);
    let dead = "finish delivered | rest  | dead a.example:1 | told 0";
    assert_eq!(line(&run(&null_sender, false, NOW, &[full()])), dead);
    let mut never = meta(Via::Relay, Some("ann@s.example"), A);
    never.recipients[0].notify = Notify { success: false, failure: false, delay: false, given: true };
    assert_eq!(line(&run(&never, false, NOW, &[full()])), dead);
}

#[test]
fn success_is_reported_to_who_asked_unless_the_next_hop_does_it() {
    let mut asked = meta(Via::Relay, Some("ann@s.example"), A);
    asked.recipients[0].notify = Notify { success: true, failure: true, delay: false, given: true };
    for (handover, told) in [(Handover::Final, 1), (Handover::WithoutNotify, 1), (Handover::WithNotify, 0)] {
        let settlement = run(&asked, false, NOW, &[Outcome::Delivered(handover)]);
        assert_eq!(line(&settlement), format!("finish delivered | rest  | dead  | told {told}"));
    }
    asked.arrival.via = Via::Public;
    let settlement = run(&asked, false, NOW, &[Outcome::Delivered(Handover::Final)]);
    assert_eq!(line(&settlement), "finish delivered | rest  | dead  | told 0", "strangers cannot make us send mail");
}

#[test]
fn after_five_days_a_deferred_recipient_has_failed() {
    let late = NOW + 5 * 24 * 3_600_000;
    let tried = |via| Meta { tried_since_unix_ms: Some(NOW), ..meta(via, Some("ann@s.example"), A) };
    let public = tried(Via::Public);
    let Settlement::Finish { dead, .. } = run(&public, false, late, &[busy()]) else { panic!() };
    let note = dead[0].meta.note.as_deref().unwrap();
    assert_eq!(note, "554 5.4.7 delivery time expired; the last attempt said: 451 4.3.0 busy");
    let relayed = tried(Via::Relay);
    assert_eq!(line(&run(&relayed, false, late, &[gone()])), "finish delivered | rest  | dead  | told 1");
    assert_eq!(line(&run(&relayed, false, late, &[held()])), "postpone a.example:1", "held mail does not expire");
}

#[test]
fn expiry_counts_from_when_mail_was_free_to_leave() {
    let late = NOW + 6 * 24 * 3_600_000;
    let since = |first: &Meta, outcomes: &[Outcome]| match run(first, false, late, outcomes) {
        Settlement::Postpone(letter) => letter.meta.tried_since_unix_ms,
        other => panic!("{other:?}"),
    };
    let busy_hop = Outcome::NotTried { due_unix_ms: late + 7, may_leave: true };
    let kept = meta(Via::Public, None, A);
    assert_eq!(since(&kept, &[busy()]), Some(late));
    assert_eq!(since(&kept, &[gone()]), Some(late));
    assert_eq!(since(&kept, &[busy_hop]), Some(late));
    assert_eq!(since(&kept, &[held()]), None);
    let tried = Meta { tried_since_unix_ms: Some(NOW + 5 * 24 * 3_600_000), ..meta(Via::Public, None, A) };
    assert_eq!(since(&tried, &[busy()]), tried.tried_since_unix_ms);
    let both = Meta { tried_since_unix_ms: Some(late), ..meta(Via::Public, None, AB) };
    let Settlement::Finish { rest, .. } = run(&both, false, late, &[busy(), held()]) else { panic!() };
    let times: Vec<_> = rest.iter().map(|letter| letter.meta.tried_since_unix_ms).collect();
    assert_eq!(times, [Some(late), None], "what is held in another domain starts anew there");
}

#[test]
fn a_postponed_item_knows_why_how_often_and_when() {
    let mut first = meta(Via::Public, None, AA);
    first.attempts = 2;
    let Settlement::Postpone(letter) = run(&first, false, NOW, &[busy(), held()]) else { panic!() };
    assert_eq!((letter.meta.attempts, letter.meta.last_error.as_deref()), (3, Some("451 4.3.0 busy")));
    assert_eq!(letter.due_unix_ms, NOW + 4 * 60_000 * 8 / 10);
    let Settlement::Postpone(letter) = run(&first, false, NOW, &[held(), held()]) else { panic!() };
    assert_eq!((letter.meta.attempts, letter.due_unix_ms), (2, NOW + 7), "no attempt, no count");
}

#[test]
fn words_of_a_next_hop_are_repeated_clean_and_short() {
    let hostile = Reply { code: 550, enhanced: None, text: format!("a\r\u{7}é\n{}", "b".repeat(10_000)).into() };
    let cleaned = clean(&hostile);
    assert!(cleaned.text.starts_with("a???\nbbb"));
    assert!(cleaned.text.len() <= REASON_BYTES_MAX);
    assert_eq!(bounded(&"é".repeat(400)).len(), 512);
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![Just(ok()), Just(full()), Just(busy()), Just(gone()), Just(held())]
}

proptest! {
    #[test]
    fn every_recipient_that_was_not_delivered_is_in_exactly_one_place(
        tried in proptest::collection::vec((0..3usize, any_outcome()), 1..8),
        via in prop_oneof![Just(Via::Public), Just(Via::Relay), Just(Via::Local)],
        tentative: bool, expired: bool,
    ) {
        let names: Vec<String> =
            tried.iter().enumerate().map(|(i, (domain, _))| format!("r{i}@{}.example", ["a", "b", "c"][*domain])).collect();
        let meta = meta(via, Some("ann@s.example"), &names.iter().map(String::as_str).collect::<Vec<_>>());
        let meta = Meta { tried_since_unix_ms: Some(NOW), ..meta };
        let outcomes: Vec<Outcome> = tried.into_iter().map(|(_, outcome)| outcome).collect();
        let now = if expired { NOW + 6 * 24 * 3_600_000 } else { NOW };
        let settlement = run(&meta, tentative, now, &outcomes);
        let (mut left, verdict) = (Vec::new(), match settlement {
            Settlement::Postpone(ref letter) => { prop_assert!(letter.due_unix_ms >= now); None }
            Settlement::Finish { ref verdict, .. } => Some(verdict.clone()),
        });
        match settlement {
            Settlement::Postpone(letter) => left.extend(letter.meta.recipients),
            Settlement::Finish { rest, dead, report, .. } => {
                for letter in rest.iter().chain(&dead) {
                    prop_assert!(letter.meta.recipients.iter().all(|to| *to.address.domain == *letter.domain));
                    left.extend(letter.meta.recipients.clone());
                }
                left.extend(report.into_iter().map(|told| told.recipient));
            }
        }
        left.sort_by(|one, two| one.address.cmp(&two.address));
        let delivered = |outcome: &Outcome| matches!(outcome, Outcome::Delivered(_));
        let mut expected: Vec<Recipient> = meta.recipients.iter().zip(&outcomes)
            .filter(|(_, outcome)| !delivered(outcome)).map(|(to, _)| to.clone()).collect();
        expected.sort_by(|one, two| one.address.cmp(&two.address));
        if matches!(verdict, Some(Verdict::Refused(_) | Verdict::Deferred(_))) {
            // The sender keeps the message, all of it.
            prop_assert!(tentative && left.is_empty() && !outcomes.iter().any(delivered));
        } else {
            prop_assert_eq!(left, expected);
        }
    }
}
