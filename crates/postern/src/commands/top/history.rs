//! The last two answers, from which rates are made, and the course of what is drawn over minutes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::Value;

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct History {
    now: Option<(Instant, Value)>,
    before: Option<(Instant, Value)>,
    courses: [VecDeque<u64>; Course::ALL.len()],
}

/// A figure that is drawn over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// Connections accepted a second.
    Connections,
    /// Messages taken a second.
    Taken,
    /// Messages that wait to leave.
    Waiting,
}

impl Course {
    pub(super) const ALL: [Self; 3] = [Self::Connections, Self::Taken, Self::Waiting];

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Connections => "connects/s",
            Self::Taken => "messages/s",
            Self::Waiting => "waiting",
        }
    }
}

impl History {
    pub(super) fn add(&mut self, at: Instant, status: Value) {
        // Counters begin anew with a new server: what was before says nothing about it.
        if self.now.as_ref().is_some_and(|(_, now)| now["pid"] != status["pid"]) {
            *self = Self::default();
        }
        self.before = self.now.replace((at, status));
        for course in Course::ALL {
            let value = match course {
                Course::Connections => self.rate(|status| doors(status, "accepted")).map(whole),
                Course::Taken => self.rate(taken).map(whole),
                Course::Waiting => self.status().map(|status| number(&status["weather"]["waiting"])),
            };
            let values = &mut self.courses[course as usize];
            values.extend(value);
            if values.len() > KEPT {
                values.pop_front();
            }
        }
    }

    /// The last answer.
    pub(super) fn status(&self) -> Option<&Value> {
        self.now.as_ref().map(|(_, status)| status)
    }

    /// How fast a counter grows, a second, in thousandths; nothing before there are two answers.
    pub(super) fn rate(&self, count: impl Fn(&Value) -> u64) -> Option<u64> {
        let ((then, before), (at, now)) = (self.before.as_ref()?, self.now.as_ref()?);
        let span = at.saturating_duration_since(*then).max(Duration::from_millis(1));
        let grown = u128::from(count(now).saturating_sub(count(before)));
        u64::try_from(grown * 1_000_000 / span.as_millis()).ok()
    }

    /// Oldest first, one a second.
    pub(super) fn course(&self, course: Course) -> Vec<u64> {
        self.courses[course as usize].iter().copied().collect()
    }
}

/// A counter of all doors together.
pub(super) fn doors(status: &Value, name: &str) -> u64 {
    status["doors"].as_object().into_iter().flatten().map(|(_, door)| number(&door[name])).sum()
}

/// A counter of one class at all doors.
pub(super) fn class(status: &Value, class: &str, name: &str) -> u64 {
    let doors = status["doors"].as_object().into_iter().flatten();
    doors.map(|(_, door)| number(&door["classes"][class][name])).sum()
}

/// Messages answered 250, at the receipt or at the outcome.
pub(super) fn taken(status: &Value) -> u64 {
    doors(status, "queued") + doors(status, "delivered")
}

pub(super) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// Thousandths to ones, rounded.
fn whole(thousandths: u64) -> u64 {
    (thousandths + 500) / 1_000
}

/// Five minutes.
const KEPT: usize = 300;
