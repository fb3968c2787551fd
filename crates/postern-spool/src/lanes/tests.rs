use super::*;

#[test]
fn items_are_taken_in_the_order_they_become_due_and_tentative_ones_first() {
    let mut lanes = Lanes::default();
    let lane = Lane::new("a", 0);
    for (id, due) in [(1, 50), (2, 10), (3, 30), (4, 200)] {
        let no = lanes.admit(&lane, ItemId(id), 1);
        lanes.offer(no, ItemId(id), due, 20);
    }
    let no = lanes.admit(&lane, ItemId(5), 1);
    lanes.offer_tentative(no, ItemId(5), 40, 20);
    let taken = |lanes: &mut Lanes, now| lanes.take_due(no, 9, now).into_iter().map(|t| t.0.0).collect::<Vec<_>>();
    assert_eq!(taken(&mut lanes, 20), [2]);
    assert_eq!(taken(&mut lanes, 100), [5, 3, 1]);
    assert_eq!(taken(&mut lanes, 100), []);
    assert_eq!(lanes.stats(100)[0].next_due_unix_ms, Some(200));
}

#[test]
fn a_lane_is_forgotten_when_its_last_item_leaves() {
    let mut lanes = Lanes::default();
    for id in 0..1000 {
        let lane = Lane::new(format!("domain{id}"), 0);
        let no = lanes.admit(&lane, ItemId(id), 7);
        assert_eq!(lanes.name(no), &lane);
        lanes.leave(no, ItemId(id), 7);
    }
    assert_eq!(lanes.lanes.len(), 1);
    assert_eq!(lanes.items(), 0);
}

#[test]
fn becoming_due_is_noticed() {
    let mut lanes = Lanes::default();
    let no = lanes.admit(&Lane::new("a", 0), ItemId(1), 1);
    lanes.offer(no, ItemId(1), 500, 0);
    assert_eq!(lanes.next_due_unix_ms(), Some(500));
    assert!(!lanes.promote(499));
    assert!(lanes.promote(500));
    assert_eq!(lanes.next_due_unix_ms(), None);
}

#[test]
fn a_clock_that_goes_back_by_a_day_makes_nothing_wait_for_a_day() {
    const DAY: u64 = 86_400_000;
    let (mut lanes, before) = (Lanes::default(), 2 * DAY);
    let no = lanes.admit(&Lane::new("a", 0), ItemId(1), 1);
    lanes.offer(no, ItemId(1), before + 5_000, before);
    lanes.admit(&Lane::new("a", 0), ItemId(2), 1);
    lanes.offer_tentative(no, ItemId(2), before, before);
    let now = before - DAY;
    lanes.clock_went_back(DAY, now);
    // One that was on its way comes a moment later, and one is put off by the new clock.
    lanes.admit(&Lane::new("a", 0), ItemId(3), 1);
    assert!(lanes.offer(no, ItemId(3), before + 60_000, now + 10));
    lanes.admit(&Lane::new("a", 0), ItemId(4), 1);
    assert!(!lanes.offer(no, ItemId(4), now + 60_000, now + 10));
    lanes.withdraw_tentative(no, ItemId(2), before);
    lanes.offer_tentative(no, ItemId(2), before, now + 10);
    let taken = |lanes: &mut Lanes, now| lanes.take_due(no, 9, now).into_iter().map(|t| t.0.0).collect::<Vec<_>>();
    assert_eq!(taken(&mut lanes, now + 10), [2, 1, 3]);
    assert_eq!(taken(&mut lanes, now + 60_000), [4]);
}
