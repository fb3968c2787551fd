//! The whole server's promise against floods from hundreds of seeds. POSTERN_WORLDS sets how many (thousands by hand),
//! POSTERN_SEED runs one and prints what happens.

use postern_sim::{Faults, FloodProfile, FloodReport, FloodWorld, Mistake};

const CALM: FloodProfile = FloodProfile {
    flood_s: 120,
    hostile: 0,
    connections_max: 200,
    outages: false,
    crashes: false,
    faults: Faults { sync: 0, full: 0 },
    mistake: None,
};
const FLOOD: FloodProfile = FloodProfile { flood_s: 90, hostile: 90, ..CALM };
const OUTAGES: FloodProfile = FloodProfile { outages: true, ..FLOOD };
const CRASHES: FloodProfile = FloodProfile { crashes: true, ..FLOOD };
const DISK: FloodProfile =
    FloodProfile { outages: true, crashes: true, faults: Faults { sync: 400, full: 200 }, ..FLOOD };

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Plays so many parts in a hundred of all worlds.
fn check(part: u64, profile: FloodProfile) -> FloodReport {
    let worlds = number("POSTERN_WORLDS").unwrap_or(WORLDS) * part / 100;
    let seeds = number("POSTERN_SEED").map_or(0..worlds, |seed| seed..seed + 1);
    let mut sum = FloodReport::default();
    for seed in seeds {
        // A small door and a large one, and the ones between.
        let connections_max = [12, 40, 120][(seed % 3) as usize].min(profile.connections_max);
        let report = FloodWorld::new(seed, FloodProfile { connections_max, ..profile }).run();
        assert!(report.faults.is_empty(), "run again with POSTERN_SEED={seed}: {:#?}", report.faults);
        for class in 0..sum.admitted.len() {
            sum.admitted[class] += report.admitted[class];
            sum.refused[class] += report.refused[class];
        }
        sum.promised += report.promised;
        sum.evicted += report.evicted;
        sum.restarts += report.restarts;
        sum.changes += report.changes;
        sum.aside += report.aside;
        sum.quiet_after_ms = sum.quiet_after_ms.max(report.quiet_after_ms);
    }
    println!("{worlds} worlds: {sum:?}");
    // A world in which nothing happens proves nothing.
    assert!(number("POSTERN_SEED").is_some() || sum.promised >= worlds * 10, "only {} were promised", sum.promised);
    sum
}

#[test]
fn in_the_calm_nothing_fails_after_its_250_and_nobody_is_sent_away() {
    let sum = check(10, CALM);
    assert_eq!((sum.evicted, sum.refused), (0, [0; 5]));
}

#[test]
fn a_flood_pushes_no_class_below_its_floor_and_takes_no_place_from_the_known() {
    let sum = check(25, FLOOD);
    assert!(sum.evicted > 0 || number("POSTERN_SEED").is_some());
    assert_eq!((sum.refused[0], sum.refused[1]), (0, 0));
}

#[test]
fn filters_hops_disks_and_clocks_that_fail_in_a_flood_lose_nothing_and_every_wait_ends() {
    let sum = check(25, OUTAGES);
    assert!(sum.changes > 0 || number("POSTERN_SEED").is_some());
}

#[test]
fn restarts_kills_and_power_cuts_in_a_flood_lose_nothing_and_keep_classes_and_modes() {
    let sum = check(20, CRASHES);
    assert!(sum.restarts > 0 || number("POSTERN_SEED").is_some());
}

#[test]
fn everything_at_once_with_failing_syncs_loses_nothing() {
    check(20, DISK);
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in 0..5 {
        let [one, two] = [0, 1].map(|_| FloodWorld::new(seed, DISK).run());
        assert_eq!(one, two);
    }
}

/// Some seed of a few shows it, and the checker says it in these words.
fn is_found(mistake: Mistake, profile: FloodProfile, words: &str) {
    let found = (0..30).any(|seed| {
        let profile = FloodProfile { connections_max: profile.connections_max.min(40), ..profile };
        let report = FloodWorld::new(seed, FloodProfile { mistake: Some(mistake), ..profile }).run();
        report.faults.iter().any(|fault| fault.contains(words))
    });
    assert!(found, "{mistake:?} was not found");
}

#[test]
fn the_checkers_find_what_they_are_there_for() {
    is_found(Mistake::EvictAfterDot, FloodProfile { connections_max: 8, ..OUTAGES }, "between his dot and our reply");
    is_found(Mistake::ForgetJudged, CALM, "unjudged");
    is_found(Mistake::LoseItem, CRASHES, "answered 250 and lost");
    is_found(Mistake::DeliverTwice, CALM, "more copies");
    is_found(Mistake::RefuseKnown, FLOOD, "somebody known was refused");
    is_found(Mistake::RefuseKnown, FLOOD, "refused below its floor");
    is_found(Mistake::StayInStorm, OUTAGES, "a wait did not end");
    is_found(Mistake::ForgetDeadlines, FLOOD, "beyond his deadline");
}

/// Worlds of all tests together.
const WORLDS: u64 = 400;
