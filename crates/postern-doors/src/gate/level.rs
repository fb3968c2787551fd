//! How strict the gate is with strangers, and when that changes. The known never notice.

/// From the calm to the worst; strangers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// No token is needed. Not the default: switching tokens on in the middle of an attack breaks handshakes under way.
    Open,
    /// An address must be proven; within the aggregate budget, first come first served.
    Cookie,
    /// And each prefix waits for its turn.
    Appointments,
    /// And half as many are served: the gate itself is short of time.
    Quiet,
    /// Only the floor: one in a hundred of those served in the calm, and never none.
    Floor,
}

impl Level {
    /// As in a CHALLENGE.
    pub fn number(self) -> u8 {
        self as u8
    }

    fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Open,
            1 => Self::Cookie,
            2 => Self::Appointments,
            3 => Self::Quiet,
            _ => Self::Floor,
        }
    }
}

/// Up after two seconds of too much, down after ten of little (half).
pub(super) struct Ladder {
    level: Level,
    floor: Level,
    high_s: u8,
    low_s: u8,
}

impl Ladder {
    pub(super) fn new(floor: Level) -> Self {
        Self { level: floor, floor, high_s: 0, low_s: 0 }
    }

    pub(super) fn level(&self) -> Level {
        self.level
    }

    /// `share`: strangers who asked to be served in the last second, of those that can be; `cpu` as in [`Load`](super::load::Load). Strangers
    /// alone never bring it above appointments: those are the answer to them.
    pub(super) fn note_second(&mut self, share: f64, cpu: f64) {
        let by_strangers = share > SHARE_HIGH && self.level < Level::Appointments;
        let by_gate = cpu > CPU_HIGH;
        let low = share < SHARE_HIGH / 2.0 && cpu < CPU_HIGH / 2.0;
        // Above appointments only the gate's own time counts.
        let low = low || (self.level > Level::Appointments && cpu < CPU_HIGH / 2.0);
        self.high_s = if by_strangers || by_gate { self.high_s + 1 } else { 0 };
        // At the floor nothing ends the count.
        self.low_s = if low { self.low_s.saturating_add(1) } else { 0 };
        if self.high_s >= HIGH_S {
            self.level = Level::from_number((self.level.number() + 1).min(Level::Floor.number()));
            self.high_s = 0;
        } else if self.low_s >= LOW_S && self.level > self.floor {
            self.level = Level::from_number(self.level.number() - 1);
            self.low_s = 0;
        }
    }
}

const SHARE_HIGH: f64 = 0.9;
const CPU_HIGH: f64 = 0.7;
const HIGH_S: u8 = 2;
const LOW_S: u8 = 10;

#[cfg(test)]
mod tests {
    use super::{Ladder, Level};

    #[test]
    fn it_goes_up_after_two_bad_seconds_and_down_after_ten_good_ones() {
        let mut ladder = Ladder::new(Level::Cookie);
        ladder.note_second(1.0, 0.1);
        ladder.note_second(0.1, 0.1);
        ladder.note_second(1.0, 0.1);
        assert_eq!(ladder.level(), Level::Cookie, "one bad second is no attack");
        ladder.note_second(1.0, 0.1);
        assert_eq!(ladder.level(), Level::Appointments);
        for _ in 0..20 {
            ladder.note_second(5.0, 0.1);
        }
        assert_eq!(ladder.level(), Level::Appointments, "strangers alone bring it no higher");
        (0..4).for_each(|_| ladder.note_second(5.0, 0.9));
        assert_eq!(ladder.level(), Level::Floor);
        (0..9).for_each(|_| ladder.note_second(0.0, 0.0));
        assert_eq!(ladder.level(), Level::Floor);
        (0..91).for_each(|_| ladder.note_second(0.0, 0.0));
        assert_eq!(ladder.level(), Level::Cookie, "never below the floor that was set");
    }

    #[test]
    fn an_hour_of_calm_changes_nothing() {
        let mut ladder = Ladder::new(Level::Cookie);
        (0..3_600).for_each(|_| ladder.note_second(0.0, 0.0));
        (0..2).for_each(|_| ladder.note_second(1.0, 0.0));
        assert_eq!(ladder.level(), Level::Appointments);
        (0..9).for_each(|_| ladder.note_second(0.0, 0.0));
        assert_eq!(ladder.level(), Level::Appointments, "the calm before does not count");
        ladder.note_second(0.0, 0.0);
        assert_eq!(ladder.level(), Level::Cookie);
    }
}
