//! Whose handshake is next: connection attempts that wait, by class, and how many are under way.
//!
//! A handshake costs 0.3 ms of asymmetric cryptography and 36 KiB until its deadline, so both are
//! shared out before either is spent: a class has its share of the time (virtual time, which is
//! deficit round robin for jobs of one size) and places that no other class can take. What nobody
//! wants goes to whoever does. Inside a class each peer domain, or each prefix of those who have
//! none yet, takes its turns ([`line`]). Pure: it is told what came and what ended, and names the
//! next. The listener drives it; what waits in it is `T`.

mod line;

use postern_proto::door::PeerClass;

use crate::limits;
use line::Line;

pub(crate) use line::Place;

/// Classes of peers.
pub(crate) const CLASSES: usize = PeerClass::ALL.len();

/// Attempts that wait, and places of those under way.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    lanes: [Lane<T>; CLASSES],
    /// Virtual time: that of the attempt called last.
    clock: u64,
}

#[derive(Debug)]
struct Lane<T> {
    line: Line<T>,
    under_way: u32,
    /// When, in virtual time, the lane is served next.
    due: u64,
}

impl<T> Pool<T> {
    pub(crate) fn new() -> Self {
        let lane = |_| Lane { line: Line::new(), under_way: 0, due: 0 };
        Self { lanes: std::array::from_fn(lane), clock: 0 }
    }

    /// One more attempt. When the class has no room, the one that has to go is given back: the last
    /// of whoever has most waiting for its weight, which may be this one.
    #[must_use = "who has no room must be told"]
    pub(crate) fn offer(&mut self, class: PeerClass, place: Place, item: T) -> Option<T> {
        let clock = self.clock;
        let lane = &mut self.lanes[class as usize];
        let turned_away = if lane.line.len() >= limits::HANDSHAKES_WAITING[class as usize] {
            match lane.line.make_room(place) {
                Some(other) => Some(other),
                None => return Some(item),
            }
        } else {
            None
        };
        if lane.line.len() == 0 {
            // Idleness earns nothing.
            lane.due = lane.due.max(clock);
        }
        lane.line.push(place, item);
        turned_away
    }

    /// The next attempt that may begin. It is under way from now on, until [`Self::end`].
    pub(crate) fn next(&mut self) -> Option<(PeerClass, T)> {
        let may = |class: &PeerClass| self.lanes[*class as usize].line.len() > 0 && self.has_place(*class);
        // Of two that are due at once the better class.
        let class = PeerClass::ALL.into_iter().rev().filter(may).min_by_key(|class| self.lanes[*class as usize].due)?;
        let lane = &mut self.lanes[class as usize];
        let item = lane.line.pop()?;
        lane.under_way += 1;
        self.clock = lane.due;
        lane.due += STEP / u64::from(limits::HANDSHAKE_SHARES[class as usize]);
        Some((class, item))
    }

    /// An attempt that was called is done, or given up.
    pub(crate) fn end(&mut self, class: PeerClass) {
        let lane = &mut self.lanes[class as usize];
        lane.under_way = lane.under_way.saturating_sub(1);
    }

    /// Attempts under way, by class.
    pub(crate) fn under_way(&self) -> [u32; CLASSES] {
        std::array::from_fn(|class| self.lanes[class].under_way)
    }

    /// Attempts that wait, by class.
    pub(crate) fn waiting(&self) -> [usize; CLASSES] {
        std::array::from_fn(|class| self.lanes[class].line.len())
    }

    /// A class has its own places; beyond them those that are nobody's.
    fn has_place(&self, class: PeerClass) -> bool {
        let lane = |class: usize| self.lanes[class].under_way;
        let borrowed: u32 = (0..CLASSES).map(|class| lane(class).saturating_sub(places_of(class))).sum();
        lane(class as usize) < places_of(class as usize) || borrowed < common_places()
    }
}

/// Half of its share of all places is a class's own.
const fn places_of(class: usize) -> u32 {
    limits::HANDSHAKES_UNDER_WAY * limits::HANDSHAKE_SHARES[class] / 200
}

const fn common_places() -> u32 {
    let mut common = limits::HANDSHAKES_UNDER_WAY;
    let mut class = 0;
    while class < CLASSES {
        common -= places_of(class);
        class += 1;
    }
    common
}

/// Virtual time of a handshake at a share of one.
const STEP: u64 = 1 << 20;

#[cfg(test)]
mod tests;
