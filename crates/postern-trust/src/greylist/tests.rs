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
fn a_dictionary_spends_the_budget_of_its_address_and_gets_it_back_with_time() {
    let sketch = BadRecipients::new(8, KEY);
    let neighbour = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 99));
    let stranger = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
    sketch.record(HOME, 19, NOW);
    assert!(!sketch.is_over(Class::New, HOME, NOW));
    sketch.record(neighbour, 1, NOW);
    assert!(!sketch.is_over(Class::New, HOME, NOW), "an address has a budget of its own");
    sketch.record(HOME, 1, NOW);
    assert!(sketch.is_over(Class::New, HOME, NOW));
    assert!(!sketch.is_over(Class::Suspect, neighbour, NOW));
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
fn one_bad_neighbour_closes_nothing_to_honest_newcomers() {
    let check = |bad: &str, honest: &str| {
        let sketch = BadRecipients::new(8, KEY);
        let (bad, honest): (IpAddr, IpAddr) = (bad.parse().expect("one"), honest.parse().expect("one"));
        for minute in 0..600 {
            sketch.record(bad, 40, NOW + minute * 60);
        }
        let now_s = NOW + 600 * 60;
        for level in [Level::Calm, Level::Busy, Level::Red] {
            assert!(sketch.is_over_at(Class::New, level, bad, now_s - 60), "{bad}");
            assert!(!sketch.is_over_at(Class::New, level, honest, now_s), "{honest} beside {bad} at {level:?}");
        }
        assert!(sketch.is_over_at(Class::Suspect, Level::Calm, honest, now_s), "a suspect answers for its neighbours");
        // One mistyped name of an honest newcomer is no dictionary while there is room for everybody.
        sketch.record(honest, 1, now_s);
        assert!(!sketch.is_over_at(Class::New, Level::Calm, honest, now_s));
        assert!(sketch.is_over_at(Class::New, Level::Busy, honest, now_s), "under pressure it is one of many");
    };
    check("192.0.2.9", "192.0.2.99");
    check("2001:db8:7:1::1", "2001:db8:7:2::1");
    check("2001:db8:7:1:1::1", "2001:db8:7:2::1");
}

#[test]
fn a_dictionary_spread_over_a_prefix_spends_ten_budgets() {
    let check = |source: &dyn Fn(u16) -> IpAddr, least: u16, most: u16| {
        let sketch = BadRecipients::new(12, KEY);
        let is_over = || sketch.is_over(Class::Suspect, source(5000), NOW);
        (0..least).for_each(|bot| sketch.record(source(bot), 1, NOW));
        assert!(!is_over(), "{}", source(0));
        (least..most).for_each(|bot| sketch.record(source(bot), 1, NOW));
        assert!(is_over(), "{}", source(0));
        assert!(!sketch.is_over(Class::New, source(5000), NOW));
    };
    let v4 = |bot: u16| IpAddr::V4(Ipv4Addr::new(192, 0, 2, (bot % 256) as u8));
    check(&v4, 199, 200);
    check(&|bot| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 7, bot, 0, 0, 0, 1)), 199, 200);
    // Many small prefixes of one provider: one larger budget.
    check(&|bot| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, bot, 0, 0, 0, 0, 1)), 1199, 1200);
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
