//! Who is in: connections by domain and in all, and the windows that they were granted. Pure bookkeeping of one thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use postern_proto::door::PeerClass;

use super::stats::PosternStats;
use crate::limits;

/// Counts. Bounded by `peers_max`: a domain without a connection is not in it.
pub(super) struct House {
    peers_max: usize,
    window_bytes_max: u64,
    inside: RefCell<Inside>,
    stats: Arc<PosternStats>,
}

#[derive(Default)]
struct Inside {
    by_org: HashMap<Box<str>, u32>,
    peers: usize,
    window_bytes: u64,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// Its domain has as many as its class may have.
    Domain,
    /// The part of all places that its class may fill is filled.
    House,
}

/// A place in the house, and its window; both are given back when it is dropped.
pub(super) struct Place {
    house: Rc<House>,
    org: Box<str>,
    pub(super) window_bytes: u64,
    /// It got a stranger's window, because the others' part is used up.
    pub(super) narrowed: bool,
}

impl House {
    pub(super) fn new(peers_max: usize, window_bytes_max: u64, stats: Arc<PosternStats>) -> Rc<Self> {
        Rc::new(Self { peers_max, window_bytes_max, inside: RefCell::default(), stats })
    }

    /// A place for one more connection of an organisation.
    pub(super) fn enter(self: &Rc<Self>, org: &str, class: PeerClass) -> Result<Place, NoRoom> {
        let mut inside = self.inside.borrow_mut();
        let may_fill = limits::HEADROOM[class as usize] as usize;
        if inside.peers >= self.peers_max * may_fill / 100 {
            return Err(NoRoom::House);
        }
        if inside.by_org.get(org).is_some_and(|&open| open >= class.limits().connections) {
            return Err(NoRoom::Domain);
        }
        let wanted = class.limits().window_bytes;
        let narrowed = inside.window_bytes + wanted > self.window_bytes_max * may_fill as u64 / 100;
        let window_bytes = if narrowed { PeerClass::Stranger.limits().window_bytes } else { wanted };
        *inside.by_org.entry(org.into()).or_default() += 1;
        inside.peers += 1;
        inside.window_bytes += window_bytes;
        self.stats.open.store(inside.peers as u64, Relaxed);
        self.stats.window_bytes.store(inside.window_bytes, Relaxed);
        Ok(Place { house: Rc::clone(self), org: org.into(), window_bytes, narrowed })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.house.inside.borrow_mut();
        if let Some(open) = inside.by_org.get_mut(&self.org) {
            *open -= 1;
            if *open == 0 {
                inside.by_org.remove(&self.org);
            }
        }
        inside.peers -= 1;
        inside.window_bytes -= self.window_bytes;
        self.house.stats.open.store(inside.peers as u64, Relaxed);
        self.house.stats.window_bytes.store(inside.window_bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_has_as_many_connections_as_its_class_and_gives_them_back() {
        let house = House::new(100, 1 << 30, Arc::default());
        let two: Vec<_> = (0..2).map(|_| house.enter("example.org", PeerClass::Proven).ok()).collect();
        assert!(two.iter().all(Option::is_some));
        assert_eq!(house.enter("example.org", PeerClass::Proven).err(), Some(NoRoom::Domain));
        assert!(house.enter("example.com", PeerClass::Proven).is_ok());
        drop(two);
        assert!(house.enter("example.org", PeerClass::Proven).is_ok());
        assert!(house.inside.borrow().by_org.is_empty(), "nothing is kept of who is gone");
    }

    #[test]
    fn a_crowd_of_the_proven_leaves_room_and_memory_for_the_known() {
        let house = House::new(100, 20 << 20, Arc::default());
        let crowd: Vec<_> =
            (0..100).filter_map(|n| house.enter(&format!("d{n}.example"), PeerClass::Proven).ok()).collect();
        assert_eq!(crowd.len(), 60);
        assert_eq!(house.enter("new.example", PeerClass::Proven).err(), Some(NoRoom::House));
        assert!(crowd.last().is_some_and(|place| place.narrowed), "12 MiB of windows were their part");
        let friend = house.enter("friend.example", PeerClass::Known);
        assert_eq!(friend.map(|place| place.window_bytes), Ok(4 << 20));
    }
}
