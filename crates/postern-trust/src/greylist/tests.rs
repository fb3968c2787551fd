use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

const KEY: [u8; 16] = *b"greylist test ky";
const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const NOW: u64 = 1_800_000_000;

fn attempt(ip: IpAddr, sender: &str) -> Attempt<'_> {
    Attempt { authorised_domain: None, ip, sender, recipient: "ann@example.com" }
}

#[test]
fn who_comes_again_within_the_window_passes_and_is_remembered() {
    let check = |after: &[(u64, bool)]| {
        let list = Greylist::new(8, KEY);
        assert!(list.is_deferred(&attempt(HOME, "bob@example.net"), NOW));
        for (after_s, deferred) in after {
            let now = NOW + after_s;
            assert_eq!(list.is_deferred(&attempt(HOME, "bob@example.net"), now), *deferred, "{after_s} s of {after:?}");
        }
    };
    // Too early, and the wait is not begun anew.
    check(&[(1, true), (59, true), (60, false), (61, false)]);
    check(&[(RETRY_UNTIL_S, false), (RETRY_UNTIL_S + PASSED_S, false)]);
    check(&[(RETRY_UNTIL_S + 1, true), (RETRY_UNTIL_S + 61, false)]);
    check(&[(60, false), (61 + PASSED_S, true)]);
    // The clock went back: it begins anew, and is over again.
    check(&[(60, false), (10, false)]);
}

#[test]
fn a_clock_that_went_back_costs_one_more_wait() {
    let list = Greylist::new(8, KEY);
    assert!(list.is_deferred(&attempt(HOME, "bob@example.net"), NOW));
    assert!(list.is_deferred(&attempt(HOME, "bob@example.net"), NOW - 90_000));
    assert!(!list.is_deferred(&attempt(HOME, "bob@example.net"), NOW - 90_000 + 60));
}

#[test]
fn a_neighbour_or_another_address_of_an_authorised_domain_is_the_same_sender() {
    let check = |first: Attempt<'_>, second: Attempt<'_>, same: bool| {
        let list = Greylist::new(8, KEY);
        assert!(list.is_deferred(&first, NOW));
        assert_eq!(!list.is_deferred(&second, NOW + 60), same, "{first:?} {second:?}");
    };
    let near = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200));
    let far = IpAddr::V4(Ipv4Addr::new(192, 0, 3, 1));
    check(attempt(HOME, "bob@example.net"), attempt(near, "BOB@example.net"), true);
    check(attempt(HOME, "bob@example.net"), attempt(far, "bob@example.net"), false);
    check(attempt(HOME, "bob@example.net"), attempt(HOME, "eve@example.net"), false);
    let of = |ip| Attempt { authorised_domain: Some("example.net"), ..attempt(ip, "bob@example.net") };
    check(of(HOME), of(far), true);
    let v6 = |last| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, last, 0, 0, 0, last));
    check(attempt(v6(1), ""), attempt(v6(2), ""), true);
    // An IPv4 client on a dual-stack socket is itself.
    check(attempt(HOME, ""), attempt(IpAddr::V6(Ipv4Addr::new(192, 0, 2, 9).to_ipv6_mapped()), ""), true);
}

#[test]
fn a_flood_of_suspects_pushes_out_who_never_came_again_and_not_who_did() {
    let list = Greylist::new(6, KEY);
    assert!(list.is_deferred(&attempt(HOME, "bob@example.net"), NOW));
    assert!(!list.is_deferred(&attempt(HOME, "bob@example.net"), NOW + 60));
    for number in 0..10_000 {
        let sender = format!("{number}@example.org");
        assert!(list.is_deferred(&attempt(HOME, &sender), NOW + 61), "{number}");
    }
    assert!(!list.is_deferred(&attempt(HOME, "bob@example.net"), NOW + 62));
}

#[test]
fn the_greylist_is_for_the_suspect_under_pressure_and_never_for_who_is_listed_as_good() {
    let check = |class, level, listed_good, expected| {
        assert_eq!(is_wanted(class, level, listed_good), expected, "{class:?} {level:?} {listed_good}");
    };
    check(Class::Suspect, Level::Busy, false, true);
    check(Class::Suspect, Level::Red, false, true);
    check(Class::Suspect, Level::Calm, false, false);
    check(Class::Suspect, Level::Red, true, false);
    check(Class::New, Level::Red, false, false);
    check(Class::Pinned, Level::Red, false, false);
}

#[test]
fn a_dictionary_spends_the_budget_of_its_prefix_and_gets_it_back_with_time() {
    let sketch = BadRecipients::new(8, KEY);
    let neighbour = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 99));
    let stranger = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
    sketch.record(HOME, 19, NOW);
    assert!(!sketch.is_over(Class::New, HOME, NOW));
    sketch.record(neighbour, 1, NOW);
    assert!(sketch.is_over(Class::New, HOME, NOW), "a prefix has one budget");
    assert!(sketch.is_over(Class::Suspect, neighbour, NOW));
    assert!(!sketch.is_over(Class::New, stranger, NOW));
    for class in [Class::Pinned, Class::Known, Class::Provider] {
        assert!(!sketch.is_over(class, HOME, NOW), "{class:?} is exempt");
    }
    assert!(!sketch.is_over(Class::New, HOME, NOW + 60), "one is forgiven a minute");
    // However many there were, ten minutes of silence are enough.
    sketch.record(HOME, u32::MAX, NOW + 60);
    assert!(sketch.is_over(Class::New, HOME, NOW + 60 + 600));
    assert!(!sketch.is_over(Class::New, HOME, NOW + 60 + 601));
}

#[test]
fn many_small_prefixes_of_one_ipv6_provider_have_one_larger_budget() {
    let sketch = BadRecipients::new(12, KEY);
    let source = |site| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, site, 0, 0, 0, 0, 1));
    for site in 0..319 {
        sketch.record(source(site), 1, NOW);
    }
    // In whole seconds a sixteenth of a minute is 3: 400 errors spend what 320 should.
    assert!(!sketch.is_over(Class::New, source(5000), NOW));
    for site in 319..400 {
        sketch.record(source(site), 1, NOW);
    }
    assert!(sketch.is_over(Class::New, source(5000), NOW));
}

#[test]
fn single_errors_from_everywhere_do_not_push_out_who_has_spent_its_budget_nor_punish_a_stranger() {
    let sketch = BadRecipients::new(6, KEY);
    sketch.record(HOME, 20, NOW);
    for number in 0..100_000_u32 {
        let [_, a, b, c] = number.to_be_bytes();
        sketch.record(IpAddr::V4(Ipv4Addr::new(10 + a, b, c, 1)), 1, NOW);
    }
    assert!(sketch.is_over(Class::New, HOME, NOW));
    assert!(!sketch.is_over(Class::New, IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), NOW));
}

#[test]
fn a_clock_that_jumps_back_forgives_nothing_and_adds_nothing() {
    let sketch = BadRecipients::new(8, KEY);
    sketch.record(HOME, 20, NOW);
    assert!(sketch.is_over(Class::New, HOME, NOW - 100_000));
    sketch.record(HOME, 1, NOW - 100_000);
    assert!(!sketch.is_over(Class::New, HOME, NOW - 100_000 + 700));
}
