use postern_drain::Route;
use postern_spool::Lane;
use postern_trust::pressure::Cause;
use postern_trust::weather::Reason;

use super::*;
use crate::args::ServeArgs;

fn lane(domain: &str, class: u8, ready: usize) -> LaneStats {
    LaneStats {
        lane: Lane::new(domain, class),
        ready,
        waiting: 0,
        leased: 0,
        held: 0,
        tentative: 0,
        bytes: 0,
        oldest_unix_ms: None,
        next_due_unix_ms: None,
    }
}

#[test]
fn a_spool_that_does_not_answer_is_told_as_weather_and_not_waited_for() {
    let dir = tempfile::tempdir().expect("scratch");
    let flags =
        ServeArgs { data: Some(dir.path().to_owned()), domains: vec!["a.example".into()], ..Default::default() };
    let (mut task, handle) = WeatherTask::load(dir.path(), &Config::load(&flags).expect("defaults"));
    let (modes, stats, filters) = (Modes::default(), DrainStats::default(), FilterTable::default());
    let routes = RouteTable::new(Route::Maildir("mail".into()));
    let around = Around { modes: &modes, stats: &stats, routes: &routes, filters: &filters };
    let intake = Intake::default();
    task.hear_spool(Some(vec![lane("a.example", 3, 500)]), 1);
    assert!(!task.heed(&around, &intake));
    let new_have_room = || handle.show()["room"]["new"].as_u64().expect("bounded");
    let room = new_have_room();
    // Two looks of 600 ms without an answer.
    for _ in 0..2 {
        task.hear_spool(None, 600);
    }
    task.pressure = task.gauged();
    assert!(task.heed(&around, &intake), "the weather has changed");
    assert_eq!(task.weather.whole(), (Answer::Collect, Reason::Pressure(Cause::Commit)));
    let shown = handle.show();
    assert_eq!((&shown["level"], &shown["waiting"]), (&"red".into(), &500.into()), "with the last backlog it told");
    assert_eq!(new_have_room(), room);
    // It answers again.
    task.hear_spool(Some(Vec::new()), 2);
    assert!(!task.heed(&around, &intake));
    assert_eq!((task.readings.commit_ms, &handle.show()["waiting"]), (2, &0.into()));
    assert_eq!(new_have_room(), room + 500);
}

#[test]
fn a_busy_machine_is_pressure_unless_a_test_says_that_it_is_shared() {
    let dir = tempfile::tempdir().expect("scratch");
    let mut config =
        Config::load(&ServeArgs { data: Some(dir.path().to_owned()), ..Default::default() }).expect("defaults");
    for (pressure, expected) in [(true, Some(Cause::LoopLag)), (false, None)] {
        config.settings.auto.pressure = pressure;
        let (mut task, _) = WeatherTask::load(dir.path(), &config);
        task.readings.loop_lag_ms = 500;
        assert_eq!(task.gauged().cause, expected);
    }
}
