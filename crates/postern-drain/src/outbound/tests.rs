use super::*;

const NOW: u64 = 1_800_000_000;

/// An open door of a domain that asks for nothing.
fn open() -> Facts {
    Facts {
        door: Some(Source::Published { secure: false }),
        mode: Mode::Prefer,
        own_author: true,
        use_mx: false,
        room: true,
        silent_since_s: None,
        tried_ago_s: None,
        now_s: NOW,
    }
}

fn enforced() -> Facts {
    Facts { door: Some(Source::Published { secure: true }), mode: Mode::Enforce, ..open() }
}

fn silent(facts: Facts, for_s: u64, tried_ago_s: Option<u64>) -> Facts {
    Facts { silent_since_s: Some(NOW - for_s), tried_ago_s, ..facts }
}

fn plain(why: Why) -> Step {
    Step::Mx { proven: false, why }
}

fn proven(why: Why) -> Step {
    Step::Mx { proven: true, why }
}

#[test]
fn what_is_known_of_a_door_counts_by_how_hard_it_is_to_forge() {
    let published = |secure| Some(Source::Published { secure });
    let remembered = |secure| Some(Source::Remembered { secure });
    // The operator's word is above all.
    assert_eq!(source(true, Ok(Some(true)), Some(true)), Some(Source::Pinned));
    assert_eq!(source(true, Err(()), None), Some(Source::Pinned));
    // A signed answer is above a memory, a memory of one above an unsigned answer, or none.
    assert_eq!(source(false, Ok(Some(true)), Some(true)), published(true));
    assert_eq!(source(false, Ok(Some(false)), Some(true)), remembered(true));
    assert_eq!(source(false, Ok(None), Some(true)), remembered(true));
    assert_eq!(source(false, Err(()), Some(true)), remembered(true));
    // A memory of an unsigned answer serves only where DNS fails.
    assert_eq!(source(false, Ok(Some(false)), Some(false)), published(false));
    assert_eq!(source(false, Ok(None), Some(false)), None);
    assert_eq!(source(false, Err(()), Some(false)), remembered(false));
    // Nothing is known.
    assert_eq!(source(false, Ok(None), None), None);
    assert_eq!(source(false, Err(()), None), None);
}

#[test]
fn mail_goes_through_the_door_when_there_is_one_and_it_would_take_it() {
    assert_eq!(first(&open()), Step::Door);
    assert_eq!(first(&enforced()), Step::Door);
    assert_eq!(first(&Facts { door: None, ..open() }), plain(Why::NoDoor));
    assert_eq!(first(&Facts { own_author: false, ..open() }), plain(Why::Author));
    assert_eq!(first(&Facts { own_author: false, ..enforced() }), plain(Why::Author), "it would say USE-MX");
    assert_eq!(first(&Facts { use_mx: true, ..enforced() }), plain(Why::UseMx));
    assert_eq!(first(&Facts { room: false, ..open() }), plain(Why::Full));
    assert_eq!(first(&Facts { room: false, ..enforced() }), Step::Wait(RETRY_S));
}

#[test]
fn a_silent_door_is_waited_for_a_quarter_of_an_hour_and_then_port_25_is_used() {
    let check = |facts: Facts, before: Step, when_silent: Step| {
        assert_eq!((first(&facts), after(&facts, Closed::Silent)), (before, when_silent), "{facts:?}");
    };
    for (facts, downgrade) in [(open(), plain(Why::Silent)), (enforced(), proven(Why::Silent))] {
        check(facts, Step::Door, Step::Wait(60));
        check(silent(facts, 10, Some(10)), Step::Wait(50), Step::Wait(60));
        check(silent(facts, 100, Some(60)), Step::Door, Step::Wait(60));
        // The last wait ends with the quarter of an hour.
        check(silent(facts, 890, Some(30)), Step::Wait(10), Step::Wait(10));
        check(silent(facts, 870, Some(60)), Step::Door, Step::Wait(30));
        // After it: the door is tried now and then, and mail does not wait for it.
        check(silent(facts, 900, Some(10)), downgrade, downgrade);
        check(silent(facts, 9_000, Some(299)), downgrade, downgrade);
        check(silent(facts, 9_000, Some(300)), Step::Door, downgrade);
        // After a restart nobody knows when it was last tried; the silence is on disk.
        check(silent(facts, 9_000, None), Step::Door, downgrade);
        check(silent(facts, 90_000, Some(300)), Step::Door, downgrade);
        // One silence long ago does not take the wait away from the next.
        check(silent(facts, 90_000, None), Step::Door, Step::Wait(60));
        check(silent(facts, 90_000, Some(STALE_S)), Step::Door, Step::Wait(60));
    }
}

#[test]
fn a_message_meets_port_25_a_quarter_of_an_hour_after_the_first_silence_and_not_before() {
    for first_seen_s in [0, 1, 59, 450, 899] {
        // A message comes `first_seen_s` after the silence began and is looked at whenever its wait is over.
        let (mut now_s, mut tried_at, mut tries) = (NOW + first_seen_s, None, 0);
        let mut begins = (first_seen_s > 0).then_some(NOW);
        let downgraded_at = loop {
            let facts =
                Facts { silent_since_s: begins, tried_ago_s: tried_at.map(|at| now_s - at), now_s, ..enforced() };
            let step = match first(&facts) {
                Step::Door => {
                    (begins, tried_at) = (Some(facts.silence_begins_s()), Some(now_s));
                    tries += 1;
                    after(&Facts { silent_since_s: begins, tried_ago_s: Some(0), ..facts }, Closed::Silent)
                }
                step => step,
            };
            match step {
                Step::Wait(seconds) => now_s += seconds,
                Step::Mx { proven, .. } => break (now_s, proven),
                Step::Door => unreachable!("the door is silent"),
            }
        };
        assert_eq!(downgraded_at, (NOW + SILENCE_S, true), "seen after {first_seen_s} s");
        assert!(tries <= 16, "{tries} tries");
    }
}

#[test]
fn the_beginning_of_a_silence_is_kept_while_it_lasts() {
    assert_eq!(open().silence_begins_s(), NOW);
    assert_eq!(silent(open(), 100, Some(60)).silence_begins_s(), NOW - 100);
    assert_eq!(silent(open(), 90_000, None).silence_begins_s(), NOW);
    let clock_set_back = Facts { silent_since_s: Some(NOW + 5_000), tried_ago_s: Some(60), ..open() };
    assert_eq!(after(&clock_set_back, Closed::Silent), Step::Wait(60));
}

#[test]
fn who_asks_for_enforcement_in_an_unsigned_record_is_only_preferred() {
    for door in [Source::Published { secure: false }, Source::Remembered { secure: false }] {
        let facts = silent(Facts { door: Some(door), ..enforced() }, 900, Some(10));
        assert_eq!(first(&facts), plain(Why::Silent));
    }
    for door in [Source::Pinned, Source::Remembered { secure: true }] {
        let facts = silent(Facts { door: Some(door), ..enforced() }, 900, Some(10));
        assert_eq!(first(&facts), proven(Why::Silent));
    }
}

#[test]
fn a_short_appointment_is_kept_and_a_long_one_means_port_25() {
    assert_eq!(after(&open(), Closed::Appointment(NOW + 120)), Step::Wait(120));
    assert_eq!(after(&open(), Closed::Appointment(NOW + 121)), plain(Why::Later));
    assert_eq!(after(&open(), Closed::Appointment(NOW - 5)), Step::Wait(1));
    // A challenge is not signed: who sits on the way must not buy a downgrade with it.
    assert_eq!(after(&enforced(), Closed::Appointment(NOW + 121)), proven(Why::Later));
    assert_eq!(after(&enforced(), Closed::Parked(120)), Step::Wait(120));
    assert_eq!(after(&enforced(), Closed::Parked(121)), proven(Why::Later));
    assert_eq!(
        after(&enforced(), Closed::Refused(CloseCode::Internal)),
        proven(Why::Later),
        "no word about port 25 either"
    );
    assert_eq!(after(&open(), Closed::Refused(CloseCode::NoProof)), plain(Why::Refused));
    assert_eq!(after(&open(), Closed::Refused(CloseCode::ShuttingDown)), Step::Wait(BACK_SOON_S));
}

#[test]
fn a_door_that_puts_mail_off_again_and_again_is_waited_for_no_longer_than_a_silent_one() {
    let soon = [
        Closed::Parked(60),
        Closed::Appointment(NOW + 60),
        Closed::Refused(CloseCode::ShuttingDown),
        Closed::Refused(CloseCode::LifetimeOver),
        Closed::Refused(CloseCode::Done),
    ];
    for closed in soon {
        for (facts, downgrade) in [(open(), plain(Why::Silent)), (enforced(), proven(Why::Silent))] {
            let check = |facts, expected| assert_eq!(after(&facts, closed), expected, "{closed:?} {facts:?}");
            assert!(matches!(after(&facts, closed), Step::Wait(10 | 60)), "{closed:?}");
            check(silent(facts, 895, None), Step::Wait(5));
            check(silent(facts, 900, None), downgrade);
            assert!(matches!(after(&silent(facts, 90_000, None), closed), Step::Wait(10 | 60)), "it was another wait");
        }
    }
}

#[test]
fn a_stream_that_breaks_is_waited_for_as_long_and_a_message_that_breaks_it_no_longer() {
    for (facts, downgrade) in [(open(), plain(Why::Silent)), (enforced(), proven(Why::Silent))] {
        assert_eq!(broke(&facts, None), None);
        assert_eq!(broke(&silent(facts, 899, None), None), None);
        assert_eq!(broke(&silent(facts, 900, None), None), Some(downgrade));
        assert_eq!(broke(&silent(facts, 10, None), Some(899)), None);
        assert_eq!(broke(&silent(facts, 10, None), Some(900)), Some(downgrade), "others keep the silence short");
    }
}

#[test]
fn only_our_own_organisation_s_authors_go_through_the_door() {
    let check = |author: &str, expected: bool| {
        let author = Author { domain: author.into() };
        assert_eq!(is_own(&author, "mail.us.example", "us.example"), expected, "{author:?}");
    };
    check("us.example", true);
    check("mail.us.example", true);
    check("other.us.example", true);
    check("notus.example", false);
    check("example", false);
    check("far.example", false);
    assert!(!is_own(&Author { domain: "far.example".into() }, "us.example", ""), "no organisation is not every one");
}

#[test]
fn use_mx_is_a_refusal_that_begins_so() {
    let reply = |code, text: &str| Reply::plain(code, "").with_text(text.to_owned());
    assert!(says_use_mx(&reply(550, "USE-MX not your author")) && says_use_mx(&reply(450, "USE-MX")));
    assert!(!says_use_mx(&reply(250, "USE-MX")) && !says_use_mx(&reply(550, "do not USE-MX")));
}

#[test]
fn that_a_door_sent_an_author_away_is_remembered_for_an_hour_within_bounds() {
    let mut table = UseMx::default();
    table.remember("far.example", "us.example", NOW);
    assert!(table.holds("far.example", "us.example", NOW + USE_MX_S - 1));
    assert!(!table.holds("far.example", "us.example", NOW + USE_MX_S));
    assert!(!table.holds("far.example", "other.us.example", NOW) && !table.holds("x.example", "us.example", NOW));
    assert!(!table.holds("far.example", "us.example", NOW - 1), "the clock was set back");
    for i in 0..2 * USE_MX_MAX {
        table.remember(&format!("{i}.example"), "us.example", NOW + 1);
    }
    assert_eq!(table.until_s.len(), USE_MX_MAX);
    table.remember("late.example", "us.example", NOW + 2 * USE_MX_S);
    assert!(table.holds("late.example", "us.example", NOW + 2 * USE_MX_S), "those that ended make room");
}
