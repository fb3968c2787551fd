//! The figures of a day.

use postern_trust::CLASSES;

use super::queues::{Letter, Who};

/// Delays in seconds, one count for each.
#[derive(Clone, Debug, Default)]
pub struct Delays(Vec<u64>);

impl Delays {
    fn add(&mut self, seconds: u64) {
        self.0.push(seconds);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The delay that so many per mille did not exceed.
    pub fn per_mille(&self, part: usize) -> u64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * part / 1000).min(sorted.len().saturating_sub(1));
        sorted.get(at).copied().unwrap_or(0)
    }
}

/// What a day brought.
#[derive(Clone, Debug, Default)]
pub struct DayReport {
    /// Messages by friends, strangers, bots.
    pub sent: [u64; 3],
    /// Attempts, by class.
    pub attempts: [u64; CLASSES],
    /// Taken, by class.
    pub taken: [u64; CLASSES],
    /// 45x, by class.
    pub deferred: [u64; CLASSES],
    /// Answered 250 before they had left.
    pub promised: u64,
    /// Of these: delivered, marked as spam or not.
    pub kept: u64,
    /// Delivered, and only then answered 250.
    pub through: u64,
    /// Legitimate mail that the next hop refuses: all of it ...
    pub doomed: u64,
    /// ... refused in the session ...
    pub refused_in_session: u64,
    /// ... or a dead letter that an operator sees.
    pub dead_letters: u64,
    /// Spam refused in the session.
    pub spam_refused: u64,
    /// From our 250 to the mailbox: friends, strangers, bots.
    pub from_answer: [Delays; 3],
    /// From the first attempt to the mailbox: friends, strangers, bots.
    pub from_attempt: [Delays; 3],
    /// Changes of the mode.
    pub changes: u64,
    /// Seconds in `collect`.
    pub collecting_s: u64,
    /// Messages that lay there at most.
    pub backlog_max: u64,
    /// Seconds after the day until all had left and the mode was `through`.
    pub after_s: u64,
    /// Messages that lie there still.
    pub left_over: u64,
    /// All is as before the storm.
    pub back_to_through: bool,
}

impl DayReport {
    pub(super) fn left(&mut self, letter: &Letter, now_s: u64) {
        let who = letter.who as usize;
        match (letter.told_s, letter.fails, letter.who) {
            (None, true, _) => self.refused_in_session += 1,
            (None, _, Who::Bot) => self.spam_refused += 1,
            (Some(_), true, _) => {
                self.kept += 1;
                self.dead_letters += 1;
            }
            (told, false, _) => {
                if let Some(told_s) = told {
                    self.kept += 1;
                    self.from_answer[who].add(now_s - told_s);
                } else {
                    self.through += 1;
                }
                self.from_attempt[who].add(now_s - letter.first_s);
            }
        }
    }

    /// One line for each kind of sender.
    pub fn lines(&self) -> Vec<String> {
        let names = ["known", "unknown", "hostile"];
        let line = |who: usize| {
            let [answer, attempt] = [&self.from_answer[who], &self.from_attempt[who]];
            let three = |delays: &Delays| [500, 990, 999].map(|part| delays.per_mille(part));
            format!(
                "{:8} sent {:8}, in mailboxes {:8}; from the 250 p50/p99/p999 {:?} s; from the first attempt {:?} s",
                names[who],
                self.sent[who],
                attempt.count(),
                three(answer),
                three(attempt),
            )
        };
        (0..3).map(line).collect()
    }
}
