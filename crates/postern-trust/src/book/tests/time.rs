//! Decay, and clocks that jump.

use super::*;
use crate::limits::{CLOCK_AWAY_MAX_S, CLOCK_STEP_MAX_S};

fn peopled() -> World {
    let mut world = World::new();
    world.corresponds("192.0.2.1", "ann@friend.example");
    for _ in 0..3 {
        world.tell(Evidence::Abuse { ip: ip("203.0.113.1") });
    }
    assert_eq!((world.class("192.0.2.1"), world.class("203.0.113.1")), (Class::Known, Class::Suspect));
    world
}

#[test]
fn bad_marks_are_forgotten_within_days_and_friends_within_months() {
    let mut world = peopled();
    world.hours(12);
    assert_eq!(world.class("203.0.113.1"), Class::Suspect);
    world.days(1);
    assert_eq!(world.class("203.0.113.1"), Class::New);
    world.days(20);
    assert_eq!(world.class("192.0.2.1"), Class::Known);
    world.days(100);
    assert_eq!(world.class("192.0.2.1"), Class::New, "silent for four months");
}

#[test]
fn a_friend_who_writes_each_month_stays_known_for_years() {
    let mut world = World::new();
    world.corresponds("192.0.2.1", "ann@friend.example");
    for month in 0..36 {
        world.days(30);
        assert_eq!(world.class("192.0.2.1"), Class::Known, "month {month}");
        world.wrote_to("ann@friend.example");
        world.good_mail("192.0.2.1", "ann@friend.example");
    }
}

#[test]
fn a_history_that_falls_silent_must_be_promoted_anew() {
    let mut world = World::with(BookOptions { promotions_a_day: 2, ..small() });
    let day_of_mail = |world: &mut World| {
        world.good_mail("192.0.2.7", "patient.example");
        world.days(1);
    };
    (0..23).for_each(|_| day_of_mail(&mut world));
    assert_eq!(world.class("192.0.2.7"), Class::Known);
    world.days(250);
    assert_eq!(world.class("192.0.2.7"), Class::New);
    day_of_mail(&mut world);
    assert_eq!(world.class("192.0.2.7"), Class::New);
}

#[test]
fn no_jump_of_the_clock_erases_the_book() {
    for jump in [
        i64::from(CLOCK_STEP_MAX_S) * 2,
        365 * 86_400,
        50 * 365 * 86_400,
        -3_600,
        -365 * 86_400,
        -1_700_000_000,
        i64::MAX / 2,
    ] {
        let mut world = peopled();
        world.now_s = world.now_s.saturating_add_signed(jump);
        assert_eq!(world.class("192.0.2.1"), Class::Known, "a reader ahead of the writer, {jump}");
        assert_eq!(world.class("203.0.113.1"), Class::Suspect, "{jump}");
        world.writer.tick(world.now_s);
        assert_eq!(world.class("192.0.2.1"), Class::Known, "{jump}");
        assert_eq!(world.class("203.0.113.1"), Class::Suspect, "{jump}");
    }
}

#[test]
fn after_a_jump_back_time_goes_on() {
    for jump in [-86_400_i64, -400 * 86_400, 400 * 86_400] {
        let mut world = peopled();
        world.now_s = world.now_s.saturating_add_signed(jump);
        world.writer.tick(world.now_s);
        world.days(2);
        assert_eq!(world.class("203.0.113.1"), Class::New, "marks decay after a jump of {jump}");
        world.days(120);
        assert_eq!(world.class("192.0.2.1"), Class::New, "credit decays after a jump of {jump}");
    }
}

#[test]
fn a_clock_that_swings_ages_the_book_by_little() {
    let mut world = peopled();
    for _ in 0..3 {
        world.now_s += 10 * 365 * DAY;
        world.writer.tick(world.now_s);
        world.now_s -= 10 * 365 * DAY;
        world.writer.tick(world.now_s);
    }
    assert_eq!(world.class("192.0.2.1"), Class::Known);
}

#[test]
fn a_restart_ages_the_book_by_the_time_it_was_off() {
    for (off_days, suspect, known) in
        [(0, Class::Suspect, Class::Known), (3, Class::New, Class::Known), (55, Class::New, Class::Known)]
    {
        let world = peopled();
        let bytes = world.book.snapshot();
        let book = Book::restore(small(), &bytes).expect("sound");
        let now_s = world.now_s + off_days * DAY;
        assert_eq!(book.class_of(ip("203.0.113.1"), now_s), suspect, "{off_days} days, before the first tick");
        Writer::new(Arc::clone(&book)).tick(now_s);
        assert_eq!(book.class_of(ip("203.0.113.1"), now_s), suspect, "{off_days} days");
        assert_eq!(book.class_of(ip("192.0.2.1"), now_s), known, "{off_days} days");
    }
}

#[test]
fn a_wrong_clock_at_boot_costs_at_most_sixty_days() {
    let world = peopled();
    let bytes = world.book.snapshot();
    let book = Book::restore(small(), &bytes).expect("sound");
    let mut writer = Writer::new(Arc::clone(&book));
    let before = book.clock.both() >> 32;
    writer.tick(world.now_s + 30 * 365 * DAY);
    assert_eq!((book.clock.both() >> 32) - before, u64::from(CLOCK_AWAY_MAX_S));
    writer.tick(world.now_s);
    writer.tick(world.now_s + 30 * 365 * DAY);
    assert_eq!((book.clock.both() >> 32) - before, u64::from(CLOCK_AWAY_MAX_S + CLOCK_STEP_MAX_S));
    let book = Book::restore(small(), &bytes).expect("sound");
    Writer::new(Arc::clone(&book)).tick(12);
    assert_eq!(book.class_of(ip("192.0.2.1"), 12), Class::Known, "the clock says 1970");
}

#[test]
fn lending_starts_anew_each_day_of_the_book() {
    let mut world = World::new();
    world.corresponds("192.0.2.1", "ann@careless.example");
    for day in 0..2_u32 {
        for bot in 0..100 {
            world.authorised(&format!("10.{day}.0.{bot}"), "careless.example");
        }
        world.days(1);
    }
    let known = |day| (0..100).filter(|bot| world.class(&format!("10.{day}.0.{bot}")) == Class::Known).count();
    assert_eq!((known(0), known(1)), (31, 32));
}
