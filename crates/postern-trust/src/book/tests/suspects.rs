//! What speaks against a sender, and what does not.

use super::*;

fn class_after(evidence: &[Evidence]) -> Class {
    let mut world = World::new();
    evidence.iter().for_each(|one| world.tell(one.clone()));
    world.class("192.0.2.9")
}

fn bot() -> IpAddr {
    ip("192.0.2.9")
}

fn every_bad_event() -> Vec<Evidence> {
    vec![
        Evidence::EarlyTalker { ip: bot() },
        Evidence::Abuse { ip: bot() },
        Evidence::BadHelo { ip: bot() },
        Evidence::BadRecipients { ip: bot(), n: u16::MAX },
        Evidence::Spam { ip: bot(), domain: None, n: u16::MAX },
        Evidence::Listed { ip: bot(), weight: i8::MIN },
    ]
}

#[test]
fn no_single_event_is_a_verdict() {
    for event in every_bad_event() {
        assert_eq!(class_after(std::slice::from_ref(&event)), Class::New, "{event:?}");
    }
}

#[test]
fn two_strong_signs_are() {
    use Evidence::{Abuse, BadHelo, BadRecipients, EarlyTalker, Listed, Spam};
    let ip = bot();
    let spam = |n| Spam { ip, domain: None, n };
    let cases: &[(&[Evidence], Class)] = &[
        (&[EarlyTalker { ip }, Abuse { ip }], Class::Suspect),
        (&[EarlyTalker { ip }, EarlyTalker { ip }], Class::Suspect),
        (&[EarlyTalker { ip }, BadHelo { ip }], Class::New),
        (&[Listed { ip, weight: -3 }, spam(1)], Class::New),
        (&[Listed { ip, weight: -4 }, spam(1)], Class::Suspect),
        (&[spam(1), Listed { ip, weight: -4 }], Class::Suspect),
        (&[spam(1), spam(1)], Class::New),
        (&[spam(1), spam(1), spam(1)], Class::Suspect),
        (&[BadRecipients { ip, n: 6 }, spam(1)], Class::Suspect),
        (&[EarlyTalker { ip }, Abuse { ip }, Listed { ip, weight: 4 }], Class::New),
        (&[Evidence::Connected { ip }, Evidence::Connected { ip }], Class::New),
    ];
    for (events, expected) in cases {
        assert_eq!(class_after(events), *expected, "{events:?}");
    }
}

#[test]
fn the_same_listing_looked_up_again_adds_nothing() {
    let events = vec![Evidence::Listed { ip: bot(), weight: -8 }; 100];
    assert_eq!(class_after(&events), Class::New);
}

#[test]
fn good_verdicts_wash_off_bad_ones_at_one_in_twenty() {
    let mut world = World::new();
    for _ in 0..50 {
        world.spam("192.0.2.9", "some.example", 1);
        for _ in 0..20 {
            world.ham("192.0.2.9", "some.example");
        }
    }
    assert_eq!(world.class("192.0.2.9"), Class::New);
    for _ in 0..10 {
        world.spam("192.0.2.9", "some.example", 1);
        world.ham("192.0.2.9", "some.example");
    }
    assert_eq!(world.class("192.0.2.9"), Class::Suspect);
}

#[test]
fn a_prefix_never_carries_credit() {
    let mut world = World::new();
    for host in 1..=200 {
        world.corresponds(&format!("192.0.2.{host}"), &format!("ann@friend{host}.example"));
        world.corresponds(&format!("2001:db8:5:{host}::1"), &format!("bob@friend{host}.example"));
    }
    for neighbour in ["192.0.2.201", "192.0.2.254", "2001:db8:5:ffff::1", "2001:db8:6::1"] {
        assert_eq!(world.class(neighbour), Class::New, "{neighbour}");
    }
}

#[test]
fn a_bad_prefix_is_no_verdict_but_one_sign_is_then_enough() {
    for (bots, neighbour, outside) in [
        (["203.0.113.", ""], "203.0.113.250", "203.0.114.1"),
        (["2001:db8:7:", "::1"], "2001:db8:7:ffff::1", "2001:dbf:7::1"),
    ] {
        let mut world = World::new();
        for bot in 1..=100 {
            let from = ip(&format!("{}{bot}{}", bots[0], bots[1]));
            world.tell(Evidence::EarlyTalker { ip: from });
            world.tell(Evidence::Abuse { ip: from });
        }
        assert_eq!(world.class(neighbour), Class::New);
        world.tell(Evidence::EarlyTalker { ip: ip(neighbour) });
        assert_eq!(world.class(neighbour), Class::Suspect);
        world.tell(Evidence::EarlyTalker { ip: ip(outside) });
        assert_eq!(world.class(outside), Class::New);
    }
}

#[test]
fn a_bad_ipv6_allocation_weighs_on_its_other_48s() {
    let mut world = World::new();
    for site in 0..2_000 {
        let from = ip(&format!("2001:db8:{site:x}::1"));
        world.tell(Evidence::EarlyTalker { ip: from });
    }
    let fresh = "2001:db8:ffff::1";
    assert_eq!(world.class(fresh), Class::New);
    world.tell(Evidence::EarlyTalker { ip: ip(fresh) });
    assert_eq!(world.class(fresh), Class::Suspect);
}

#[test]
fn a_friend_in_a_bad_neighbourhood_stays_known() {
    let mut world = World::new();
    world.corresponds("203.0.113.250", "ann@friend.example");
    for bot in 1..=100 {
        for _ in 0..3 {
            world.tell(Evidence::Abuse { ip: ip(&format!("203.0.113.{bot}")) });
        }
    }
    assert_eq!(world.class("203.0.113.250"), Class::Known);
    world.tell(Evidence::EarlyTalker { ip: ip("203.0.113.250") });
    assert_eq!(world.class("203.0.113.250"), Class::Known);
}

#[test]
fn a_hacked_friend_is_suspended_first_and_suspect_later() {
    let mut world = World::new();
    world.corresponds("192.0.2.1", "ann@friend.example");
    let mut seen = vec![world.class("192.0.2.1")];
    for _ in 0..10 {
        world.spam("192.0.2.1", "ann@friend.example", 1);
        seen.push(world.class("192.0.2.1"));
    }
    let mut order = seen.clone();
    order.dedup();
    assert_eq!(order, [Class::Known, Class::New, Class::Suspect], "{seen:?}");
    assert_eq!(seen[2], Class::Known, "two verdicts may be mistakes");
    world.days(4);
    assert_eq!(world.class("192.0.2.1"), Class::Known, "the correspondence outlasts the bad week");
}

#[test]
fn forged_mail_blames_the_bot_and_not_the_forged() {
    let mut world = World::new();
    world.corresponds("192.0.2.1", "ann@bank.example");
    for bot in 1..=100 {
        world.spam(&format!("198.51.100.{bot}"), "ann@bank.example", 5);
    }
    assert_eq!(world.class("198.51.100.7"), Class::Suspect);
    assert_eq!(world.message("192.0.2.1", "ann@bank.example"), Class::Known);
    assert_eq!(world.book.class_of_message(ip("203.0.113.77"), Some("bank.example"), true, world.now_s), Class::Known);
}

#[test]
fn a_spamming_domain_is_suspect_from_its_next_authorised_address() {
    let mut world = World::new();
    world.authorised("192.0.2.1", "cheap.example");
    world.spam("192.0.2.1", "cheap.example", 3);
    world.authorised("203.0.113.5", "cheap.example");
    assert_eq!(world.class("203.0.113.5"), Class::New, "the address itself did nothing");
    assert_eq!(world.message("203.0.113.5", "cheap.example"), Class::Suspect);
    assert_eq!(world.message("203.0.113.6", "cheap.example"), Class::New, "not authorised: perhaps forged");
}

#[test]
fn odd_names_are_nobody_and_hurt_nobody() {
    let mut world = World::new();
    for name in ["", ".", "@", "a@", "@b.example", &"x".repeat(5_000), "\u{0}\u{ff}", "a@b@c.example", "EXAMPLE.."] {
        world.wrote_to(name);
        world.good_mail("192.0.2.9", name);
        world.spam("192.0.2.9", name, 1);
        let _ = world.message("192.0.2.9", name);
        let _ = world.book.explain_domain(name, world.now_s);
    }
    assert_eq!(world.book.class_of_message(bot(), None, true, world.now_s), world.class("192.0.2.9"));
}
