//! The one timer of a session: every wait has a deadline here, and a reason in `limits`.

use super::SessionLimits;
use crate::limits;
use crate::time::{Duration, Instant};

/// Deadlines of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timer {
    limits: SessionLimits,
    /// When the present wait ends: for a command, a body at the minimum rate, an answer.
    wait: Instant,
    /// When the session ends.
    session: Instant,
}

impl Timer {
    pub(super) fn new(now: Instant, limits: SessionLimits) -> Self {
        Self { limits, wait: now.after(limits.command), session: now.after(limits.session) }
    }

    /// A command has come whole: the next has this long.
    pub(super) fn command(&mut self, now: Instant) {
        self.wait = now.after(self.limits.command);
    }

    /// From now on bodies must come at least so fast.
    pub(super) fn set_body_rate_min(&mut self, bytes_per_second: u64) {
        self.limits.body_bytes_per_second_min = bytes_per_second;
    }

    /// A body begins.
    pub(super) fn body(&mut self, now: Instant) {
        self.wait = now.after(self.limits.body);
    }

    /// Octets of a body came: they buy time at the minimum rate, never more than the whole
    /// allowance ahead. A sender below the rate eats its allowance up and is cut off.
    pub(super) fn body_progress(&mut self, now: Instant, bytes: usize) {
        let micros = (bytes as u64).saturating_mul(1_000_000) / self.limits.body_bytes_per_second_min.max(1);
        let earned = self.wait.after(Duration::from_micros(micros));
        self.wait = earned.min(now.after(self.limits.body));
    }

    /// Chunks of one message share its allowance.
    pub(super) fn is_per_message(&self) -> bool {
        self.limits.body_per_message
    }

    /// A piece of a body is with the spool: where so little time is given to the client, none of it pays for our disk.
    pub(super) fn storing(&mut self, now: Instant) {
        if self.limits.body_per_message {
            self.wait = now.after(limits::RECEIPT_TIMEOUT);
        }
    }

    /// For the outcome of a message.
    pub(super) fn outcome(&mut self, now: Instant) {
        self.wait = now.after(self.limits.outcome);
    }

    /// For an answer.
    pub(super) fn wait(&mut self, now: Instant, duration: Duration) {
        self.wait = now.after(duration);
    }

    /// The earliest deadline; the session's own does not count while an answer is owed.
    pub(super) fn next(&self, listening: bool) -> Instant {
        if listening { self.wait.min(self.session) } else { self.wait }
    }
}
