//! The spool's promise against disks from thousands of seeds. POSTERN_SIM_SEEDS sets how many, POSTERN_SEED runs one.

use postern_sim::{Faults, Profile, SpoolWorld};

fn check(share: u64, profile: Profile) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("POSTERN_SEED") {
        SpoolWorld::new(seed, profile).run();
        return;
    }
    let (mut restarts, mut commits) = (0, 0);
    let seeds = number("POSTERN_SIM_SEEDS").unwrap_or(SEEDS) / share;
    for seed in 0..seeds {
        let (more_restarts, more_commits) = SpoolWorld::new(seed, profile).run();
        restarts += more_restarts;
        commits += more_commits;
    }
    // A world in which nothing happens proves nothing.
    assert!(restarts >= seeds && commits >= 5 * seeds, "{restarts} restarts and {commits} commits in {seeds} seeds");
}

#[test]
fn nothing_promised_is_lost_when_the_power_goes_at_any_moment() {
    check(1, Profile { steps: 300, crash: 60, faults: Faults::default() });
}

#[test]
fn nothing_promised_is_lost_when_syncs_fail() {
    check(1, Profile { steps: 300, crash: 150, faults: Faults { sync: 40, full: 0 } });
}

#[test]
fn nothing_promised_is_lost_when_the_disk_is_full_now_and_then() {
    check(1, Profile { steps: 400, crash: 120, faults: Faults { sync: 0, full: 12 } });
}

#[test]
fn everything_is_answered_and_kept_over_a_long_life_with_recycling() {
    check(6, Profile { steps: 1500, crash: 500, faults: Faults::default() });
}

/// Seeds of each test, over fifteen thousand in all; the long ones run a share of them.
const SEEDS: u64 = 5000;
