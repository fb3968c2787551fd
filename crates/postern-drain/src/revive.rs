//! A dead letter's second life, by the operator's word: `queue retry`.
//!
//! The drain never leases dead letters. One is brought back as a new item in its domain's ordinary
//! lane, atomically with the end of the old one; it is tried at least once more, however old it is.

use bytes::Bytes;
use postern_proto::envelope::Meta;
use postern_spool::{
    BodySource, Child, ChildBody, Fate, FinishError, ItemId, ItemSummary, Lane, Lease, Spool, SpoolError,
};

use crate::limits::{LEASE, REVIVE_PAGE};
use crate::schedule::millis;

/// Brings a dead letter back into the queue; `Ok(false)` when `id` is none.
///
/// # Errors
/// The spool's; then nothing has changed.
pub async fn revive(spool: &Spool, id: ItemId, now_unix_ms: u64) -> Result<bool, SpoolError> {
    let Some(item) = spool.show(id).await else { return Err(SpoolError::NotFound) };
    let dead = item.summary.lane.clone();
    if dead.class != Lane::DEAD_CLASS {
        return Ok(false);
    }
    let lease = take_out(spool, &item.summary, now_unix_ms).await?;
    finish(spool, lease, &dead, now_unix_ms).await.map(|()| true)
}

/// Leases one item of a lane from which the drain delivers nothing. What is held is not leased, so it is held no more; should
/// it not be got at now, it is held again.
pub(crate) async fn take_out(spool: &Spool, item: &ItemSummary, now_unix_ms: u64) -> Result<Lease, SpoolError> {
    let id = item.id;
    // The first to be due is the first to be leased; without this all before it would be read from the disk.
    let _if_it_is_still_there = spool.retry(id, 1).await;
    if item.held {
        spool.hold(id, false).await?;
    }
    let found = find(spool, id, &item.lane, now_unix_ms).await;
    if item.held && found.is_none() {
        let _if_it_is_still_there = spool.hold(id, true).await;
    }
    found.ok_or(SpoolError::Leased)
}

async fn find(spool: &Spool, id: ItemId, lane: &Lane, now_unix_ms: u64) -> Option<Lease> {
    let mut others = Vec::new();
    let found = loop {
        let mut page = spool.lease(lane, REVIVE_PAGE, now_unix_ms + millis(LEASE)).await;
        let at = page.iter().position(|lease| lease.id == id);
        let found = at.map(|at| page.swap_remove(at));
        let last = page.is_empty();
        others.extend(page.into_iter().map(without_its_bytes));
        if found.is_some() || last {
            break found;
        }
    };
    for lease in others {
        // Not finished but given back; should that fail, the lease runs out by itself.
        let _later = spool.finish(lease, Fate::Unsettled, Vec::new()).await;
    }
    found
}

/// What is only passed over must not fill memory with messages, nor the process with open files.
fn without_its_bytes(mut lease: Lease) -> Lease {
    lease.body = BodySource::Inline(Bytes::new());
    lease
}

async fn finish(spool: &Spool, lease: Lease, dead: &Lane, now_unix_ms: u64) -> Result<(), SpoolError> {
    let meta = match Meta::from_bytes(&lease.meta) {
        Ok(meta) => Meta { note: None, attempts: 0, tried_since_unix_ms: None, ..meta }.to_bytes(),
        // Not readable by this release: it goes back as it is, and the drain leaves it alone.
        Err(_) => lease.meta.clone(),
    };
    let lane = Lane::new(dead.key.clone(), 0);
    let child = Child { lane, meta, due_unix_ms: now_unix_ms, body: ChildBody::Parent };
    match spool.finish(lease, Fate::Delivered, vec![child]).await {
        Ok(()) => Ok(()),
        Err(FinishError::Spool(error)) => Err(error),
        Err(FinishError::Gone | FinishError::CommittedMeanwhile(_)) => Err(SpoolError::NotFound),
    }
}
