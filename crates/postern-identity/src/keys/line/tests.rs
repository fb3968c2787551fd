//! Who comes first, and who is not shut out.

use PeerClass::{Known, Proven, Stranger, Vouched};

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct One {
    number: usize,
    unwanted: bool,
}

impl Waiting for One {
    fn is_unwanted(&self) -> bool {
        self.unwanted
    }
}

fn one(number: usize) -> One {
    One { number, unwanted: false }
}

/// As many as get in of a class.
fn fill(line: &mut Line<One>, class: PeerClass) -> usize {
    (0..).take_while(|n| line.push(class, one(*n), |_| {}).is_ok()).count()
}

/// As many as are worked on, by class.
fn open(line: &mut Line<One>) -> [usize; CLASSES] {
    let mut opened = [0; CLASSES];
    while let Some((class, _)) = line.pop() {
        opened[class as usize] += 1;
    }
    opened
}

#[test]
fn the_best_line_comes_first_and_inside_it_who_came_first() {
    let mut line = Line::new();
    for (class, number) in [(Stranger, 1), (Known, 2), (Proven, 3), (Known, 4), (Vouched, 5)] {
        line.push(class, one(number), |_| {}).unwrap();
    }
    let order: Vec<usize> = std::iter::from_fn(|| line.pop()).map(|(_, one)| one.number).collect();
    assert_eq!(order, [2, 4, 5, 3, 1]);
}

#[test]
fn strangers_leave_room_for_the_known_and_are_not_shut_out_by_them() {
    let mut line = Line::new();
    assert_eq!(fill(&mut line, Stranger), limits::KEY_QUEUE_MAX[Stranger as usize]);
    let strangers = open(&mut line)[Stranger as usize];
    assert!(strangers * 2 < limits::KEY_OPEN_MAX, "{strangers}");
    fill(&mut line, Known);
    let known = open(&mut line)[Known as usize];
    assert!(known * 2 > limits::KEY_OPEN_MAX, "{known}");

    let mut line = Line::new();
    fill(&mut line, Known);
    fill(&mut line, Proven);
    assert!(open(&mut line)[Proven as usize] >= limits::KEY_OPEN_OWN[Proven as usize]);
    fill(&mut line, Stranger);
    assert_eq!(open(&mut line)[Stranger as usize], limits::KEY_OPEN_OWN[Stranger as usize]);
    assert!(line.open.iter().sum::<usize>() <= limits::KEY_OPEN_MAX);
    assert_eq!(line.pop(), None);
    line.close(Stranger);
    assert_eq!(line.pop().map(|(class, _)| class), Some(Stranger));
}

#[test]
fn a_full_line_drops_those_that_nobody_waits_for_and_no_others() {
    let mut line = Line::new();
    let gone = One { number: 7, unwanted: true };
    line.push(Stranger, gone, |_| {}).unwrap();
    line.push(Proven, gone, |_| {}).unwrap();
    assert_eq!(fill(&mut line, Stranger), limits::KEY_QUEUE_MAX[Stranger as usize], "its place is another's");
    let mut left = Vec::new();
    assert_eq!(line.push(Stranger, one(1), |one| left.push(one)), Err(one(1)));
    assert_eq!(left, []);
}
