//! What is drawn from answers that are known.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::json;

use super::*;
use crate::exit::Code;

/// A server in a storm, `seconds` after the first look.
fn status(seconds: u64) -> Value {
    let class = |open: u64, evicted: u64| json!({ "open": open, "held_bytes": 4096 * open, "evicted": evicted, "deferred": 0, "refused": 3 * seconds });
    json!({
        "version": "0.1.0", "pid": 42, "uptime_seconds": 3_720 + seconds, "bypass": false,
        "doors": { "smtp 192.0.2.1:25": {
            "open": 950, "accepted": 10_000 + 200 * seconds, "queued": 700 + 30 * seconds, "delivered": 100,
            "turned_away": 0, "panics": 0,
            "classes": {
                "pinned": class(0, 0), "known": class(5, 0), "provider": class(3, 0),
                "new": class(842, 150 * seconds), "suspect": class(100, 0),
            },
        } },
        "steering": [{ "active": true, "address": "192.0.2.1:25", "networks": 14, "left_out": 0, "why": null }],
        "modes": { "mode": "collect", "auto": true, "why": "pressure: connections", "domains": {
            "b.example": { "mode": "hold", "auto": false },
        } },
        "weather": {
            "level": "red", "cause": "connections", "waiting": 520, "drained_in_seconds": 15,
            "leaves_per_1000_seconds": 34_500, "leaves_measured": true,
            "waiting_by_class": { "pinned": 0, "known": 4, "provider": 0, "new": 516, "suspect": 0 },
        },
        "trust": { "observe": false },
        "spool": {
            "items": 540, "bytes": 2_300_000, "free_bytes": 50_000_000_000_u64, "held": 20, "dead": 0,
            "commits": 100 + 10 * seconds, "messages_committed": 700 + 30 * seconds, "refusing": false,
        },
        "drain": {
            "delivered": 300 + 35 * seconds, "deferred": 0, "refused": 0, "running": 20, "panics": 0,
            "filters": [{ "name": "rspamd", "up": false, "judged": 9, "marked": 1, "quarantined": 0, "latency_ms": 12,
                "last_error": "connection refused" }],
            "destinations": [{ "name": "smtp:127.0.0.1:10025", "state": "backing off", "retry_in_ms": 65_000,
                "delivered": 300, "last_error": null }],
        },
    })
}

fn looked_at(seconds: u64, change: impl Fn(&mut Value)) -> Top {
    let (mut top, start) = (Top::default(), Instant::now());
    for second in 0..=seconds {
        let mut status = status(second);
        change(&mut status);
        top.take(Ok(status), start + Duration::from_secs(second));
    }
    top
}

fn drawn(top: &Top, columns: u16, rows: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("a terminal");
    terminal.draw(|frame| view::draw(frame, top)).expect("drawn");
    let buffer = terminal.backend().buffer();
    let row = |y: u16| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..rows).map(row).collect()
}

#[test]
fn a_storm_fits_into_80_by_24() {
    let shown = drawn(&looked_at(2, |_| {}), 80, 24);
    assert_eq!(shown, STORM.lines().collect::<Vec<_>>(), "\n{}", shown.join("\n"));
}

/// As it is drawn.
const STORM: &str = "\
postern 0.1.0  pid 42, up 1h2m
pressure   red: connections
smtp 192.0.2.1:25  950 open, 200.0 connects/s, 30.0 taken/s, 0.0 turned away/s
classes       open  in memory  evicted/s  deferred/s  refused/s    waiting
pinned           0        0 B        0.0         0.0        3.0          0
known            5   20.0 KiB        0.0         0.0        3.0          4
provider         3   12.0 KiB        0.0         0.0        3.0          0
new            842    3.2 MiB      150.0         0.0        3.0        516
suspect        100  400.0 KiB        0.0         0.0        3.0          0
connects/s ██                                                        max 200
messages/s ██                                                        max 30
waiting    ███                                                       max 520
mode       all domains collect (auto: pressure: connections)
mode       b.example hold (set)
spool      540 messages, 20 held, 2.1 MiB; 10.0 commits/s of 3.0 each; 46.5 GiB
waiting    520 messages, drained in 15s at 34.5 a second (measured)
drain      35.0 delivered/s, 0.0 deferred/s, 0.0 refused/s; 20 under way
           filter rspamd AWAY, 9 judged, 1 marked, 0 set aside, 12 ms each
             connection refused
           to smtp:127.0.0.1:10025 backing off, next try in 1m5s, 300 delivered
steering   on at 192.0.2.1:25: 14 known networks have queues of their own


 q quit   p pause   ? what is what
";

/// One change of the storm, and a line that then stands there.
fn check(change: impl Fn(&mut Value), expected: &str) {
    let shown = drawn(&looked_at(1, change), 100, 40);
    assert!(shown.iter().any(|line| line == expected), "{expected}\n{}", shown.join("\n"));
}

#[test]
fn what_wants_a_person_is_said_loudly() {
    check(
        |status| status["bypass"] = true.into(),
        "BYPASS IS ON: nobody is judged, no filter is asked; `postern bypass off` ends it",
    );
    check(
        |status| status["trust"]["observe"] = true.into(),
        "OBSERVING ONLY: the log says what would have been done ([trust] observe)",
    );
    check(|status| status["spool"]["dead"] = 2.into(), "2 DEAD LETTERS: postern queue ls --dead");
    check(
        |status| status["spool"]["failed"] = "input/output error".into(),
        "THE SPOOL'S DISK FAILED: input/output error",
    );
}

#[test]
fn before_the_second_answer_there_are_no_rates() {
    let shown = drawn(&looked_at(0, |_| {}), 80, 24).join("\n");
    assert!(shown.contains("950 open, - connects/s, - taken/s"), "{shown}");
}

#[test]
fn a_new_server_s_counters_are_not_compared_with_the_old_one_s() {
    let mut top = looked_at(3, |_| {});
    let mut next = status(0);
    next["pid"] = 43.into();
    top.take(Ok(next), Instant::now() + Duration::from_secs(10));
    assert!(view::one_line(&top).starts_with("open 950 connects/s - "), "{}", view::one_line(&top));
}

#[test]
fn a_server_that_is_away_is_said_above_what_was_known_and_forgotten_when_it_is_back() {
    let mut top = looked_at(1, |_| {});
    top.take(Err(Failure::new(Code::Unavailable, "no server is running")), Instant::now());
    let shown = drawn(&top, 80, 24);
    assert_eq!(shown[0], "NO ANSWER: no server is running; asking again");
    assert!(shown[1].starts_with("postern 0.1.0"), "{shown:#?}");
    assert_eq!(view::one_line(&top), "no answer: no server is running");
    top.take(Ok(status(2)), Instant::now() + Duration::from_secs(2));
    assert!(drawn(&top, 80, 24)[0].starts_with("postern 0.1.0"));
}

#[test]
fn while_it_is_paused_the_frame_stays() {
    let mut top = looked_at(1, |_| {});
    top.paused = true;
    let before = drawn(&top, 80, 24);
    top.take(Ok(status(9)), Instant::now() + Duration::from_secs(9));
    assert_eq!(drawn(&top, 80, 24), before);
    assert!(before[23].contains("PAUSED"), "{}", before[23]);
}

#[test]
fn a_line_a_second_says_the_same_to_a_pipe() {
    assert_eq!(
        view::one_line(&looked_at(1, |_| {})),
        "open 950 connects/s 200.0 taken/s 30.0 shed/s 165.0 left/s 35.0 pressure red waiting 520 modes collect"
    );
}

#[test]
fn what_has_no_room_is_counted() {
    let shown = drawn(&looked_at(1, |_| {}), 80, 12);
    assert!(
        shown[10].starts_with("… ") && shown[10].ends_with(" more lines: a taller window shows them"),
        "{shown:#?}"
    );
}

#[test]
fn a_window_of_any_size_is_drawn() {
    for (columns, rows) in [(1, 1), (5, 3), (20, 2), (200, 60)] {
        assert_eq!(drawn(&looked_at(1, |_| {}), columns, rows).len(), usize::from(rows));
    }
}

#[test]
fn the_help_fits_into_80_by_24() {
    let mut top = looked_at(1, |_| {});
    top.help = true;
    let shown = drawn(&top, 80, 24);
    assert!(shown.iter().any(|line| line.starts_with("`postern status` says more")), "{shown:#?}");
}
