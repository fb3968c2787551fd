//! Tickets and connection ids read on a friend's wire, used by others a million times.

use postern_flood::door::Attack;
use serde_json::Value;

use super::server::{OURS, Ours, Subject};
use super::{assault, plan, round};
use crate::bench::storm::Effort;
use crate::exit::Failure;

pub(super) const NAME: &str = "door: a million replayed and stolen tickets and ids";

/// Each kind by itself; how many of them became connections, the server's status says (`admitted` beside `offered`).
pub(super) fn measure(effort: Effort) -> Result<Vec<Value>, Failure> {
    let mut rows = Vec::new();
    for attack in [Attack::Replay, Attack::ReplayOtherId, Attack::ReplayElsewhere, Attack::CapturedId] {
        let subject = Subject::ours(Ours::default())?;
        let mut played = plan(&subject, effort);
        let mut thieves = assault(attack, 0);
        thieves.packets_max = Some(u64::from(effort.size(1_000_000)));
        played.attacks.push(thieves);
        rows.push(round(&subject, &format!("{OURS}, {attack}"), &played)?);
    }
    Ok(rows)
}
