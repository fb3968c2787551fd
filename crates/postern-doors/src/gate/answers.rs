//! CHALLENGEs that may be sent in a second, by what was shown for them: who floods with one kind silences nobody of
//! another. A HELLO proves nothing, and its source may be forged; a cookie proves an address, and can be shown again and
//! again before its turn; a ticket proves that its holder was here.

use super::budget::Budget;

/// What a CHALLENGE answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Hello,
    Cookie,
    Ticket,
}

pub(super) struct Answers([Budget; 3]);

impl Answers {
    /// So many HELLOs are answered in a second.
    pub(super) fn new(hellos_per_second: u32) -> Self {
        let hellos = f64::from(hellos_per_second);
        Self([hellos, hellos, hellos / TICKETS_PART].map(Budget::new))
    }

    /// Whether one more may be sent now; it counts as sent.
    pub(super) fn take(&mut self, shown: Shown) -> bool {
        self.0[shown as usize].take()
    }

    /// So much time has passed.
    pub(super) fn refill(&mut self, seconds: f64) {
        self.0.iter_mut().for_each(|budget| budget.refill(seconds));
    }
}

/// 5,000 of the usual 20,000: of known peers a few come from elsewhere, or twice. Of strangers who wait there may be as
/// many as ask. All together are 50,000 of 40 octets, 16 Mbit/s.
const TICKETS_PART: f64 = 4.0;
