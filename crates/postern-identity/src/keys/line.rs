//! Questions that wait for the desk, and how many are worked on: by class, best first. Pure, but that a waiting one may
//! turn out to be wanted by nobody any more.
//!
//! Each class has a line of its own, so a flood of strangers fills theirs only. Of the questions worked on at once each class
//! has some places to itself, as of the handshakes, and the rest is shared out as everything is at the postern: strangers with
//! slow domains leave room for those who are better, and are never shut out by them.

use std::collections::VecDeque;

use postern_proto::door::PeerClass;

use crate::limits;

/// One that waits.
pub(super) trait Waiting {
    /// Nobody wants the answer any more.
    fn is_unwanted(&self) -> bool;
}

/// All lines.
pub(super) struct Line<T> {
    waiting: [VecDeque<T>; CLASSES],
    open: [usize; CLASSES],
}

impl<T: Waiting> Line<T> {
    pub(super) fn new() -> Self {
        Self { waiting: Default::default(), open: [0; CLASSES] }
    }

    /// Puts one at the end of its line; gives it back when that is full of questions that somebody waits for. What is dropped
    /// because nobody does is given to `left`.
    pub(super) fn push(&mut self, class: PeerClass, one: T, left: impl FnMut(T)) -> Result<(), T> {
        let line = &mut self.waiting[class as usize];
        if line.len() >= limits::KEY_QUEUE_MAX[class as usize] {
            let (gone, wanted): (VecDeque<T>, VecDeque<T>) = std::mem::take(line).into_iter().partition(T::is_unwanted);
            *line = wanted;
            gone.into_iter().for_each(left);
        }
        if line.len() >= limits::KEY_QUEUE_MAX[class as usize] {
            return Err(one);
        }
        line.push_back(one);
        Ok(())
    }

    /// The first of the best line that may have one more worked on; it counts from now on.
    pub(super) fn pop(&mut self) -> Option<(PeerClass, T)> {
        for class in PeerClass::ALL.into_iter().rev() {
            if self.may_open(class)
                && let Some(one) = self.waiting[class as usize].pop_front()
            {
                self.open[class as usize] += 1;
                return Some((class, one));
            }
        }
        None
    }

    /// One that was worked on is done.
    pub(super) fn close(&mut self, class: PeerClass) {
        self.open[class as usize] -= 1;
    }

    fn may_open(&self, class: PeerClass) -> bool {
        let at = class as usize;
        let own = limits::KEY_OPEN_OWN;
        let shared: usize = self.open.iter().zip(own).map(|(open, own)| open.saturating_sub(own)).sum();
        let room = limits::KEY_OPEN_MAX - own.iter().sum::<usize>();
        self.open[at] < own[at] || shared * 100 < room * limits::KEY_OPEN_HEADROOM[at]
    }
}

const CLASSES: usize = PeerClass::ALL.len();

#[cfg(test)]
mod tests;
