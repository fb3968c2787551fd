//! When to try again: per message (the retry schedule) and per destination (concurrency and
//! back-off), and how fast (rates). Pure: time and randomness come in as arguments.
//!
//! Retry times are wall clock (`*_unix_ms`): they outlive the process. Back-off and rates count
//! from the start of the drain (`now_ms`, monotonic): a clock that jumps must not silence a
//! destination for a day.

use crate::drain::DrainOptions;
use crate::limits::EXPIRE_LOOK_MS;

/// When a message is tried again, and when it has been tried enough.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    first_ms: u64,
    max_ms: u64,
    expire_after_ms: u64,
}

impl Retry {
    /// As configured.
    pub fn new(options: &DrainOptions) -> Self {
        Self {
            first_ms: millis(options.retry_first),
            max_ms: millis(options.retry_max),
            expire_after_ms: millis(options.expire_after),
        }
    }

    /// Whether a message that has been tried since `since_unix_ms` is too old for another attempt.
    pub(crate) fn is_expired(&self, since_unix_ms: u64, now_unix_ms: u64) -> bool {
        now_unix_ms.saturating_sub(since_unix_ms) >= self.expire_after_ms
    }

    /// Whether a message that came at `arrived_unix_ms` is old enough to be looked at while its
    /// destination is away; see [`EXPIRE_LOOK_MS`].
    pub(crate) fn is_to_be_looked_at(&self, arrived_unix_ms: u64, now_unix_ms: u64) -> bool {
        now_unix_ms.saturating_sub(arrived_unix_ms) >= self.expire_after_ms.min(EXPIRE_LOOK_MS)
    }

    /// When to try again after `attempts` attempts (at least one): the first wait, doubled for
    /// each further attempt up to the longest, give or take 20 % so that what failed together
    /// does not come back together. The last attempt is made when the message expires.
    pub(crate) fn next_unix_ms(&self, since_unix_ms: u64, attempts: u32, now_unix_ms: u64, random: u64) -> u64 {
        let wait = jittered(doubled(self.first_ms, attempts, self.max_ms), random);
        let expiry = since_unix_ms.saturating_add(self.expire_after_ms);
        now_unix_ms.saturating_add(wait).min(expiry.max(now_unix_ms.saturating_add(1)))
    }
}

/// Whether a destination may be given another delivery now.
///
/// A failure to reach it closes it for a while that doubles; afterwards one delivery probes, and
/// only its success opens it to all again. Failures of deliveries that were already under way when
/// it closed say nothing new and do not double again.
#[derive(Clone, Debug)]
pub struct Gate {
    concurrency_max: usize,
    first_ms: u64,
    max_ms: u64,
    running: usize,
    failures: u32,
    closed_until_ms: u64,
}

impl Gate {
    /// Open.
    pub fn new(options: &DrainOptions) -> Self {
        Self {
            concurrency_max: options.concurrency_max.max(1),
            first_ms: millis(options.backoff_first),
            max_ms: millis(options.backoff_max),
            running: 0,
            failures: 0,
            closed_until_ms: 0,
        }
    }

    /// A filter's: it is left alone after a failure as a destination is.
    pub(crate) fn of_filter(workers: usize, options: &DrainOptions) -> Self {
        Self { concurrency_max: workers.max(1), ..Self::new(options) }
    }

    /// Deliveries that may start now.
    pub fn free_at(&self, now_ms: u64) -> usize {
        if self.backing_off_at(now_ms).is_some() {
            return 0;
        }
        let most = if self.failures > 0 { 1 } else { self.concurrency_max };
        most.saturating_sub(self.running)
    }

    /// Milliseconds until the next delivery may start, while backing off.
    pub(crate) fn backing_off_at(&self, now_ms: u64) -> Option<u64> {
        (self.failures > 0 && now_ms < self.closed_until_ms).then(|| self.closed_until_ms - now_ms)
    }

    /// The last attempt did not reach it: milliseconds until the next may start, none while it runs.
    pub fn away_at(&self, now_ms: u64) -> Option<u64> {
        (self.failures > 0).then(|| self.backing_off_at(now_ms).unwrap_or(0))
    }

    /// Milliseconds that a waiting sender should not wait for: the destination backs off, or
    /// somebody finds out this moment whether it is back, which takes up to a connect timeout.
    pub fn keeps_waiting_at(&self, now_ms: u64) -> Option<u64> {
        let probing = (self.failures > 0 && self.running > 0).then_some(PROBE_MS);
        self.backing_off_at(now_ms).or(probing)
    }

    /// Milliseconds for which it surely stays closed: while a delivery is under way its answer may open it at any moment.
    pub(crate) fn shut_for_at(&self, now_ms: u64) -> u64 {
        if self.running > 0 { 0 } else { self.backing_off_at(now_ms).unwrap_or(0) }
    }

    pub(crate) fn running(&self) -> usize {
        self.running
    }

    /// Takes a place; false when there is none.
    pub fn try_start_at(&mut self, now_ms: u64) -> bool {
        let free = self.free_at(now_ms) > 0;
        self.running += usize::from(free);
        free
    }

    /// A delivery ended and the destination spoke to us, whatever it said.
    pub fn handle_reached(&mut self) {
        self.running = self.running.saturating_sub(1);
        self.failures = 0;
    }

    /// A delivery ended because the destination could not be reached.
    pub fn handle_unreached_at(&mut self, now_ms: u64, random: u64) {
        self.running = self.running.saturating_sub(1);
        if self.backing_off_at(now_ms).is_none() {
            self.failures = self.failures.saturating_add(1);
            let wait = jittered(doubled(self.first_ms, self.failures, self.max_ms), random).max(1);
            self.closed_until_ms = now_ms.saturating_add(wait);
        }
    }

    /// A delivery ended: the destination is to be left alone for so long, and then asked by one.
    pub(crate) fn handle_wait_at(&mut self, now_ms: u64, wait_ms: u64) {
        self.running = self.running.saturating_sub(1);
        self.failures = self.failures.max(1);
        self.closed_until_ms = self.closed_until_ms.max(now_ms.saturating_add(wait_ms));
    }

    /// Whether nothing would be lost by forgetting it.
    pub(crate) fn is_idle_at(&self, now_ms: u64) -> bool {
        self.running == 0 && self.backing_off_at(now_ms).is_none()
    }

    /// A delivery ended without saying anything about the destination.
    pub fn handle_unknown(&mut self) {
        self.running = self.running.saturating_sub(1);
    }
}

/// At most so many a second, with a burst of a tenth of a second's worth (one at least).
#[derive(Clone, Debug)]
pub(crate) struct Rate {
    per_second: u64,
    /// Thousandths of a message; a millisecond adds `per_second` of them.
    credit: u64,
    at_ms: u64,
}

impl Rate {
    pub(crate) fn new(per_second: u32, now_ms: u64) -> Self {
        Self { per_second: u64::from(per_second), credit: 1000, at_ms: now_ms }
    }

    /// Messages that may leave now.
    pub(crate) fn free_at(&mut self, now_ms: u64) -> usize {
        let elapsed = now_ms.saturating_sub(self.at_ms);
        self.at_ms = self.at_ms.max(now_ms);
        let burst = (self.per_second * 100).max(1000);
        self.credit = self.credit.saturating_add(elapsed.saturating_mul(self.per_second)).min(burst);
        usize::try_from(self.credit / 1000).unwrap_or(usize::MAX)
    }

    pub(crate) fn take(&mut self, n: usize) {
        self.credit = self.credit.saturating_sub(1000 * n as u64);
    }

    /// Milliseconds until one may leave, `None` when none ever may (a rate of zero).
    pub(crate) fn wait_ms(&self) -> Option<u64> {
        let missing = 1000_u64.saturating_sub(self.credit);
        (self.per_second > 0).then(|| missing.div_ceil(self.per_second))
    }
}

/// Points in time, at most so many a second, the first of them at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// `None` is no limit.
    per_second: Option<u32>,
    from_unix_ms: u64,
    given: u64,
}

impl Pace {
    pub(crate) fn new(per_second: Option<u32>, from_unix_ms: u64) -> Self {
        Self { per_second, from_unix_ms, given: 0 }
    }

    /// The next point in time; none at a rate of zero.
    pub(crate) fn next_unix_ms(&self) -> Option<u64> {
        let wait = self.per_second.map_or(Some(0), |rate| (self.given * 1000).checked_div(u64::from(rate)));
        wait.map(|wait| self.from_unix_ms.saturating_add(wait))
    }

    /// Somebody took it.
    pub(crate) fn take(&mut self) {
        self.given += 1;
    }
}

/// How soon an item is looked at again whose sender did not wait for a probe.
const PROBE_MS: u64 = 1000;

/// `first`, doubled for every time after the first, at most `max`.
fn doubled(first: u64, times: u32, max: u64) -> u64 {
    let doublings = times.saturating_sub(1).min(63);
    first.saturating_mul(1 << doublings).min(max)
}

/// 80 % to 120 % of `wait`.
fn jittered(wait: u64, random: u64) -> u64 {
    let fifth = wait / 5;
    wait - fifth + random % (2 * fifth + 1)
}

pub(crate) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
