//! Which lane comes first: the best class, and within it those where a sender waits; but one message in
//! sixteen is of a lower class while there is any, so that every wait ends. Pure.

use postern_spool::LaneStats;
use postern_trust::{CLASSES, Class};

use crate::limits::{FLOOR_EVERY, FLOOR_LANES_MAX, FLOOR_LOOKS_MAX, RELEASED_CLASS};

/// The place of a lane's class, best first. What an operator let go comes with the best; a class that this
/// release does not know comes with the last.
pub(crate) fn rank(class: u8) -> usize {
    match class {
        RELEASED_CLASS => 0,
        other => Class::from_u8(other).map_or(CLASSES - 1, Class::index),
    }
}

/// Sorts lanes for one look at them; `turn` rotates those that are alike.
pub fn sort(lanes: &mut [LaneStats], turn: usize) {
    if !lanes.is_empty() {
        lanes.rotate_left(turn % lanes.len());
    }
    lanes.sort_by_key(|lane| (rank(lane.lane.class), lane.tentative == 0));
}

/// How many of the sorted lanes are of the first one's class.
pub fn same_class(lanes: &[LaneStats]) -> usize {
    let first = lanes.first().map(|lane| rank(lane.lane.class));
    lanes.iter().take_while(|lane| Some(rank(lane.lane.class)) == first).count()
}

/// Whose turn it is when it is not the best one's.
#[derive(Debug, Default)]
pub struct Floor {
    /// Messages that left before others of a lower class which were ready.
    passed_over: u32,
    turn: usize,
}

impl Floor {
    /// `n` messages left while something of a lower class was ready.
    pub fn pass_over(&mut self, n: usize) {
        // No more than two turns are owed: a class that could not leave for an hour is owed no hour.
        self.passed_over = self.passed_over.saturating_add(u32::try_from(n).unwrap_or(u32::MAX)).min(2 * FLOOR_EVERY);
    }

    /// Those of the lower lanes that are to be tried now, the first that gives a message ends it; none when
    /// it is not their turn.
    pub fn lanes(&mut self, lower: &[LaneStats]) -> Vec<usize> {
        if self.passed_over < FLOOR_EVERY || lower.is_empty() {
            return Vec::new();
        }
        self.turn = self.turn.wrapping_add(1);
        let from = self.turn % lower.len();
        let looked_at = (from..lower.len()).chain(0..from).take(FLOOR_LOOKS_MAX);
        looked_at.filter(|at| lower[*at].ready > 0).take(FLOOR_LANES_MAX).collect()
    }

    /// A lower class has had its turn.
    pub fn served(&mut self) {
        self.passed_over = self.passed_over.saturating_sub(FLOOR_EVERY);
    }
}

#[cfg(test)]
mod tests;
