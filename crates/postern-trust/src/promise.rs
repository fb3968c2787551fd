//! The promise: how much may be taken into the spool so that it leaves within the promised delay.
use crate::class::CLASSES;

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

/// Measured drain rate × promised delay.
#[derive(Clone, Debug)]
pub struct Promise {
    delay_ms: u64,
}

impl Promise {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(delay_ms: u64) -> Self {
        Self { delay_ms }
    }
    /// A look at the drain.
    pub fn update(&mut self, _now_ms: u64, _seen: &DrainSeen) {}
    /// Messages that may still be taken, by class.
    #[must_use]
    pub fn room(&self) -> [u64; CLASSES] {
        [self.delay_ms; CLASSES]
    }
    /// Messages per 1,000 seconds.
    #[must_use]
    pub fn rate_milli(&self) -> u64 {
        0
    }
    /// Seconds until `messages` have left; `None` while nothing leaves.
    #[must_use]
    pub fn seconds_for(&self, _messages: u64) -> Option<u64> {
        None
    }
}
