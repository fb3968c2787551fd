//! What holders of good tickets can do to others with them: gather many, show them again and again, spoil them.

use postern_proto::door::{Challenge, Kind};

use super::{DropReason, GateOptions, START_S, Site, Verdict, crowd_out, home, v4};

#[test]
fn an_expired_ticket_uses_up_nobody_else_s_time() {
    let mut site = Site::new(GateOptions::default());
    let friend = site.ticket(home());
    // Of yesterday, and over; the keys are still good.
    let old = site.ticket_of("evil.example", Kind::Known, home(), START_S / 60 - 1);
    for _ in 0..30_000 {
        let (_, datagram) = site.ticket_initial(&old);
        assert_eq!(site.show(&datagram, home()), Verdict::Drop(DropReason::BadTicket));
    }
    // Nor a ticket whose holder writes another body into it each time.
    let mut spoilt = site.ticket_of("evil.example", Kind::Known, home(), START_S / 60 + 60);
    for n in 0..30_000_u32 {
        spoilt.bytes[20..24].copy_from_slice(&n.to_be_bytes());
        let (_, datagram) = site.ticket_initial(&spoilt);
        assert_eq!(site.show(&datagram, home()), Verdict::Drop(DropReason::BadTicket));
    }
    let (_, datagram) = site.ticket_initial(&friend);
    assert_eq!(site.show(&datagram, home()), Verdict::Pass);
}

#[test]
fn bodies_of_tickets_are_opened_so_often_in_a_second_and_then_a_cookie_is_asked_for() {
    let mut site = Site::new(GateOptions::default());
    let show = |site: &mut Site, n: u32| {
        let ticket = site.ticket_of(&format!("d{n}.example"), Kind::Proven, home(), START_S / 60 + 60);
        let (_, datagram) = site.ticket_initial(&ticket);
        site.show(&datagram, home())
    };
    let passed = (0..10_100).filter(|&n| show(&mut site, n) == Verdict::Pass).count();
    // One in some thousand finds no place to be remembered in.
    assert!((9_900..=10_000).contains(&passed), "{passed}");
    assert_eq!(show(&mut site, 20_000), Verdict::Answer);
    let (friend, again) = (site.ticket(home()), 30_000);
    let (_, datagram) = site.ticket_initial(&friend);
    assert_eq!(site.show(&datagram, home()), Verdict::Pass, "the known have their own");
    site.pass(1);
    assert_eq!(show(&mut site, again), Verdict::Pass);
}

/// Shows these tickets once each, every second as many as can be opened, and then says how a ticket of a friend is answered.
fn hoard(site: &mut Site, tickets: u32, domains: u32, kind: Kind) -> Verdict {
    for n in 0..tickets {
        let ticket = site.ticket_of(&format!("evil{}.example", n % domains), kind, home(), START_S / 60 + 60);
        let (_, datagram) = site.ticket_initial(&ticket);
        site.show(&datagram, home());
        if n % 9_000 == 8_999 {
            site.pass(1);
        }
    }
    let friend = site.ticket(home());
    let (_, datagram) = site.ticket_initial(&friend);
    site.show(&datagram, home())
}

#[test]
fn a_hoard_of_tickets_of_one_domain_makes_no_friend_a_stranger() {
    let mut site = Site::new(GateOptions::default());
    assert_eq!(hoard(&mut site, 56_000, 1, Kind::Known), Verdict::Pass);
    let stats = site.gate.stats();
    assert_eq!((stats.admitted_ticket, stats.over_share), (257, 55_744));
}

#[test]
fn a_hoard_of_any_number_of_domains_that_are_not_known_makes_no_friend_a_stranger() {
    let mut site = Site::new(GateOptions::default());
    assert_eq!(hoard(&mut site, 56_000, 1_000, Kind::Proven), Verdict::Pass);
    let stats = site.gate.stats();
    assert!(stats.full > 10_000, "their own table is full: {stats:?}");
}

#[test]
fn what_cannot_be_remembered_is_asked_for_a_cookie_and_waits_for_no_turn() {
    let mut site = Site::new(GateOptions::default());
    assert_eq!(hoard(&mut site, 56_000, 1_000, Kind::Known), Verdict::Answer, "a thousand friends have betrayed us");
    crowd_out(&mut site);
    let friend = site.ticket(home());
    let (dcid, datagram) = site.ticket_initial(&friend);
    assert_eq!(site.show(&datagram, home()), Verdict::Answer);
    let challenge = Challenge::parse(&site.answer, *dcid.first_chunk().expect("8 of 16")).expect("a challenge");
    assert_eq!(challenge.wait_s(), 0);
    let both = site.gate.stats().admitted_both;
    assert_eq!(site.come(home(), &challenge), Ok(()));
    assert_eq!(site.gate.stats().admitted_both, both + 1);
}

#[test]
fn what_one_ticket_costs_in_twenty_minutes_is_bounded_however_often_it_is_shown() {
    let mut site = Site::new(GateOptions::default());
    let (near, far) = (site.ticket(home()), site.ticket(v4(5)));
    let (_, first) = site.ticket_initial(&near);
    assert_eq!(site.show(&first, home()), Verdict::Pass);
    let mut answered = 0;
    for _ in 0..1_000 {
        let (_, again) = site.ticket_initial(&near);
        answered += u32::from(site.show(&again, home()) == Verdict::Answer);
    }
    assert_eq!(answered, 16);
    let (_, datagram) = site.ticket_initial(&far);
    let answered = (0..1_000).filter(|_| site.show(&datagram, home()) == Verdict::Answer).count();
    assert_eq!(answered, 1 + 8);
}

#[test]
fn no_crowd_with_marks_of_its_own_displaces_that_of_a_friend() {
    let mut site = Site::new(GateOptions::default());
    let friend = site.ticket(v4(5));
    let (_, datagram) = site.ticket_initial(&friend);
    assert_eq!(site.show(&datagram, home()), Verdict::Answer);
    for n in 0..4_000 {
        let ticket = site.ticket_of(&format!("d{n}.example"), Kind::Proven, v4(5), START_S / 60 + 60);
        let (_, datagram) = site.ticket_initial(&ticket);
        assert_eq!(site.show(&datagram, v4(0x0b00_0000 + n)), Verdict::Answer);
    }
    let challenge = site.hello(home()).expect("answered");
    assert_eq!(site.come(home(), &challenge), Ok(()));
    assert_eq!(site.gate.stats().admitted_both, 1);
}
