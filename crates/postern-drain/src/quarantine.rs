//! The quarantine: mail that a filter wants kept aside, in the class 253 of its domain's lane.
//!
//! It is shown by `queue ls` like everything else, leaves by the operator's word only, and is dropped
//! when it has been kept for its time, or when there is too much of it: the oldest first, and never
//! silently. What is held (`queue hold`) is never dropped.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering;

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
    let lane = item.summary.lane;
    if lane.class != QUARANTINE_CLASS {
        return Ok(false);
    }
    let lease = take_out(spool, id, &lane, now_unix_ms).await?;
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
        let keep_ms = millis(self.options.quarantine_keep);
        let kept_since = now_unix_ms().saturating_sub(keep_ms);
        let quarantine = || lanes.iter().filter(|lane| lane.lane.class == QUARANTINE_CLASS);
        let all: usize = quarantine().map(|lane| lane.ready + lane.waiting + lane.held).sum();
        let excess = all.saturating_sub(self.options.quarantine_max);
        let droppable = quarantine().filter(|lane| lane.ready > 0);
        let Some(oldest) = droppable.min_by_key(|lane| lane.oldest_unix_ms) else { return };
        let expired = oldest.oldest_unix_ms.is_some_and(|at| at <= kept_since);
        if excess > 0 || expired {
            self.tidying.set(true);
            let (worker, lane) = (self.clone(), oldest.lane.clone());
            tokio::task::spawn_local(async move {
                worker.drop_quarantined(&lane, excess, kept_since).await;
            });
        }
    }

    /// Of one lane, which gives the one first that came first: those from before `kept_since`, and `excess`
    /// more at most.
    async fn drop_quarantined(&self, lane: &Lane, mut excess: usize, kept_since: u64) {
        let until = now_unix_ms() + millis(LEASE);
        let _tidying = Tidying(&self.tidying);
        let (mut dropped, mut some) = (0, Vec::new());
        for lease in self.spool.lease(lane, QUARANTINE_BATCH_MAX, until).await {
            let too_old = lease.id.unix_ms() <= kept_since;
            if !too_old && excess == 0 {
                // Not finished but given back; should that fail, the lease runs out by itself.
                let _later = self.spool.finish(lease, Fate::Unsettled, Vec::new()).await;
                continue;
            }
            let words = words(&lease);
            match self.spool.finish(lease, Fate::Delivered, Vec::new()).await {
                Ok(()) => {
                    excess = excess.saturating_sub(usize::from(!too_old));
                    dropped += 1;
                    some.extend(words.filter(|_| some.len() < NAMED_MAX));
                }
                Err(error) => tracing::warn!(domain = %lane.key, %error, "could not be dropped from the quarantine"),
            }
        }
        if dropped > 0 {
            self.counters.quarantine_dropped.fetch_add(dropped, Ordering::Relaxed);
            let some = some.join("; ");
            // There may be more: it is looked at again at once.
            self.put_off(0);
            tracing::warn!(domain = %lane.key, dropped, some, "dropped from the quarantine: too old, or too many");
        }
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
