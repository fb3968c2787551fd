//! What DNS said lately: a table of fixed size. Pure.
//!
//! A name has eight places, found with a secret hash, so that nobody can aim at somebody else's entry.
//! When all eight are taken the one that expires first goes: it costs a look-up, never a wrong answer.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::time::Instant;

pub(crate) struct Cache<K, V> {
    places: Box<[Option<Entry<K, V>>]>,
    hash: RandomState,
    taken: usize,
}

struct Entry<K, V> {
    key: K,
    answer: V,
    until: Instant,
}

/// Places that a name can have.
const WAYS: usize = 8;

impl<K: Hash + Eq, V: Clone> Cache<K, V> {
    /// Holds `entries` at most, rounded up to a multiple of eight.
    pub(crate) fn new(entries: usize) -> Self {
        let places = (0..entries.div_ceil(WAYS).max(1) * WAYS).map(|_| None).collect();
        Self { places, hash: RandomState::new(), taken: 0 }
    }

    pub(crate) fn get(&self, key: &K, now: Instant) -> Option<V> {
        let places = &self.places[self.set(key)];
        places.iter().flatten().find(|entry| entry.key == *key && entry.until > now).map(|entry| entry.answer.clone())
    }

    pub(crate) fn put(&mut self, key: K, answer: V, until: Instant, now: Instant) {
        let set = self.set(&key);
        let places = &mut self.places[set];
        let same = places.iter().position(|place| place.as_ref().is_some_and(|entry| entry.key == key));
        let spent = || places.iter().position(|place| place.as_ref().is_none_or(|entry| entry.until <= now));
        let first = || (0..WAYS).min_by_key(|&at| places[at].as_ref().map(|entry| entry.until));
        let Some(at) = same.or_else(spent).or_else(first) else { return };
        let place = &mut places[at];
        self.taken += usize::from(place.is_none());
        *place = Some(Entry { key, answer, until });
    }

    /// Forgets what it had for `key`; its place is free again.
    pub(crate) fn remove(&mut self, key: &K) {
        let set = self.set(key);
        let same = self.places[set].iter_mut().find(|place| place.as_ref().is_some_and(|entry| entry.key == *key));
        if let Some(place) = same {
            *place = None;
            self.taken -= 1;
        }
    }

    /// Entries that hold memory, the expired ones too.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    fn set(&self, key: &K) -> std::ops::Range<usize> {
        let sets = self.places.len() / WAYS;
        let at = usize::try_from(self.hash.hash_one(key) % sets as u64).unwrap_or(0) * WAYS;
        at..at + WAYS
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dns::{Answer, Key, Kind};

    #[test]
    fn the_cache_keeps_its_cap_and_the_entries_that_live_longest() {
        let now = Instant::now();
        let mut cache = Cache::new(64);
        let key = |n: u32| Key::new(Kind::Txt, &format!("n{n}.example"));
        for n in 0..10_000 {
            // The first hundred-odd live longest.
            let ttl = if n < 16 { 9000 } else { 60 + u64::from(n % 7) };
            cache.put(key(n), Answer::Void, now + Duration::from_secs(ttl), now);
            assert!(cache.taken() <= 64);
        }
        assert_eq!(cache.taken(), 64);
        assert!((0..10_000).filter(|&n| cache.get(&key(n), now).is_some()).count() <= 64);
        // No set holds more than eight of the sixteen but by a freak of the hash; most are still there.
        assert!((0..16).filter(|&n| cache.get(&key(n), now).is_some()).count() >= 8);
    }

    #[test]
    fn an_answer_ends_with_its_time_and_is_replaced_by_a_newer_one() {
        let now = Instant::now();
        let later = now + Duration::from_secs(61);
        let mut cache = Cache::new(8);
        let key = Key::new(Kind::A, "a.example");
        cache.put(key.clone(), Answer::Void, now + Duration::from_secs(60), now);
        assert_eq!(cache.get(&key, now), Some(Answer::Void));
        assert_eq!(cache.get(&key, later), None);
        assert_eq!(cache.get(&Key::new(Kind::Aaaa, "a.example"), now), None);
        cache.put(key.clone(), Answer::Failed, later + Duration::from_secs(1), later);
        assert_eq!(cache.get(&key, later), Some(Answer::Failed));
        assert_eq!(cache.taken(), 1);
    }
}
