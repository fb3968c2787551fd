//! The quarantine: mail that a filter wants kept aside, in the class 253 of its domain's lane.
//!
//! It is shown by `queue ls` like everything else, leaves by the operator's word only, and is dropped
//! when it has been kept for its time, never silently. What is held (`queue hold`) is never dropped.

use postern_spool::{ItemId, Spool, SpoolError};

/// How a message leaves the quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseAs {
    /// It was no spam: without the marks.
    Accepted,
    /// With the marks of spam.
    Marked,
}

/// Delivers a message from the quarantine, whatever the mode of its domain; `Ok(false)` when `id` is
/// not there.
///
/// # Errors
/// The spool's; then nothing has changed.
pub async fn release_quarantined(
    _spool: &Spool,
    _id: ItemId,
    _as_: ReleaseAs,
    _now_unix_ms: u64,
) -> Result<bool, SpoolError> {
    todo!()
}
