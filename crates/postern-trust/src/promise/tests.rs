use proptest::prelude::*;

use super::*;

const HOUR_MS: u64 = 3_600_000;
const DISK: u64 = u64::MAX;

/// Room for the pinned and the known, which only the disk bounds, and these for the others.
fn beside(strangers: [u64; 3]) -> [u64; CLASSES] {
    let [provider, new, suspect] = strangers;
    [DISK, DISK, provider, new, suspect]
}

/// A drain of `rate` messages a second that always has work, watched for `seconds`.
fn watched(promise: &mut Promise, from_ms: u64, seconds: u64, rate: u64, seen: &mut DrainSeen) -> u64 {
    seen.ready = 1000;
    seen.healthy = true;
    for second in 1..=seconds {
        seen.left += rate;
        promise.update(from_ms + second * 1000, seen);
    }
    from_ms + seconds * 1000
}

#[test]
fn nothing_measured_yet_means_ten_a_second() {
    let promise = Promise::new(DELAY_DEFAULT_MS);
    assert_eq!(promise.room(), beside([120_000; 3]));
    assert_eq!(promise.seconds_for(100), Some(10));
    assert!(!promise.is_measured());
}

#[test]
fn room_is_the_measured_rate_times_the_delay_less_what_stands_in_front() {
    let mut promise = Promise::new(HOUR_MS);
    let mut seen = DrainSeen { backlog: [1, 20, 300, 4000, 50_000], ..DrainSeen::default() };
    promise.update(0, &seen);
    watched(&mut promise, 0, 600, 50, &mut seen);
    assert_eq!(promise.rate_milli(), 50_000);
    let all = 50 * 3000;
    assert_eq!(promise.room(), beside([all - 321, all - 4321, all - 54_321]));
    assert_eq!(promise.seconds_for(54_321), Some(1087));
}

#[test]
fn what_better_classes_bring_is_kept_for_them_and_the_lowest_is_the_first_without_room() {
    let mut promise = Promise::new(HOUR_MS);
    let mut seen = DrainSeen::default();
    promise.update(0, &seen);
    let mut now_ms = 0;
    for _ in 0..20_000 {
        seen.arrived[1] += 30;
        seen.arrived[3] += 40;
        now_ms = watched(&mut promise, now_ms, 1, 50, &mut seen);
    }
    let room = promise.room();
    assert_eq!(room[..2], [DISK; 2], "nobody stands before the known");
    assert!(room[3].abs_diff(20 * 3000) < 10, "the known take 30 of 50: {room:?}");
    assert_eq!(room[4], 0, "and the new more than the rest");
}

#[test]
fn an_outage_unlearns_nothing_but_the_promised_delay_runs() {
    let mut promise = Promise::new(HOUR_MS);
    let mut seen = DrainSeen::default();
    promise.update(0, &seen);
    let mut now_ms = watched(&mut promise, 0, 100, 50, &mut seen);
    seen.healthy = false;
    for _ in 0..1800 {
        now_ms += 1000;
        promise.update(now_ms, &seen);
    }
    assert_eq!(promise.rate_milli(), 50_000);
    assert_eq!(promise.room(), beside([50 * 1200; 3]), "half an hour of the fifty minutes is gone");
    assert_eq!(promise.seconds_for(1), None);
    for _ in 0..1800 {
        now_ms += 1000;
        promise.update(now_ms, &seen);
    }
    assert_eq!(promise.room(), beside([0; 3]), "a weekend's mail of friends is buffered");
    watched(&mut promise, now_ms, 1, 50, &mut seen);
    assert_eq!(promise.room(), beside([50 * 3000; 3]));
}

#[test]
fn a_next_hop_that_answers_4xx_for_hours_leaves_room_for_all() {
    let mut promise = Promise::new(DELAY_DEFAULT_MS);
    let mut seen = DrainSeen::default();
    promise.update(0, &seen);
    let now_ms = watched(&mut promise, 0, 100, 50, &mut seen);
    // It is reached, so it is well, and nothing leaves.
    watched(&mut promise, now_ms, 4 * 3600, 0, &mut seen);
    assert_eq!(promise.room(), beside([12_000; 3]));
    assert!(promise.wait_s(1) > 1000, "the weather still sees that it hangs");
    seen.backlog = [0, 0, 0, 0, 12_000];
    watched(&mut promise, now_ms + 4 * 3_600_000, 60, 0, &mut seen);
    assert_eq!(promise.room(), beside([12_000, 12_000, 0]), "and strangers stay bounded");
}

#[test]
fn a_wait_is_known_once_the_rate_is_and_while_something_can_leave() {
    let mut promise = Promise::new(HOUR_MS);
    let mut seen = DrainSeen::default();
    promise.update(0, &seen);
    assert_eq!(promise.wait_s(1000), 0, "the assumed rate is no reason for a storm");
    let now_ms = watched(&mut promise, 0, 100, 50, &mut seen);
    assert_eq!((promise.wait_s(0), promise.wait_s(500)), (0, 10));
    seen.healthy = false;
    promise.update(now_ms + 1000, &seen);
    assert_eq!(promise.wait_s(500), 0, "that is the next hop's health");
}

#[test]
fn before_anything_has_left_a_slow_first_message_is_not_a_drain_that_hangs() {
    let mut promise = Promise::new(HOUR_MS);
    let mut seen = DrainSeen::default();
    promise.update(0, &seen);
    let now_ms = watched(&mut promise, 0, 10, 0, &mut seen);
    assert_eq!((promise.wait_s(1), promise.is_measured()), (0, false));
    assert_eq!(promise.rate_milli(), RATE_COLD_MILLI);
    // Twenty at once every five seconds are four a second.
    let mut at_ms = now_ms;
    for _ in 0..20 {
        at_ms = watched(&mut promise, at_ms, 1, 20, &mut seen);
        at_ms = watched(&mut promise, at_ms, 4, 0, &mut seen);
    }
    assert!(promise.rate_milli().abs_diff(4000) < 400, "{}", promise.rate_milli());
    watched(&mut promise, at_ms, 600, 0, &mut seen);
    assert!(promise.wait_s(1) > 1000, "it hangs: {}", promise.wait_s(1));
}

#[test]
fn an_idle_drain_says_nothing_about_what_it_could_do_and_a_slow_one_does() {
    let mut promise = Promise::new(HOUR_MS);
    let mut seen = DrainSeen { healthy: true, ..DrainSeen::default() };
    for second in 0..1000 {
        seen.left += 1;
        promise.update(second * 1000, &seen);
    }
    assert_eq!(promise.rate_milli(), RATE_COLD_MILLI, "one a second came and left at once");
    // More than was thought possible: that it shows.
    for second in 1000..2000 {
        seen.left += 40;
        promise.update(second * 1000, &seen);
    }
    assert_eq!(promise.rate_milli(), 40_000);
    watched(&mut promise, 2_000_000, 600, 2, &mut seen);
    assert!(promise.rate_milli() < 3_000, "{}", promise.rate_milli());
}

proptest! {
    #[test]
    fn clock_jumps_and_restarted_counters_are_harmless(
        looks in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), any::<bool>()), 0..100),
    ) {
        let mut promise = Promise::new(HOUR_MS);
        for (now_ms, left, backlog, healthy) in looks {
            let ready = backlog;
            promise.update(now_ms, &DrainSeen { left, arrived: [left; CLASSES], backlog: [backlog; CLASSES], ready, healthy });
            let room = promise.room();
            prop_assert!(room.windows(2).all(|pair| pair[0] >= pair[1]), "a better class never has less: {room:?}");
        }
    }

    #[test]
    fn within_a_jump_nothing_is_learned(jump_ms in GAP_MAX_MS + 1..u64::MAX / 4, left in 0_u64..1_000_000) {
        let mut promise = Promise::new(HOUR_MS);
        let mut seen = DrainSeen::default();
        promise.update(0, &seen);
        let now_ms = watched(&mut promise, 0, 100, 50, &mut seen);
        seen.left += left;
        promise.update(now_ms + jump_ms, &seen);
        promise.update(now_ms, &seen);
        prop_assert_eq!(promise.rate_milli(), 50_000);
    }
}
