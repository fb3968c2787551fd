//! The promise: how much may be taken into the spool so that it still leaves within the promised
//! delay.
//!
//! The program's sampler shows it the drain's counters; doors get [`Promise::room`] among the facts
//! of admission. It measures one rate for all mail, because the drain shares its workers among all
//! lanes; the classes differ in who is in front of them.
//!
//! The reasoning: the drain takes the best class first. A message of class k that is taken now leaves
//! after everything of its class and of better ones that lies there, and after what better classes
//! will still bring. So `room(k) = (rate - arrivals of better classes) x delay - backlog(classes up to k)`,
//! and the lowest class is the first to find none. While nothing *can* leave (every filter or next
//! hop down), the rate is not unlearned, since the outage says nothing about it, but the delay runs:
//! what has been promised to those already here is taken from what can be promised to the next.
//!
//! The promise bounds strangers. The pinned and the known are bounded by the disk alone: a
//! next hop that is away for a weekend is what a buffer is for, and their mail leaves first when it is
//! back. And a next hop that answers 4xx for hours leaves some room for strangers too.

use crate::class::{CLASSES, Class};

/// What the drain was seen to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainSeen {
    /// Messages that have left for good since the start.
    pub left: u64,
    /// Messages taken into the spool since the start, by class.
    pub arrived: [u64; CLASSES],
    /// Messages that lie in the spool, by class; not those that an operator holds.
    pub backlog: [u64; CLASSES],
    /// Messages that could leave now.
    pub ready: u64,
    /// Something can leave: not every filter or next hop is down.
    pub healthy: bool,
}

/// How long mail taken in a storm may be under way: a sender's own queue would try again for days,
/// but a person expects mail within the half day.
pub const DELAY_DEFAULT_MS: u64 = 4 * 3_600_000;
/// The rate before anything was measured, per 1,000 seconds: 10 messages a second, a filter of
/// 100 ms with one worker. With four hours that is room for 120,000 messages.
pub const RATE_COLD_MILLI: u64 = 10_000;
/// What strangers are promised at least while a drain is reached and yet nothing leaves (4xx, or it hangs): one
/// message a second, with four hours 14,400. The rate that was measured then says how long nothing left, not how
/// fast mail will leave afterwards; with none, an hour of 4xx would turn every stranger away from an empty disk.
pub const RATE_FLOOR_MILLI: u64 = 1_000;
/// One part in so many of the delay is not promised away: 40 minutes of four hours. An outage of half an hour that comes
/// after a message was taken makes it that much later, and one message in sixteen leaves out of turn. Without it a
/// simulated day at five times the rate took 1 % longer than promised, and with two such outages 15 %.
const RESERVE_PART: u64 = 6;
/// Time constant of the rate: over a minute single slow messages even out, and a filter that got
/// slower shows before the promise is broken.
const RATE_TAU_MS: u64 = 60_000;
/// Time constant of arrivals: floods come in waves of minutes.
const ARRIVAL_TAU_MS: u64 = 600_000;
/// The shortest span that is measured.
const SAMPLE_MS: u64 = 1_000;
/// A longer gap was a jump of the clock or a machine asleep: nothing is concluded from it.
const GAP_MAX_MS: u64 = 60_000;

/// Measured drain rate × promised delay.
#[derive(Clone, Debug)]
pub struct Promise {
    delay_ms: u64,
    /// Messages per 10^6 seconds: a mean over ten minutes of samples of one second needs the digits.
    rate_micro: u64,
    /// How long the rate has been measured; the first samples weigh more.
    measured_ms: u64,
    arrival_micro: [u64; CLASSES],
    backlog: [u64; CLASSES],
    /// How long nothing could leave.
    stalled_ms: u64,
    last: Option<(u64, DrainSeen)>,
}

impl Promise {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(delay_ms: u64) -> Self {
        Self {
            delay_ms,
            rate_micro: RATE_COLD_MILLI * 1000,
            measured_ms: 0,
            arrival_micro: [0; CLASSES],
            backlog: [0; CLASSES],
            stalled_ms: 0,
            last: None,
        }
    }

    /// A new configuration.
    pub fn set_delay_ms(&mut self, delay_ms: u64) {
        self.delay_ms = delay_ms;
    }

    /// A look at the drain, as often as one likes.
    pub fn update(&mut self, now_ms: u64, seen: &DrainSeen) {
        self.backlog = seen.backlog;
        let Some((then_ms, before)) = self.last else {
            self.last = Some((now_ms, *seen));
            return;
        };
        let span_ms = now_ms.saturating_sub(then_ms);
        let counters_restarted = seen.left < before.left;
        if now_ms < then_ms || span_ms > GAP_MAX_MS || counters_restarted {
            self.last = Some((now_ms, *seen));
            return;
        }
        if span_ms < SAMPLE_MS {
            return;
        }
        self.last = Some((now_ms, *seen));
        self.measure_arrivals(span_ms, &before, seen);
        self.measure_rate(span_ms, &before, seen);
    }

    fn measure_arrivals(&mut self, span_ms: u64, before: &DrainSeen, seen: &DrainSeen) {
        for (class, rate) in self.arrival_micro.iter_mut().enumerate() {
            let sample = per_million_s(seen.arrived[class].saturating_sub(before.arrived[class]), span_ms);
            *rate = mean(*rate, sample, span_ms, ARRIVAL_TAU_MS);
        }
    }

    fn measure_rate(&mut self, span_ms: u64, before: &DrainSeen, seen: &DrainSeen) {
        let left = seen.left - before.left;
        if left == 0 && !seen.healthy {
            self.stalled_ms = self.stalled_ms.saturating_add(span_ms);
            return;
        }
        self.stalled_ms = 0;
        let sample = per_million_s(left, span_ms);
        // Without work all the time the sample is how much came, not how much could leave: it can
        // only show that more is possible.
        let had_work = before.ready > 0 && seen.ready > 0;
        // The first message may take its time: before anything has left, nothing is known.
        if left == 0 && self.measured_ms == 0 {
            return;
        }
        if had_work || (sample > self.rate_micro && left > 0) {
            let tau = if self.measured_ms < RATE_TAU_MS { self.measured_ms } else { RATE_TAU_MS };
            self.rate_micro = mean(self.rate_micro, sample, span_ms, tau);
            self.measured_ms = self.measured_ms.saturating_add(span_ms).min(RATE_TAU_MS);
        }
    }

    /// Messages that may still be taken, by class; the pinned and the known as many as the disk takes. Doors read it a moment later: at 10,000 messages a
    /// second and four looks a second that is 2,500 messages too many, 2 % of a cold promise.
    #[must_use]
    pub fn room(&self) -> [u64; CLASSES] {
        let delay_ms = (self.delay_ms - self.delay_ms / RESERVE_PART).saturating_sub(self.stalled_ms);
        let mut rate_micro = self.rate_micro.max(RATE_FLOOR_MILLI * 1000);
        let mut in_front = 0_u64;
        let mut room = [0; CLASSES];
        for (class, room) in room.iter_mut().enumerate() {
            in_front = in_front.saturating_add(self.backlog[class]);
            let leaves = u128::from(rate_micro) * u128::from(delay_ms) / 1_000_000_000;
            let promised = u64::try_from(leaves).unwrap_or(u64::MAX).saturating_sub(in_front);
            *room = if class <= Class::Known as usize { u64::MAX } else { promised };
            rate_micro = rate_micro.saturating_sub(self.arrival_micro[class]);
        }
        room
    }

    /// Messages per 1,000 seconds that can leave.
    #[must_use]
    pub fn rate_milli(&self) -> u64 {
        self.rate_micro / 1000
    }

    /// Whether the rate was measured at all.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        self.measured_ms > 0
    }

    /// How long nothing could leave, in milliseconds.
    #[must_use]
    pub fn stalled_ms(&self) -> u64 {
        self.stalled_ms
    }

    /// Seconds that senders wait for the outcome when so many messages stand in line. 0 while nothing was
    /// measured, for the assumed rate is no reason to stop answering at the outcome, and while nothing
    /// can leave, which is the health of hop and filter and told as such.
    #[must_use]
    pub fn wait_s(&self, in_line: u64) -> u64 {
        if in_line == 0 || !self.is_measured() || self.stalled_ms > 0 {
            return 0;
        }
        self.seconds_for(in_line).unwrap_or(u64::MAX)
    }

    /// Seconds until so many messages have left, rounded up; `None` while nothing leaves.
    #[must_use]
    pub fn seconds_for(&self, messages: u64) -> Option<u64> {
        if messages == 0 {
            return Some(0);
        }
        if self.rate_micro == 0 || self.stalled_ms > 0 {
            return None;
        }
        let seconds = (u128::from(messages) * 1_000_000).div_ceil(u128::from(self.rate_micro));
        Some(u64::try_from(seconds).unwrap_or(u64::MAX))
    }
}

fn per_million_s(count: u64, span_ms: u64) -> u64 {
    count.saturating_mul(1_000_000_000) / span_ms.max(1)
}

/// Exponentially weighted: a sample over the time constant weighs half.
fn mean(old: u64, sample: u64, span_ms: u64, tau_ms: u64) -> u64 {
    let (old, sample, span, tau) = (u128::from(old), u128::from(sample), u128::from(span_ms), u128::from(tau_ms));
    u64::try_from((old * tau + sample * span) / (tau + span).max(1)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
