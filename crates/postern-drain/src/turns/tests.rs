use super::*;

/// Who has a turn in each of the looks at these lanes, 10 ms apart, with a turn every 10 ms.
fn looks(turns: &mut Turns, lanes: &[&str], from_ms: u64, n: u64) -> String {
    let mut out = String::new();
    for look in 0..n {
        let now_ms = from_ms + 10 * look;
        loop {
            for lane in lanes {
                if turns.take_at(&Lane::new(*lane, 0), now_ms, 10) {
                    out.push_str(lane);
                }
            }
            if !turns.end_of_look() {
                break;
            }
        }
    }
    out
}

#[test]
fn each_lane_has_its_turn_and_none_has_two_in_a_round() {
    let mut turns = Turns::default();
    assert_eq!(looks(&mut turns, &["a", "b", "c"], 0, 7), "abcabca");
    assert_eq!(looks(&mut turns, &["a", "z"], 70, 4), "zaza");
    assert_eq!(looks(&mut turns, &["z"], 110, 3), "zzz", "also when it is alone");
    turns.put_off(1000);
    assert_eq!(looks(&mut turns, &["a"], 200, 3), "");
}
