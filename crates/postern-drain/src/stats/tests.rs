use super::*;

const MINUTE_MS: u64 = 60_000;

/// One filter that has judged so many messages, each in so many milliseconds.
fn judged(times: u64, took_ms: u64) -> Counters {
    let counters = Counters::default();
    counters.filters().push(Filter::new("rspamd"));
    judge(&counters, times, took_ms);
    counters
}

fn judge(counters: &Counters, times: u64, took_ms: u64) {
    (0..times).for_each(|_| counters.note_verdict("rspamd", &Verdict::Accept, took_ms));
}

fn latency_ms(counters: &Counters) -> u64 {
    counters.snapshot().filters[0].latency_ms
}

#[test]
fn one_slow_verdict_is_no_slow_filter_and_sixteen_are() {
    assert_eq!(latency_ms(&judged(1, 64_000)), 4_000);
    assert!(latency_ms(&judged(16, 64_000)) > 40_000);
    assert!(latency_ms(&judged(1000, 64_000)).abs_diff(64_000) <= 1);
}

#[test]
fn a_filter_without_work_is_forgotten_as_slow_by_half_a_minute_each() {
    let counters = judged(1000, 64_000);
    let look = |ms| {
        counters.note_lanes(&[], ms);
        latency_ms(&counters)
    };
    let slow = look(0);
    assert_eq!(look(MINUTE_MS - 1), slow);
    assert_eq!(look(MINUTE_MS), slow.div_ceil(2));
    assert_eq!(look(3 * MINUTE_MS).div_ceil(1000), 8, "two more at once");
    judge(&counters, 1, 64_000);
    let after = look(4 * MINUTE_MS - 1);
    assert_eq!(look(5 * MINUTE_MS - 2), after, "a verdict begins the minute anew");
    assert_eq!(look(100 * MINUTE_MS), 0);
}

#[test]
fn a_filter_that_is_at_work_is_as_slow_as_it_was() {
    let counters = judged(1000, 64_000);
    counters.note_filter_state("rspamd", DestinationState::Up, 1, 0);
    let slow = latency_ms(&counters);
    for minute in 0..10 {
        counters.note_lanes(&[], minute * MINUTE_MS);
    }
    assert_eq!(latency_ms(&counters), slow);
    counters.note_filter_state("rspamd", DestinationState::Up, 0, 0);
    counters.note_lanes(&[], 10 * MINUTE_MS);
    assert_eq!(latency_ms(&counters), slow.div_ceil(2), "halved from its last work on");
}
