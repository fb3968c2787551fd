use super::*;

fn lane(key: &str) -> Lane {
    Lane::new(key, 0)
}

#[test]
fn a_release_lets_go_what_was_there_and_no_more() {
    let mut releases = Releases::default();
    assert_eq!(releases.add(None, [(lane("a"), 3), (lane("b"), 2), (lane("c"), 0)], None, ItemId(100)), 5);
    assert_eq!((releases.free_at(&lane("a"), 0), releases.free_at(&lane("c"), 0)), (3, 0));
    assert_eq!(releases.newest(&lane("a")), Some(ItemId(100)));
    releases.take(&lane("a"), 3, 0);
    assert_eq!((releases.free_at(&lane("a"), 0), releases.left_in_all()), (0, 2));
    assert_eq!(releases.newest(&lane("a")), None);
    releases.end(&lane("b"));
    assert_eq!(releases.left_in_all(), 0);
}

#[test]
fn a_rate_is_shared_by_the_lanes_of_a_release() {
    let mut releases = Releases::default();
    releases.add(None, [(lane("a"), 50), (lane("b"), 50)], Some(Rate::new(10, 0)), ItemId(0));
    let mut gone = 0;
    for now in 0..=2_000 {
        for key in ["a", "b"] {
            let n = releases.free_at(&lane(key), now);
            releases.take(&lane(key), n, now);
            gone += n;
        }
    }
    assert!((20..=21).contains(&gone), "{gone} in two seconds at ten a second");
    assert!(releases.wait_ms(&lane("a")).is_some_and(|ms| ms <= 100));
}

#[test]
fn a_second_drain_of_a_domain_replaces_the_first() {
    let mut releases = Releases::default();
    releases.add(Some("a".into()), [(lane("a"), 5)], Some(Rate::new(1, 0)), ItemId(0));
    releases.add(Some("a".into()), [(lane("a"), 4)], None, ItemId(1));
    assert_eq!((releases.free_at(&lane("a"), 0), releases.wait_ms(&lane("a"))), (4, Some(0)));
}
