//! A flood by somebody who has read the specification: packets shaped like tickets, cookies and known ids, from a quarter to
//! four times of what the gate drains. One queue drained at μ and filled at λ loses 1-μ/λ of everything in it.

use postern_flood::door::Attack;
use serde_json::{Value, json};

use super::naive::{SLOW_NS, SLOW_RATE};
use super::server::{OURS, Ours, Subject};
use super::{assault, plan, round};
use crate::bench::storm::Effort;
use crate::exit::Failure;

pub(super) const NAME: &str = "door: spec-aware flood from 0.25x to 4x of a gate slowed to 90,000/s";

/// The curve, for each kind: the worst is the one that sits in the friends' own queue.
pub(super) fn measure(effort: Effort) -> Result<Vec<Value>, Failure> {
    let mut rows = Vec::new();
    for attack in [Attack::ForgedId, Attack::ForgedTicket, Attack::ForgedCookie, Attack::Aware] {
        for times in [0.25, 0.5, 0.9, 1.0, 1.5, 2.0, 4.0] {
            let subject = Subject::ours(Ours { work_ns: SLOW_NS, ..Ours::default() })?;
            let mut played = plan(&subject, effort);
            played.attacks.push(assault(attack, (f64::from(SLOW_RATE) * times) as u32));
            let mut row = round(&subject, &format!("{OURS}, slowed, {attack} at {times}x"), &played)?;
            let packets: u64 = row["attacks"][0]["packets"].as_u64().unwrap_or(0);
            let lost = row["door_drops"].as_u64().unwrap_or(0) as f64 / packets.max(1) as f64;
            // By what was really sent: the generator may have been the slower one.
            let sent = row["attacks"][0]["packets_per_second"].as_f64().unwrap_or(0.0) / f64::from(SLOW_RATE);
            let theory = (1.0 - 1.0 / sent.max(1e-9)).max(0.0);
            row["lost_share"] = json!(lost);
            row["one_queue_share"] = json!(theory);
            row["note"] = json!(format!("lost {lost:.3} of all packets; 1-μ/λ of one queue is {theory:.3}"));
            rows.push(row);
        }
    }
    Ok(rows)
}
