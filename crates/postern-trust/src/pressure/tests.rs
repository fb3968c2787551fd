use proptest::prelude::*;

use super::*;

fn connections(part: u64) -> Readings {
    Readings { connections: part, connections_max: 1000, ..Readings::default() }
}

#[test]
fn each_reading_enters_at_its_high_mark_and_leaves_under_its_low_one_after_a_while() {
    let mut gauge = Gauge::new(Marks::default());
    let mut check = |now_ms, part, level| {
        let pressure = gauge.read_at(now_ms, &connections(part));
        assert_eq!(pressure.level, level, "{part} per mille at {now_ms} ms");
        assert_eq!(pressure.cause.is_some(), level != Level::Calm);
    };
    check(0, 699, Level::Calm);
    check(1, 700, Level::Busy);
    check(2, 900, Level::Red);
    // Between the marks nothing changes, however long.
    check(100_000, 750, Level::Red);
    check(200_000, 749, Level::Red);
    check(201_999, 749, Level::Red);
    // A moment above the low mark begins the wait anew.
    check(201_999, 760, Level::Red);
    check(203_000, 700, Level::Red);
    check(205_000, 700, Level::Busy);
    check(205_001, 100, Level::Busy);
    check(207_001, 100, Level::Calm);
}

#[test]
fn every_reading_can_raise_the_pressure_and_is_named_as_its_cause() {
    let calm = Readings {
        connections_max: 1000,
        bytes_in_flight_max: 1000,
        socket_bytes_max: 1000,
        spool_free: 100_000,
        spool_free_low: 1000,
        spool_bytes_max: 1000,
        spool_items_max: 1000,
        ..Readings::default()
    };
    assert_eq!(Gauge::new(Marks::default()).read_at(0, &calm), Pressure::default());
    let check = |readings: Readings, cause: Cause| {
        let pressure = Gauge::new(Marks::default()).read_at(0, &readings);
        assert_eq!(pressure, Pressure { level: Level::Red, cause: Some(cause) });
    };
    check(Readings { connections: 900, ..calm }, Cause::Connections);
    check(Readings { bytes_in_flight: 800, ..calm }, Cause::BytesInFlight);
    check(Readings { socket_bytes: 900, ..calm }, Cause::SocketMemory);
    check(Readings { loop_lag_ms: 100, ..calm }, Cause::LoopLag);
    check(Readings { commit_ms: 1000, ..calm }, Cause::Commit);
    check(Readings { spool_free: 1250, ..calm }, Cause::SpoolSpace);
    check(Readings { spool_free: 0, ..calm }, Cause::SpoolSpace);
    check(Readings { spool_bytes: 950, ..calm }, Cause::SpoolFill);
    check(Readings { spool_items: 950, ..calm }, Cause::SpoolFill);
    check(Readings { filter_backlog_s: 20, ..calm }, Cause::FilterBacklog);
    check(Readings { drain_backlog_s: 20, ..calm }, Cause::DrainBacklog);
}

#[test]
fn what_was_not_measured_presses_nobody() {
    let unmeasured = Readings { connections: 5, socket_bytes: 7, spool_items: 1, ..Readings::default() };
    assert_eq!(Gauge::default().read_at(0, &unmeasured), Pressure::default());
}

#[test]
fn the_highest_level_counts_and_the_first_cause_of_it_is_named() {
    let both = Readings { connections: 700, connections_max: 1000, drain_backlog_s: 60, ..Readings::default() };
    let pressure = Gauge::default().read_at(0, &both);
    assert_eq!(pressure, Pressure { level: Level::Red, cause: Some(Cause::DrainBacklog) });
}

#[test]
fn marks_out_of_order_are_refused() {
    let check = |mark: Mark, accepted: bool| {
        assert_eq!(Marks::default().with(Cause::LoopLag, mark).is_some(), accepted, "{mark:?}");
    };
    check(Mark { busy: 20, busy_end: 10, red: 100, red_end: 50 }, true);
    check(Mark { busy: 20, busy_end: 20, red: 100, red_end: 50 }, false);
    check(Mark { busy: 200, busy_end: 10, red: 100, red_end: 50 }, false);
    check(Mark { busy: 20, busy_end: 10, red: 100, red_end: 5 }, false);
    assert!(Cause::ALL.into_iter().all(|cause| Marks::default().of(cause).is_ordered()));
}

#[test]
fn the_cell_gives_back_what_was_published() {
    let cell = PressureCell::new();
    assert_eq!(cell.read(), Pressure::default());
    for cause in Cause::ALL {
        for level in [Level::Busy, Level::Red] {
            let pressure = Pressure { level, cause: Some(cause) };
            cell.publish(pressure);
            assert_eq!((cell.read(), cell.level()), (pressure, level));
        }
    }
}

proptest! {
    #[test]
    fn a_clock_that_jumps_neither_panics_nor_keeps_a_level_for_ever(jumps in prop::collection::vec(any::<u64>(), 0..50)) {
        let mut gauge = Gauge::default();
        for now_ms in jumps {
            gauge.read_at(now_ms, &connections(now_ms % 1000));
        }
        let mut level = Level::Red;
        for wait in 0..6 {
            level = gauge.read_at(wait * FALL_AFTER_MS, &connections(0)).level;
        }
        prop_assert_eq!(level, Level::Calm);
    }
}
