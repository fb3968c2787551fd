//! What lies there: by class, those whose senders wait before those that were promised.

use std::collections::VecDeque;
use std::net::IpAddr;

use postern_trust::{CLASSES, Class};

use super::figures::DayReport;

/// Who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Friend = 0,
    Stranger = 1,
    Bot = 2,
}

/// One message.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) who: Who,
    pub(super) ip: IpAddr,
    pub(super) domain: String,
    /// The next hop refuses it.
    pub(super) fails: bool,
    /// Its sender tried first.
    pub(super) first_s: u64,
    /// We said 250 before it had left.
    pub(super) told_s: Option<u64>,
    /// Its sender waits until then.
    pub(super) waits_s: u64,
    pub(super) tries: u32,
}

#[derive(Debug, Default)]
pub(super) struct Queues {
    waiting: [VecDeque<Letter>; CLASSES],
    promised: [VecDeque<Letter>; CLASSES],
}

impl Queues {
    pub(super) fn len(&self) -> usize {
        self.waiting() + self.promised.iter().map(VecDeque::len).sum::<usize>()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    pub(super) fn of(&self, class: Class) -> (usize, usize) {
        (self.waiting[class as usize].len(), self.promised[class as usize].len())
    }

    pub(super) fn push(&mut self, class: Class, letter: Letter) {
        let waits = letter.told_s.is_none();
        let queues = if waits { &mut self.waiting } else { &mut self.promised };
        queues[class as usize].push_back(letter);
    }

    pub(super) fn pop(&mut self, class: Class) -> Option<Letter> {
        let class = class as usize;
        self.waiting[class].pop_front().or_else(|| self.promised[class].pop_front())
    }

    /// Senders who have waited for their outcome long enough are answered at the receipt.
    pub(super) fn time_out(&mut self, now_s: u64, report: &mut DayReport) {
        for class in 0..CLASSES {
            while self.waiting[class].front().is_some_and(|letter| letter.waits_s <= now_s) {
                self.promise_first(class, now_s, report);
            }
        }
    }

    /// The filter is away: nobody waits for it.
    pub(super) fn answer_waiting(&mut self, now_s: u64, report: &mut DayReport) {
        for class in 0..CLASSES {
            while !self.waiting[class].is_empty() {
                self.promise_first(class, now_s, report);
            }
        }
    }

    fn promise_first(&mut self, class: usize, now_s: u64, report: &mut DayReport) {
        if let Some(mut letter) = self.waiting[class].pop_front() {
            letter.told_s = Some(now_s);
            report.promised += 1;
            self.promised[class].push_back(letter);
        }
    }

    /// Nobody was promised these.
    pub(super) fn drop_waiting(&mut self) -> Vec<Letter> {
        self.waiting.iter_mut().flat_map(std::mem::take).collect()
    }
}
