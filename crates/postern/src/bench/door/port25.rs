//! Port 25 drowns while mail goes through the postern: the same process, disk and core, and nothing else in common.

use std::thread;

use postern_flood::{Behaviour, Crowd, Plan};
use serde_json::{Value, json};

use super::super::storm;
use super::server::{OURS, Ours, Subject};
use super::{plan, round};
use crate::bench::storm::Effort;
use crate::exit::{Code, Failure};

pub(super) const NAME: &str = "door: mail through the postern while port 25 is flooded";

/// Without the crowd at port 25, and with it.
pub(super) fn measure(effort: Effort) -> Result<Vec<Value>, Failure> {
    let mut rows = Vec::new();
    for (what, crowded) in [("port 25 is quiet", false), ("port 25 drowns", true)] {
        let subject = Subject::ours(Ours::default())?;
        let smtp = subject.smtp().ok_or_else(|| Failure::new(Code::Software, "no public door"))?;
        let played = plan(&subject, effort);
        let name = format!("{OURS}, {what}");
        let mut row = if crowded {
            let mut crowd = Plan::new(smtp);
            crowd.offer_ms = played.offer_ms + played.friends_after_ms + 1_000;
            crowd.pin = Some(storm::play::CORE);
            crowd.crowds.push(Crowd::new(Behaviour::Hold, effort.size(10_000)));
            crowd.crowds.push(Crowd::new(Behaviour::Spam, 200));
            let flood = thread::spawn(move || storm::play::play(&crowd));
            let row = round(&subject, &name, &played)?;
            let report = flood.join().map_err(|_| Failure::new(Code::Software, "the crowd's thread panicked"))??;
            let attempts: u64 = report.crowds.iter().map(|crowd| crowd.attempts).sum();
            let mut row = row;
            row["note"] = json!(format!(
                "{:.0} connects a second at port 25; generator, core, memory and disk are shared",
                attempts as f64 / report.seconds.max(1e-9)
            ));
            row
        } else {
            round(&subject, &name, &played)?
        };
        row["shared"] = json!("server core, generator core, socket memory, disk");
        rows.push(row);
    }
    Ok(rows)
}
