//! Who of a class is next: turns by weight, of suffixes and inside each of the flows.
//!
//! Virtual time at both levels. Who comes is due one turn, divided by its weight, behind the one that was called last;
//! so it is with who was called and has more waiting. Among those that wait a weight of w is therefore called w
//! times where a weight of one is called once, without a burst; leaving and coming again gains nothing, and nothing has to
//! be kept of who has nobody waiting. For equal weights these are plain turns.
//!
//! Everything is found by looking through what waits, which [`limits`](crate::limits) bounds by a few dozen.

use std::cmp::Ordering;
use std::collections::VecDeque;

/// Where an attempt waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The turns of one suffix are those of all domains below it together.
    pub(crate) suffix: u64,
    /// Whose turns these are.
    pub(crate) flow: u64,
    /// How many, where others have one: 1 to 7.
    pub(crate) weight: u8,
}

/// Attempts that wait.
#[derive(Debug)]
pub(super) struct Line<T> {
    /// Each with somebody in it, in the order in which they came.
    suffixes: Vec<Suffix<T>>,
    waiting: usize,
    /// When the suffix that was called last was due.
    clock: u64,
}

/// What waits below one suffix.
#[derive(Debug)]
struct Suffix<T> {
    key: u64,
    due: u64,
    waiting: usize,
    /// Each with somebody in it, in the order in which they came.
    flows: Vec<Flow<T>>,
    clock: u64,
}

#[derive(Debug)]
struct Flow<T> {
    key: u64,
    weight: u8,
    due: u64,
    items: VecDeque<T>,
}

impl<T> Suffix<T> {
    /// That of the best who waits below it: a suffix that nobody has anything to say for counts once, however many come.
    fn weight(&self) -> u8 {
        self.flows.iter().map(|flow| flow.weight).max().unwrap_or(1)
    }

    fn load(&self) -> Load {
        Load { waiting: self.waiting, weight: self.weight() }
    }

    fn flow(&self, key: u64) -> Option<&Flow<T>> {
        self.flows.iter().find(|flow| flow.key == key)
    }
}

impl<T> Line<T> {
    pub(super) const fn new() -> Self {
        Self { suffixes: Vec::new(), waiting: 0, clock: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.waiting
    }

    pub(super) fn push(&mut self, place: Place, item: T) {
        let Place { suffix: key, flow, weight } = place;
        let at = self.suffixes.iter().position(|suffix| suffix.key == key).unwrap_or_else(|| {
            self.suffixes.push(Suffix { key, due: u64::MAX, waiting: 0, flows: Vec::new(), clock: 0 });
            self.suffixes.len() - 1
        });
        let suffix = &mut self.suffixes[at];
        // Who brings a greater weight is due as soon as it would be with nobody of its own before it.
        suffix.due = suffix.due.min(self.clock + turn(weight));
        let due = suffix.clock + turn(weight);
        match suffix.flows.iter_mut().find(|other| other.key == flow) {
            Some(flow) => {
                if flow.weight < weight {
                    (flow.weight, flow.due) = (weight, flow.due.min(due));
                }
                flow.items.push_back(item);
            }
            None => suffix.flows.push(Flow { key: flow, weight, due, items: VecDeque::from([item]) }),
        }
        suffix.waiting += 1;
        self.waiting += 1;
    }

    /// The one whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        // Of several due at once the first in the row, here and below: it has waited longest.
        let at = (0..self.suffixes.len()).min_by_key(|at| self.suffixes[*at].due)?;
        let suffix = &mut self.suffixes[at];
        let inside = (0..suffix.flows.len()).min_by_key(|at| suffix.flows[*at].due)?;
        let flow = &mut suffix.flows[inside];
        let item = flow.items.pop_front()?;
        self.clock = suffix.due;
        suffix.clock = flow.due;
        flow.due += turn(flow.weight);
        if self.has_left(at, inside) {
            let suffix = &mut self.suffixes[at];
            suffix.due += turn(suffix.weight());
        }
        Some(item)
    }

    /// Who has to go for one more at `place`, when there is no room: the last of whoever has most for its weight, first
    /// among the suffixes, then inside. `None`: the newcomer, who would have as much.
    ///
    /// The last attempt of a flow goes only for a suffix that has less, or for merit: who has a greater weight takes a place
    /// of those who have less, while they have more than half of the room; and who has none waiting takes one of those who
    /// have a greater weight, while *they* have more than half. So merit has half of a full line, and the other half is
    /// for whoever comes.
    pub(super) fn make_room(&mut self, place: Place) -> Option<T> {
        let own = self.suffixes.iter().position(|suffix| suffix.key == place.suffix);
        let of_suffix = own.map_or(Load::NONE, |at| self.suffixes[at].load()).and_one(place.weight);
        let of_flow = own.and_then(|at| self.suffixes[at].flow(place.flow)).map_or(Load::NONE, Flow::load);
        let of_flow = of_flow.and_one(place.weight);
        let lighter = self.has_half(|weight| weight < place.weight);
        let gives_way = |load: Load, mine: Load| load > mine && (load.waiting > 1 || lighter);

        let others = (0..self.suffixes.len()).filter(|at| Some(*at) != own);
        let crowded = others.max_by_key(|at| self.suffixes[*at].load());
        if let Some(at) = crowded.filter(|at| gives_way(self.suffixes[*at].load(), of_suffix)) {
            let inside = fullest(&self.suffixes[at].flows, None)?;
            return self.take_last(at, inside);
        }
        if let Some(at) = own
            && let flows = &self.suffixes[at].flows
            && let Some(inside) =
                fullest(flows, Some(place.flow)).filter(|most| gives_way(flows[*most].load(), of_flow))
        {
            return self.take_last(at, inside);
        }
        if of_flow.waiting > 1 || !self.has_half(|weight| weight > place.weight) {
            return None;
        }
        let all =
            (0..self.suffixes.len()).flat_map(|at| (0..self.suffixes[at].flows.len()).map(move |inside| (at, inside)));
        let heavier = all.filter(|(at, inside)| self.suffixes[*at].flows[*inside].weight > place.weight);
        let (at, inside) = heavier.max_by_key(|(at, inside)| self.suffixes[*at].flows[*inside].load())?;
        self.take_last(at, inside)
    }

    /// Whether more than half of those who wait have such a weight.
    fn has_half(&self, such: impl Fn(u8) -> bool) -> bool {
        let flows = self.suffixes.iter().flat_map(|suffix| &suffix.flows);
        let waiting: usize = flows.filter(|flow| such(flow.weight)).map(|flow| flow.items.len()).sum();
        waiting * 2 > self.waiting
    }

    fn take_last(&mut self, at: usize, inside: usize) -> Option<T> {
        let item = self.suffixes[at].flows[inside].items.pop_back();
        self.has_left(at, inside);
        item
    }

    /// One is gone: so is its flow, and its suffix, when they are empty. Whether the suffix is still there.
    fn has_left(&mut self, at: usize, inside: usize) -> bool {
        let suffix = &mut self.suffixes[at];
        suffix.waiting -= 1;
        self.waiting -= 1;
        if suffix.flows[inside].items.is_empty() {
            suffix.flows.remove(inside);
        }
        let empty = suffix.flows.is_empty();
        if empty {
            self.suffixes.remove(at);
        }
        !empty
    }
}

impl<T> Flow<T> {
    fn load(&self) -> Load {
        Load { waiting: self.items.len(), weight: self.weight }
    }
}

/// The flow with most for its weight; of several the one that is due last.
fn fullest<T>(flows: &[Flow<T>], but: Option<u64>) -> Option<usize> {
    let others = (0..flows.len()).filter(|at| Some(flows[*at].key) != but);
    others.max_by(|a, b| {
        let (a, b) = (&flows[*a], &flows[*b]);
        a.load().cmp(&b.load()).then(a.due.cmp(&b.due))
    })
}

/// How many wait for each turn.
#[derive(Clone, Copy, Debug)]
struct Load {
    waiting: usize,
    weight: u8,
}

impl Load {
    const NONE: Self = Self { waiting: 0, weight: 0 };

    /// With one more, of that weight.
    fn and_one(self, weight: u8) -> Self {
        Self { waiting: self.waiting + 1, weight: self.weight.max(weight) }
    }
}

impl Ord for Load {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.waiting * usize::from(other.weight)).cmp(&(other.waiting * usize::from(self.weight)))
    }
}

impl PartialOrd for Load {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Load {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Load {}

/// Virtual time of a turn. Every weight divides it.
fn turn(weight: u8) -> u64 {
    TURN / u64::from(weight.max(1))
}

/// See [`turn`]: the least number that 1 to 7 divide.
const TURN: u64 = 420;

#[cfg(test)]
mod tests;
