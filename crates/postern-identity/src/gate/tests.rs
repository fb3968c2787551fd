use super::*;

fn gate(in_flight: u32, per_second: u32) -> Gate {
    Gate::new(&Budgets { in_flight, per_second, ..Budgets::default() })
}

/// Enters until refused; says how often it worked and why not again. Each for a domain of its own.
fn fill(gate: &mut Gate, class: Class) -> (u32, Unaffordable) {
    for n in 0..1_000_000 {
        if let Err(why) = gate.enter(0, class, &format!("{}{n}.example", class as u8), 4) {
            return (n, why);
        }
    }
    unreachable!("the gate never shuts")
}

#[test]
fn strangers_never_use_the_whole_of_what_may_be_in_flight() {
    let mut gate = gate(64, 10_000);
    assert_eq!(fill(&mut gate, Class::Suspect), (19, Unaffordable::InFlight));
    assert_eq!(fill(&mut gate, Class::New), (24, Unaffordable::InFlight));
    assert_eq!(fill(&mut gate, Class::Known), (6, Unaffordable::InFlight));
    assert_eq!(fill(&mut gate, Class::Provider), (12, Unaffordable::InFlight));
    assert_eq!(fill(&mut gate, Class::Pinned), (3, Unaffordable::InFlight));
    assert_eq!(gate.in_flight(), 64);
}

#[test]
fn strangers_never_spend_the_whole_second() {
    let mut gate = gate(100_000, 200);
    assert_eq!(fill(&mut gate, Class::Suspect), (70, Unaffordable::Rate));
    assert_eq!(fill(&mut gate, Class::New), (60, Unaffordable::Rate));
    assert_eq!(fill(&mut gate, Class::Pinned), (70, Unaffordable::Rate));
    // 100 ms later: 20 more, for the known.
    assert_eq!(gate.enter(100, Class::New, "late.example", 4), Err(Unaffordable::Rate));
    assert_eq!(gate.enter(100, Class::Known, "late.example", 4), Ok(()));
}

#[test]
fn a_budget_of_one_is_a_budget() {
    let mut gate = gate(64, 1);
    assert_eq!(gate.enter(0, Class::Suspect, "a.example", 4), Ok(()));
    assert_eq!(gate.enter(999, Class::Suspect, "a.example", 4), Err(Unaffordable::Rate));
}

#[test]
fn a_domain_has_a_share_and_is_shut_after_failures() {
    let mut gate = gate(64, 10_000);
    for _ in 0..4 {
        assert_eq!(gate.enter(0, Class::New, "slow.example", 4), Ok(()));
    }
    assert_eq!(gate.enter(0, Class::Pinned, "slow.example", 4), Err(Unaffordable::Domain));
    assert_eq!(gate.enter(0, Class::New, "other.example", 4), Ok(()));
    for _ in 0..4 {
        gate.leave(1000, Class::New, "slow.example", true);
    }
    assert_eq!(gate.enter(30_999, Class::New, "slow.example", 4), Err(Unaffordable::Shut));
    // Then one try; it fails, and the domain is shut again.
    assert_eq!(gate.enter(31_000, Class::New, "slow.example", 4), Ok(()));
    gate.leave(32_000, Class::New, "slow.example", true);
    assert_eq!(gate.enter(33_000, Class::New, "slow.example", 4), Err(Unaffordable::Shut));
    // One that works opens it.
    assert_eq!(gate.enter(62_000, Class::New, "slow.example", 4), Ok(()));
    gate.leave(62_000, Class::New, "slow.example", false);
    gate.leave(62_000, Class::New, "other.example", false);
    assert_eq!((gate.in_flight(), gate.domains.len()), (0, 0));
}

#[test]
fn the_table_of_domains_keeps_its_cap() {
    let mut gate = gate(64, 1_000_000);
    for n in 0..10_000 {
        let domain = format!("d{n}.example");
        if gate.enter(n, Class::New, &domain, 4).is_ok() {
            gate.leave(n, Class::New, &domain, true);
        }
        assert!(gate.domains.len() <= limits::DOMAINS_MAX);
    }
    // All of them are forgotten in time.
    assert_eq!(gate.enter(1_000_000, Class::New, "new.example", 4), Ok(()));
    assert_eq!(gate.domains.len(), 1);
}

#[test]
fn a_lookup_counts_for_who_registered_its_name() {
    let check = |name: &str, expected: &str| assert_eq!(account(name), expected);
    check("a.b.c.example.org", "example.org");
    check("example.org", "example.org");
    check("org", "org");
    check("mail.example.co.uk", "example.co.uk");
    check("7.2.0.192.in-addr.arpa", "0.192.in-addr.arpa");
    check("1.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", "8.b.d.0.1.0.0.2.ip6.arpa");
}
