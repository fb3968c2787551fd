//! A flood by somebody who has not read the specification: garbage, HELLOs and tokenless Initials from forged addresses.

use postern_flood::door::{Attack, StockKind};
use serde_json::{Value, json};

use super::server::{Subject, Way};
use super::{assault, plan, play, round};
use crate::bench::storm::Effort;
use crate::exit::Failure;

pub(super) const NAME: &str = "door: naive flood at 4x of what stock quinn drains";
pub(super) const SLOW: &str = "door: naive flood at 4x of servers slowed to 90,000/s";

/// Each way under each kind of flood, at four times of what stock quinn takes of tokenless Initials.
pub(super) fn measure(effort: Effort) -> Result<Vec<Value>, Failure> {
    let drained = stock_drain(effort)?;
    let rate = (drained * 4.0) as u32;
    let mut rows = Vec::new();
    for attack in [None, Some(Attack::Garbage), Some(Attack::Hello), Some(Attack::Initial), Some(Attack::Naive)] {
        for way in Way::ALL {
            let subject = way.start(0)?;
            let mut played = plan(&subject, effort);
            played.attacks.extend(attack.map(|attack| assault(attack, rate)));
            let what = attack.map_or("nobody attacks", Attack::as_str);
            let mut row = round(&subject, &format!("{}, {what}", way.name()), &played)?;
            row["note"] = json!(format!("asked for {rate}/s, 4x of {drained:.0}/s"));
            rows.push(row);
        }
    }
    Ok(rows)
}

/// The same against servers that burn 10.5 µs more at each datagram, which the generator can outrun fourfold on any machine.
pub(super) fn slowed(effort: Effort) -> Result<Vec<Value>, Failure> {
    let mut rows = Vec::new();
    for attack in [None, Some(Attack::Garbage), Some(Attack::Hello), Some(Attack::Initial), Some(Attack::Naive)] {
        for way in Way::ALL {
            let subject = way.start(SLOW_NS)?;
            let mut played = plan(&subject, effort);
            played.attacks.extend(attack.map(|attack| assault(attack, 4 * SLOW_RATE)));
            let what = attack.map_or("nobody attacks", Attack::as_str);
            rows.push(round(&subject, &format!("{}, slowed, {what}", way.name()), &played)?);
        }
    }
    Ok(rows)
}

/// Tokenless Initials a second that stock quinn reads when it is offered more than it can.
fn stock_drain(effort: Effort) -> Result<f64, Failure> {
    let subject = Subject::stock(StockKind::Accept, 0)?;
    let mut played = plan(&subject, effort);
    played.friends = None;
    (played.friends_after_ms, played.offer_ms) = (0, effort.ms(5_000));
    played.attacks.push(assault(Attack::Initial, 0));
    let report = play::play(&played)?;
    let sent: u64 = report.attacks.iter().map(|attack| attack.packets).sum();
    let read = sent.saturating_sub(report.kernel.door_drops + report.kernel.softnet_dropped);
    Ok(read as f64 / report.seconds.max(1e-9))
}

/// With what a packet costs beside, about 90,000 packets a second.
pub(super) const SLOW_NS: u32 = 10_500;

pub(super) const SLOW_RATE: u32 = 90_000;
