//! The rows against the plain way: a list that is searched.

use proptest::prelude::*;

use super::*;

const ALL: [Class; CLASSES] = [Class::Pinned, Class::Known, Class::Provider, Class::New, Class::Suspect];

#[test]
fn whoever_moves_on_goes_to_the_end() {
    let mut ranks = Ranks::default();
    for index in 0..3 {
        ranks.stand(index, Class::New, Instant(index as u64));
    }
    ranks.stand(0, Class::New, Instant(9));
    assert_eq!(ranks.longest_idle(Class::New), Some((1, Instant(1))));
    ranks.leave(1);
    assert_eq!(ranks.longest_idle(Class::New), Some((2, Instant(2))));
    assert!(!ranks.stands(1));
    assert_eq!(ranks.len(Class::New), 2);
}

proptest! {
    #[test]
    fn the_rows_are_what_a_plain_list_would_be(steps in prop::collection::vec((0_usize..12, 0_u8..6), 0..200)) {
        let mut ranks = Ranks::default();
        let mut plain: Vec<(usize, Class, Instant)> = Vec::new();
        for (at, (index, pick)) in steps.into_iter().enumerate() {
            let now = Instant(at as u64);
            plain.retain(|(other, ..)| *other != index);
            match ALL.get(pick as usize) {
                Some(class) => {
                    ranks.stand(index, *class, now);
                    plain.push((index, *class, now));
                }
                None => ranks.leave(index),
            }
            for class in ALL {
                let row: Vec<_> = plain.iter().filter(|(_, of, _)| *of == class).collect();
                prop_assert_eq!(ranks.longest_idle(class), row.first().map(|(index, _, since)| (*index, *since)));
                prop_assert_eq!(ranks.len(class) as usize, row.len());
            }
            for index in 0..12 {
                prop_assert_eq!(ranks.stands(index), plain.iter().any(|(other, ..)| *other == index));
            }
        }
    }
}
