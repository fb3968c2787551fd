//! Tables of fixed size for facts about many: keyed, so that nobody can aim at a place in them, and without a heap
//! after the start. What each is full of is forgotten oldest first; what that costs stands at each use.

use siphasher::sip::SipHasher13;

/// Entries that a key may be found in: a look reads two cache lines.
pub(super) const WAYS: usize = 8;

/// The secret of all sketches of one gate.
#[derive(Clone, Copy)]
pub(super) struct Hash(SipHasher13);

impl Hash {
    pub(super) fn new(seed: &[u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(seed))
    }

    /// `what` tells the uses apart: two tables never agree on who collides with whom.
    #[inline]
    pub(super) fn of(&self, what: u8, bytes: &[u8]) -> u64 {
        use core::hash::Hasher as _;
        let mut hasher = self.0;
        hasher.write(bytes);
        hasher.write_u8(what);
        hasher.finish()
    }
}

/// Something that is kept under a key.
pub(super) trait Entry: Copy {
    const EMPTY: Self;
    /// Zero for an empty one.
    fn tag(&self) -> u64;
}

/// A set-associative table: a key has [`WAYS`] places.
pub(super) struct Table<E> {
    entries: Box<[E]>,
}

impl<E: Entry> Table<E> {
    /// With `1 << bits` places.
    pub(super) fn new(bits: u32) -> Self {
        assert!(1 << bits >= WAYS, "a table has at least one set");
        Self { entries: vec![E::EMPTY; 1 << bits].into_boxed_slice() }
    }

    /// A key as it is stored: never zero.
    #[inline]
    pub(super) fn tag(key: u64) -> u64 {
        key.max(1)
    }

    fn set(&self, key: u64) -> usize {
        // The high half chooses the set; the whole is compared.
        let sets = self.entries.len() / WAYS;
        (key >> 32) as usize % sets * WAYS
    }

    #[inline]
    pub(super) fn find_mut(&mut self, key: u64) -> Option<&mut E> {
        let at = self.set(key);
        self.entries[at..at + WAYS].iter_mut().find(|entry| entry.tag() == Self::tag(key))
    }

    /// A place for a key that is not there: an empty one, or the one whose `age` is lowest and, of these, the first.
    pub(super) fn place<A: Ord>(&mut self, key: u64, age: impl Fn(&E) -> A) -> &mut E {
        let at = self.set(key);
        let set = &mut self.entries[at..at + WAYS];
        let free = set.iter().position(|entry| entry.tag() == 0);
        let oldest = || (0..WAYS).min_by_key(|&way| age(&set[way])).unwrap_or(0);
        let way = free.unwrap_or_else(oldest);
        &mut set[way]
    }

    /// An empty place, if there is one.
    pub(super) fn free(&mut self, key: u64) -> Option<&mut E> {
        let at = self.set(key);
        self.entries[at..at + WAYS].iter_mut().find(|entry| entry.tag() == 0)
    }

    pub(super) fn clear(&mut self) {
        self.entries.fill(E::EMPTY);
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.entries)
    }
}

/// How many different keys there were: one bit each, and the share of bits that are still zero tells how many
/// (linear counting). Two generations, so that what was just counted is not forgotten at once.
pub(super) struct Counter {
    bits: [Box<[u64]>; 2],
    zeros: [u32; 2],
}

impl Counter {
    /// With `1 << bits` bits; good up to about three times as many keys.
    pub(super) fn new(bits: u32) -> Self {
        let words = || vec![0; (1 << bits) / 64].into_boxed_slice();
        Self { bits: [words(), words()], zeros: [1 << bits; 2] }
    }

    pub(super) fn note(&mut self, key: u64) {
        let all = self.bits[0].len() as u64 * 64;
        let bit = key % all;
        let word = &mut self.bits[0][(bit / 64) as usize];
        let mask = 1 << (bit % 64);
        if *word & mask == 0 {
            *word |= mask;
            self.zeros[0] -= 1;
        }
    }

    pub(super) fn age(&mut self) {
        self.bits.swap(0, 1);
        self.zeros.swap(0, 1);
        self.bits[0].fill(0);
        self.zeros[0] = self.bits[0].len() as u32 * 64;
    }

    /// Of the fuller generation: keys that come again and again are in both.
    pub(super) fn estimate(&self) -> u32 {
        let all = self.bits[0].len() as f64 * 64.0;
        let zeros = f64::from(self.zeros[0].min(self.zeros[1]).max(1));
        (all * (all / zeros).ln()).round() as u32
    }

    pub(super) fn bytes(&self) -> usize {
        self.bits.iter().map(|bits| size_of_val(&**bits)).sum()
    }
}

/// A moment for each key, past or to come: rows of time stamps, of which the earliest counts. A collision in all rows makes
/// a moment look later than it is: with 100,000 keys in 2^17 places a row, about one in seven waits without need, and with 10,000 one in 2,500.
pub(super) struct Moments {
    /// By generation; a stamp is quarters of a second since the generation began, plus one.
    rows: [Box<[u16]>; 2],
    began_ms: [u64; 2],
    places: usize,
}

impl Moments {
    /// With `1 << bits` places in each of the rows.
    pub(super) fn new(bits: u32) -> Self {
        let row = || vec![0; ROWS << bits].into_boxed_slice();
        Self { rows: [row(), row()], began_ms: [0; 2], places: 1 << bits }
    }

    /// Notes the moment `at_ms`, which is at most an hour from now.
    pub(super) fn note(&mut self, key: u64, at_ms: u64, now_ms: u64) {
        if now_ms.saturating_sub(self.began_ms[0]) >= GENERATION_MS {
            self.rows.swap(0, 1);
            self.began_ms.swap(0, 1);
            self.rows[0].fill(0);
            self.began_ms[0] = now_ms;
        }
        let stamp = (at_ms.saturating_sub(self.began_ms[0]) / STAMP_MS + 1).min(u64::from(u16::MAX)) as u16;
        for place in self.places(key) {
            // Never earlier than what is there: that may be another's.
            self.rows[0][place] = self.rows[0][place].max(stamp);
        }
    }

    /// The last moment noted; `None`: none in the last hour at least.
    pub(super) fn of(&self, key: u64) -> Option<u64> {
        let of = |generation: usize| {
            let rows = &self.rows[generation];
            let stamp = self.places(key).map(|place| rows[place]).into_iter().min().filter(|&stamp| stamp > 0)?;
            Some(self.began_ms[generation] + u64::from(stamp - 1) * STAMP_MS)
        };
        // What the older one says may still be to come.
        of(0).max(of(1))
    }

    fn places(&self, key: u64) -> [usize; ROWS] {
        places_of(key, self.places)
    }

    pub(super) fn bytes(&self) -> usize {
        self.rows.iter().map(|rows| size_of_val(&**rows)).sum()
    }
}

/// Where a key is in each of the rows of so many places: two halves of one hash make as many as are wanted (Kirsch and
/// Mitzenmacher 2006).
pub(super) fn places_of<const ROWS: usize>(key: u64, places: usize) -> [usize; ROWS] {
    let (a, b) = (key as u32 as usize, (key >> 32) as usize | 1);
    std::array::from_fn(|row| row * places + a.wrapping_add(row.wrapping_mul(b)) % places)
}

const ROWS: usize = 3;
/// Sixteen bits of quarters are 4.5 hours: a generation, and three hours to come.
pub(super) const STAMP_MS: u64 = 250;
const GENERATION_MS: u64 = 3_600_000;
const _: () = assert!(2 * GENERATION_MS / STAMP_MS < u16::MAX as u64);

#[cfg(test)]
mod tests {
    use super::{Counter, Hash, Moments};

    #[test]
    fn a_counter_is_right_within_a_few_percent_and_forgets_in_two_generations() {
        let hash = Hash::new(&[7; 16]);
        let mut counter = Counter::new(18);
        for n in 0..100_000_u32 {
            counter.note(hash.of(1, &n.to_be_bytes()));
            counter.note(hash.of(1, &n.to_be_bytes()));
        }
        assert!((95_000..105_000).contains(&counter.estimate()), "{}", counter.estimate());
        counter.age();
        assert!((95_000..105_000).contains(&counter.estimate()));
        counter.age();
        assert_eq!(counter.estimate(), 0);
    }

    #[test]
    fn a_moment_that_was_noted_is_found_and_hardly_any_other_is() {
        let hash = Hash::new(&[7; 16]);
        let mut moments = Moments::new(17);
        for n in 0..100_000_u32 {
            moments.note(hash.of(1, &n.to_be_bytes()), 10_000, 10_000);
        }
        assert_eq!(moments.of(hash.of(1, &5_u32.to_be_bytes())), Some(10_000));
        let mistaken = (100_000..110_000_u32).filter(|n| moments.of(hash.of(1, &n.to_be_bytes())).is_some()).count();
        assert!(mistaken < 2_500, "{mistaken} of 10,000");
        moments.note(hash.of(1, b"to come"), 2_000_000, 10_000);
        assert_eq!(moments.of(hash.of(1, b"to come")), Some(2_000_000));
        moments.note(hash.of(1, b"later"), 3_700_000, 3_700_000);
        assert_eq!(moments.of(hash.of(1, &5_u32.to_be_bytes())), Some(10_000), "of the generation before");
    }
}
