use proptest::prelude::*;
use std::time::Duration;

use super::*;

fn options() -> DrainOptions {
    DrainOptions::default()
}

const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;

#[test]
fn waits_double_from_a_minute_to_four_hours() {
    let retry = Retry::new(&options());
    let waits: Vec<u64> = (1..=10).map(|n| retry.next_unix_ms(0, n, 0, unchanged(n)) / MINUTE).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 240, 240]);
}

/// The random number that leaves a wait as it is: a fifth of it.
fn unchanged(attempts: u32) -> u64 {
    doubled(MINUTE, attempts, 240 * MINUTE) / 5
}

#[test]
fn the_last_attempt_is_made_when_the_message_expires() {
    let retry = Retry::new(&options());
    assert_eq!(retry.next_unix_ms(0, 9, 5 * DAY - MINUTE, 0), 5 * DAY);
    assert!(!retry.is_expired(0, 5 * DAY - 1));
    assert!(retry.is_expired(0, 5 * DAY));
    assert!(!retry.is_expired(5 * DAY, 0), "a clock set back expires nothing");
}

#[test]
fn a_pace_is_kept_and_a_pace_of_nothing_never_comes() {
    let times = |rate| {
        let mut pace = Pace::new(rate, 7);
        [(); 4].map(|()| {
            let next = pace.next_unix_ms();
            pace.take();
            next
        })
    };
    assert_eq!(times(Some(3)), [Some(7), Some(340), Some(673), Some(1007)]);
    assert_eq!(times(None), [Some(7); 4]);
    assert_eq!(times(Some(0)), [None; 4]);
}

#[test]
fn a_closed_destination_is_probed_by_one_and_opened_by_its_success() {
    let mut gate = Gate::new(&DrainOptions { concurrency_max: 3, ..options() });
    assert!(gate.try_start_at(0) && gate.try_start_at(0) && gate.try_start_at(0) && !gate.try_start_at(0));
    gate.handle_unreached_at(0, 0);
    let wait = gate.backing_off_at(0).unwrap();
    gate.handle_unreached_at(1, 0);
    gate.handle_unreached_at(2, 0);
    assert_eq!(gate.backing_off_at(2), Some(wait - 2), "three failures of one outage count once");
    assert!(!gate.try_start_at(wait - 1));
    assert_eq!(gate.keeps_waiting_at(wait), None);
    assert!(gate.try_start_at(wait) && !gate.try_start_at(wait), "one probe");
    assert_eq!(gate.keeps_waiting_at(wait), Some(1000), "senders do not wait for the probe");
    gate.handle_unreached_at(wait, 0);
    assert!(gate.backing_off_at(wait).unwrap() > wait);
    let later = wait + 10_000;
    assert!(gate.try_start_at(later));
    gate.handle_reached();
    assert_eq!(gate.free_at(later), 3);
}

#[test]
fn a_rate_lets_as_many_through_as_it_says() {
    let mut rate = Rate::new(10, 0);
    let mut sent = 0;
    for now in 0..10_000 {
        let free = rate.free_at(now);
        rate.take(free);
        sent += free;
    }
    assert!((100..=101).contains(&sent), "{sent}");
    assert_eq!(Rate::new(0, 0).wait_ms(), None);
}

proptest! {
    #[test]
    fn a_retry_lies_in_the_future_within_its_bounds(
        arrived in 0..DAY, attempts in 1u32..200, age in 0..10 * DAY, random: u64,
    ) {
        let retry = Retry::new(&options());
        let now = arrived + age;
        let next = retry.next_unix_ms(arrived, attempts, now, random);
        prop_assert!(next > now);
        prop_assert!(next <= now + 240 * MINUTE * 6 / 5);
        prop_assert!(next <= (arrived + 5 * DAY).max(now + 1));
    }

    #[test]
    fn a_gate_never_runs_more_than_allowed_and_always_reopens(
        events in proptest::collection::vec((0u8..5, 0u64..600_000, any::<u64>()), 0..200),
    ) {
        let mut gate = Gate::new(&DrainOptions { concurrency_max: 7, ..options() });
        let (mut now, mut running) = (0, 0);
        for (event, step, random) in events {
            now += step;
            match event {
                0 | 1 => running += usize::from(gate.try_start_at(now)),
                2 if running > 0 => { gate.handle_reached(); running -= 1; }
                3 if running > 0 => { gate.handle_unreached_at(now, random); running -= 1; }
                4 if running > 0 => { gate.handle_unknown(); running -= 1; }
                _ => {}
            }
            prop_assert_eq!(gate.running(), running);
            prop_assert!(running <= 7);
            let wait = gate.backing_off_at(now).unwrap_or(0);
            prop_assert!(wait <= 360_000, "five minutes and a fifth");
            prop_assert!(running > 0 || gate.free_at(now + wait) > 0);
        }
    }

    #[test]
    fn jitter_stays_within_a_fifth(wait in 0..u64::from(u32::MAX), random: u64) {
        let jittered = jittered(wait, random);
        prop_assert!(jittered >= wait - wait / 5 && jittered <= wait + wait / 5);
    }
}

#[test]
fn no_duration_overflows() {
    let long = DrainOptions { retry_first: Duration::MAX, retry_max: Duration::MAX, ..options() };
    let _ = Retry::new(&long).next_unix_ms(u64::MAX, u32::MAX, u64::MAX, u64::MAX);
    assert_eq!(doubled(u64::MAX, 99, u64::MAX), u64::MAX);
}
