//! How many dead letters are kept: a bound on what strangers can leave in the spool.
//!
//! Called when there is one more. Drops the oldest, never silently: the log has what an operator
//! needs to tell somebody. One that is held (`queue hold`) is never dropped.

use std::sync::atomic::Ordering;

use postern_proto::address::Address;
use postern_proto::envelope::Meta;
use postern_spool::{Fate, Lane, Lease};

use crate::limits::LEASE;
use crate::schedule::millis;
use crate::settle::bounded;
use crate::worker::{Worker, now_unix_ms};

impl Worker {
    /// Drops dead letters until there are no more than may be.
    pub(crate) async fn bound_dead_letters(&self) {
        // One delivery at a time; it counts again after each, so it sees those of the others too.
        let Ok(_alone) = self.dropping.try_lock() else { return };
        while self.spool.stats().dead > self.options.dead_letters_max && self.drop_oldest().await {}
    }

    /// False when none could be dropped. A lane gives the one first that became a dead letter first.
    async fn drop_oldest(&self) -> bool {
        let lanes = self.spool.lanes().await;
        let dead = lanes.iter().filter(|lane| lane.lane.class == Lane::DEAD_CLASS && lane.ready > 0);
        let Some(oldest) = dead.min_by_key(|lane| lane.oldest_unix_ms) else { return false };
        let mut leases = self.spool.lease(&oldest.lane, 1, now_unix_ms() + millis(LEASE)).await;
        let Some(lease) = leases.pop() else { return false };
        let obituary = Obituary::of(&lease);
        let Obituary { sender, recipients, reason } = &obituary;
        let (id, domain, max) = (lease.id, oldest.lane.key.clone(), self.options.dead_letters_max);
        match self.spool.finish(lease, Fate::Delivered, Vec::new()).await {
            Ok(()) => {
                self.counters.dead_letters_dropped.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    item = %id, %domain, sender, recipients, reason, max,
                    "too many dead letters: the oldest is dropped"
                );
                true
            }
            Err(error) => {
                tracing::warn!(item = %id, %error, "too many dead letters, and the oldest could not be dropped");
                false
            }
        }
    }
}

/// What the log keeps of a dead letter.
struct Obituary {
    sender: String,
    recipients: String,
    reason: String,
}

impl Obituary {
    fn of(lease: &Lease) -> Self {
        let Ok(meta) = Meta::from_bytes(&lease.meta) else {
            let unknown = || "unreadable".to_owned();
            return Self { sender: unknown(), recipients: unknown(), reason: unknown() };
        };
        let recipients: Vec<String> = meta.recipients.iter().map(|to| to.address.to_string()).collect();
        Self {
            sender: meta.sender.as_ref().map(Address::to_string).unwrap_or_default(),
            recipients: bounded(&recipients.join(" ")),
            reason: meta.note.unwrap_or_default(),
        }
    }
}
