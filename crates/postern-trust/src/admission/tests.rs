use proptest::prelude::*;

use super::*;

const MAX: u32 = 1000;

#[test]
fn a_connection_is_admitted_while_there_is_room_and_takes_from_the_worst_when_there_is_none() {
    let check = |class, counts: [u32; CLASSES], expected| {
        assert_eq!(connection(class, &counts, MAX, &Shares::default()), expected, "{class:?} {counts:?}");
    };
    check(Class::New, [0; CLASSES], Entry::Admit);
    // Strangers under a table full of strangers take turns.
    check(Class::New, [0, 0, 0, 950, 0], Entry::Evict(Class::New));
    // A suspect goes before a stranger …
    check(Class::New, [0, 50, 0, 900, 50], Entry::Evict(Class::Suspect));
    // … but not under its own floor of 20.
    check(Class::New, [0, 80, 0, 900, 20], Entry::Evict(Class::New));
    // A suspect never pushes a stranger out who is not above his floor.
    check(Class::Suspect, [300, 380, 0, 300, 20], Entry::Evict(Class::Suspect));
    check(Class::Known, [0, 0, 0, 300, 700], Entry::Evict(Class::Suspect));
    check(Class::Known, [0, 50, 0, 950, 0], Entry::Evict(Class::New));
    // All lower ones at their floors: the known take turns too.
    check(Class::Known, [100, 430, 150, 300, 20], Entry::Evict(Class::Known));
    // Under its floor a stranger gets a slot back even from the known.
    check(Class::New, [0, 900, 0, 100, 0], Entry::Evict(Class::Known));
    // At its ceiling a class changes only its own, though there is room.
    check(Class::Suspect, [0, 0, 0, 0, 700], Entry::Evict(Class::Suspect));
}

#[test]
fn a_door_without_slots_refuses_everybody() {
    for class in Class::ALL {
        assert_eq!(connection(class, &[0; CLASSES], 0, &Shares::default()), Entry::Refuse);
    }
}

#[test]
fn when_nobody_of_the_first_class_can_go_the_next_one_is_named() {
    let shares = Shares::default();
    let counts = [0, 500, 0, 450, 50];
    let order: Vec<Class> = victims(Class::Known, &counts, MAX, &shares).collect();
    assert_eq!(order, [Class::Suspect, Class::New, Class::Known]);
}

/// One step of a random day at a full door.
#[derive(Clone, Copy, Debug)]
enum Step {
    Arrive(Class),
    Leave(Class),
}

fn class() -> impl Strategy<Value = Class> {
    (0..CLASSES).prop_map(|index| Class::ALL[index])
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![6 => class().prop_map(Step::Arrive), 1 => class().prop_map(Step::Leave)]
}

fn shares() -> impl Strategy<Value = Shares> {
    prop::array::uniform5((0_u16..=200, 0_u16..=1000)).prop_map(|parts| {
        let share = |(floor, more): (u16, u16)| crate::shares::Share { floor, ceiling: floor.max(more) };
        let connections = ClassShares::new(parts.map(share));
        Shares { connections: connections.unwrap_or(Shares::default().connections), ..Shares::default() }
    })
}

fn without_floor(shares: &ClassShares, class: Class) -> ClassShares {
    let share =
        |of: Class| crate::shares::Share { floor: if of == class { 0 } else { shares.of(of).floor }, ..shares.of(of) };
    ClassShares::new(Class::ALL.map(share)).unwrap()
}

proptest! {
    #[test]
    fn no_class_ends_below_its_floor_while_it_has_demand(
        steps in prop::collection::vec(step(), 0..2000), max in 0_u32..200, shares in shares(),
    ) {
        let mut counts = [0_u32; CLASSES];
        for step in steps {
            let before = counts;
            match step {
                Step::Leave(class) => counts[class as usize] = counts[class as usize].saturating_sub(1),
                Step::Arrive(class) => {
                    let floor = |of: Class| shares.connections.floor(of, u64::from(max));
                    let entry = connection(class, &counts, max, &shares);
                    match entry {
                        Entry::Admit => counts[class as usize] += 1,
                        Entry::Evict(victim) => {
                            prop_assert!(counts[victim as usize] > 0, "nobody of {victim:?} is there");
                            counts[victim as usize] -= 1;
                            counts[class as usize] += 1;
                        }
                        Entry::Refuse => {}
                    }
                    // Demand below the floor is met, always.
                    if u64::from(before[class as usize]) < floor(class) {
                        prop_assert_eq!(counts[class as usize], before[class as usize] + 1, "{:?}", entry);
                    }
                    // Nobody else is pushed below its own.
                    for other in Class::ALL {
                        let pushed = counts[other as usize] < before[other as usize];
                        prop_assert!(!pushed || u64::from(counts[other as usize]) >= floor(other), "{other:?}");
                    }
                    // The better always get in when any lower class is above its floor.
                    let lower_above = Class::ALL.into_iter().any(|lower| {
                        lower > class && u64::from(before[lower as usize]) > floor(lower)
                    });
                    let at_ceiling =
                        u64::from(before[class as usize]) >= shares.connections.ceiling(class, u64::from(max));
                    if lower_above && !at_ceiling {
                        prop_assert_eq!(counts[class as usize], before[class as usize] + 1, "{:?}", entry);
                    }
                }
            }
            prop_assert!(counts.iter().sum::<u32>() <= max, "{counts:?} of {max}");
        }
    }

    #[test]
    fn what_cannot_be_taken_back_keeps_the_floors_of_those_who_want_them(
        steps in prop::collection::vec((class(), 0_u64..40, any::<bool>()), 0..500), max in 0_u64..500,
    ) {
        let shares = Shares::default().handshakes;
        let mut used = [0_u64; CLASSES];
        for (class, amount, gives_back) in steps {
            if gives_back {
                used[class as usize] = used[class as usize].saturating_sub(amount);
                continue;
            }
            let taken = allot(class, amount, &used, max, &[true; CLASSES], &shares);
            if used[class as usize] + amount <= shares.floor(class, max) {
                prop_assert!(taken, "{class:?} under its floor: {used:?} + {amount} of {max}");
            }
            if taken {
                used[class as usize] += amount;
            }
            prop_assert!(used.iter().sum::<u64>() <= max);
            prop_assert!(used[class as usize] <= shares.ceiling(class, max));
        }
    }

    #[test]
    fn a_better_class_is_never_treated_worse(
        class in class(), level in 0_u8..3, fill in 0_u64..1200, used in 0_u64..1200, greylisted: bool, bad: bool,
        mut room in prop::array::uniform5(0_u64..2), collecting: bool,
    ) {
        room.sort_unstable_by(|one, other| other.cmp(one));
        let level = [Level::Calm, Level::Busy, Level::Red][usize::from(level)];
        let facts = MessageFacts {
            level, bytes: 10, bytes_in_flight: [0, 0, 0, used, 0], bytes_max: 1000, collecting, room,
            spool_used_per_mille: fill, greylisted, bad_recipients: bad,
        };
        let shares = Shares::default();
        // Under its own floor even a suspect gets memory; that is what a floor is.
        let shares = Shares { memory: without_floor(&shares.memory, class), ..shares };
        let takes = |class: Class| message(class, &facts, &shares) == Take::Yes;
        for better in Class::ALL.into_iter().filter(|better| *better < class) {
            prop_assert!(takes(better) || !takes(class), "{better:?} deferred, {class:?} taken: {facts:?}");
        }
    }
}

#[test]
fn without_demand_the_floor_of_others_works_for_whoever_comes() {
    let shares = Shares::default().handshakes;
    let nobody = [false; CLASSES];
    assert!(allot(Class::New, 700, &[0; CLASSES], 1000, &nobody, &shares));
    assert!(!allot(Class::New, 701, &[0; CLASSES], 1000, &nobody, &shares), "its ceiling is 700");
    let mut known = nobody;
    known[Class::Known as usize] = true;
    assert!(!allot(Class::New, 700, &[101, 0, 0, 0, 0], 1000, &known, &shares), "200 are the known ones'");
}

#[test]
fn a_message_is_deferred_for_the_reason_whose_cure_helps() {
    let calm = MessageFacts { bytes: 1, bytes_max: 1000, room: [1; CLASSES], ..MessageFacts::default() };
    let check = |class, facts: MessageFacts, expected| {
        assert_eq!(message(class, &facts, &Shares::default()), expected, "{class:?} {facts:?}");
    };
    for class in Class::ALL {
        check(class, calm, Take::Yes);
        check(class, MessageFacts { spool_used_per_mille: 1000, ..calm }, Take::Defer(Why::Disk));
    }
    // The last part of the spool is for the known.
    let filling = MessageFacts { spool_used_per_mille: 850, ..calm };
    check(Class::New, filling, Take::Defer(Why::Disk));
    check(Class::Known, filling, Take::Yes);
    check(Class::Suspect, MessageFacts { spool_used_per_mille: 600, ..calm }, Take::Defer(Why::Disk));
    // Memory.
    let full = MessageFacts { bytes_in_flight: [150, 0, 0, 850, 0], ..calm };
    check(Class::New, full, Take::Defer(Why::Memory));
    check(Class::Suspect, MessageFacts { level: Level::Red, ..full }, Take::Refuse(Why::Memory));
    check(Class::New, MessageFacts { bytes_in_flight: [0, 0, 0, 729, 0], ..calm }, Take::Yes);
    check(Class::New, MessageFacts { bytes_in_flight: [0, 0, 0, 730, 0], ..calm }, Take::Defer(Why::Memory));
    check(Class::Known, MessageFacts { bytes_in_flight: [0, 0, 0, 800, 0], ..calm }, Take::Yes);
    // The promise bounds what is collected, and nothing else.
    let promised = MessageFacts { room: [5, 5, 5, 5, 0], ..calm };
    check(Class::Suspect, promised, Take::Yes);
    check(Class::Suspect, MessageFacts { collecting: true, ..promised }, Take::Defer(Why::Promise));
    check(Class::New, MessageFacts { collecting: true, ..promised }, Take::Yes);
    // Bad recipients: strangers only.
    let harvest = MessageFacts { bad_recipients: true, ..calm };
    check(Class::Known, harvest, Take::Yes);
    check(Class::Provider, harvest, Take::Yes);
    check(Class::New, harvest, Take::Defer(Why::BadRecipients));
    check(Class::Suspect, MessageFacts { level: Level::Busy, ..harvest }, Take::Refuse(Why::BadRecipients));
    // Greylisting: the suspect, under pressure.
    let grey = MessageFacts { greylisted: true, ..calm };
    check(Class::Suspect, grey, Take::Yes);
    check(Class::Suspect, MessageFacts { level: Level::Busy, ..grey }, Take::Defer(Why::Greylisted));
    check(Class::New, MessageFacts { level: Level::Red, ..grey }, Take::Yes);
}

#[test]
fn a_maximum_that_nobody_counts_bounds_nothing() {
    let facts = MessageFacts { bytes: 1 << 40, bytes_max: 0, ..MessageFacts::default() };
    assert_eq!(message(Class::New, &facts, &Shares::default()), Take::Yes);
}

#[test]
fn in_the_calm_everybody_has_five_minutes_and_under_pressure_nobody_gets_more() {
    let levels = [Level::Calm, Level::Busy, Level::Red];
    for class in Class::ALL {
        assert_eq!(patience(class, Level::Calm).idle_ms, 300_000, "{class:?}: RFC 5321 4.5.3.2");
        for pair in levels.windows(2) {
            let (before, after) = (patience(class, pair[0]), patience(class, pair[1]));
            assert!(after.idle_ms <= before.idle_ms && after.min_bytes_per_s >= before.min_bytes_per_s, "{class:?}");
        }
        let held_back = levels.map(|level| patience(class, level).greet_wait_ms);
        assert!(held_back[2] <= held_back[1], "{class:?}: in the red a slot is worth less time");
        assert!(held_back[0] == 0 || class == Class::Suspect, "{class:?}: a second for nothing");
    }
    for level in levels {
        for pair in Class::ALL.windows(2) {
            let (better, worse) = (patience(pair[0], level), patience(pair[1], level));
            assert!(better.idle_ms >= worse.idle_ms && better.min_bytes_per_s <= worse.min_bytes_per_s, "{pair:?}");
            assert!(better.greet_wait_ms <= worse.greet_wait_ms, "{pair:?}");
        }
    }
}
