//! A dead letter's second life, by the operator's word: `queue retry`.
//!
//! The drain never leases dead letters. One is brought back as a new item in its domain's ordinary
//! lane, atomically with the end of the old one; it is tried at least once more, however old it is.

use postern_proto::envelope::Meta;
use postern_spool::{Child, ChildBody, Fate, FinishError, ItemId, Lane, Lease, Spool, SpoolError};

use crate::limits::{LEASE, REVIVE_PAGE};
use crate::schedule::millis;

/// Brings a dead letter back into the queue; `Ok(false)` when `id` is none.
///
/// # Errors
/// The spool's; then nothing has changed.
pub async fn revive(spool: &Spool, id: ItemId, now_unix_ms: u64) -> Result<bool, SpoolError> {
    let Some(item) = spool.show(id).await else { return Err(SpoolError::NotFound) };
    let dead = item.summary.lane;
    if dead.class != Lane::DEAD_CLASS {
        return Ok(false);
    }
    let mut others = Vec::new();
    let found = loop {
        let mut page = spool.lease(&dead, REVIVE_PAGE, now_unix_ms + millis(LEASE)).await;
        if let Some(at) = page.iter().position(|lease| lease.id == id) {
            let lease = page.swap_remove(at);
            others.append(&mut page);
            break Some(lease);
        }
        if page.is_empty() {
            break None;
        }
        others.append(&mut page);
    };
    let done = match found {
        Some(lease) => finish(spool, lease, &dead, now_unix_ms).await,
        None => Err(SpoolError::Leased),
    };
    for lease in others {
        // Not finished but given back; should that fail, the lease runs out by itself.
        let _later = spool.finish(lease, Fate::Unsettled, Vec::new()).await;
    }
    done.map(|()| true)
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
