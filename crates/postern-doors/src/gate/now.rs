//! The time of a decision, told by the caller: the gate has no clock.

/// Both clocks: the wall's for cookies and tickets, the steady one for rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Seconds since 1970.
    pub unix_s: u32,
    /// Milliseconds since some moment.
    pub ms: u64,
}
