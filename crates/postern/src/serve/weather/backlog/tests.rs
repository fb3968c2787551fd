use postern_drain::{ClassStats, QUARANTINE_CLASS};
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
    let expected = DomainBacklog { messages: 17, ready: 13, awaited: 2 };
    assert_eq!(backlog.domains, [("a.example".to_owned(), expected)].into());
    assert!(!backlog.all_kept);
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
    };
    let sky = |hop_down_s, backlog| DomainSky { hop_down_s, backlog, ..DomainSky::default() };
    check(&[sky(0, 6)], true);
    check(&[sky(40, 6)], false);
    check(&[sky(40, 6), sky(0, 1)], true);
    // What is away and has no mail stands in nobody's way.
    check(&[sky(40, 0)], true);
}

#[test]
fn whatever_is_away_is_so_for_a_second_at_least() {
    let away = Away { name: "lmtp:127.0.0.1:24".to_owned(), since_unix_ms: 10_000 };
    assert_eq!(away_s(None, 50_000), 0);
    assert_eq!(away_s(Some(&away), 50_000), 40);
    assert_eq!(away_s(Some(&away), 10_010), 1);
    assert_eq!(away_s(Some(&away), 5_000), 1, "the clock went back");
}
