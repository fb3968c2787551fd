use postern_drain::{
    ClassStats, DestinationState, DestinationStats, FilterOptions, FilterStats, OnSpam, QUARANTINE_CLASS,
};
use postern_spool::Lane;

use super::*;

fn lane(domain: &str, class: u8, ready: usize, waiting: usize) -> LaneStats {
    LaneStats {
        lane: Lane::new(domain, class),
        ready,
        waiting,
        leased: 0,
        held: 5,
        tentative: ready.min(1),
        bytes: 0,
        oldest_unix_ms: None,
        next_due_unix_ms: None,
    }
}

fn somewhere() -> RouteTable {
    RouteTable::new(Route::Maildir("mail".into()))
}

#[test]
fn the_backlog_is_what_is_to_leave_and_nothing_else() {
    let lanes = [
        lane("a.example", 1, 3, 4),
        lane("a.example", 4, 10, 0),
        lane("held.example", 3, 100, 0),
        lane("kept.example", 3, 100, 0),
        lane("a.example", Lane::DEAD_CLASS, 100, 0),
        lane("a.example", QUARANTINE_CLASS, 100, 0),
        lane("empty.example", 3, 0, 0),
    ];
    let modes = Modes { domains: [("held.example".to_owned(), Mode::Hold)].into(), ..Modes::default() };
    let mut routes = somewhere();
    routes.domains.insert("kept.example".to_owned(), Route::None);
    let backlog = Backlog::of(&lanes, &modes, &routes);
    assert_eq!(backlog.by_class, [0, 7, 0, 0, 10]);
    assert_eq!(backlog.messages(), 17);
    let expected = DomainBacklog { messages: 17, ready: 13, queued: 13, awaited: 2 };
    assert_eq!(backlog.domains, [("a.example".to_owned(), expected)].into());
    assert!(!backlog.all_kept);
}

#[test]
fn what_is_under_way_is_neither_queued_nor_awaited_in_the_queue() {
    let under_way = LaneStats { leased: 20, tentative: 20, ..lane("a.example", 3, 0, 0) };
    let backlog = Backlog::of(&[under_way], &Modes::default(), &somewhere());
    let expected = DomainBacklog { messages: 20, ready: 20, queued: 0, awaited: 0 };
    assert_eq!(backlog.domains["a.example"], expected);
    assert_eq!(backlog.awaited(), 0);
}

#[test]
fn where_nothing_has_anywhere_to_go_nothing_is_promised() {
    let routes = RouteTable::new(Route::None);
    let backlog = Backlog::of(&[lane("a.example", 3, 100, 0)], &Modes::default(), &routes);
    assert!(backlog.all_kept && backlog.messages() == 0);
}

#[test]
fn the_promise_sees_what_came_as_what_left_and_what_lies_here() {
    let backlog = Backlog::of(&[lane("a.example", 3, 6, 4)], &Modes::default(), &somewhere());
    let mut stats = DrainStats::default();
    stats.classes[3] = ClassStats { left: 90, ..ClassStats::default() };
    let check = |skies: &[DomainSky], healthy: bool| {
        let seen = backlog.seen(skies, &stats);
        assert_eq!((seen.left, seen.arrived[3], seen.backlog[3], seen.healthy), (90, 100, 10, healthy), "{skies:?}");
        assert_eq!(seen.ready, if healthy { 6 } else { 0 }, "what cannot leave says nothing about the rate");
    };
    let sky = |domain: &str, hop_down_s| DomainSky { domain: domain.to_owned(), hop_down_s, ..DomainSky::default() };
    check(&[sky("a.example", 0)], true);
    check(&[sky("a.example", 40)], false);
    check(&[sky("a.example", 40), sky("no-mail.example", 0)], false);
    // What is away and has no mail stands in nobody's way.
    check(&[sky("a.example", 0), sky("no-mail.example", 40)], true);
}

fn destination(name: &str, away_since_unix_ms: Option<u64>) -> DestinationStats {
    DestinationStats {
        name: name.to_owned(),
        state: DestinationState::Up,
        away_since_unix_ms,
        running: 0,
        delivered: 0,
        deferred: 0,
        refused: 0,
        last_error: None,
    }
}

fn skies(routes: &RouteTable, stats: &DrainStats, unix_ms: u64) -> Vec<(String, u64)> {
    let filters = FilterTable::default();
    let away = Away::new(stats, &filters, unix_ms);
    let backlog = Backlog::of(&[lane("mail.example", 3, 2, 0)], &Modes::default(), routes);
    let skies = backlog.skies(std::iter::once("storm.example"), routes, &away, &Promise::new(1000));
    skies.into_iter().map(|sky| (sky.domain, sky.hop_down_s)).collect()
}

#[test]
fn while_a_hop_is_away_every_domain_that_goes_there_is_looked_at_and_no_other_is_blamed() {
    let mut routes = somewhere();
    routes.local.extend(["quiet.example".to_owned(), "mail.example".to_owned()]);
    routes.domains.insert("other.example".to_owned(), Route::Maildir("other".into()));
    let named = |expected: &[(&str, u64)]| -> Vec<(String, u64)> {
        expected.iter().map(|(domain, down_s)| ((*domain).to_owned(), *down_s)).collect()
    };
    let up = DrainStats { destinations: vec![destination("maildir:mail", None)], ..DrainStats::default() };
    assert_eq!(skies(&routes, &up, 50_000), named(&[("mail.example", 0), ("storm.example", 0)]));
    let down = DrainStats { destinations: vec![destination("maildir:mail", Some(10_000))], ..DrainStats::default() };
    let all = |down_s| {
        named(&[("mail.example", down_s), ("other.example", 0), ("quiet.example", down_s), ("storm.example", down_s)])
    };
    assert_eq!(skies(&routes, &down, 50_000), all(40));
    // Whatever is away is so for a second at least, whichever way the clock goes.
    assert_eq!(skies(&routes, &down, 10_010), all(1));
    assert_eq!(skies(&routes, &down, 5_000), all(1));
}

#[test]
fn a_slow_filter_presses_only_while_senders_wait_for_it() {
    let filter = FilterStats {
        name: "rspamd".into(),
        state: DestinationState::Up,
        away_since_unix_ms: None,
        running: 1,
        judged: 100,
        accepted: 100,
        marked: 0,
        quarantined: 0,
        rejected: 0,
        tempfailed: 0,
        failed: 0,
        latency_ms: 12_500,
        last_error: None,
    };
    let stats = DrainStats { filters: vec![filter], ..DrainStats::default() };
    let check = |filters: &FilterTable, ready: usize, expected: u64| {
        let backlog = Backlog::of(&[lane("a.example", 3, ready, 9)], &Modes::default(), &somewhere());
        assert_eq!(backlog.verdict_s(&Away::new(&stats, filters, 0)), expected);
    };
    let filter = postern_net::filter::Filter {
        name: "rspamd".into(),
        kind: postern_net::filter::Kind::parse("rspamd:127.0.0.1:1").expect("a filter"),
        timeout: std::time::Duration::from_secs(1),
    };
    let judging = FilterTable::new(vec![FilterOptions { filter, workers: 1, on_spam: OnSpam::Mark }]);
    check(&judging, 3, 12);
    check(&judging, 0, 0);
    check(&FilterTable::default(), 3, 0);
}
