//! Busy spam: five times what the filter can judge, and friends who will not wait longer than two seconds.
//!
//! The filter speaks rspamd's protocol and takes 5 ms a message, one after the other: 200 a second is the capacity C.
//! The comparator that matters answers at the outcome, first come, first served: what a server with a filter in the
//! session does. The one that collects without merit answers fast as well, and shows what that hides: when friends'
//! mail gets to the filter.

use postern_flood::{Behaviour, Crowd, Friends, Network};
use serde_json::json;

use super::filter::Filter;
use super::{Effort, Way, round};
use crate::bench::server::Setup;
use crate::exit::Failure;

/// As `--only` looks for it.
pub(super) const NAME: &str = "busy: 1,000 spam a second at a filter of 200, friends offer 60";

pub(super) fn measure(effort: Effort) -> Result<Vec<Way>, Failure> {
    let ways = [
        ("Postern", MERIT, effort.rounds),
        (
            "merit off (nobody known, observe), answered at the outcome: a FIFO with a filter in the session",
            FIFO_THROUGH,
            1,
        ),
        ("merit off (nobody known, observe), may collect", FIFO_COLLECT, 1),
    ];
    let mut found: Vec<Way> = ways.iter().map(|(name, ..)| Way { name, rounds: Vec::new() }).collect();
    for n in 0..effort.rounds {
        for ((name, settings, rounds), way) in ways.iter().zip(&mut found) {
            if n < *rounds {
                eprintln!("round {}/{rounds}: {NAME}: {name}", n + 1);
                way.rounds.push(one(effort, settings)?);
            }
        }
    }
    Ok(found)
}

fn one(effort: Effort, settings: &str) -> Result<serde_json::Value, Failure> {
    let filter = Filter::start(PER_SECOND)?;
    let settings = format!("{settings}[filter.slow]\nuse = \"rspamd:{}\"\n", filter.addr());
    let mut figures = round(&Setup { settings: settings.into(), delivers: true, ..Setup::default() }, |plan| {
        plan.offer_ms = effort.ms(15_000);
        // By then every answer waits for the filter where answers do.
        plan.friends_after_ms = 5_000;
        plan.crowds.push(Crowd { rate: 5 * PER_SECOND, fresh: true, ..Crowd::new(Behaviour::Spam, 15_000) });
        let known = Friends { patience_ms: 2_000, ..Friends::new("known", 50, f64::from(PER_SECOND) * 0.24) };
        let from = Network::new([127, 200, 128, 0].into(), 17).unwrap_or(known.from);
        let rate = f64::from(PER_SECOND) * 0.06;
        let far = Friends { rtt_ms: 100, patience_ms: 2_000, from, ..Friends::new("known, 100 ms away", 50, rate) };
        plan.friends.extend([known, far]);
    })?;
    let judged = filter.judged();
    figures["filter_judged_spam"] = json!(judged.spam);
    figures["filter_judged_friends"] = json!(judged.friends);
    let offered = |name: &str| figures["friends"][name]["offered"].as_u64().unwrap_or(0);
    let offered = offered("known") + offered("known, 100 ms away");
    figures["friends_judged_percent"] = json!(judged.friends * 100 / offered.max(1));
    Ok(figures)
}

/// C.
const PER_SECOND: u32 = 200;
const MERIT: &str = "[trust]\npinned = [\"127.200.0.0/16\"]\n";
/// Nobody is anything to it: one class, one lane, first come, first served. `bypass` would not do, it asks no filter.
const FIFO_THROUGH: &str = "mode = \"through\"\n[trust]\nobserve = true\n[auto]\nsteering = \"off\"\n";
const FIFO_COLLECT: &str = "[trust]\nobserve = true\n[auto]\nsteering = \"off\"\n";
