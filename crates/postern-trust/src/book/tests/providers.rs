//! Shared providers and forwarders.

use super::*;

/// A declared provider with networks, at 0.5 % abuse.
fn provided() -> World {
    let mut world = World::new();
    world.pins(Pins { providers: vec!["pool.example".into()], ..Pins::default() });
    world.networks("pool.example", &["198.51.100.0/24", "2001:db8:100::/44"]);
    for message in 0..4_000 {
        let (from, tenant) = (format!("198.51.100.{}", message % 250), format!("tenant{}.example", message % 100));
        world.authorised(&from, &tenant);
        world.ham(&from, &tenant);
        if message % 200 == 0 {
            world.spam(&from, "bad-tenant.example", 1);
        }
    }
    world
}

#[test]
fn a_provider_with_little_abuse_stays_one_and_the_bad_tenant_is_suspect_alone() {
    let mut world = provided();
    for host in ["198.51.100.1", "198.51.100.0", "198.51.100.255", "2001:db8:10f::1"] {
        assert_eq!(world.class(host), Class::Provider, "{host}");
        assert_eq!(world.message(host, "bad-tenant.example"), Class::Suspect, "{host}");
        assert_eq!(world.message(host, "tenant7.example"), Class::Provider, "{host}");
        assert_eq!(world.message(host, "never-seen.example"), Class::Provider, "{host}");
    }
    assert_eq!(world.class("198.51.101.1"), Class::New);
    // The name was never authorised there, so whoever it belongs to is not blamed for it elsewhere.
    world.authorised("203.0.113.1", "bad-tenant.example");
    assert_eq!(world.message("203.0.113.1", "bad-tenant.example"), Class::New);
}

#[test]
fn listings_bad_recipients_and_spam_do_not_count_against_a_pool_address() {
    let mut world = provided();
    let host = ip("198.51.100.1");
    for _ in 0..20 {
        world.tell(Evidence::Listed { ip: host, weight: -10 });
        world.tell(Evidence::BadRecipients { ip: host, n: 50 });
        world.spam("198.51.100.1", "other-tenant.example", 1);
    }
    assert_eq!(world.class("198.51.100.1"), Class::Provider);
    world.tell(Evidence::EarlyTalker { ip: host });
    world.tell(Evidence::Abuse { ip: host });
    assert_eq!(world.class("198.51.100.1"), Class::Suspect, "but no tenant makes a mail server break the protocol");
    assert_eq!(world.class("198.51.100.2"), Class::Provider);
}

#[test]
fn a_provider_that_lets_a_fifth_of_spam_out_is_new_and_recovers() {
    let mut world = provided();
    for message in 0..4_000 {
        world.spam("198.51.100.9", &format!("burner{message}.example"), 1);
    }
    assert_eq!(world.class("198.51.100.1"), Class::New, "never suspect: most of its users are innocent");
    assert!(!world.book.known_networks(9, world.now_s).iter().any(|net| net.to_string() == "198.51.100.0/24"));
    for _ in 0..6 {
        world.days(3);
        for message in 0..4_000 {
            world.ham("198.51.100.1", &format!("tenant{}.example", message % 100));
        }
    }
    assert_eq!(world.class("198.51.100.1"), Class::Provider);
}

#[test]
fn no_pool_address_earns_credit_but_tenants_and_mailboxes_do() {
    let mut world = provided();
    world.corresponds("198.51.100.1", "boss@tenant7.example");
    world.corresponds("198.51.100.1", "ann@pool.example");
    assert_eq!(world.class("198.51.100.1"), Class::Provider);
    assert_eq!(world.message("198.51.100.1", "boss@tenant7.example"), Class::Known);
    assert_eq!(world.message("198.51.100.1", "colleague@tenant7.example"), Class::Known, "the domain is one company");
    assert_eq!(world.message("198.51.100.1", "ann@pool.example"), Class::Known);
    assert_eq!(world.message("198.51.100.1", "stranger@pool.example"), Class::Provider, "the domain is everybody");
    assert_eq!(world.message("198.51.100.1", "pool.example"), Class::Provider);
}

#[test]
fn writing_to_one_mailbox_of_a_great_provider_does_not_make_its_servers_known() {
    let mut world = World::new();
    world.corresponds("192.0.2.25", "ann@gmail.com");
    assert_eq!(world.class("192.0.2.25"), Class::New);
    assert_eq!(world.message("192.0.2.25", "Ann@Gmail.com"), Class::Known);
    assert_eq!(world.message("192.0.2.25", "bob@gmail.com"), Class::New);
}

#[test]
fn an_undeclared_host_of_many_domains_is_treated_as_a_provider() {
    let mut world = World::new();
    world.corresponds("192.0.2.50", "ann@friend.example");
    assert_eq!(world.class("192.0.2.50"), Class::Known);
    for tenant in 0..20 {
        world.authorised("192.0.2.50", &format!("customer{tenant}.example"));
    }
    assert_eq!(world.class("192.0.2.50"), Class::Provider);
    assert_eq!(world.message("192.0.2.50", "ann@friend.example"), Class::Known);
    world.spam("192.0.2.50", "customer3.example", 3);
    assert_eq!(world.message("192.0.2.50", "customer3.example"), Class::Suspect);
    assert_eq!(world.message("192.0.2.50", "customer4.example"), Class::Provider);
    for domain in 0..50 {
        world.authorised("203.0.113.50", &format!("own{domain}.example"));
    }
    assert_eq!(world.class("203.0.113.50"), Class::New, "without a friend's credit many domains buy nothing");
}

#[test]
fn networks_count_only_of_declared_providers_and_correspondents() {
    let mut world = World::new();
    world.networks("stranger.example", &["198.51.100.0/24"]);
    assert_eq!(world.class("198.51.100.1"), Class::New);
    world.corresponds("192.0.2.1", "ann@friend.example");
    world.networks("friend.example", &["198.51.100.0/24", "10.0.0.0/8", "0.0.0.0/0", "::/0"]);
    assert_eq!(world.class("198.51.100.1"), Class::Provider);
    assert_eq!(world.class("10.1.1.1"), Class::New, "too wide for one we only know");
    assert_eq!(world.class("192.0.2.1"), Class::Known);
    world.tell(Evidence::EarlyTalker { ip: ip("198.51.100.9") });
    world.spam("198.51.100.9", "other.example", 2);
    assert_eq!(world.class("198.51.100.9"), Class::Suspect, "an ordinary address with marks of its own");
    world.authorised("198.51.100.1", "friend.example");
    assert_eq!(world.class("198.51.100.1"), Class::Known, "its authorised sender has credit of its own");
}

#[test]
fn the_networks_of_all_providers_are_bounded() {
    let mut world = World::new();
    let networks: Vec<String> = (0..1_000).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect();
    let networks: Vec<&str> = networks.iter().map(String::as_str).collect();
    for provider in 0..200 {
        let domain = format!("p{provider}.gmail.com");
        world.networks(&domain, &networks);
    }
    let roster = world.book.roster.load();
    assert_eq!(roster.providers().len(), crate::limits::PROVIDERS_MAX);
    let held: usize = roster.providers().iter().map(|provider| provider.networks.len()).sum();
    assert!(held <= crate::limits::PROVIDER_NETWORKS_MAX, "{held}");
}

#[test]
fn a_provider_that_is_no_longer_declared_loses_its_networks() {
    let world = provided();
    assert_eq!(world.class("198.51.100.1"), Class::Provider);
    assert!(world.book.is_provider("mx.Pool.example"));
    world.pins(Pins::default());
    assert!(!world.book.is_provider("pool.example"));
    assert_eq!(world.class("198.51.100.1"), Class::New);
}

#[test]
fn a_declared_forwarder_is_exempt_from_what_forwarding_brings() {
    let mut world = World::new();
    world.pins(Pins { forwarders: vec!["192.0.2.64/30".parse().expect("net")], ..Pins::default() });
    for from in ["192.0.2.65", "192.0.2.80"] {
        for _ in 0..10 {
            world.spam(from, "someone.example", 1);
            world.tell(Evidence::BadRecipients { ip: ip(from), n: 6 });
            world.tell(Evidence::Listed { ip: ip(from), weight: -5 });
        }
    }
    assert_eq!(world.class("192.0.2.80"), Class::Suspect, "not declared");
    assert_eq!(world.class("192.0.2.65"), Class::New, "declared, in the same bad neighbourhood");
    world.tell(Evidence::EarlyTalker { ip: ip("192.0.2.65") });
    assert_eq!(world.class("192.0.2.65"), Class::New);
    world.tell(Evidence::Abuse { ip: ip("192.0.2.65") });
    assert_eq!(world.class("192.0.2.65"), Class::Suspect, "forwarding makes no server talk early");
}

#[test]
fn spam_that_a_forwarder_passes_on_blackens_neither_it_nor_the_author() {
    let mut world = World::new();
    world.pins(Pins { forwarders: vec!["192.0.2.65/32".parse().expect("net")], ..Pins::default() });
    world.authorised("192.0.2.65", "author.example");
    world.spam("192.0.2.65", "author.example", 20);
    assert_eq!(world.message("192.0.2.65", "author.example"), Class::New);
    assert_eq!(world.class("192.0.2.66"), Class::New);
}

#[test]
fn a_pool_address_is_not_suspect_for_a_free_account_s_spam_before_its_networks_are_known() {
    let check = |by_name: &str, account: &str| {
        let mut world = World::new();
        world.authorised("198.51.100.7", by_name);
        world.authorised("198.51.100.7", account);
        world.spam("198.51.100.7", account, 3);
        world.tell(Evidence::BadRecipients { ip: ip("198.51.100.7"), n: 6 });
        assert_eq!(world.class("198.51.100.7"), Class::New, "{by_name} {account}");
        assert_eq!(world.message("198.51.100.7", account), Class::Suspect, "{account} answers for itself");
        assert_eq!(world.message("198.51.100.7", "other.example"), Class::New, "and no other");
        assert_eq!(world.class("198.51.100.8"), Class::New);
        // A machine at a provider that sends nothing but spam is found out all the same.
        world.spam("198.51.100.7", account, 9);
        assert_eq!(world.class("198.51.100.7"), Class::Suspect);
    };
    check("gmail.com", "tenant.example");
    check("outbound.protection.outlook.com", "tenant.example");
}

#[test]
fn a_pool_address_gets_no_credit_of_a_tenant_before_its_networks_are_known() {
    let mut world = World::new();
    world.wrote_to("ann@friend.example");
    world.authorised("198.51.100.7", "gmail.com");
    world.good_mail("198.51.100.7", "ann@friend.example");
    assert_eq!(world.class("198.51.100.7"), Class::New, "tomorrow somebody else sends from it");
    assert_eq!(world.message("198.51.100.7", "ann@friend.example"), Class::Known);
}

#[test]
fn a_free_account_that_spams_is_suspect_alone_whether_the_networks_are_known_or_not() {
    let check = |networks: &[&str], other: Class| {
        let mut world = World::new();
        world.networks("gmail.com", networks);
        world.authorised("198.51.100.7", "gmail.com");
        world.spam("198.51.100.7", "spammer@gmail.com", 3);
        assert_eq!(world.class("198.51.100.7"), other);
        assert_eq!(world.message("198.51.100.7", "ann@gmail.com"), other);
        world.authorised("198.51.100.200", "gmail.com");
        assert_eq!(world.message("198.51.100.200", "ann@gmail.com"), other);
        world.message("198.51.100.7", "spammer@gmail.com")
    };
    assert_eq!(check(&["198.51.100.0/24"], Class::Provider), Class::Suspect);
    assert_eq!(check(&[], Class::New), Class::New, "where it is not known to be a pool nobody is judged inside");
}
