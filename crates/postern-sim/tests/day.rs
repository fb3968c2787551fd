//! Twenty-four hours of mail, by message: five times what the filter can judge, with trouble; and a calm day.

use std::time::Instant;

use postern_sim::{Day, DayProfile, DayReport};

/// What may be promised: the default of `promised_delay`, four hours.
const PROMISED_S: u64 = 4 * 3600;

fn day(profile: DayProfile) -> DayReport {
    let began = Instant::now();
    let report = Day::new(1, profile).run();
    println!("{profile:?}, played in {:.1} s", began.elapsed().as_secs_f64());
    for line in report.lines() {
        println!("{line}");
    }
    println!(
        "by class: attempts {:?}, taken {:?}, deferred {:?}; {} promised, {} of them kept, {} answered at the outcome; \
         {} s in collect, {} changes, at most {} lay there, quiet {} s after the day",
        report.attempts,
        report.taken,
        report.deferred,
        report.promised,
        report.kept,
        report.through,
        report.collecting_s,
        report.changes,
        report.backlog_max,
        report.after_s,
    );
    println!(
        "legitimate failures: {} of which {} refused in the session, {} dead letters; spam refused in the session {}",
        report.doomed, report.refused_in_session, report.dead_letters, report.spam_refused
    );
    // Whatever the weather: nothing is lost, nothing is silent.
    assert_eq!((report.promised, report.left_over), (report.kept, 0));
    assert_eq!(report.doomed, report.refused_in_session + report.dead_letters);
    assert!(report.back_to_through);
    report
}

/// Messages a second that the filter judges; by hand 200, as in the flood of the bench.
fn rate() -> u64 {
    std::env::var("POSTERN_DAY_RATE").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

#[test]
fn a_day_at_five_times_the_filter_s_rate_keeps_the_promised_delay_and_loses_nothing() {
    let report = day(DayProfile { filter_rate: rate(), load_tenths: 50, bots: 20_000, trouble: false });
    let [known, unknown, _] = &report.from_answer;
    assert!(unknown.count() > 10_000 && known.count() > 10_000, "a day in which nothing was promised shows nothing");
    assert!(unknown.per_mille(990) <= PROMISED_S, "{}", unknown.per_mille(990));
    assert!(known.per_mille(999) <= 60, "{}", known.per_mille(999));
    assert!(report.after_s <= PROMISED_S);
}

#[test]
fn so_does_one_with_two_outages_of_the_filter_and_a_kill() {
    let report = day(DayProfile { filter_rate: rate(), load_tenths: 50, bots: 20_000, trouble: true });
    let [known, unknown, _] = &report.from_answer;
    assert!(unknown.per_mille(990) <= PROMISED_S, "{}", unknown.per_mille(990));
    // Whoever is known waits for the filter to come back, and for nobody.
    assert!(known.per_mille(999) <= 1900, "{}", known.per_mille(999));
    assert!(report.after_s <= PROMISED_S);
}

#[test]
fn in_a_calm_day_nothing_fails_after_its_250() {
    let report = day(DayProfile { filter_rate: rate(), load_tenths: 5, bots: 2_000, trouble: false });
    assert_eq!((report.promised, report.dead_letters, report.collecting_s), (0, 0, 0));
    assert!(report.doomed > 100 && report.refused_in_session == report.doomed);
}
