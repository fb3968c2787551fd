//! Pressure: what is scarce just now, as one value with its cause.
//!
//! One writer (the program's sampler) gives [`Readings`] to the [`Gauge`] and publishes the result
//! in a [`PressureCell`]; doors read the level there in one load per decision. The gauge decides
//! nothing: `admission` and `weather` do, from the level.
//!
//! Each reading has two pairs of marks. It enters a level at the high mark, at once: a flood takes
//! the last tenth of a table within milliseconds. It leaves only after it has stayed under the
//! lower mark of the pair for [`FALL_AFTER_MS`]: one good moment between two waves ends nothing. The
//! pressure is the highest level of all readings; its cause is the first of them in the order of
//! [`Cause`], which goes from what is lost fastest (slots) to what is lost slowest (promises).

use std::sync::atomic::{AtomicU8, Ordering};

/// What was measured, all at one moment. A maximum of 0 means "not measured": no pressure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// Connections open, over all public doors.
    pub connections: u64,
    /// As many as there may be.
    pub connections_max: u64,
    /// Octets of messages received and not yet given to the spool.
    pub bytes_in_flight: u64,
    /// As many as there may be.
    pub bytes_in_flight_max: u64,
    /// Octets that the kernel holds in TCP socket buffers.
    pub socket_bytes: u64,
    /// Where the kernel begins to drop (the middle of `net.ipv4.tcp_mem`, in octets).
    pub socket_bytes_max: u64,
    /// How long the spool takes from a message handed over to its receipt, in milliseconds.
    pub commit_ms: u64,
    /// Free octets on the spool's disk; with `spool_free_low` 0 it was not measured.
    pub spool_free: u64,
    /// Free space at which the spool refuses.
    pub spool_free_low: u64,
    /// Octets in the spool.
    pub spool_bytes: u64,
    /// As many as there may be.
    pub spool_bytes_max: u64,
    /// Messages in the spool.
    pub spool_items: u64,
    /// As many as there may be.
    pub spool_items_max: u64,
    /// How late timers fire, in milliseconds: work waits for a core.
    pub loop_lag_ms: u64,
    /// How long a message that is ready waits for its filter, in seconds.
    pub filter_backlog_s: u64,
    /// How long the drain needs for what is ready to leave, in seconds.
    pub drain_backlog_s: u64,
}

impl Readings {
    /// The reading that [`Marks`] of this cause are held against: per mille, milliseconds, seconds.
    #[must_use]
    pub fn of(&self, cause: Cause) -> u64 {
        match cause {
            Cause::Connections => per_mille(self.connections, self.connections_max),
            Cause::BytesInFlight => per_mille(self.bytes_in_flight, self.bytes_in_flight_max),
            Cause::SocketMemory => per_mille(self.socket_bytes, self.socket_bytes_max),
            Cause::LoopLag => self.loop_lag_ms,
            Cause::Commit => self.commit_ms,
            // Turned round, so that more is worse for every reading: 1,000 is the spool's own low mark.
            Cause::SpoolSpace if self.spool_free_low == 0 => 0,
            Cause::SpoolSpace => per_mille(self.spool_free_low, self.spool_free.max(1)),
            Cause::SpoolFill => {
                per_mille(self.spool_bytes, self.spool_bytes_max).max(per_mille(self.spool_items, self.spool_items_max))
            }
            Cause::FilterBacklog => self.filter_backlog_s,
            Cause::DrainBacklog => self.drain_backlog_s,
        }
    }

    /// How full the spool is, per mille: of its octets, its items, or the disk's room, whichever is
    /// most. 1,000 is where it refuses.
    #[must_use]
    pub fn spool_used_per_mille(&self) -> u64 {
        self.of(Cause::SpoolFill).max(self.of(Cause::SpoolSpace))
    }
}

fn per_mille(part: u64, whole: u64) -> u64 {
    part.saturating_mul(1000).checked_div(whole).unwrap_or(0)
}

/// How much of what everybody shares is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// There is room for everybody.
    #[default]
    Calm = 0,
    /// Room is going: strangers are asked to hurry.
    Busy = 1,
    /// No room: classes decide, and every domain collects.
    Red = 2,
}

impl Level {
    /// For logs and `status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Busy => "busy",
            Self::Red => "red",
        }
    }
}

/// Which reading the level comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Cause {
    /// Connections.
    Connections = 0,
    /// Message octets in memory.
    BytesInFlight = 1,
    /// The kernel's socket buffers.
    SocketMemory = 2,
    /// Work waits for a core.
    LoopLag = 3,
    /// The disk is slow.
    Commit = 4,
    /// The disk is nearly full.
    SpoolSpace = 5,
    /// The spool is nearly full.
    SpoolFill = 6,
    /// Filters do not keep up.
    FilterBacklog = 7,
    /// The next hops do not keep up.
    DrainBacklog = 8,
}

/// How many causes there are.
pub const CAUSES: usize = 9;

impl Cause {
    /// All, in the order in which they are named.
    pub const ALL: [Self; CAUSES] = [
        Self::Connections,
        Self::BytesInFlight,
        Self::SocketMemory,
        Self::LoopLag,
        Self::Commit,
        Self::SpoolSpace,
        Self::SpoolFill,
        Self::FilterBacklog,
        Self::DrainBacklog,
    ];

    /// For logs and `status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::BytesInFlight => "message memory",
            Self::SocketMemory => "socket memory",
            Self::LoopLag => "processor",
            Self::Commit => "slow disk",
            Self::SpoolSpace => "disk space",
            Self::SpoolFill => "full spool",
            Self::FilterBacklog => "filter backlog",
            Self::DrainBacklog => "drain backlog",
        }
    }
}

/// The pressure at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// How much.
    pub level: Level,
    /// From what; `None` in the calm.
    pub cause: Option<Cause>,
}

/// Where one reading enters a level and where it leaves it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// `Busy` from here …
    pub busy: u64,
    /// … until under this.
    pub busy_end: u64,
    /// `Red` from here …
    pub red: u64,
    /// … until under this.
    pub red_end: u64,
}

impl Mark {
    const fn new(busy_end: u64, busy: u64, red_end: u64, red: u64) -> Self {
        Self { busy, busy_end, red, red_end }
    }

    /// Each level ends under where it began, and red lies above busy.
    #[must_use]
    pub const fn is_ordered(&self) -> bool {
        self.busy_end < self.busy && self.red_end < self.red && self.busy <= self.red && self.busy_end <= self.red_end
    }
}

/// The marks of every reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks([Mark; CAUSES]);

impl Default for Marks {
    /// What each number is for; all are measured in the unit of [`Readings::of`].
    fn default() -> Self {
        Self([
            // Slots, per mille. Red at nine tenths: what is left takes the known while strangers are
            // evicted; 20,000 connects a second fill a tenth of 10,000 slots in 50 ms.
            Mark::new(500, 700, 750, 900),
            // Message memory, per mille. Lower, because one slow burst of 25 MiB messages fills the
            // rest at once.
            Mark::new(350, 500, 650, 800),
            // Socket buffers, per mille of the kernel's own pressure mark; at 1,000 it drops packets of
            // friends too.
            Mark::new(500, 700, 750, 900),
            // Milliseconds late. A friend should be answered within 10 ms: at 20 his line is twice as
            // long; at 100 (2,000 ready strangers on one core) he waits as in a FIFO.
            Mark::new(10, 20, 50, 100),
            // Milliseconds to a receipt. Disks flush in 0.2 to 20 ms; 100 is a disk in trouble, one
            // second stalls a client for longer than a round trip round the world.
            Mark::new(50, 100, 500, 1000),
            // The spool's low mark of free space, per mille of what is free: 250 is four times that
            // mark, 800 is a quarter above it.
            Mark::new(125, 250, 500, 800),
            // Full spool, per mille. Strangers may not fill the last part (`shares`), so red is late.
            Mark::new(600, 750, 850, 950),
            // Seconds. A sender waits 30 s for the outcome: at 10 the line eats a third of that, at 20
            // most of it, and the answer had better not wait for the filter.
            Mark::new(5, 10, 10, 20),
            // Seconds that what is ready needs to leave: as for filters, for every message.
            Mark::new(5, 10, 10, 20),
        ])
    }
}

impl Marks {
    /// Of one reading.
    #[must_use]
    pub fn of(&self, cause: Cause) -> Mark {
        self.0[cause as usize]
    }

    /// With another mark for one reading; `None` when that is not ordered.
    #[must_use]
    pub fn with(mut self, cause: Cause, mark: Mark) -> Option<Self> {
        if !mark.is_ordered() {
            return None;
        }
        self.0[cause as usize] = mark;
        Some(self)
    }
}

/// How long a reading must stay under the lower mark before its level ends: longer than one wave
/// of reconnects (bots come back within the second), shorter than anybody would call slow.
pub const FALL_AFTER_MS: u64 = 2_000;

#[derive(Clone, Copy, Debug, Default)]
struct Needle {
    level: Level,
    /// Since when the reading has been under the lower mark; `None` while it is not.
    low_since_ms: Option<u64>,
}

/// Turns readings into pressure.
#[derive(Clone, Debug, Default)]
pub struct Gauge {
    marks: Marks,
    needles: [Needle; CAUSES],
}

impl Gauge {
    /// Begins in the calm.
    #[must_use]
    pub fn new(marks: Marks) -> Self {
        Self { marks, needles: [Needle::default(); CAUSES] }
    }

    /// One set of readings; a clock that jumps only begins a wait anew.
    pub fn read_at(&mut self, now_ms: u64, readings: &Readings) -> Pressure {
        let mut pressure = Pressure::default();
        for cause in Cause::ALL {
            let mark = self.marks.of(cause);
            let needle = &mut self.needles[cause as usize];
            needle.turn(now_ms, readings.of(cause), mark);
            if needle.level > pressure.level {
                pressure = Pressure { level: needle.level, cause: Some(cause) };
            }
        }
        pressure
    }

    /// What each reading alone would give, for `status`.
    pub fn levels(&self) -> impl Iterator<Item = (Cause, Level)> + '_ {
        Cause::ALL.into_iter().map(|cause| (cause, self.needles[cause as usize].level))
    }
}

impl Needle {
    fn turn(&mut self, now_ms: u64, value: u64, mark: Mark) {
        let risen = if value >= mark.red {
            Level::Red
        } else if value >= mark.busy {
            Level::Busy
        } else {
            Level::Calm
        };
        if risen >= self.level {
            self.low_since_ms = None;
            self.level = risen;
            return;
        }
        let end = if self.level == Level::Red { mark.red_end } else { mark.busy_end };
        if value >= end {
            self.low_since_ms = None;
            return;
        }
        // A clock that went back begins the wait anew.
        let since = *self.low_since_ms.get_or_insert(now_ms);
        if since > now_ms {
            self.low_since_ms = Some(now_ms);
        } else if now_ms - since >= FALL_AFTER_MS {
            // One level at a time: the next has its own wait.
            self.level = if self.level == Level::Red { Level::Busy } else { Level::Calm };
            self.low_since_ms = None;
        }
    }
}

/// The pressure as doors read it: one octet, one writer.
#[derive(Debug, Default)]
pub struct PressureCell(AtomicU8);

impl PressureCell {
    /// In the calm.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU8::new(0))
    }

    /// By the one writer.
    pub fn publish(&self, pressure: Pressure) {
        let cause = pressure.cause.map_or(0, |cause| cause as u8 + 1);
        self.0.store(pressure.level as u8 | cause << 2, Ordering::Relaxed);
    }

    /// By anybody; one load.
    pub fn level(&self) -> Level {
        self.read().level
    }

    /// With the cause.
    pub fn read(&self) -> Pressure {
        let packed = self.0.load(Ordering::Relaxed);
        let level = match packed & 3 {
            0 => Level::Calm,
            1 => Level::Busy,
            _ => Level::Red,
        };
        let cause = (packed >> 2).checked_sub(1).and_then(|index| Cause::ALL.get(usize::from(index)).copied());
        Pressure { level, cause }
    }
}

#[cfg(test)]
mod tests;
