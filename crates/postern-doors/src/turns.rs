//! Whose turn it is: strangers share one quantum of a thread's time, the known need no leave.
//!
//! The executor is a queue: with 2,000 ready strangers of 50 µs each, a friend whose command comes
//! now would wait for 100 ms. So strangers' steps are timed, and when they have used up
//! [`crate::limits::STRANGERS_QUANTUM`] of one turn, the others of them wait here, in order, until the
//! executor has been round once more: the sockets were looked at, and whoever is known and ready
//! has had his step. Each class of strangers has a line of its own: shared providers come before
//! the new, suspects last, and none of them never. In the calm nobody ever waits, and it costs two looks at the clock.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use postern_trust::Class;
use tokio::sync::Notify;

use crate::limits;

/// The turns of one thread.
#[derive(Debug)]
pub(crate) struct Turns {
    used: Cell<Duration>,
    /// Raised by the thread's hook whenever it wakes up from sleep: a new turn has begun.
    woken: Arc<AtomicU64>,
    seen: Cell<u64>,
    waiting: RefCell<[VecDeque<usize>; LINES]>,
    pub(crate) bell: Notify,
}

impl Turns {
    pub(crate) fn new(woken: Arc<AtomicU64>) -> Self {
        Self { used: Cell::default(), woken, seen: Cell::new(0), waiting: RefCell::default(), bell: Notify::new() }
    }

    /// Whether a stranger may take a step now.
    pub(crate) fn is_open(&self) -> bool {
        let woken = self.woken.load(Relaxed);
        if self.seen.replace(woken) != woken {
            self.used.set(Duration::ZERO);
        }
        // Whoever waits goes before whoever comes.
        self.used.get() < limits::STRANGERS_QUANTUM && !self.has_waiting()
    }

    /// A stranger's step took so long.
    pub(crate) fn took(&self, time: Duration) {
        self.used.set(self.used.get() + time);
    }

    /// A connection waits for the next turn. It must call this once only until it is called.
    pub(crate) fn wait(&self, index: usize, class: Class) {
        self.waiting.borrow_mut()[line_of(class)].push_back(index);
        self.bell.notify_one();
    }

    /// A new turn: the next few of those who wait.
    pub(crate) fn next(&self, called: &mut Vec<usize>) {
        self.used.set(Duration::ZERO);
        let mut lines = self.waiting.borrow_mut();
        let mut room = limits::STRANGERS_CALLED;
        let mut behind = lines.iter().filter(|line| !line.is_empty()).count();
        for line in lines.iter_mut().filter(|line| !line.is_empty()) {
            behind -= 1;
            let n = line.len().min(room - behind * limits::STRANGERS_CALLED_LEAST);
            room -= n;
            called.extend(line.drain(..n));
        }
    }

    /// Whether somebody waits.
    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting.borrow().iter().any(|line| !line.is_empty())
    }
}

/// Better strangers stand in an earlier line.
fn line_of(class: Class) -> usize {
    match class {
        Class::Pinned | Class::Known | Class::Provider => 0,
        Class::New => 1,
        Class::Suspect => 2,
    }
}

const LINES: usize = 3;
const _: () = assert!(limits::STRANGERS_CALLED_LEAST * LINES <= limits::STRANGERS_CALLED);

#[cfg(test)]
mod tests;
