//! Turns without an executor.

use super::*;

#[test]
fn strangers_wait_when_their_time_is_used_up_and_are_called_in_order() {
    let woken = Arc::new(AtomicU64::new(0));
    let turns = Turns::new(Arc::clone(&woken));
    assert!(turns.is_open());
    turns.took(limits::STRANGERS_QUANTUM);
    assert!(!turns.is_open());
    let many = limits::STRANGERS_CALLED + 3;
    (0..many).for_each(|index| turns.wait(index, Class::New));
    woken.fetch_add(1, Relaxed);
    assert!(!turns.is_open(), "whoever waits goes before whoever comes");
    let mut called = Vec::new();
    turns.next(&mut called);
    assert_eq!(called, (0..limits::STRANGERS_CALLED).collect::<Vec<_>>());
    assert!(turns.has_waiting());
    turns.next(&mut called);
    assert_eq!(called.len(), many);
    assert!(!turns.has_waiting());
}

#[test]
fn a_thread_that_slept_begins_a_new_turn() {
    let woken = Arc::new(AtomicU64::new(0));
    let turns = Turns::new(Arc::clone(&woken));
    turns.took(limits::STRANGERS_QUANTUM);
    assert!(!turns.is_open());
    woken.fetch_add(1, Relaxed);
    assert!(turns.is_open());
}

#[test]
fn better_strangers_are_called_first_and_the_last_are_not_forgotten() {
    let turns = Turns::new(Arc::default());
    (0..100).for_each(|index| turns.wait(index, Class::Suspect));
    (100..200).for_each(|index| turns.wait(index, Class::New));
    turns.wait(200, Class::Provider);
    let mut called = Vec::new();
    turns.next(&mut called);
    assert_eq!(called.len(), limits::STRANGERS_CALLED);
    assert_eq!(called[0], 200);
    let suspects = called.iter().filter(|index| **index < 100).count();
    assert_eq!(suspects, limits::STRANGERS_CALLED_LEAST);
}
