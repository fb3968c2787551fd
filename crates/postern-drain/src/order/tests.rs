use postern_spool::Lane;

use super::*;

fn lane(class: u8, ready: usize, tentative: usize) -> LaneStats {
    LaneStats {
        lane: Lane::new("x.example", class),
        ready,
        waiting: 0,
        leased: 0,
        held: 0,
        tentative,
        bytes: 0,
        oldest_unix_ms: None,
        next_due_unix_ms: None,
    }
}

#[test]
fn the_best_class_comes_first_and_within_it_who_waits() {
    let mut lanes =
        [lane(4, 1, 1), lane(1, 1, 0), lane(RELEASED_CLASS, 1, 0), lane(1, 1, 2), lane(3, 1, 0), lane(77, 1, 0)];
    sort(&mut lanes, 3);
    let order: Vec<(u8, usize)> = lanes.iter().map(|lane| (lane.lane.class, lane.tentative)).collect();
    assert_eq!(order, [(RELEASED_CLASS, 0), (1, 2), (1, 0), (3, 0), (4, 1), (77, 0)]);
    assert_eq!((same_class(&lanes), same_class(&lanes[1..]), same_class(&[])), (1, 2, 0));
}

#[test]
fn one_message_in_sixteen_is_of_a_lower_class_and_they_take_turns() {
    let lower = [lane(3, 5, 0), lane(3, 0, 0), lane(4, 5, 0)];
    let (mut floor, mut served) = (Floor::default(), Vec::new());
    for _ in 0..160 {
        floor.pass_over(1);
        if let Some(at) = floor.lanes(&lower).first() {
            served.push(*at);
            floor.served();
        }
    }
    assert_eq!(served.len(), 10);
    assert!([0, 2].iter().all(|at| served.contains(at)) && !served.contains(&1), "{served:?}");
}

#[test]
fn no_more_than_two_turns_are_owed_and_few_lanes_are_looked_at() {
    let lower = vec![lane(3, 0, 0); 5000];
    let mut floor = Floor::default();
    floor.pass_over(1_000_000);
    assert!(floor.lanes(&lower).is_empty());
    let lower = vec![lane(3, 1, 0); 5000];
    for expected in [FLOOR_LANES_MAX, FLOOR_LANES_MAX, 0] {
        assert_eq!(floor.lanes(&lower).len(), expected);
        floor.served();
    }
}
