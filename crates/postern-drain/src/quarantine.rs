//! The quarantine: mail that a filter wants kept aside, in the class 253 of its domain's lane.
//!
//! It is shown by `queue ls` like everything else, leaves by the operator's word only, and is dropped
//! when it has been kept for its time, or when there is too much of it: the oldest first, and never
//! silently. What is held (`queue hold`) is never dropped.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use postern_proto::envelope::Meta;
use postern_proto::judgement::Action;
use postern_spool::{Child, ChildBody, Fate, FinishError, ItemId, Lane, LaneStats, Lease, Spool, SpoolError};

use crate::limits::{LEASE, QUARANTINE_BATCH_MAX, QUARANTINE_CLASS, RELEASED_CLASS};
use crate::marks::acquitted;
use crate::revive::take_out;
use crate::schedule::millis;
use crate::worker::{Worker, now_unix_ms};

/// How a message leaves the quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseAs {
    /// It was no spam: without the marks.
    Accepted,
    /// With the marks of spam.
    Marked,
}

/// Delivers a message from the quarantine, whatever the mode of its domain; `Ok(false)` when `id` is
/// not there. It becomes a new item.
///
/// # Errors
/// The spool's; then nothing has changed.
pub async fn release_quarantined(
    spool: &Spool,
    id: ItemId,
    release_as: ReleaseAs,
    now_unix_ms: u64,
) -> Result<bool, SpoolError> {
    let Some(item) = spool.show(id).await else { return Err(SpoolError::NotFound) };
    let lane = item.summary.lane.clone();
    if lane.class != QUARANTINE_CLASS {
        return Ok(false);
    }
    let _spared = Releasing::new(id);
    let lease = take_out(spool, &item.summary, now_unix_ms).await?;
    let meta = match Meta::from_bytes(&lease.meta) {
        Ok(meta) => released(meta, release_as).to_bytes(),
        // Not readable by this release: it goes back as it is, and the drain leaves it alone.
        Err(_) => lease.meta.clone(),
    };
    let lane = Lane::new(lane.key, RELEASED_CLASS);
    let child = Child { lane, meta, due_unix_ms: now_unix_ms, body: ChildBody::Parent };
    match spool.finish(lease, Fate::Delivered, vec![child]).await {
        Ok(()) => Ok(true),
        Err(FinishError::Spool(error)) => Err(error),
        Err(FinishError::Gone | FinishError::CommittedMeanwhile(_)) => Err(SpoolError::NotFound),
    }
}

fn released(mut meta: Meta, release_as: ReleaseAs) -> Meta {
    meta.judgement = meta.judgement.map(|mut judgement| match release_as {
        ReleaseAs::Accepted => acquitted(judgement),
        ReleaseAs::Marked => {
            judgement.action = Action::Mark;
            judgement
        }
    });
    Meta { judged: true, attempts: 0, tried_since_unix_ms: None, ..meta }
}

impl Worker {
    /// Drops what has been kept for long enough, and the oldest of too much, in the background.
    pub(crate) fn tidy_quarantine(self: &Rc<Self>, lanes: &[LaneStats]) {
        if self.tidying.get() {
            return;
        }
        let kept_since = now_unix_ms().saturating_sub(millis(self.options.quarantine_keep));
        let quarantine = || lanes.iter().filter(|lane| lane.lane.class == QUARANTINE_CLASS);
        let all: usize = quarantine().map(|lane| lane.ready + lane.waiting + lane.held).sum();
        let bytes: u64 = quarantine().map(|lane| lane.bytes).sum();
        let excess = Excess {
            messages: all.saturating_sub(self.options.quarantine_max),
            bytes: bytes.saturating_sub(self.options.quarantine_bytes_max),
        };
        let mut firsts = self.firsts.borrow_mut();
        if !firsts.is_empty() {
            firsts.retain(|of, _| quarantine().any(|lane| lane.lane == *of));
        }
        let droppable = quarantine().filter(|lane| lane.ready > 0);
        let oldest = droppable.filter_map(|lane| Some((first_unix_ms(lane, &firsts)?, lane))).min_by_key(|(at, _)| *at);
        let Some((at, oldest)) = oldest else { return };
        if excess.is_any() || at <= kept_since {
            self.tidying.set(true);
            let (worker, lane, held) = (self.clone(), oldest.lane.clone(), oldest.held);
            tokio::task::spawn_local(async move {
                worker.drop_quarantined(&lane, held, excess, kept_since).await;
            });
        }
    }

    /// Of one lane, which gives the one first that came first: those from before `kept_since`, and those in
    /// excess.
    async fn drop_quarantined(&self, lane: &Lane, held: usize, mut excess: Excess, kept_since: u64) {
        let until = now_unix_ms() + millis(LEASE);
        let _tidying = Tidying(&self.tidying);
        let (mut dropped, mut some, mut first) = (0, Vec::new(), None);
        for lease in self.spool.lease(lane, QUARANTINE_BATCH_MAX, until).await {
            let at = lease.id.unix_ms();
            if (at > kept_since && !excess.is_any()) || Releasing::has(lease.id) {
                first = Some(first.map_or(at, |first: u64| first.min(at)));
                // Not finished but given back; should that fail, the lease runs out by itself.
                let _later = self.spool.finish(lease, Fate::Unsettled, Vec::new()).await;
                continue;
            }
            let (words, bytes) = (words(&lease), lease.body.len());
            match self.spool.finish(lease, Fate::Delivered, Vec::new()).await {
                Ok(()) => {
                    excess.dropped(bytes);
                    dropped += 1;
                    some.extend(words.filter(|_| some.len() < NAMED_MAX));
                }
                Err(error) => tracing::warn!(domain = %lane.key, %error, "could not be dropped from the quarantine"),
            }
        }
        if dropped > 0 {
            self.firsts.borrow_mut().remove(lane);
            self.counters.quarantine_dropped.fetch_add(dropped, Ordering::Relaxed);
            let some = some.join("; ");
            // There may be more: it is looked at again at once.
            self.put_off(0);
            tracing::warn!(domain = %lane.key, dropped, some, "dropped from the quarantine: too old, or too many");
        } else {
            // Older ones are held, or somebody works on them: without this it would be looked at again at once, for
            // ever, and no other lane would have its turn.
            let first_unix_ms = first.unwrap_or_else(now_unix_ms);
            self.firsts.borrow_mut().insert(lane.clone(), First { held, unix_ms: first_unix_ms });
        }
    }
}

/// What there is too much of.
#[derive(Clone, Copy, Debug)]
struct Excess {
    messages: usize,
    bytes: u64,
}

impl Excess {
    fn is_any(self) -> bool {
        self.messages > 0 || self.bytes > 0
    }

    /// What is dropped for its age makes room too.
    fn dropped(&mut self, bytes: u64) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// The first message of a lane that could be dropped, as of when none was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct First {
    /// Messages held then.
    held: usize,
    unix_ms: u64,
}

/// When the first message came that can be dropped. The spool counts those that are held.
fn first_unix_ms(lane: &LaneStats, firsts: &HashMap<Lane, First>) -> Option<u64> {
    let known = firsts.get(&lane.lane).filter(|first| first.held == lane.held);
    known.map(|first| first.unix_ms).or(lane.oldest_unix_ms)
}

/// A message on its way out of the quarantine: one that was held past its time is not dropped the moment it is no
/// longer held.
struct Releasing(ItemId);

static RELEASING: Mutex<BTreeSet<ItemId>> = Mutex::new(BTreeSet::new());

impl Releasing {
    fn new(id: ItemId) -> Self {
        RELEASING.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        Self(id)
    }

    fn has(id: ItemId) -> bool {
        RELEASING.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }
}

impl Drop for Releasing {
    fn drop(&mut self) {
        RELEASING.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Ends with the batch, however that ends.
struct Tidying<'a>(&'a Cell<bool>);

impl Drop for Tidying<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// For the log: who wrote to whom.
fn words(lease: &Lease) -> Option<String> {
    let meta = Meta::from_bytes(&lease.meta).ok()?;
    let sender = meta.sender.as_ref().map(ToString::to_string).unwrap_or_default();
    let to = meta.recipients.first().map(|to| to.address.to_string()).unwrap_or_default();
    Some(format!("{} <{sender}> to <{to}>", lease.id))
}

/// Messages named in the log line of a batch.
const NAMED_MAX: usize = 5;
