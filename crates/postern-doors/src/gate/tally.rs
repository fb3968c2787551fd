//! How often each of many did something, in fixed memory: rows of counters, of which the lowest counts (count-min). A
//! collision in all rows makes a count look higher than it is, never lower; only the rows that are lowest are raised.

use super::sketch::places_of;

pub(super) struct Tally {
    rows: Box<[u16]>,
    places: usize,
}

impl Tally {
    /// With `1 << bits` counters in each row.
    pub(super) fn new(bits: u32) -> Self {
        Self { rows: vec![0; ROWS << bits].into_boxed_slice(), places: 1 << bits }
    }

    pub(super) fn of(&self, key: u64) -> u16 {
        places_of::<ROWS>(key, self.places).map(|place| self.rows[place]).into_iter().min().unwrap_or(0)
    }

    pub(super) fn add(&mut self, key: u64, more: u16) {
        let sum = self.of(key).saturating_add(more);
        for place in places_of::<ROWS>(key, self.places) {
            self.rows[place] = self.rows[place].max(sum);
        }
    }

    pub(super) fn clear(&mut self) {
        self.rows.fill(0);
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.rows)
    }
}

const ROWS: usize = 4;

#[cfg(test)]
mod tests {
    use super::super::sketch::Hash;
    use super::Tally;

    #[test]
    fn a_count_is_never_too_low_and_hardly_ever_too_high() {
        let hash = Hash::new(&[7; 16]);
        let mut tally = Tally::new(11);
        for n in 0..1_000_u32 {
            (0..=n % 5).for_each(|_| tally.add(hash.of(1, &n.to_be_bytes()), 50));
        }
        let wrong = (0..1_000_u32)
            .filter(|n| {
                let (counted, true_count) = (tally.of(hash.of(1, &n.to_be_bytes())), (n % 5 + 1) as u16 * 50);
                assert!(counted >= true_count);
                counted > true_count
            })
            .count();
        assert!(wrong < 20, "{wrong} of 1,000");
        tally.clear();
        assert_eq!(tally.of(hash.of(1, &7_u32.to_be_bytes())), 0);
    }
}
