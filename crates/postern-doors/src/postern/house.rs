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
#[derive(Debug)]
pub(super) struct House {
    peers_max: usize,
    window_bytes_max: u64,
    inside: RefCell<Inside>,
    stats: Arc<PosternStats>,
}

#[derive(Debug, Default)]
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

/// A place in the house, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    house: Rc<House>,
    org: Box<str>,
}

/// The window of one connection, from its first packet to its last: given back when it is dropped. QUIC takes back
/// nothing that was granted, so neither does this.
#[derive(Debug)]
pub(super) struct Window {
    house: Rc<House>,
    bytes: u64,
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
        *inside.by_org.entry(org.into()).or_default() += 1;
        inside.peers += 1;
        self.stats.open.store(inside.peers as u64, Relaxed);
        Ok(Place { house: Rc::clone(self), org: org.into() })
    }

    /// A window for a connection that begins, and the class whose window it is: its own, or a stranger's when its part
    /// of all windows is used up.
    pub(super) fn window(self: &Rc<Self>, class: PeerClass) -> (Window, PeerClass) {
        let mut window = Window { house: Rc::clone(self), bytes: 0 };
        if window.grow(class) {
            return (window, class);
        }
        window.take(PeerClass::Stranger.limits().window_bytes);
        (window, PeerClass::Stranger)
    }
}

impl Window {
    /// Makes it that of a class. False: there is no room for that, it stays as it is.
    pub(super) fn grow(&mut self, class: PeerClass) -> bool {
        let more = class.limits().window_bytes.saturating_sub(self.bytes);
        let house = &self.house;
        let may_fill = house.window_bytes_max * u64::from(limits::HEADROOM[class as usize]) / 100;
        if more > 0 && house.inside.borrow().window_bytes + more > may_fill {
            return false;
        }
        self.take(more);
        true
    }

    fn take(&mut self, more: u64) {
        self.bytes += more;
        let mut inside = self.house.inside.borrow_mut();
        inside.window_bytes += more;
        self.house.stats.window_bytes.store(inside.window_bytes, Relaxed);
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let mut inside = self.house.inside.borrow_mut();
        inside.window_bytes -= self.bytes;
        self.house.stats.window_bytes.store(inside.window_bytes, Relaxed);
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
        self.house.stats.open.store(inside.peers as u64, Relaxed);
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
    fn a_crowd_of_the_proven_leaves_room_for_the_known() {
        let house = House::new(100, 20 << 20, Arc::default());
        let crowd: Vec<_> =
            (0..100).filter_map(|n| house.enter(&format!("d{n}.example"), PeerClass::Proven).ok()).collect();
        assert_eq!(crowd.len(), 60);
        assert_eq!(house.enter("new.example", PeerClass::Proven).err(), Some(NoRoom::House));
        assert!(house.enter("friend.example", PeerClass::Known).is_ok());
    }

    #[test]
    fn windows_beyond_a_class_s_part_are_those_of_strangers_and_all_come_back() {
        let house = House::new(100, 20 << 20, Arc::default());
        let crowd: Vec<_> = (0..100).map(|_| house.window(PeerClass::Proven)).collect();
        let whole = crowd.iter().filter(|(_, class)| *class == PeerClass::Proven).count();
        assert_eq!(whole, 48, "12 MiB are their part");
        // 52 small ones beside them are 3.25 MiB.
        let (friend, class) = house.window(PeerClass::Known);
        assert_eq!((friend.bytes, class), (4 << 20, PeerClass::Known));
        let (late, class) = house.window(PeerClass::Known);
        assert_eq!((late.bytes, class), (64 << 10, PeerClass::Stranger));
        drop((crowd, late));
        let (mut stranger, _) = house.window(PeerClass::Stranger);
        assert!(stranger.grow(PeerClass::Known));
        assert!(stranger.grow(PeerClass::Proven), "it has that and more");
        assert_eq!(stranger.bytes, 4 << 20);
        drop((friend, stranger));
        assert_eq!(house.inside.borrow().window_bytes, 0);
    }
}
