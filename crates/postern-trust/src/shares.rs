//! Shares: what each class keeps of what everybody uses, and how much it may take.
//!
//! A *floor* is what a class gets back from others whenever it wants it; a *ceiling* is where it
//! stops although there is room. Between the two, what one class does not use others may. Pure
//! numbers; `admission` acts on them.

use crate::class::{CLASSES, Class};

/// Per mille of one resource, for one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Nobody can push the class under this while it has demand.
    pub floor: u16,
    /// The class does not go above this.
    pub ceiling: u16,
}

const fn share(floor: u16, ceiling: u16) -> Share {
    Share { floor, ceiling }
}

/// The shares of one resource, by class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassShares([Share; CLASSES]);

impl ClassShares {
    /// From the best class to the worst; `None` when floors are more than the whole, or a floor is
    /// above its ceiling, or a ceiling is above the whole.
    #[must_use]
    pub fn new(shares: [Share; CLASSES]) -> Option<Self> {
        let floors: u32 = shares.iter().map(|share| u32::from(share.floor)).sum();
        let ordered = shares.iter().all(|share| share.floor <= share.ceiling && share.ceiling <= 1000);
        (floors <= 1000 && ordered).then_some(Self(shares))
    }

    /// Of one class.
    #[must_use]
    pub fn of(&self, class: Class) -> Share {
        self.0[class as usize]
    }

    /// The floor in units, rounded down so that all floors together fit.
    #[must_use]
    pub fn floor(&self, class: Class, max: u64) -> u64 {
        part(max, self.of(class).floor)
    }

    /// The ceiling in units.
    #[must_use]
    pub fn ceiling(&self, class: Class, max: u64) -> u64 {
        part(max, self.of(class).ceiling)
    }
}

fn part(max: u64, per_mille: u16) -> u64 {
    // In two steps: exact, and no overflow for any maximum.
    let per_mille = u64::from(per_mille);
    max / 1000 * per_mille + max % 1000 * per_mille / 1000
}

/// The shares of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Connections. Evictable, hence floors may be large: the unused part works for others.
    pub connections: ClassShares,
    /// Octets of messages in memory.
    pub memory: ClassShares,
    /// The spool. The ceiling is how full it may be when a message of the class is still taken:
    /// what lies there leaves slowly, so room is kept by fill, not by eviction.
    pub disk: ClassShares,
    /// TLS handshakes at once: about a millisecond of CPU each, from anybody.
    pub handshakes: ClassShares,
    /// Look-ups (DNS) under way.
    pub lookups: ClassShares,
}

impl Default for Shares {
    /// In the order pinned, known, provider, new, suspect; reasons beside each line.
    fn default() -> Self {
        Self {
            // The floors of those we trust are half of the table: 50 friends need 50 slots, a large
            // site's correspondents thousands. New ones keep three tenths, so that a friend never
            // seen before gets in by retrying while everything else is taken. A twentieth stays
            // free of strangers: a known one comes in without an eviction.
            connections: ClassShares([
                share(100, 1000),
                share(300, 1000),
                share(150, 900),
                share(300, 950),
                share(20, 700),
            ]),
            // Cannot be taken back, so floors are kept free, and hence small: strangers alone get seven
            // tenths, and reading from the known goes on when they have them.
            memory: ClassShares([share(50, 1000), share(150, 1000), share(50, 900), share(200, 900), share(20, 500)]),
            // Strangers stop at 85 % of the spool, suspects at 60 %: when space gets short the known
            // are the last to be deferred, and when it returns they are the first to be taken.
            disk: ClassShares([share(50, 1000), share(100, 1000), share(0, 950), share(0, 850), share(0, 600)]),
            // As for memory; but each is over in milliseconds.
            handshakes: ClassShares([
                share(100, 1000),
                share(200, 1000),
                share(50, 900),
                share(200, 700),
                share(0, 300),
            ]),
            // The known need none; what is looked up is who a stranger is. Suspects get little: they
            // have been looked up before.
            lookups: ClassShares([share(50, 1000), share(100, 1000), share(200, 900), share(300, 900), share(0, 300)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_what_new_shares_are_checked_for() {
        let Shares { connections, memory, disk, handshakes, lookups } = Shares::default();
        for shares in [connections, memory, disk, handshakes, lookups] {
            assert_eq!(ClassShares::new(shares.0), Some(shares));
        }
    }

    #[test]
    fn floors_above_the_whole_or_above_their_ceiling_are_refused() {
        let check = |shares: [Share; CLASSES], accepted: bool| assert_eq!(ClassShares::new(shares).is_some(), accepted);
        check([share(200, 1000); CLASSES], true);
        check([share(201, 1000); CLASSES], false);
        check([share(0, 1000), share(0, 1000), share(0, 1000), share(500, 400), share(0, 0)], false);
        check([share(0, 1001); CLASSES], false);
    }

    #[test]
    fn all_floors_together_fit_whatever_the_maximum() {
        let shares = Shares::default().connections;
        for max in [0, 1, 7, 50, 999, 19_000, u64::MAX] {
            let floors: u128 = Class::ALL.iter().map(|class| u128::from(shares.floor(*class, max))).sum();
            assert!(floors <= u128::from(max), "{max}: {floors}");
        }
    }
}
