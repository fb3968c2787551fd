//! The connections of one thread in the order in which they would have to go: by class, and in
//! each class the one that has moved nothing on for the longest time first.
//!
//! Linked lists in one table, so that a step of a connection and the search for a victim cost the
//! same few nanoseconds whether there are ten connections or ten thousand: at 20,000 hostile
//! connects a second a walk over the table for each would be all that the thread does. It decides
//! nothing; `postern_trust::admission` does.

use postern_proto::time::Instant;
use postern_trust::{CLASSES, Class};

/// Who stands where. Connections are known by their index in the table of slots.
#[derive(Debug, Default)]
pub(crate) struct Ranks {
    links: Vec<Link>,
    rows: [Row; CLASSES],
}

#[derive(Clone, Copy, Debug)]
struct Link {
    before: u32,
    behind: u32,
    /// `None`: stands in no row, and cannot be sent away.
    class: Option<Class>,
    since: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    first: u32,
    last: u32,
    len: u32,
}

impl Default for Row {
    fn default() -> Self {
        Self { first: NOBODY, last: NOBODY, len: 0 }
    }
}

impl Ranks {
    /// Puts a connection at the end of its class's row: it has just moved on. Where it stood
    /// before does not matter.
    pub(crate) fn stand(&mut self, index: usize, class: Class, now: Instant) {
        self.leave(index);
        if index >= self.links.len() {
            self.links.resize(index + 1, FREE);
        }
        let index = as_link(index);
        let row = &mut self.rows[class as usize];
        let last = std::mem::replace(&mut row.last, index);
        row.len += 1;
        if last == NOBODY {
            row.first = index;
        } else {
            self.links[last as usize].behind = index;
        }
        self.links[index as usize] = Link { before: last, behind: NOBODY, class: Some(class), since: now };
    }

    /// Takes a connection out: it must not be sent away now, or it is gone.
    pub(crate) fn leave(&mut self, index: usize) {
        let Some(Link { before, behind, class: Some(class), .. }) = self.links.get(index).copied() else { return };
        let row = &mut self.rows[class as usize];
        row.len -= 1;
        match before {
            NOBODY => row.first = behind,
            before => self.links[before as usize].behind = behind,
        }
        match behind {
            NOBODY => self.rows[class as usize].last = before,
            behind => self.links[behind as usize].before = before,
        }
        self.links[index] = FREE;
    }

    /// Whether it stands in a row.
    pub(crate) fn stands(&self, index: usize) -> bool {
        self.links.get(index).is_some_and(|link| link.class.is_some())
    }

    /// Who in this class has moved nothing on for the longest, and since when.
    pub(crate) fn longest_idle(&self, class: Class) -> Option<(usize, Instant)> {
        let first = self.rows[class as usize].first;
        (first != NOBODY).then(|| (first as usize, self.links[first as usize].since))
    }

    /// How many of this class could be sent away.
    pub(crate) fn len(&self, class: Class) -> u32 {
        self.rows[class as usize].len
    }
}

/// No connection: a thread has at most 2^32 - 1 of them, and the process 20,000 descriptors.
const NOBODY: u32 = u32::MAX;
const FREE: Link = Link { before: NOBODY, behind: NOBODY, class: None, since: Instant(0) };

fn as_link(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(NOBODY)
}

#[cfg(test)]
mod tests;
