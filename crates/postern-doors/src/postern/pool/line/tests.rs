//! Turns by weight, who gives way, and a slow line that says the same.

mod slow;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use slow::SlowLine;

fn place(suffix: u64, flow: u64, weight: u8) -> Place {
    Place { suffix, flow, weight }
}

/// Calls so many, each of which comes again at once; how often each flow was called, and in which order.
fn call(line: &mut Line<Place>, calls: usize) -> (BTreeMap<u64, u64>, Vec<u64>) {
    let (mut counts, mut order) = (BTreeMap::new(), Vec::new());
    for _ in 0..calls {
        let place = line.pop().expect("nobody ever leaves");
        *counts.entry(place.flow).or_default() += 1;
        order.push(place.flow);
        line.push(place, place);
    }
    (counts, order)
}

fn weights() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(1..=7_u8, 1..24)
}

proptest! {
    #[test]
    fn flows_are_called_by_their_weights_within_a_turn(weights in weights(), rounds in 1..9_usize) {
        let mut line = Line::new();
        for (flow, weight) in (0..).zip(&weights) {
            // Two each: whoever is called still has one waiting.
            (0..2).for_each(|_| line.push(place(0, flow, *weight), place(0, flow, *weight)));
        }
        let round: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
        let (counts, _) = call(&mut line, round * rounds);
        for (flow, weight) in (0..).zip(&weights) {
            let fair = u64::from(*weight) * rounds as u64;
            let called = counts.get(&flow).copied().unwrap_or(0);
            prop_assert!(called.abs_diff(fair) <= 1, "{weights:?}: {flow} {called} times and not {fair}");
        }
    }

    #[test]
    fn at_any_moment_nobody_is_a_turn_ahead(weights in weights(), calls in 1..400_usize) {
        let mut line = Line::new();
        for (flow, weight) in (0..).zip(&weights) {
            (0..2).for_each(|_| line.push(place(0, flow, *weight), place(0, flow, *weight)));
        }
        let (counts, _) = call(&mut line, calls);
        let served = |flow: usize| counts.get(&(flow as u64)).copied().unwrap_or(0) * TURN / u64::from(weights[flow]);
        for a in 0..weights.len() {
            for b in 0..weights.len() {
                prop_assert!(served(a) <= served(b) + turn(weights[b]) + turn(weights[a]), "{weights:?} {a} {b}");
            }
        }
    }

    /// Also when everybody has only one attempt at a time, and comes back as soon as that was called.
    #[test]
    fn nobody_waits_longer_than_the_weights_of_all_others(weights in weights(), calls in 50..600_usize) {
        let mut line = Line::new();
        for (flow, weight) in (0..).zip(&weights) {
            line.push(place(0, flow, *weight), place(0, flow, *weight));
        }
        let (_, order) = call(&mut line, calls);
        for (flow, own) in (0_u64..).zip(&weights) {
            // Between two of its calls each other is called so often at most, for its weight.
            let others = weights.iter().map(|other| usize::from(*other).div_ceil(usize::from(*own)) + 1);
            let most: usize = others.sum();
            let mut waited = 0;
            for called in &order {
                waited = if *called == flow { 0 } else { waited + 1 };
                prop_assert!(waited <= most, "{weights:?}: {flow} waited for {waited}");
            }
        }
    }

    #[test]
    fn suffixes_are_called_by_the_best_weight_below_each_of_them(
        suffixes in proptest::collection::vec(proptest::collection::vec(1..=7_u8, 1..6), 1..5),
        rounds in 1..9_usize,
    ) {
        let mut line = Line::new();
        for (suffix, weights) in (0..).zip(&suffixes) {
            for (flow, weight) in (0..).zip(weights) {
                let place = place(suffix, suffix * 100 + flow, *weight);
                (0..2).for_each(|_| line.push(place, place));
            }
        }
        let best: Vec<u8> = suffixes.iter().map(|weights| *weights.iter().max().expect("one at least")).collect();
        let round: usize = best.iter().map(|weight| usize::from(*weight)).sum();
        let (counts, _) = call(&mut line, round * rounds);
        for (suffix, best) in (0_u64..).zip(&best) {
            let called: u64 = counts.range(suffix * 100..(suffix + 1) * 100).map(|(_, count)| count).sum();
            prop_assert!(called.abs_diff(u64::from(*best) * rounds as u64) <= 1, "{suffixes:?}: {suffix} {called}");
        }
    }

    #[test]
    fn a_slow_line_that_is_written_from_the_rules_says_the_same(
        steps in proptest::collection::vec((0..3_u8, 0..4_u64, 0..6_u64, 1..=7_u8), 1..400),
        room in 1..30_usize,
    ) {
        let (mut line, mut slow) = (Line::new(), SlowLine::default());
        for (n, (what, suffix, flow, weight)) in steps.into_iter().enumerate() {
            let place = place(suffix, flow, weight);
            if what == 0 {
                prop_assert_eq!(line.pop(), slow.pop());
            } else {
                let full = line.len() >= room;
                let gone = full.then(|| line.make_room(place)).flatten();
                prop_assert_eq!(gone, full.then(|| slow.make_room(place)).flatten());
                if !full || gone.is_some() {
                    line.push(place, n);
                    slow.push(place, n);
                }
            }
            // Whoever waits is called, and nothing is kept of who does not wait.
            prop_assert_eq!(line.len(), slow.len());
            prop_assert!(line.len() <= room);
            let flows: usize = line.suffixes.iter().map(|suffix| suffix.flows.len()).sum();
            prop_assert!(line.suffixes.len() <= flows && flows <= line.len());
        }
        while let Some(item) = slow.pop() {
            prop_assert_eq!(line.pop(), Some(item));
        }
        prop_assert_eq!(line.pop(), None);
    }
}

#[test]
fn leaving_and_coming_again_gains_nothing() {
    let mut line = Line::new();
    // One has five in the line, the other one at a time and is back at once.
    (0..5).for_each(|_| line.push(place(0, 1, 1), 1));
    line.push(place(0, 2, 1), 2);
    let mut order = Vec::new();
    for _ in 0..8 {
        let called = line.pop().expect("two wait");
        order.push(called);
        if called == 2 {
            line.push(place(0, 2, 1), 2);
        }
    }
    assert_eq!(order, [1, 2, 1, 2, 1, 2, 1, 2]);
}

#[test]
fn the_last_attempt_of_a_flow_does_not_go_for_one_of_the_same_weight() {
    let mut line = Line::new();
    (0..10).for_each(|flow| line.push(place(0, flow, 1), flow));
    assert_eq!(line.make_room(place(0, 99, 1)), None);
    assert_eq!(line.len(), 10);
}

#[test]
fn merit_takes_half_of_a_full_line_and_never_more() {
    let mut line = Line::new();
    (0..10).for_each(|flow| line.push(place(0, flow, 1), flow));
    for flow in 100..120 {
        if let Some(gone) = line.make_room(place(0, flow, 6)) {
            assert!(gone < 10, "those with merit do not give way to their like");
            line.push(place(0, flow, 6), flow);
        }
    }
    let waiting: Vec<u64> = std::iter::from_fn(|| line.pop()).collect();
    assert_eq!(waiting.iter().filter(|flow| **flow < 10).count(), 5, "{waiting:?}");
    assert_eq!(waiting[..5], [100, 101, 102, 103, 104], "and is called first");
    assert_eq!(waiting[5..], [0, 1, 2, 3, 4], "who came last went first");
}

#[test]
fn who_has_no_merit_takes_half_of_a_line_that_is_full_of_it() {
    let mut line = Line::new();
    (0..10).for_each(|flow| line.push(place(flow, flow, 6), flow));
    for flow in 100..120 {
        if let Some(gone) = line.make_room(place(0, flow, 1)) {
            assert!(gone < 10, "its like has as much");
            line.push(place(0, flow, 1), flow);
        }
    }
    let waiting: Vec<u64> = std::iter::from_fn(|| line.pop()).collect();
    assert_eq!(waiting.iter().filter(|flow| **flow >= 100).count(), 5, "{waiting:?}");
}

#[test]
fn a_suffix_with_many_gives_way_to_one_with_few_until_they_have_the_same() {
    let mut line = Line::new();
    (0..10).for_each(|flow| line.push(place(1, flow, 1), flow));
    let came: Vec<_> = (100..110)
        .map(|flow| {
            let gone = line.make_room(place(2, flow, 1));
            if gone.is_some() {
                line.push(place(2, flow, 1), flow);
            }
            gone
        })
        .collect();
    assert_eq!(came[..5], [Some(9), Some(8), Some(7), Some(6), Some(5)]);
    assert!(came[5..].iter().all(Option::is_none), "{came:?}");
}

#[test]
fn one_with_a_history_brings_its_suffix_the_next_turn() {
    let mut line = Line::new();
    line.push(place(1, 10, 1), 10);
    line.push(place(1, 11, 1), 11);
    line.push(place(2, 20, 1), 20);
    line.push(place(2, 21, 6), 21);
    let order: Vec<i32> = std::iter::from_fn(|| line.pop()).collect();
    assert_eq!(order, [21, 10, 20, 11]);
}

/// The fullest line that there is: 48 places, ten thousand domains that knock.
#[test]
#[ignore = "a measurement: run it with --release and --nocapture"]
fn what_a_full_line_costs() {
    for suffixes in [1, 24, 1_000] {
        let mut line = Line::new();
        let mut dice = 7_u64;
        let began = std::time::Instant::now();
        for n in 0..KNOCKS {
            dice = dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            let domain = (dice >> 33) % 10_000;
            let place = place(domain % suffixes, domain, 1 + (domain % 7) as u8);
            if line.len() < 48 || line.make_room(place).is_some() {
                line.push(place, n);
            }
            if n % 10 == 0 {
                line.pop();
            }
        }
        let each = began.elapsed() / KNOCKS;
        println!("{suffixes} suffixes: {each:?} a knock");
        assert!(each < std::time::Duration::from_micros(30), "a tenth of a handshake: {each:?}");
    }
}

const KNOCKS: u32 = 200_000;
