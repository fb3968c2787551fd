use proptest::prelude::*;

use super::*;

const RED: Pressure = Pressure { level: Level::Red, cause: Some(Cause::Connections) };
const BUSY: Pressure = Pressure { level: Level::Busy, cause: Some(Cause::Connections) };
const CALM: Pressure = Pressure { level: Level::Calm, cause: None };

fn well(domain: &str) -> DomainSky {
    DomainSky { domain: domain.to_owned(), ..DomainSky::default() }
}

fn sky(pressure: Pressure, domains: impl IntoIterator<Item = DomainSky>) -> Sky {
    Sky { pressure, rate_milli: 0, domains: domains.into_iter().collect() }
}

/// Every second from `from_s` to before `until_s` the same sky; when an answer changed.
fn watch(weather: &mut Weather, from_s: u64, until_s: u64, sky: &Sky) -> Option<u64> {
    (from_s..until_s).filter(|second| weather.update(second * 1000, sky)).last()
}

#[test]
fn in_the_red_everybody_collects_at_once_and_goes_back_only_after_a_minute_and_at_the_low_mark() {
    let mut weather = Weather::default();
    assert_eq!(watch(&mut weather, 0, 10, &sky(BUSY, [well("example.com")])), None);
    assert_eq!(watch(&mut weather, 10, 20, &sky(RED, [well("example.com")])), Some(10));
    assert_eq!(weather.mode_of("example.com"), (Answer::Collect, Reason::Pressure(Cause::Connections)));
    assert_eq!(weather.answer_of("never-seen.example"), Answer::Collect);
    // Not red is not enough.
    assert_eq!(watch(&mut weather, 20, 500, &sky(BUSY, [])), None);
    assert_eq!(watch(&mut weather, 500, 509, &sky(CALM, [])), None);
    assert_eq!(weather.whole(), (Answer::Collect, Reason::Settling));
    assert_eq!(watch(&mut weather, 509, 600, &sky(CALM, [])), Some(510));
    assert_eq!(weather.mode_of("example.com"), (Answer::Through, Reason::Calm));
}

#[test]
fn one_domain_collects_for_its_own_reasons_and_nobody_else_with_it() {
    let check = |ill: DomainSky, reason: Option<Reason>| {
        let mut weather = Weather::default();
        weather.update(0, &sky(CALM, [ill.clone(), well("example.net")]));
        let expected = reason.map_or((Answer::Through, Reason::Calm), |reason| (Answer::Collect, reason));
        assert_eq!(weather.mode_of("example.com"), expected, "{ill:?}");
        assert_eq!(weather.answer_of("example.net"), Answer::Through);
        assert_eq!(weather.whole(), (Answer::Through, Reason::Calm));
    };
    let com = || well("example.com");
    check(DomainSky { hop_down_s: 29, ..com() }, None);
    check(DomainSky { hop_down_s: 30, ..com() }, Some(Reason::HopDown(30)));
    check(DomainSky { filter_down_s: 9, ..com() }, None);
    check(DomainSky { filter_down_s: 10, ..com() }, Some(Reason::FilterDown(10)));
    check(DomainSky { wait_s: 14, ..com() }, None);
    check(DomainSky { wait_s: 15, ..com() }, Some(Reason::Slow(15)));
    // A backlog alone starts nothing: it only delays the way back.
    check(DomainSky { backlog: 1_000_000, ..com() }, None);
}

#[test]
fn a_domain_goes_back_when_all_is_well_and_its_backlog_is_drained() {
    let mut weather = Weather::default();
    let down = DomainSky { filter_down_s: 100, backlog: 5000, ..well("example.com") };
    watch(&mut weather, 0, 300, &sky(CALM, [down]));
    // Slow still, above the low mark.
    let slow = DomainSky { wait_s: 6, ..well("example.com") };
    assert_eq!(watch(&mut weather, 300, 400, &sky(CALM, [slow])), None);
    let draining = DomainSky { backlog: 51, ..well("example.com") };
    assert_eq!(watch(&mut weather, 400, 4000, &sky(CALM, [draining])), None);
    assert_eq!(weather.mode_of("example.com"), (Answer::Collect, Reason::Draining(51)));
    let drained = DomainSky { backlog: 50, ..well("example.com") };
    assert_eq!(watch(&mut weather, 4000, 4100, &sky(CALM, [drained])), Some(4010));
}

#[test]
fn where_much_leaves_a_backlog_of_two_seconds_is_drained() {
    let mut weather = Weather::default();
    watch(&mut weather, 0, 100, &sky(RED, [well("example.com")]));
    let backlog = DomainSky { backlog: 1000, ..well("example.com") };
    let busy_drain = Sky { rate_milli: 500_000, ..sky(CALM, [backlog]) };
    watch(&mut weather, 100, 200, &busy_drain);
    assert_eq!(weather.answer_of("example.com"), Answer::Through);
}

#[test]
fn after_the_storm_over_all_each_domain_drains_for_itself() {
    let mut weather = Weather::default();
    let full = DomainSky { backlog: 9000, ..well("full.example") };
    watch(&mut weather, 0, 100, &sky(RED, [full.clone(), well("empty.example")]));
    watch(&mut weather, 100, 300, &sky(CALM, [full, well("empty.example")]));
    assert_eq!(weather.whole().0, Answer::Through);
    assert_eq!(weather.answer_of("empty.example"), Answer::Through);
    assert_eq!(weather.mode_of("full.example"), (Answer::Collect, Reason::Draining(9000)));
}

#[test]
fn a_storm_that_comes_back_soon_lasts_twice_as_long_and_one_after_long_does_not() {
    let mut weather = Weather::default();
    let (red, calm) = (sky(RED, []), sky(CALM, []));
    let mut check = |from_s: u64, lasts_s: u64| {
        assert_eq!(watch(&mut weather, from_s, from_s + 1, &red), Some(from_s));
        assert_eq!(watch(&mut weather, from_s + 1, from_s + 1000, &calm), Some(from_s + lasts_s), "from {from_s}");
    };
    check(0, 60);
    // 940 s later.
    check(1000, 60);
    let mut soon = Weather::default();
    let mut from_s = 0;
    for lasts_s in [60, 120, 240, 480, 960, 960] {
        watch(&mut soon, from_s, from_s + 1, &red);
        assert_eq!(watch(&mut soon, from_s + 1, from_s + lasts_s + 5, &calm), Some(from_s + lasts_s));
        from_s += lasts_s + 5;
    }
}

#[test]
fn a_restart_in_mid_storm_keeps_modes_until_the_sky_was_seen_anew() {
    let mut weather = Weather::default();
    let down = DomainSky { hop_down_s: 60, ..well("down.example") };
    weather.update(0, &sky(CALM, [down, well("up.example")]));
    let kept = weather.kept();
    assert_eq!(kept, Kept { whole: Answer::Through, collecting: vec!["down.example".to_owned()] });
    let mut after = Weather::restore(WeatherMarks::default(), &kept, 5_000);
    assert_eq!(after.mode_of("down.example"), (Answer::Collect, Reason::Restored));
    assert_eq!(after.answer_of("up.example"), Answer::Through);
    assert_eq!(watch(&mut after, 5, 300, &sky(CALM, [])), Some(65));
    let flooded = Weather::restore(WeatherMarks::default(), &Kept { whole: Answer::Collect, collecting: vec![] }, 0);
    assert_eq!(flooded.answer_of("any.example"), Answer::Collect);
}

#[test]
fn domains_beyond_the_maximum_have_the_weather_of_the_whole() {
    let mut weather = Weather::default();
    let ill = |number| DomainSky { hop_down_s: 60, ..well(&format!("{number:05}.example")) };
    weather.update(0, &sky(CALM, (0..=DOMAINS_MAX).map(ill)));
    assert_eq!(weather.domains().count(), DOMAINS_MAX);
    assert_eq!(weather.answer_of("10000.example"), Answer::Through);
    // And what is well again, and long so, is forgotten.
    watch(&mut weather, 1, 2000, &sky(CALM, []));
    assert_eq!(weather.domains().count(), 0);
}

fn any_sky() -> impl Strategy<Value = Sky> {
    let domain = (0_u64..40, 0_u64..40, 0_u64..40, 0_u64..100).prop_map(|(hop, filter, wait, backlog)| DomainSky {
        domain: "example.com".to_owned(),
        hop_down_s: hop,
        filter_down_s: filter,
        wait_s: wait,
        backlog,
    });
    let pressure = prop_oneof![3 => Just(CALM), 1 => Just(BUSY), 1 => Just(RED)];
    (pressure, prop::option::of(domain)).prop_map(|(pressure, domain)| sky(pressure, domain))
}

proptest! {
    #[test]
    fn whatever_the_sky_does_modes_do_not_flap(skies in prop::collection::vec((any_sky(), 1_u64..60_000), 0..400)) {
        let mut weather = Weather::default();
        let marks = WeatherMarks::default();
        let (mut now_ms, mut stormy_since) = (0, [None::<u64>; 2]);
        for (sky, wait_ms) in skies {
            now_ms += wait_ms;
            weather.update(now_ms, &sky);
            let answers = [weather.whole().0, weather.answer_of("example.com")];
            for (answer, since) in answers.into_iter().zip(&mut stormy_since) {
                match (answer, *since) {
                    (Answer::Collect, None) => *since = Some(now_ms),
                    (Answer::Through, Some(began)) => {
                        prop_assert!(now_ms - began >= marks.storm_min_ms, "a storm of {} ms", now_ms - began);
                        *since = None;
                    }
                    _ => {}
                }
            }
            // The safe side is never late.
            if sky.pressure.level == Level::Red {
                prop_assert_eq!(answers, [Answer::Collect; 2]);
            }
        }
    }

    #[test]
    fn a_clock_that_jumps_neither_panics_nor_keeps_the_storm(jumps in prop::collection::vec((any::<u64>(), any_sky()), 0..60)) {
        let mut weather = Weather::default();
        for (now_ms, sky) in jumps {
            weather.update(now_ms, &sky);
        }
        watch(&mut weather, 0, 2000, &sky(CALM, []));
        prop_assert_eq!(weather.whole().0, Answer::Through);
        prop_assert_eq!(weather.answer_of("example.com"), Answer::Through);
    }
}
