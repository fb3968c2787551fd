use super::{SLOTS, Wheel};

#[test]
fn timers_fire_at_their_time_in_order_and_once() {
    let mut wheel = Wheel::new();
    let mut random = fastrand::Rng::with_seed(3);
    let mut expected: Vec<(u64, usize)> = (0..5_000).map(|n| (random.u64(0..3 * SLOTS), n)).collect();
    for (due, n) in &expected {
        wheel.set(*due, *n);
    }
    expected.sort();
    let (mut now, mut found) = (0, Vec::new());
    while found.len() < expected.len() {
        let mut fired = Vec::new();
        let before = now;
        now += random.u64(1..200);
        wheel.advance(now, &mut fired);
        for n in &fired {
            let due = expected.iter().find(|(_, one)| one == n).unwrap().0;
            assert!(due <= now && due + 1 > before, "{due} fired between {before} and {now}");
        }
        found.extend(fired);
        assert!(now < 4 * SLOTS, "{} of {} fired", found.len(), expected.len());
    }
    assert_eq!(wheel.len, 0);
    let order: Vec<usize> = expected.iter().map(|(_, n)| *n).collect();
    assert_eq!(found, order);
}

#[test]
fn quiet_time_ends_at_the_next_timer() {
    let mut wheel = Wheel::new();
    assert_eq!(wheel.quiet_ms(50), 50);
    wheel.set(30, ());
    assert_eq!(wheel.quiet_ms(50), 30);
    wheel.advance(10, &mut Vec::new());
    assert_eq!(wheel.quiet_ms(50), 20);
    wheel.set(3, ());
    let mut fired = Vec::new();
    wheel.advance(11, &mut fired);
    assert_eq!(fired.len(), 1, "what is past fires at once");
}
