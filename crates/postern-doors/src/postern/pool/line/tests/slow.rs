//! The rules of the line once more, one attempt after the other and without any table: what each says of itself is worked out
//! from the list of all whenever it is needed.

use std::collections::BTreeMap;

use super::{Place, TURN};

/// One flat list, in the order of arrival.
#[derive(Default)]
pub(super) struct SlowLine {
    waiting: Vec<(Place, usize)>,
    clock: u64,
    /// By suffix, while it has somebody: when it is due, and its clock.
    suffixes: BTreeMap<u64, (u64, u64)>,
    /// By suffix and flow, likewise: when it is due, and the weight that it has shown.
    flows: BTreeMap<(u64, u64), (u64, u8)>,
    /// When each of them appeared.
    appeared: BTreeMap<(u64, Option<u64>), usize>,
    pushed: usize,
}

impl SlowLine {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn push(&mut self, place: Place, item: usize) {
        let Place { suffix, flow, weight } = place;
        self.pushed += 1;
        self.appeared.entry((suffix, None)).or_insert(self.pushed);
        self.appeared.entry((suffix, Some(flow))).or_insert(self.pushed);
        let at_best = self.clock + TURN / u64::from(weight);
        let (due, clock) = self.suffixes.entry(suffix).or_insert((at_best, 0));
        *due = at_best.min(*due);
        let at_best = *clock + TURN / u64::from(weight);
        let (due, shown) = self.flows.entry((suffix, flow)).or_insert((at_best, weight));
        if weight > *shown {
            *due = at_best.min(*due);
            *shown = weight;
        }
        self.waiting.push((place, item));
    }

    pub(super) fn pop(&mut self) -> Option<usize> {
        let turn = |(place, _): &(Place, usize)| {
            let Place { suffix, flow, .. } = *place;
            let by_suffix = (self.suffixes[&suffix].0, self.appeared[&(suffix, None)]);
            (by_suffix, self.flows[&(suffix, flow)].0, self.appeared[&(suffix, Some(flow))])
        };
        let at = (0..self.waiting.len()).min_by_key(|at| turn(&self.waiting[*at]))?;
        let Place { suffix, flow, .. } = self.waiting[at].0;
        let (due, shown) = self.flows[&(suffix, flow)];
        self.clock = self.suffixes[&suffix].0;
        let item = self.take(at);
        if let Some((_, weight)) = self.flows.get(&(suffix, flow)).copied() {
            self.flows.insert((suffix, flow), (due + TURN / u64::from(shown), weight));
        }
        if self.suffixes.contains_key(&suffix) {
            let next = self.clock + TURN / u64::from(self.weight_of(suffix, 1));
            self.suffixes.insert(suffix, (next, due));
        }
        Some(item)
    }

    pub(super) fn make_room(&mut self, new: Place) -> Option<usize> {
        let below = |suffix: u64| self.waiting.iter().filter(|(place, _)| place.suffix == suffix).count();
        let of = |suffix: u64, flow: u64| {
            self.waiting.iter().filter(|(place, _)| (place.suffix, place.flow) == (suffix, flow)).count()
        };
        let load = |waiting: usize, weight: u8| waiting as u64 * TURN / u64::from(weight);
        let weight = |place: &Place| self.flows[&(place.suffix, place.flow)].1;
        let lighter = self.waiting.iter().filter(|(place, _)| weight(place) < new.weight).count();
        let merit = lighter * 2 > self.waiting.len();
        let suffix_load = |suffix: u64| load(below(suffix), self.weight_of(suffix, 1));
        let flow_load = |(suffix, flow): (u64, u64)| load(of(suffix, flow), self.flows[&(suffix, flow)].1);

        let mine = load(below(new.suffix) + 1, self.weight_of(new.suffix, new.weight));
        let others = self.suffixes.keys().copied().filter(|suffix| *suffix != new.suffix);
        let crowded = others.max_by_key(|suffix| (suffix_load(*suffix), self.appeared[&(*suffix, None)]));
        let crowded = crowded.filter(|suffix| suffix_load(*suffix) > mine && (below(*suffix) > 1 || merit));
        let fullest = |suffix: u64, but: Option<u64>| {
            let flows = self.flows.keys().filter(|(of, flow)| *of == suffix && Some(*flow) != but);
            let last = |key: &(u64, u64)| (flow_load(*key), self.flows[key].0, self.appeared[&(key.0, Some(key.1))]);
            flows.copied().max_by_key(last)
        };
        let victim = if let Some(suffix) = crowded {
            fullest(suffix, None)
        } else {
            let shown = self.flows.get(&(new.suffix, new.flow)).map_or(0, |(_, shown)| *shown);
            let mine = load(of(new.suffix, new.flow) + 1, shown.max(new.weight));
            fullest(new.suffix, Some(new.flow)).filter(|key| flow_load(*key) > mine && (of(key.0, key.1) > 1 || merit))
        };
        let heavier = self.waiting.iter().filter(|(place, _)| weight(place) > new.weight).count();
        let victim = victim.or_else(|| {
            let flows = self.flows.iter().filter(|(_, (_, shown))| *shown > new.weight).map(|(key, _)| *key);
            let row = |key: &(u64, u64)| (self.appeared[&(key.0, None)], self.appeared[&(key.0, Some(key.1))]);
            let kept = of(new.suffix, new.flow) > 0 || heavier * 2 <= self.waiting.len();
            flows.max_by_key(|key| (flow_load(*key), row(key))).filter(|_| !kept)
        });
        let (suffix, flow) = victim?;
        let at = self.waiting.iter().rposition(|(place, _)| (place.suffix, place.flow) == (suffix, flow))?;
        Some(self.take(at))
    }

    /// The best weight below a suffix, or that one.
    fn weight_of(&self, suffix: u64, or: u8) -> u8 {
        self.flows.range((suffix, 0)..=(suffix, u64::MAX)).map(|(_, (_, weight))| *weight).max().unwrap_or(or).max(or)
    }

    fn take(&mut self, at: usize) -> usize {
        let (Place { suffix, flow, .. }, item) = self.waiting.remove(at);
        if !self.waiting.iter().any(|(place, _)| (place.suffix, place.flow) == (suffix, flow)) {
            self.flows.remove(&(suffix, flow));
            self.appeared.remove(&(suffix, Some(flow)));
        }
        if !self.waiting.iter().any(|(place, _)| place.suffix == suffix) {
            self.suffixes.remove(&suffix);
            self.appeared.remove(&(suffix, None));
        }
        item
    }
}
