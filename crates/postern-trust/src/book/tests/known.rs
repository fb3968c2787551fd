//! Known is earned by correspondence or patience, and is not for sale.

use super::*;

#[test]
fn a_letter_and_its_authorised_answer_make_known() {
    let mut world = World::new();
    world.wrote_to("ann@friend.example");
    assert_eq!(world.class("192.0.2.1"), Class::New, "a letter alone says nothing of any address");
    world.authorised("192.0.2.1", "friend.example");
    assert_eq!(world.class("192.0.2.1"), Class::Known);
    assert_eq!(world.class("192.0.2.2"), Class::New, "the neighbour is not authorised");
    assert_eq!(world.message("192.0.2.1", "friend.example"), Class::Known);
}

#[test]
fn who_wrote_first_and_was_answered_is_known_at_his_next_mail() {
    let mut world = World::new();
    world.good_mail("192.0.2.1", "ann@friend.example");
    assert_eq!(world.class("192.0.2.1"), Class::New);
    world.wrote_to("ann@friend.example");
    world.good_mail("192.0.2.1", "ann@friend.example");
    assert_eq!(world.class("192.0.2.1"), Class::Known);
}

#[test]
fn an_unanswered_letter_makes_nobody_known() {
    let mut world = World::new();
    world.wrote_to("ann@friend.example");
    world.ham("192.0.2.1", "ann@friend.example");
    assert_eq!(world.class("192.0.2.1"), Class::New, "good mail, but not authorised: anybody can write that name");
    assert_eq!(world.message("192.0.2.1", "ann@friend.example"), Class::New);
}

#[test]
fn a_replayed_newsletter_makes_no_address_known() {
    let mut world = World::new();
    world.corresponds("192.0.2.1", "news@letter.example");
    for bot in 1..=200 {
        let from = format!("198.51.100.{bot}");
        for _ in 0..5 {
            world.ham(&from, "news@letter.example");
        }
        assert_eq!(world.class(&from), Class::New, "{from}");
        assert_eq!(world.message(&from, "news@letter.example"), Class::New, "{from}");
    }
    assert_eq!(world.book.stats().good_used, 3, "mailbox, domain and the one authorised address");
}

#[test]
fn a_domain_that_authorises_the_whole_world_lends_to_few() {
    let mut world = World::new();
    world.corresponds("192.0.2.1", "ann@careless.example");
    for bot in 0..1_000 {
        world.authorised(&format!("10.0.{}.{}", bot / 250, bot % 250), "careless.example");
    }
    let known =
        (0..1_000).filter(|bot| world.class(&format!("10.0.{}.{}", bot / 250, bot % 250)) == Class::Known).count();
    assert_eq!(known, usize::from(crate::limits::LENT_A_DAY) - 1);
    assert_eq!(world.class("192.0.2.1"), Class::Known);
}

/// `count` senders, each with an address, a domain and a record of its own, that send clean mail for `days` days.
fn warm_up(world: &mut World, count: u32, days: u32, each_day: impl Fn(&mut World)) {
    for day in 0..days {
        each_day(world);
        for sybil in 0..count {
            let (from, domain) = sybil_name(sybil);
            world.good_mail(&from, &domain);
        }
        if day + 1 < days {
            world.days(1);
        }
    }
}

fn sybil_name(sybil: u32) -> (String, String) {
    // Every sybil in a /24 of its own: the best that it can buy.
    (format!("10.{}.{}.9", sybil / 250, sybil % 250), format!("shop{sybil}.example"))
}

fn known_sybils(world: &World, count: u32) -> usize {
    (0..count).filter(|sybil| world.class(&sybil_name(*sybil).0) == Class::Known).count()
}

#[test]
fn a_thousand_warm_sybils_gain_the_daily_cap_and_displace_nobody() {
    let mut world = World::new();
    for friend in 1..=100 {
        world.corresponds(&format!("192.0.2.{friend}"), &format!("someone@friend{friend}.example"));
    }
    let friends = |world: &World| (1..=100).filter(|f| world.class(&format!("192.0.2.{f}")) == Class::Known).count();
    assert_eq!(friends(&world), 100);

    warm_up(&mut world, 1_000, 21, |_| {});
    assert_eq!(known_sybils(&world, 1_000), 0, "three weeks are not over");
    world.days(1);
    warm_up(&mut world, 1_000, 1, |_| {});
    let first = known_sybils(&world, 1_000);
    let cap = BookOptions::default().promotions_a_day as usize;
    assert!((1..=cap).contains(&first), "{first} became known on the first day");
    for _ in 0..20 {
        warm_up(&mut world, 1_000, 1, |_| {});
    }
    assert_eq!(known_sybils(&world, 1_000), first, "more mail on the same day buys nothing");
    world.days(1);
    warm_up(&mut world, 1_000, 1, |_| {});
    assert!(known_sybils(&world, 1_000) <= 2 * cap);
    assert_eq!(friends(&world), 100);
    assert!(world.book.stats().promotions_waiting > 0);
}

#[test]
fn neighbours_gain_two_promotions_a_day_together() {
    let mut world = World::new();
    for day in 0..=21 {
        for host in 1..=40 {
            world.good_mail(&format!("203.0.113.{host}"), &format!("near{host}.example"));
        }
        if day < 21 {
            world.days(1);
        }
    }
    let known = (1..=40).filter(|host| world.class(&format!("203.0.113.{host}")) == Class::Known).count();
    assert!((1..=2).contains(&known), "{known}");
}

#[test]
fn a_daily_sender_is_known_after_three_weeks_and_not_before() {
    let mut world = World::new();
    for day in 0..=21 {
        assert_eq!(world.class("192.0.2.7"), Class::New, "day {day}");
        world.good_mail("192.0.2.7", "patient.example");
        if day < 21 {
            world.days(1);
        }
    }
    assert_eq!(world.class("192.0.2.7"), Class::Known);
}

#[test]
fn volume_on_one_day_is_no_history() {
    let mut world = World::new();
    world.good_mail("192.0.2.7", "loud.example");
    world.days(30);
    for _ in 0..10_000 {
        world.good_mail("192.0.2.7", "loud.example");
    }
    assert_eq!(world.class("192.0.2.7"), Class::New);
}

#[test]
fn spam_in_between_costs_a_history() {
    let mut world = World::new();
    for day in 0..40 {
        world.good_mail("192.0.2.7", "mixed.example");
        if day % 2 == 0 {
            world.spam("192.0.2.7", "mixed.example", 1);
        }
        world.days(1);
    }
    assert_ne!(world.class("192.0.2.7"), Class::Known);
}

#[test]
fn strangers_cannot_wash_out_the_known() {
    let options = BookOptions { good_entries: 1 << 10, ..small() };
    let mut world = World::with(options);
    for friend in 1..=100 {
        world.corresponds(&format!("192.0.2.{friend}"), &format!("someone@friend{friend}.example"));
    }
    let friends = |world: &World| (1..=100).filter(|f| world.class(&format!("192.0.2.{f}")) == Class::Known).count();
    assert!(friends(&world) >= 95, "the table is nearly a third full of friends");
    let before = friends(&world);
    for day in 0..5 {
        for stranger in 0..20_000_u32 {
            let from = format!("10.{}.{}.{}", stranger >> 16, stranger >> 8 & 255, stranger & 255);
            world.good_mail(&from, &format!("clean{day}-{stranger}.example"));
        }
        world.days(1);
    }
    assert_eq!(friends(&world), before);
    assert!(world.book.stats().crowded_out > 10_000);
}

#[test]
fn a_million_unanswered_letters_of_ours_displace_no_correspondent() {
    let mut world = World::with(BookOptions { good_entries: 1 << 10, ..small() });
    for friend in 1..=50 {
        world.corresponds(&format!("192.0.2.{friend}"), &format!("someone@friend{friend}.example"));
    }
    let friends = |world: &World| (1..=50).filter(|f| world.class(&format!("192.0.2.{f}")) == Class::Known).count();
    let before = friends(&world);
    assert!(before >= 48);
    world.days(20);
    for subscriber in 0..50_000 {
        world.wrote_to(&format!("reader@list{subscriber}.example"));
    }
    assert_eq!(friends(&world), before);
}

#[test]
fn pins_come_first_and_pinned_domains_only_where_authorised() {
    let mut world = World::new();
    world.pins(Pins {
        networks: vec!["192.0.2.0/28".parse().expect("net"), "2001:db8:1::/48".parse().expect("net")],
        domains: vec!["Bank.example".into()],
        ..Pins::default()
    });
    for _ in 0..10 {
        world.tell(Evidence::Abuse { ip: ip("192.0.2.3") });
    }
    assert_eq!(world.class("192.0.2.3"), Class::Pinned);
    assert_eq!(world.class("::ffff:192.0.2.3"), Class::Pinned, "the same address, mapped");
    assert_eq!(world.class("192.0.2.16"), Class::New);
    assert_eq!(world.class("2001:db8:1:ffff::1"), Class::Pinned);
    assert_eq!(world.message("203.0.113.1", "bank.example"), Class::New);
    world.authorised("203.0.113.1", "mail.bank.example");
    assert_eq!(world.message("203.0.113.1", "clerk@mail.bank.example."), Class::Pinned);
    assert_eq!(world.message("203.0.113.1", "notbank.example"), Class::New);
    world.pins(Pins::default());
    assert_eq!(world.class("192.0.2.3"), Class::Suspect, "what it did was written down all the same");
}

#[test]
fn a_pin_of_a_domain_above_counts_for_a_speaker_only_where_it_inherits() {
    let mut world = World::new();
    world.pins(Pins { domains: vec!["Bank.example".into()], ..Pins::default() });
    world.corresponds("192.0.2.1", "ann@friend.example");
    let class = |name: &str, inherits| world.book.class_of_speaker(None, name, inherits, world.now_s);
    assert_eq!(class("bank.example", false), Class::Pinned);
    assert_eq!(class("postmaster@bank.example", false), Class::Pinned);
    assert_eq!(class("r123.bank.example", true), Class::Pinned);
    assert_eq!(class("r123.bank.example", false), Class::New);
    assert_eq!(class("friend.example", false), Class::Known, "its own credit");
    assert_eq!(class("r123.friend.example", true), Class::New, "credit is of one domain");
    let from = |name: &str| world.book.class_of_speaker(Some(ip("192.0.2.1")), name, false, world.now_s);
    assert_eq!(from("r123.bank.example"), Class::Known, "of the address");
}

#[test]
fn good_days_are_counted_once_a_day_decay_and_are_the_domain_s_own() {
    let mut world = World::new();
    let days = |world: &World, domain: &str| world.book.good_days(domain, world.now_s);
    assert_eq!(days(&world, "friend.example"), 0);
    // A thousand messages of one day are one day.
    (0..1_000).for_each(|_| world.good_mail("192.0.2.1", "friend.example"));
    assert_eq!(days(&world, "friend.example"), 1);
    for _ in 0..9 {
        world.days(1);
        world.good_mail("192.0.2.1", "friend.example");
    }
    assert_eq!(days(&world, "friend.example"), 9, "ten, and the first have faded a little");
    assert_eq!(days(&world, "ann@Friend.example."), 9);
    assert_eq!(days(&world, "mail.friend.example"), 0);
    assert_eq!(days(&world, "example"), 0);
    world.ham("203.0.113.1", "other.example");
    assert_eq!(days(&world, "other.example"), 0, "nothing said that the address may speak for it");
    world.wrote_to("ann@third.example");
    assert_eq!(days(&world, "third.example"), 8, "a letter of ours");
    world.days(30);
    assert_eq!(days(&world, "friend.example"), 4, "half of it");
    world.days(365);
    assert_eq!(days(&world, "friend.example"), 0);
}

#[test]
fn mail_of_whoever_has_shown_the_domain_s_key_credits_and_blames_the_domain_and_no_address() {
    let mut world = World::new();
    let of_key = |world: &mut World, spam: bool| {
        let domain = "ann@friend.example".into();
        world.tell(Evidence::OfKeyHolder { ip: ip("192.0.2.1"), domain, n: 1, spam });
    };
    for _ in 0..30 {
        world.days(1);
        of_key(&mut world, false);
    }
    assert_eq!(world.book.class_of_speaker(None, "friend.example", false, world.now_s), Class::Known, "by its history");
    let days = world.book.good_days("friend.example", world.now_s);
    assert!(days > 15, "{days}");
    assert_eq!(world.class("192.0.2.1"), Class::New, "anybody may send from there");
    assert_eq!(world.message("192.0.2.1", "ann@friend.example"), Class::New, "the key was not shown at port 25");
    (0..2).for_each(|_| of_key(&mut world, true));
    assert_eq!(world.book.good_days("friend.example", world.now_s), days - 6, "three for a verdict");
    of_key(&mut world, true);
    assert_eq!(world.book.good_days("friend.example", world.now_s), 0, "three verdicts are suspicion");
    (0..5).for_each(|_| of_key(&mut world, true));
    assert_eq!(world.book.class_of_speaker(None, "friend.example", false, world.now_s), Class::Suspect);
    assert_eq!(world.class("192.0.2.1"), Class::Suspect, "who brings spam brings it for himself too");
}

#[test]
fn an_answer_by_key_to_a_letter_of_ours_is_correspondence() {
    let mut world = World::new();
    world.wrote_to("ann@friend.example");
    assert_eq!(world.book.class_of_speaker(None, "friend.example", false, world.now_s), Class::New);
    world.tell(Evidence::OfKeyHolder { ip: ip("192.0.2.1"), domain: "ann@friend.example".into(), n: 1, spam: false });
    assert_eq!(world.book.class_of_speaker(None, "friend.example", false, world.now_s), Class::Known);
}

#[test]
fn who_is_suspect_has_no_good_days_left() {
    let mut world = World::new();
    for _ in 0..20 {
        world.days(1);
        world.good_mail("192.0.2.1", "friend.example");
    }
    let days = world.book.good_days("friend.example", world.now_s);
    assert!(days >= 15, "{days}");
    world.spam("192.0.2.1", "friend.example", 1);
    assert_eq!(world.book.good_days("friend.example", world.now_s), days - 3, "a verdict costs three");
    world.spam("192.0.2.1", "friend.example", 2);
    assert_eq!(world.book.good_days("friend.example", world.now_s), 0);
}

#[test]
fn an_ipv6_host_is_known_by_its_64() {
    let mut world = World::new();
    world.corresponds("2001:db8:1:2::25", "ann@friend.example");
    assert_eq!(world.class("2001:db8:1:2:ffff::1"), Class::Known);
    assert_eq!(world.class("2001:db8:1:3::25"), Class::New);
}

#[test]
fn steering_gets_pins_then_hot_friends_then_providers() {
    let mut world = World::new();
    world.pins(Pins { networks: vec!["203.0.113.0/25".parse().expect("net")], ..Pins::default() });
    world.corresponds("192.0.2.1", "ann@friend.example");
    world.corresponds("2001:db8::1", "ann@second.example");
    for _ in 0..5 {
        world.tell(Evidence::Connected { ip: ip("2001:db8::1") });
        world.tell(Evidence::Connected { ip: ip("198.51.100.1") });
    }
    world.networks("gmail.com", &["209.85.128.0/17", "2a00:1450:4000::/36"]);
    let text =
        |max| -> Vec<String> { world.book.known_networks(max, world.now_s).iter().map(ToString::to_string).collect() };
    assert_eq!(
        text(100),
        ["203.0.113.0/25", "2001:db8::/64", "192.0.2.1/32", "209.85.128.0/17", "2a00:1450:4000::/36"]
    );
    assert_eq!(text(2), ["203.0.113.0/25", "2001:db8::/64"]);
    assert!(text(0).is_empty());
}

#[test]
fn a_hot_address_that_lost_its_credit_is_not_steered() {
    let mut world = World::new();
    world.corresponds("192.0.2.1", "ann@friend.example");
    assert_eq!(world.book.known_networks(9, world.now_s).len(), 1);
    for _ in 0..2 {
        world.tell(Evidence::Abuse { ip: ip("192.0.2.1") });
    }
    assert!(world.book.known_networks(9, world.now_s).is_empty());
}

/// A sender that is known by its own long history, at an address of its own.
fn with_history(from: &str) -> World {
    let mut world = World::new();
    for _ in 0..30 {
        world.good_mail(from, "ann@history.example");
        world.days(1);
    }
    assert_eq!(world.class(from), Class::Known);
    world
}

/// Whom we know nobody looks up: from now on the book hears of no authority.
fn check_held(mut world: World, every_d: u64, mail: impl Fn(&mut World)) {
    for day in 0..100 / every_d {
        world.days(every_d);
        assert_eq!(world.class("192.0.2.1"), Class::Known, "in round {day}");
        mail(&mut world);
    }
}

#[test]
fn good_mail_of_the_known_holds_their_trust_without_a_look_up() {
    let from = ip("192.0.2.1");
    let nameless = move |world: &mut World| world.tell(Evidence::Ham { ip: from, domain: None, n: 1 });
    let another_s_name = |world: &mut World| world.ham("192.0.2.1", "bob@list.example");
    let unjudged = move |world: &mut World| world.tell(Evidence::Delivered { ip: from });
    check_held(with_history("192.0.2.1"), 1, nameless);
    check_held(with_history("192.0.2.1"), 14, another_s_name);
    check_held(with_history("192.0.2.1"), 1, unjudged);
    let friend = || {
        let mut world = World::new();
        world.corresponds("192.0.2.1", "ann@friend.example");
        world
    };
    check_held(friend(), 1, nameless);
    check_held(friend(), 14, unjudged);
}

#[test]
fn held_trust_does_not_grow_and_a_hacked_friend_is_not_held() {
    let mut world = with_history("192.0.2.1");
    for _ in 0..40 {
        world.tell(Evidence::Delivered { ip: ip("192.0.2.1") });
        world.days(1);
    }
    // Forty more good days would be remembered for longer.
    world.days(100);
    assert_eq!(world.class("192.0.2.1"), Class::New);
    let mut world = World::new();
    world.corresponds("192.0.2.1", "ann@friend.example");
    for _ in 0..80 {
        world.tell(Evidence::Abuse { ip: ip("192.0.2.1") });
        world.tell(Evidence::Abuse { ip: ip("192.0.2.1") });
        world.tell(Evidence::Delivered { ip: ip("192.0.2.1") });
        world.days(1);
    }
    world.days(10);
    assert_eq!(world.class("192.0.2.1"), Class::New);
}

#[test]
fn delivered_mail_makes_no_stranger_known() {
    let mut world = World::new();
    for _ in 0..100 {
        world.authorised("192.0.2.1", "stranger.example");
        world.tell(Evidence::Connected { ip: ip("192.0.2.1") });
        world.tell(Evidence::Delivered { ip: ip("192.0.2.1") });
        world.days(1);
    }
    assert_eq!(world.class("192.0.2.1"), Class::New);
    assert!(world.book.known_networks(9, world.now_s).is_empty());
}

#[test]
fn a_friend_seen_once_is_steered_for_a_week_and_one_seen_often_comes_first() {
    let mut world = World::new();
    world.corresponds("192.0.2.1", "ann@friend.example");
    world.corresponds("192.0.2.2", "ann@second.example");
    let steered =
        |world: &World| world.book.known_networks(9, world.now_s).iter().map(ToString::to_string).collect::<Vec<_>>();
    for _ in 0..3 {
        world.tell(Evidence::Connected { ip: ip("192.0.2.2") });
    }
    world.days(1);
    assert_eq!(steered(&world), ["192.0.2.2/32", "192.0.2.1/32"]);
    world.days(7);
    assert_eq!(steered(&world), ["192.0.2.2/32"]);
    world.tell(Evidence::Connected { ip: ip("192.0.2.1") });
    assert_eq!(steered(&world), ["192.0.2.1/32", "192.0.2.2/32"]);
}

#[test]
fn a_host_of_many_domains_is_steered_and_a_pool_only_by_its_networks() {
    let mut world = World::new();
    world.corresponds("192.0.2.1", "ann@friend.example");
    for tenant in 0..20 {
        world.authorised("192.0.2.1", &format!("tenant{tenant}.example"));
    }
    assert_eq!(world.class("192.0.2.1"), Class::Provider);
    world.networks("gmail.com", &["198.51.100.0/24"]);
    for from in ["192.0.2.1", "198.51.100.7"] {
        world.tell(Evidence::Connected { ip: ip(from) });
    }
    let steered: Vec<String> = world.book.known_networks(9, world.now_s).iter().map(ToString::to_string).collect();
    assert_eq!(steered, ["192.0.2.1/32", "198.51.100.0/24"]);
}
