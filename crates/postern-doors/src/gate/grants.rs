//! How many tickets an organisation may be given in a day: what it can gather in the thirty days that they live is bounded
//! by this, and by nothing else. Counted in fixed memory, forgotten at midnight (UTC) and by a restart.

use postern_proto::door::PeerClass;
use postern_proto::door::limits::TICKET_EPOCH_S;

use super::tally::Tally;

pub(super) struct Grants {
    given: Tally,
    day: u64,
}

impl Grants {
    pub(super) fn new() -> Self {
        Self { given: Tally::new(GIVEN_BITS), day: 0 }
    }

    /// How many of the tickets that one is to have it gets: all, one when half of the day's are gone, none when all are.
    pub(super) fn grant(&mut self, org: u64, class: PeerClass, wanted: u16, now_s: u32) -> u16 {
        let day = u64::from(now_s) / TICKET_EPOCH_S;
        if day != self.day {
            self.day = day;
            self.given.clear();
        }
        let most = tickets_per_day(class);
        let given = self.given.of(org);
        let wanted = if given >= most / 2 { wanted.min(1) } else { wanted };
        let granted = wanted.min(most.saturating_sub(given));
        self.given.add(org, granted);
        granted
    }

    pub(super) fn bytes(&self) -> usize {
        self.given.bytes()
    }
}

/// For each connection that a class may have at once 64: 128 for the proven, 512 for the known. A ticket connection is
/// given two, then one, so the known may begin 384 by ticket in a day, one each four minutes, and have a purse of eight
/// besides; links in steady use live for hours. More: by cookie, which in the calm is a round trip. In thirty days the known can
/// gather 15,360, fewer than the gate has places for.
const fn tickets_per_day(class: PeerClass) -> u16 {
    64 * class.limits().connections as u16
}

/// 4 × 8,192 counters, 64 KiB: with a thousand organisations a day one in ten thousand is given fewer.
const GIVEN_BITS: u32 = 13;

#[cfg(test)]
mod tests {
    use super::{Grants, PeerClass};

    #[test]
    fn an_organisation_is_given_so_many_tickets_a_day_and_another_one_its_own() {
        let mut grants = Grants::new();
        let mut all =
            |org, class, day: u32| (0..1_000).map(|_| grants.grant(org, class, 4, day * 86_400 + 7)).sum::<u16>();
        assert_eq!(all(1, PeerClass::Proven, 9), 128);
        assert_eq!(all(1 << 40, PeerClass::Known, 9), 512);
        assert_eq!(all(1, PeerClass::Proven, 9), 0);
        assert_eq!(all(1, PeerClass::Proven, 10), 128, "the next day");
    }

    #[test]
    fn when_half_of_the_day_s_tickets_are_gone_one_is_given_for_one() {
        let mut grants = Grants::new();
        let given: Vec<_> = (0..97).map(|_| grants.grant(1, PeerClass::Proven, 2, 7)).collect();
        assert_eq!((given[31], given[32], given[95], given[96]), (2, 1, 1, 0));
    }
}
