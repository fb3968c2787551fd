//! A peer whom the door knows, and who takes all he can get: what friends of another domain notice of it.

use postern_flood::door::Attack;
use serde_json::Value;

use super::server::{OURS, Ours, Subject};
use super::{assault, plan, round};
use crate::bench::storm::Effort;
use crate::exit::Failure;

pub(super) const NAME: &str = "door: an insider who takes all he can get";

/// Each way to misuse a connection by itself, on eight connections, beside nobody.
pub(super) fn measure(effort: Effort) -> Result<Vec<Value>, Failure> {
    let mut rows = Vec::new();
    let attacks = [Attack::Greedy, Attack::SlowStreams, Attack::Hoard, Attack::ResetStreams];
    for attack in std::iter::once(None).chain(attacks.map(Some)) {
        let subject = Subject::ours(Ours::default())?;
        let mut played = plan(&subject, effort);
        if let Some(attack) = attack {
            let mut insider = assault(attack, 0);
            insider.peer = Some(subject.insider());
            played.attacks.push(insider);
        }
        let what = attack.map_or("nobody", Attack::as_str);
        rows.push(round(&subject, &format!("{OURS}, {what}"), &played)?);
    }
    Ok(rows)
}
