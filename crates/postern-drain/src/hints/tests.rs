use postern_proto::checks::Spf;

use super::*;
use crate::settle::Handover;
use crate::testing::meta;

#[test]
fn a_sender_is_named_also_where_nobody_was_looked_up_but_not_against_spf() {
    let mut meta = meta(&["a@x.example"]);
    let mut check = |result: Option<SpfResult>, expected: Option<&str>| {
        meta.checks.spf = result.map(|result| Spf { result, domain: "sender.example".into(), of_helo: false });
        assert_eq!(sender_named(&meta).as_deref(), expected, "{result:?}");
    };
    for neither in [None, Some(SpfResult::Pass), Some(SpfResult::None), Some(SpfResult::TempError)] {
        check(neither, Some("ann@sender.example"));
    }
    check(Some(SpfResult::Fail), None);
    check(Some(SpfResult::SoftFail), None);
    meta.checks.spf = None;
    meta.sender = None;
    assert_eq!(sender_named(&meta), None);
}

#[test]
fn delivered_mail_of_the_known_that_nobody_judged_is_told() {
    let mut meta = meta(&["a@x.example"]);
    let delivered = [Outcome::Delivered(Handover::Final)];
    let deferred = [Outcome::Unreached("away".into())];
    for class in Class::ALL {
        meta.checks.class = class as u8;
        assert_eq!(is_delivered_unjudged(&meta, &delivered), class == Class::Known, "{class:?}");
    }
    meta.checks.class = Class::Known as u8;
    assert!(!is_delivered_unjudged(&meta, &deferred));
    meta.judged = true;
    assert!(!is_delivered_unjudged(&meta, &delivered), "the filter's word says more");
}

#[test]
fn only_an_unknown_mailbox_is_a_bad_recipient() {
    let unknown = |enhanced| is_unknown(&Reply::new(550, enhanced, "no"));
    assert!(unknown(Enhanced(5, 1, 1)) && unknown(Enhanced(5, 1, 10)));
    assert!(!unknown(Enhanced(5, 2, 2)) && !unknown(Enhanced(5, 7, 1)) && !unknown(Enhanced(4, 1, 1)));
    assert!(!is_unknown(&Reply::plain(550, "no")));
}

#[test]
fn what_a_machine_wrote_is_no_correspondence() {
    for (header, automatic) in [
        ("Subject: x\r\n\r\nAuto-Submitted: auto-replied\r\n", false),
        ("Auto-Submitted: no\r\n\r\n", false),
        ("AUTO-Submitted: auto-generated\r\n\r\n", true),
        ("Precedence: bulk\r\n\r\n", true),
        ("Precedence: first-class\r\n\r\n", false),
        ("List-Id: <x.example>\r\n\r\n", true),
    ] {
        assert_eq!(is_automatic(header.as_bytes()), automatic, "{header}");
    }
}

#[test]
fn correspondence_is_what_a_person_of_this_site_writes() {
    let mut table = RouteTable::new(crate::route::Route::None);
    table.local.insert("ours.example".into());
    for (sender, person) in [
        ("ann@ours.example", true),
        ("root.canal@ours.example", true),
        ("ann@elsewhere.example", false),
        ("noreply@ours.example", false),
        ("No-Reply+shop@ours.example", false),
        ("www-data@ours.example", false),
        ("root@ours.example", false),
        ("MAILER-DAEMON@ours.example", false),
        ("bounces-17@ours.example", false),
        ("list-request@ours.example", false),
        ("srs0=x=y=far.example=ann@ours.example", false),
    ] {
        let sender = Address::parse(sender.as_bytes(), false).unwrap();
        assert_eq!(is_person_of(&table, &sender), person, "{sender}");
    }
}
