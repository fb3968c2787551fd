//! What holds for any evidence in any order.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const HOSTS: [&str; 6] =
    ["192.0.2.1", "192.0.2.2", "198.51.100.7", "2001:db8:1:1::1", "2001:db8:1:2::1", "203.0.113.9"];
const DOMAINS: [&str; 5] = ["one.example", "two.example", "gmail.com", "ann@gmail.com", "bob@one.example"];

fn good(history: bool) -> impl Strategy<Value = Evidence> {
    (0..HOSTS.len(), 0..DOMAINS.len(), 1..4_u16, 0..6).prop_map(move |(host, domain, n, kind)| {
        let (ip, domain) = (ip(HOSTS[host]), Box::<str>::from(DOMAINS[domain]));
        match kind {
            0 => Evidence::Authorised { ip, domain, by: Authority::Name },
            1 if history => {
                let bare = domain.rsplit('@').next().expect("one").into();
                Evidence::WroteTo { domain: bare, address: domain.contains('@').then_some(domain) }
            }
            2 => Evidence::Connected { ip },
            3 => Evidence::Delivered { ip },
            4 => Evidence::Ham { ip, domain: None, n },
            _ => Evidence::Ham { ip, domain: Some(domain), n },
        }
    })
}

fn bad() -> impl Strategy<Value = Evidence> {
    (0..HOSTS.len(), 0..DOMAINS.len(), any::<u16>(), any::<i8>(), 0..6).prop_map(|(host, domain, n, weight, kind)| {
        let ip = ip(HOSTS[host]);
        match kind {
            0 => Evidence::EarlyTalker { ip },
            1 => Evidence::Abuse { ip },
            2 => Evidence::BadHelo { ip },
            3 => Evidence::BadRecipients { ip, n },
            4 => Evidence::Listed { ip, weight },
            _ => Evidence::Spam { ip, domain: Some(DOMAINS[domain].into()), n },
        }
    })
}

fn any_evidence(history: bool) -> impl Strategy<Value = Evidence> {
    prop_oneof![good(history), bad()]
}

fn tiny() -> BookOptions {
    BookOptions { good_entries: 1 << 10, bad_entries: 1 << 12, hot_entries: 4, ..BookOptions::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn good_evidence_never_worsens_a_class(past in vec((any_evidence(true), 0..30_u64), 0..60), more in vec(good(true), 1..8)) {
        let mut world = World::with(tiny());
        for (evidence, hours) in past {
            world.tell(evidence);
            world.hours(hours);
        }
        for evidence in more {
            let classes = |world: &World| -> Vec<Class> {
                let messages = HOSTS.iter().flat_map(|host| DOMAINS.iter().map(|sender| world.message(host, sender)));
                HOSTS.iter().map(|host| world.class(host)).chain(messages).collect()
            };
            let before = classes(&world);
            world.tell(evidence.clone());
            for (before, after) in before.into_iter().zip(classes(&world)) {
                // To be authorised for a domain with marks of its own is the one exception: it says whose mail this is.
                let names_the_sender = matches!(evidence, Evidence::Authorised { .. });
                prop_assert!(after <= before || names_the_sender, "{before} became {after} by {evidence:?}");
            }
        }
    }

    #[test]
    fn nobody_is_better_than_new_without_correspondence_or_history(events in vec((any_evidence(false), 0..7_u64), 0..80)) {
        let mut world = World::with(tiny());
        // At most 80 x 6 hours: a day short of the three weeks that a history takes.
        for (evidence, hours) in events {
            world.tell(evidence);
            world.hours(hours);
            for host in HOSTS {
                prop_assert!(world.class(host) >= Class::New);
                for sender in DOMAINS {
                    prop_assert!(world.message(host, sender) >= Class::New);
                    prop_assert!(world.book.class_of_message(ip(host), Some(sender), true, world.now_s) >= Class::New);
                }
            }
        }
        prop_assert!(world.book.known_networks(100, world.now_s).is_empty());
    }

    #[test]
    fn the_size_of_a_book_never_changes(events in vec((any_evidence(true), 0..100_u64), 0..60)) {
        let mut world = World::with(tiny());
        let before = world.book.stats().table_bytes;
        for (evidence, hours) in events {
            world.tell(evidence);
            world.hours(hours);
        }
        prop_assert_eq!(world.book.stats().table_bytes, before);
        let restored = Book::restore(tiny(), &world.book.snapshot()).expect("sound");
        prop_assert_eq!(restored.stats().table_bytes, before);
    }

    #[test]
    fn the_explanation_has_the_class_of_the_door(events in vec(any_evidence(true), 0..40)) {
        let mut world = World::with(tiny());
        events.into_iter().for_each(|evidence| world.tell(evidence));
        for host in HOSTS {
            let explained = world.book.explain_address(ip(host), world.now_s);
            prop_assert_eq!(explained.class, world.class(host));
            prop_assert!(!explained.reasons.is_empty());
        }
        for domain in DOMAINS {
            prop_assert!(!world.book.explain_domain(domain, world.now_s).reasons.is_empty());
        }
    }

    #[test]
    fn a_restored_book_judges_as_the_old_one(events in vec((any_evidence(true), 0..20_u64), 0..60)) {
        let mut world = World::with(tiny());
        world.networks("gmail.com", &["198.51.100.0/24"]);
        for (evidence, hours) in events {
            world.tell(evidence);
            world.hours(hours);
        }
        let restored = Book::restore(tiny(), &world.book.snapshot()).expect("sound");
        for host in HOSTS {
            prop_assert_eq!(restored.class_of(ip(host), world.now_s), world.class(host));
            for sender in DOMAINS {
                let again = restored.class_of_message(ip(host), Some(sender), false, world.now_s);
                prop_assert_eq!(again, world.message(host, sender));
            }
        }
    }
}
