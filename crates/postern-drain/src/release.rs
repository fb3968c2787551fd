//! What `drain` commands let leave: how many items of which lanes, and how fast. Pure.
//!
//! A release covers what was there when it was given. It is a count per lane, because the spool
//! leases in order of age; an item that came later than the command is put back by the worker, and
//! ends the release of its lane.

use std::collections::{BTreeMap, HashMap};

use postern_spool::{ItemId, Lane};

use crate::limits::RELEASES_MAX;
use crate::schedule::Rate;

/// All `drain` commands in force: one per domain, and one for every domain (`None`).
#[derive(Debug, Default)]
pub(crate) struct Releases {
    by_domain: BTreeMap<Option<String>, Release>,
}

#[derive(Debug)]
struct Release {
    newest: ItemId,
    left: HashMap<Lane, usize>,
    rate: Option<Rate>,
}

impl Releases {
    /// Puts a release in force; an earlier one for the same domain is replaced. `newest` is an id
    /// given at this moment: ids grow even when the clock is set back. Returns how many items it
    /// covers.
    pub(crate) fn add(
        &mut self,
        domain: Option<String>,
        lanes: impl IntoIterator<Item = (Lane, usize)>,
        rate: Option<Rate>,
        newest: ItemId,
    ) -> usize {
        let left: HashMap<Lane, usize> = lanes.into_iter().filter(|(_, n)| *n > 0).collect();
        let covered = left.values().sum();
        self.by_domain.remove(&domain);
        if covered > 0 && self.by_domain.len() < RELEASES_MAX {
            self.by_domain.insert(domain, Release { newest, left, rate });
            return covered;
        }
        0
    }

    /// Items of this lane that may leave now.
    pub(crate) fn free_at(&mut self, lane: &Lane, now_ms: u64) -> usize {
        let free = self.by_domain.values_mut().map(|release| release.free_at(lane, now_ms));
        free.fold(0, usize::saturating_add)
    }

    /// Items of all lanes still to leave.
    pub(crate) fn left_in_all(&self) -> usize {
        self.by_domain.values().flat_map(|release| release.left.values()).sum()
    }

    /// `n` items of this lane were leased.
    pub(crate) fn take(&mut self, lane: &Lane, mut n: usize, now_ms: u64) {
        for release in self.by_domain.values_mut() {
            let taken = n.min(release.free_at(lane, now_ms));
            if let Some(left) = release.left.get_mut(lane) {
                *left -= taken;
            }
            if let Some(rate) = &mut release.rate {
                rate.take(taken);
            }
            n -= taken;
        }
        self.forget_empty();
    }

    /// The newest item of this lane that a release covers. To be asked before [`Self::take`], which
    /// forgets a lane with its last item.
    pub(crate) fn newest(&self, lane: &Lane) -> Option<ItemId> {
        let releases = self.by_domain.values().filter(|release| release.left.contains_key(lane));
        releases.map(|release| release.newest).max()
    }

    /// Nothing that a release covers is left in this lane.
    pub(crate) fn end(&mut self, lane: &Lane) {
        for release in self.by_domain.values_mut() {
            release.left.remove(lane);
        }
        self.forget_empty();
    }

    /// Milliseconds until a rate lets the next item of this lane go.
    pub(crate) fn wait_ms(&self, lane: &Lane) -> Option<u64> {
        let waiting = self.by_domain.values().filter(|release| release.left.get(lane).is_some_and(|left| *left > 0));
        waiting.filter_map(|release| release.rate.as_ref().map_or(Some(0), Rate::wait_ms)).min()
    }

    fn forget_empty(&mut self) {
        self.by_domain.retain(|_, release| {
            release.left.retain(|_, left| *left > 0);
            !release.left.is_empty()
        });
    }
}

impl Release {
    fn free_at(&mut self, lane: &Lane, now_ms: u64) -> usize {
        let left = self.left.get(lane).copied().unwrap_or(0);
        self.rate.as_mut().map_or(left, |rate| left.min(rate.free_at(now_ms)))
    }
}

#[cfg(test)]
mod tests;
