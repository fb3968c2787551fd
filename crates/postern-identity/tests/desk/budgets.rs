//! What DNS may cost, and whom.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use postern_identity::{Budgets, Findings, IdentityDesk, IdentityOptions, Question, Unaffordable};
use postern_proto::checks::SpfResult;
use postern_trust::Class;
use postern_trust::pressure::Level;

use crate::responder::{Manner, Responder};
use crate::{PATIENCE, ask, evidence, generous, options, question, start, wait, zone};

const SENDER: &str = "good.example TXT v=spf1 ip4:198.51.100.0/24 -all";

/// Asks and leaves.
fn drop_off(desk: &IdentityDesk, question: Question) -> bool {
    desk.ask(question, Box::new(|_| {}))
}

fn refused(desk: &IdentityDesk, why: Unaffordable) -> u64 {
    desk.stats().unaffordable.iter().find(|(reason, _)| *reason == why).expect("every reason is there").1
}

/// SPF of a good sender passes, asked by `class`.
fn passes(desk: &IdentityDesk, ip: &str, class: Class) -> bool {
    let (sender, receiver) = mpsc::channel::<Findings>();
    let asked = Question { class, ..question(ip, Some("bob@good.example")) };
    wait("the line moves", || {
        let sender = sender.clone();
        desk.ask(asked.clone(), Box::new(move |findings| sender.send(findings).unwrap_or_default()))
    });
    let findings = receiver.recv_timeout(PATIENCE).expect("an answer");
    findings.spf.is_some_and(|spf| spf.result == SpfResult::Pass)
}

#[test]
fn a_silent_server_costs_a_bounded_time_and_nobody_waits() {
    let server = Responder::start("x.example A 192.0.2.1", &[("", Manner::Silent)]);
    let budgets =
        Budgets { question: Duration::from_millis(400), lookup: Duration::from_millis(200), ..Budgets::default() };
    let zones = vec![zone("list.example", -9)];
    let (desk, mut receiver) = start(IdentityOptions { zones, budgets, ..options(server.address) });
    let began = Instant::now();
    let (sender, answers) = mpsc::channel();
    let mut taken = 0;
    for client in 0..200 {
        let sender = sender.clone();
        let asked = question(&format!("192.0.2.{client}"), Some("bob@sender.example"));
        taken += u64::from(desk.ask(asked, Box::new(move |findings| sender.send(findings).unwrap_or_default())));
    }
    let handed_in = began.elapsed();
    for _ in 0..taken {
        let findings: Findings = answers.recv_timeout(PATIENCE).expect("an answer to each");
        assert_eq!((findings.name, findings.listed), (None, Vec::new()));
        assert!(findings.spf.is_none_or(|spf| spf.result == SpfResult::TempError));
    }
    let answered = began.elapsed();
    assert!(taken >= 100, "{taken}");
    // Two hundred waits in a row would be forty seconds; the doors had none.
    assert!(answered < Duration::from_secs(20), "{answered:?}");
    assert!(handed_in < answered, "{handed_in:?}, {answered:?}");
    assert_eq!(evidence(&mut receiver), []);
    assert_eq!(desk.stats().answered, taken);
    assert_eq!(desk.stats().in_flight, 0);
    // And the domain is left alone for a while.
    assert!(refused(&desk, Unaffordable::Domain) + refused(&desk, Unaffordable::Shut) > 0);
}

#[test]
fn a_silent_list_is_waited_for_once() {
    let server = Responder::start(SENDER, &[("list.example", Manner::Silent)]);
    let budgets = Budgets { lookup: Duration::from_millis(50), ..generous() };
    let (desk, _evidence) =
        start(IdentityOptions { zones: vec![zone("list.example", -9)], budgets, ..options(server.address) });
    // The list's own test fails, and for as long as that is remembered nobody waits for it again.
    for client in 0..10 {
        assert_eq!(ask(&desk, question(&format!("192.0.2.{client}"), None)).listed, []);
    }
    let stats = desk.stats();
    assert_eq!(stats.zones[0].errors, 1);
    assert!(server.asked("list.example") <= 3, "one look-up, three datagrams at most");
}

#[test]
fn in_the_red_nothing_is_asked() {
    let server = Responder::start(SENDER, &[]);
    let zones = vec![zone("list.example", -9)];
    let (desk, _evidence) = start(IdentityOptions { zones, ..options(server.address) });
    for class in [Class::Pinned, Class::Known, Class::Provider, Class::New, Class::Suspect] {
        let asked = Question { class, level: Level::Red, ..question("192.0.2.1", Some("bob@good.example")) };
        assert!(!drop_off(&desk, asked));
    }
    assert!(!desk.expand_spf_networks("good.example", Box::new(|_| {})));
    assert_eq!(refused(&desk, Unaffordable::Red), 6);
    // The desk works again when the weather does, and asks no more than this.
    assert!(passes(&desk, "198.51.100.1", Class::New));
    assert_eq!((server.asked("192.0.2.1"), server.asked("1.2.0.192.list.example")), (0, 0));
    assert_eq!(desk.stats().asked, 1);
}

#[test]
fn under_pressure_only_strangers_that_can_gain_by_it_are_looked_up() {
    let server = Responder::start(SENDER, &[]);
    let (desk, _evidence) = start(options(server.address));
    let busy = |class| Question { class, level: Level::Busy, ..question("198.51.100.1", Some("bob@good.example")) };
    for class in [Class::Pinned, Class::Known, Class::Suspect] {
        assert!(!drop_off(&desk, busy(class)));
    }
    assert_eq!(server.asked(""), 0);
    assert_eq!(ask(&desk, busy(Class::New)).spf.map(|spf| spf.result), Some(SpfResult::Pass));
}

#[test]
fn equal_questions_are_one() {
    let server = Responder::start(SENDER, &[("", Manner::Held)]);
    let (desk, _evidence) = start(options(server.address));
    let (sender, answers) = mpsc::channel();
    for _ in 0..50 {
        let sender = sender.clone();
        let asked = question("198.51.100.1", Some("bob@good.example"));
        assert!(desk.ask(asked, Box::new(move |findings| sender.send(findings).unwrap_or_default())));
    }
    wait("the questions are joined", || desk.stats().equal == 49);
    // Another client of the same domain joins the look-up, not the question.
    assert!(drop_off(&desk, question("198.51.100.2", Some("bob@good.example"))));
    wait("the look-up is joined", || desk.stats().joined >= 1);
    wait("the server has the question", || server.asked("good.example") >= 1);
    // A text and two names of addresses; the datagrams may be more, hickory repeats one that is not answered.
    wait("three look-ups are in flight", || desk.stats().lookups == 3);
    server.release();
    for _ in 0..50 {
        let findings: Findings = answers.recv_timeout(PATIENCE).expect("an answer to each");
        assert_eq!(findings.spf.map(|spf| spf.result), Some(SpfResult::Pass));
    }
    assert_eq!(desk.stats().lookups, 3);
}

#[test]
fn answers_are_kept_the_empty_ones_too() {
    let server = Responder::start(SENDER, &[]);
    let (desk, _evidence) = start(options(server.address));
    for _ in 0..20 {
        assert!(passes(&desk, "198.51.100.1", Class::New));
        ask(&desk, question("198.51.100.1", Some("bob@nowhere.example")));
    }
    assert_eq!((server.asked("good.example"), server.asked("nowhere.example"), server.asked("arpa")), (1, 1, 1));
    assert!(desk.stats().cache_hits >= 3 * 19);
    assert_eq!(desk.stats().cached, 3);
}

#[test]
fn ten_thousand_questions_for_one_slow_domain_leave_room_for_others() {
    let server = Responder::start(SENDER, &[("slow.example", Manner::Held)]);
    let (desk, _evidence) = start(options(server.address));
    let mut taken = 0;
    for n in 0..10_000 {
        let ip = format!("192.0.{}.{}", n / 256, n % 256);
        taken += u32::from(drop_off(&desk, question(&ip, Some(&format!("bob@n{n}.slow.example")))));
    }
    assert!(taken > 0);
    assert!(passes(&desk, "198.51.100.1", Class::New), "a stranger of another domain");
    assert!(passes(&desk, "198.51.100.2", Class::Known), "and one we know");
    // Four look-ups, three datagrams each at most.
    assert!(server.asked("slow.example") <= 12, "{}", server.asked("slow.example"));
    wait("the refused are counted", || refused(&desk, Unaffordable::Domain) > 0);
    server.release();
    wait("all have ended", || desk.stats().answered == desk.stats().asked);
}

#[test]
fn strangers_with_a_slow_domain_each_leave_lookups_to_the_known() {
    let server = Responder::start(SENDER, &[("", Manner::Held)]);
    let (desk, _evidence) = start(options(server.address));
    for n in 0..300 {
        let asked = question(&format!("192.0.{}.1", n % 256), Some(&format!("bob@slow{n}.example")));
        wait("the line moves", || drop_off(&desk, asked.clone()));
    }
    wait("strangers have their share", || refused(&desk, Unaffordable::InFlight) > 0);
    // 64, less the floors of the three classes before them.
    assert_eq!(desk.stats().in_flight, 43);
    let (sender, answers) = mpsc::channel::<Findings>();
    let known = Question { class: Class::Known, ..question("198.51.100.1", Some("bob@good.example")) };
    assert!(desk.ask(known, Box::new(move |findings| sender.send(findings).unwrap_or_default())));
    wait("the known one is asked for", || server.asked("good.example") >= 1);
    server.release();
    let findings = answers.recv_timeout(PATIENCE).expect("an answer");
    assert_eq!(findings.spf.map(|spf| spf.result), Some(SpfResult::Pass));
}

#[test]
fn a_second_has_so_many_lookups_and_the_known_have_theirs() {
    let server = Responder::start(SENDER, &[]);
    let budgets = Budgets { per_second: 8, ..generous() };
    let (desk, _evidence) = start(IdentityOptions { budgets, ..options(server.address) });
    // Faster than eight a second on any machine: nobody waits for an answer.
    let mut client = 0..;
    wait("strangers have had their share of a second", || {
        let ip = format!("192.0.2.{}", client.next().expect("one more") % 256);
        drop_off(&desk, Question { class: Class::Suspect, ..question(&ip, None) });
        refused(&desk, Unaffordable::Rate) > 0
    });
    assert!(passes(&desk, "198.51.100.1", Class::Known));
}

#[test]
fn a_desk_that_stops_forgets_its_questions_and_takes_no_more() {
    let server = Responder::start(SENDER, &[("", Manner::Silent)]);
    let (desk, _evidence) = start(options(server.address));
    let (sender, answers) = mpsc::channel::<Findings>();
    let answer = move |findings| sender.send(findings).unwrap_or_default();
    assert!(desk.ask(question("192.0.2.1", Some("bob@good.example")), Box::new(answer)));
    let began = Instant::now();
    desk.stop();
    assert!(began.elapsed() < Duration::from_secs(15), "open look-ups are not waited for");
    // Told nothing, or not told; but nobody holds the sender any more.
    assert!(answers.iter().all(|findings| findings == Findings::default()));
    assert!(!drop_off(&desk, question("192.0.2.1", None)));
}
