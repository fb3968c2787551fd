//! Real addresses that honour cookies: handshakes begun and abandoned, handshakes completed, and what an honest stranger
//! waits meanwhile.

use postern_flood::Network;
use postern_flood::door::Attack;
use serde_json::{Value, json};

use super::server::{OURS, Ours, Subject, Way};
use super::{assault, plan, round};
use crate::bench::storm::Effort;
use crate::exit::Failure;

pub(super) const ABANDONED: &str = "door: handshakes abandoned at 20x from 10,000 addresses";
pub(super) const COMPLETED: &str = "door: handshakes completed with unknown keys";
pub(super) const STRANGERS: &str = "door: an honest stranger among attacking prefixes";

/// Real ClientHellos from 10,000 addresses in as many prefixes, 20 times what a core can shake hands with.
pub(super) fn abandoned(effort: Effort) -> Result<Vec<Value>, Failure> {
    let mut rows = Vec::new();
    for way in Way::ALL {
        let subject = way.start(0)?;
        let mut played = plan(&subject, effort);
        played.attacks.push(assault(Attack::Abandon, 20 * HANDSHAKES_PER_SECOND));
        rows.push(round(&subject, way.name(), &played)?);
    }
    Ok(rows)
}

/// As many whole handshakes as the generator can make; ours lets in a twentieth of what a core can shake hands with.
pub(super) fn completed(effort: Effort) -> Result<Vec<Value>, Failure> {
    let mut rows = Vec::new();
    for way in Way::ALL {
        let subject = match way {
            Way::Ours => {
                Subject::ours(Ours { strangers_per_second: Some(HANDSHAKES_PER_SECOND / 20), ..Ours::default() })?
            }
            Way::Stock(_) => way.start(0)?,
        };
        let mut played = plan(&subject, effort);
        played.attacks.push(assault(Attack::Complete, 0));
        rows.push(round(&subject, way.name(), &played)?);
    }
    Ok(rows)
}

/// A stranger every two seconds, from prefixes of their own, and from inside the /16s that attack.
pub(super) fn strangers(effort: Effort) -> Result<Vec<Value>, Failure> {
    let mut rows = Vec::new();
    // 127.201/16 has nobody else; 127.64/16 is the first that the botnet fills.
    for (what, from) in [("a fresh prefix", [127, 201, 0, 0]), ("an attacked /16", [127, 64, 0, 0])] {
        let subject = Subject::ours(Ours::default())?;
        let mut played = plan(&subject, effort);
        let prefixes = effort.size(10_000);
        let fair_s = f64::from(prefixes + 1) / f64::from(STRANGERS_PER_SECOND);
        let mut botnet = assault(Attack::Abandon, 2_000);
        (botnet.sources, botnet.prefixes) = (prefixes, prefixes);
        played.attacks.push(botnet);
        // Twice the fair wait: who came in the first half must have been let in by its end.
        played.offer_ms = (fair_s * 2_000.0) as u64 + effort.ms(20_000);
        played.friends_after_ms = effort.ms(10_000);
        if let Some(friends) = &mut played.friends {
            friends.strangers_rate = 0.5;
            // A domain is given 512 tickets a day, and this takes minutes.
            friends.fresh_rate = 0.5;
            friends.strangers_from = Network::new(from.into(), 16).unwrap_or(friends.strangers_from);
        }
        let mut row = round(&subject, &format!("{OURS}, from {what}"), &played)?;
        row["fair_wait_s"] = json!(fair_s);
        row["note"] = json!(format!("(P+1)/C is {fair_s:.1} s"));
        rows.push(row);
    }
    Ok(rows)
}

/// Of one core, as the design counts: 300 µs each.
const HANDSHAKES_PER_SECOND: u32 = 3_300;

/// C: what the gate serves of strangers a second.
const STRANGERS_PER_SECOND: u32 = 50;
