//! So many a second.

/// What may be done in a second, and how much of it is left. Filled by whoever has the clock, once a second or so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    per_second: f64,
    left: f64,
}

impl Budget {
    /// Full.
    pub(super) fn new(per_second: f64) -> Self {
        Self { per_second, left: per_second }
    }

    /// Whether one more may be done now; it counts as done.
    #[inline]
    pub(super) fn take(&mut self) -> bool {
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }

    /// So much time has passed. No more than a second's worth is ever kept.
    pub(super) fn refill(&mut self, seconds: f64) {
        self.left = (self.left + seconds * self.per_second).min(self.per_second);
    }
}
