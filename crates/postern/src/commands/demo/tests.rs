//! What is drawn and reckoned of a night that is known.

use std::collections::BTreeMap;

use postern_flood::report::{CrowdSecond, FriendsSecond};
use postern_flood::{FriendsReport, Percentiles, Progress, Report, Second};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::json;

use super::board::{Half, Inside, Scene, Way};
use super::night::{Phase, with_a_domain};
use super::*;

/// Half of a night of a minute, `taken` of 20 messages of friends taken so far.
fn half(taken: u64) -> Half {
    let mut half = Half { busy: Some((100, 100)), ..Half::default() };
    let times = Percentiles { samples: 6, p50_ms: 31.0, p99_ms: 45.4, ..Percentiles::default() };
    for at_s in 0..20 {
        let friends = FriendsSecond {
            offered: 1,
            accepted: u64::from(u64::from(at_s) < taken),
            final_reply: times,
            ..FriendsSecond::default()
        };
        let crowd = CrowdSecond { attempts: if at_s < 10 { 0 } else { 500 }, ..CrowdSecond::default() };
        let second = Second { at_s, crowds: vec![crowd], friends: vec![friends] };
        half.parties[Party::Known as usize].seconds.push(second.clone());
        half.parties[Party::Hostile as usize].seconds.push(second);
    }
    half.parties[Party::Peers as usize].seconds = half.parties[Party::Known as usize].seconds.clone();
    for party in [Party::Known, Party::Peers] {
        half.parties[party as usize].progress = Progress {
            friends_offered: 20,
            friends_accepted: taken,
            friends_failed: (20 - taken) / 2,
            ..Progress::default()
        };
    }
    half.parties[Party::Hostile as usize].progress =
        Progress { open: 1_000, hostile_accepted: 33, attempts: 5_000, ..Progress::default() };
    half
}

fn scene() -> Scene {
    let status = json!({
        "modes": { "mode": "collect", "auto": true, "domains": {} },
        "weather": { "level": "red", "cause": "connections", "drained_in_seconds": 7 },
        "spool": { "items": 230, "tentative": 3 },
    });
    Scene {
        night: Night::new(60, 1_500, 1),
        now_ms: 20_000,
        asked_ms: 19_900,
        against: "a server of 2007's kind, 100 processes".to_owned(),
        without: half(10),
        with: half(20),
        inside: Inside {
            status,
            modes: vec![(0, "through".to_owned()), (11_000, "collect".to_owned())],
            buffered: vec![0, 0, 40, 120, 227],
            buffered_max: 227,
            drained_ms: None,
            passed_on: 480,
        },
        way: way(17, 0, 1),
    }
}

/// So many through the postern, half of them in the flood; by port 25; and still waiting.
fn way(by_postern: u64, by_port_25: u64, waiting: u64) -> Way {
    let night = Night::new(60, 1_500, 1);
    let mut way = Way::default();
    for (gone, at_ms) in [(by_postern / 2, 9_900), (by_postern, 34_900), (by_postern, 59_000)] {
        let peers = json!({
            "drain": { "outbound": { "by_postern": gone, "by_mx": by_port_25 } },
            "spool": { "items": waiting },
        });
        way.take(&peers, &json!({ "door": { "delivered": gone / 2, "queued": gone - gone / 2 } }), &night, at_ms);
    }
    way
}

#[test]
fn the_middle_of_the_night_fits_into_80_by_24() {
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a terminal");
    terminal.draw(|frame| view::draw(frame, &scene())).expect("drawn");
    let buffer = terminal.backend().buffer();
    let row = |y: u16| (0..80).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    let shown: Vec<String> = (0..24).map(row).collect();
    assert_eq!(shown, MIDDLE.lines().collect::<Vec<_>>(), "\n{}", shown.join("\n"));
}

/// As it is drawn.
const MIDDLE: &str = "\
The 2007 night in 60 s   0:20  FLOOD  bots take every connection they get
━━━━━━━━━━━━━━━━━━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌
WITHOUT                                 │WITH POSTERN
a server of 2007's kind, 100 processes  │in front of a server of the same kind
known friends                           │known friends
  50.0 % taken; 5 failed, 5 wait        │  100.0 % taken; 0 failed, 0 wait
  answered in 31 ms, at worst 45 ms     │  answered in 31 ms, at worst 45 ms
  ██████████                            │  ████████████████████
friends with a postern                  │friends with a postern
  50.0 % taken; 5 failed, 5 wait        │  94.4 % came in; 1 wait at their site
  answered in 31 ms, at worst 45 ms     │  17 by the postern, 0 by port 25
  by port 25, as everybody              │  17 answered 250 at the door
honest, never seen before               │honest, never seen before
  - taken; 0 failed, 0 wait             │  - taken; 0 failed, 0 wait
the flood: bots, spam, backscatter      │the flood: bots, spam, backscatter
  500/s connect, 1000 open; 33 taken    │  500/s connect, 1000 open; 33 taken
            ██████████                  │            ██████████
the server                              │the server, pressure red: connections
  100 of 100 processes taken            │  mode collect
                                        │  through 0:00 → collect 0:11
                                        │  227 buffered, drained in 7 s
                                        │    ▂▅█
                                        │  480 passed on to the server behind
 q ends the night
";

#[test]
fn a_window_of_any_size_is_drawn() {
    for (columns, rows) in [(1, 1), (7, 4), (30, 2), (200, 60)] {
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("a terminal");
        terminal.draw(|frame| view::draw(frame, &scene())).expect("drawn");
    }
}

#[test]
fn a_pipe_is_told_the_same_in_a_line() {
    assert_eq!(
        view::one_line(&scene()),
        "0:20 flood  friends' mail taken: without 10 of 20, with 20 of 20; from a site with a postern: without 10 of 20, by the postern 17 of 20, by port 25 0; hostile connects/s 500; mode collect, buffered 227, passed on 480"
    );
}

#[test]
fn a_night_has_calm_flood_and_what_it_leaves() {
    let night = Night::new(60, 1_500, 1);
    for (ms, expected) in [
        (0, Phase::Calm),
        (9_999, Phase::Calm),
        (10_000, Phase::Flood),
        (34_999, Phase::Flood),
        (35_000, Phase::After),
        (59_999, Phase::After),
        (60_000, Phase::Reckoning),
    ] {
        assert_eq!(night.phase_at(ms), expected, "{ms}");
    }
    assert!(night.connections_max < night.silent, "the bots fill it");
}

#[test]
fn the_plans_of_a_night_may_be_played_and_no_two_share_an_id() {
    let night = Night::new(15, 300, u64::MAX);
    let plans = Party::ALL.map(|party| {
        night.plan(party, "127.0.0.1:2525".parse().expect("an address"), "ann@localhost", "ledger".as_ref())
    });
    let mut seeds: Vec<u64> = plans.iter().map(|plan| plan.seed).collect();
    plans.iter().for_each(|plan| plan.check().expect("within the limits"));
    seeds.dedup();
    assert_eq!(seeds.len(), 4, "{seeds:?}");
}

/// What became of the friends' mail, what arrived of what was answered 250, and whether that is a promise kept.
fn check(taken: u64, failed: u64, arrived: &[&str], kept: bool, words: &str) {
    let mut scene = scene();
    let share = taken as f64 * 100.0 / (taken + failed) as f64;
    let friends = FriendsReport {
        offered: taken + failed,
        accepted: taken,
        success_percent: share,
        in_time_percent: share,
        ..FriendsReport::default()
    };
    scene.with.parties[Party::Known as usize].report = Some(Report { friends: vec![friends], ..Report::default() });
    scene.with.parties[Party::Peers as usize].report = Some(hundred());
    scene.way = way(100, 0, 0);
    let arrived: BTreeMap<String, u32> = arrived.iter().map(|id| ((*id).to_owned(), 1)).collect();
    let reckoning = Reckoning::new(&scene, false, &["a".to_owned(), "b".to_owned()], &arrived);
    assert_eq!(reckoning.promise.kept, kept, "{reckoning}");
    assert!(reckoning.verdict().starts_with(words), "{reckoning}");
}

/// A hundred messages, all answered.
fn hundred() -> Report {
    let friends = FriendsReport { offered: 100, accepted: 100, success_percent: 100.0, ..FriendsReport::default() };
    Report { friends: vec![friends], ..Report::default() }
}

/// All but the peers' mail is well; `way` is what became of a hundred messages of theirs.
fn check_way(way: Way, kept: bool, words: &str) {
    let mut scene = scene();
    for party in [Party::Known, Party::Peers] {
        scene.with.parties[party as usize].report = Some(hundred());
    }
    scene.way = way;
    let reckoning = Reckoning::new(&scene, false, &[], &BTreeMap::new());
    assert_eq!(reckoning.promise.kept, kept, "{reckoning}");
    assert!(reckoning.to_string().contains(words), "{words:?} is not in\n{reckoning}");
}

#[test]
fn the_promise_is_also_that_the_peers_mail_came_by_the_postern() {
    let begin = "By the postern: 100 of 100 messages of the friends' own site, 0 by port 25; 10 of 10 while the flood was on (by port 25, without: 0 of 10).\n\
                 The door answered 50 of them when they were delivered, 50 when they were durable;";
    check_way(way(100, 0, 0), true, begin);
    check_way(way(99, 0, 0), true, "PROMISE KEPT: ");
    check_way(way(98, 0, 0), false, "by the postern 98.0 %, 0 by port 25, 0 wait.");
    check_way(way(99, 1, 0), false, "by the postern 99.0 %, 1 by port 25, 0 wait.");
    check_way(way(99, 0, 1), false, " 1 wait there.\n");
    check_way(Way::default(), false, "by the postern 0.0 %");
}

#[test]
fn what_went_by_the_postern_in_the_flood_is_what_its_counter_rose_by() {
    assert_eq!(way(19, 0, 0).by_postern_in_flood, 10);
    let night = Night::new(60, 1_500, 1);
    let mut way = Way::default();
    for (gone, at_ms, expected) in [(5, 9_999, 0), (7, 10_001, 2), (30, 34_999, 25), (40, 35_001, 25), (50, 61_000, 25)]
    {
        way.take(&json!({ "drain": { "outbound": { "by_postern": gone } } }), &json!({}), &night, at_ms);
        assert_eq!(way.by_postern_in_flood, expected, "at {at_ms}");
    }
}

#[test]
fn who_has_a_postern_writes_to_a_domain_that_can_have_a_key() {
    for (to, expected) in [
        ("ann@localhost", "ann@home.example"),
        ("ann@[127.0.0.1]", "ann@home.example"),
        ("ann@example.com", "ann@example.com"),
        ("ann", "ann@home.example"),
    ] {
        assert_eq!(with_a_domain(to), expected);
    }
}

#[test]
fn the_promise_is_99_percent_of_the_friends_mail_and_nothing_lost() {
    check(100, 0, &["a", "b"], true, "PROMISE KEPT: 100.0 %");
    check(99, 1, &["a", "b", "spam that was never answered"], true, "PROMISE KEPT: 99.0 %");
    check(98, 2, &["a", "b"], false, "PROMISE BROKEN: 98.0 % of the friends' mail got through, and 0 messages");
    check(100, 0, &["a"], false, "PROMISE BROKEN: 100.0 % of the friends' mail got through, and 1 messages");
}

#[test]
fn a_night_that_was_not_played_keeps_no_promise() {
    let nobody = Reckoning::new(&scene(), false, &[], &BTreeMap::new());
    assert!(!nobody.promise.kept, "no friend came: {nobody}");
    let mut scene = scene();
    scene.without.parties[Party::Hostile as usize].failure = Some("127.0.0.1:25 does not answer: refused".to_owned());
    let stopped = Reckoning::new(&scene, true, &[], &BTreeMap::new());
    assert_eq!(stopped.verdict(), "STOPPED EARLY: nothing is proven.");
    let on_its_way = Reckoning::new(&scene, true, &["a".to_owned(), "b".to_owned()], &[("a".to_owned(), 1)].into());
    let words = "2 messages 250; 1 of them arrived behind it; 1 were under way when it was stopped; 0 lost";
    assert!(on_its_way.to_string().contains(words), "{on_its_way}");
    let reckoning = Reckoning::new(&scene, false, &[], &BTreeMap::new());
    assert_eq!(reckoning.verdict(), "NOT PLAYED as planned: nothing is proven.");
    assert!(reckoning.to_string().contains("Not played: 127.0.0.1:25 does not answer"), "{reckoning}");
}

#[test]
fn the_buffer_counts_as_drained_only_after_the_flood_and_only_while_it_is_empty() {
    let night = Night::new(60, 1_500, 1);
    let mut inside = Inside::default();
    let status = |items: u64| json!({ "spool": { "items": items, "tentative": 0 }, "modes": { "mode": "through" } });
    for (items, at_ms, expected) in
        [(0, 1_000, None), (9, 36_000, None), (0, 40_000, Some(40_000)), (2, 41_000, None), (0, 42_000, Some(42_000))]
    {
        inside.take(status(items), &night, at_ms);
        assert_eq!(inside.drained_ms, expected, "at {at_ms}");
    }
    assert_eq!(inside.modes, [(1_000, "through".to_owned())]);
    assert_eq!(inside.buffered_max, 9);
}
