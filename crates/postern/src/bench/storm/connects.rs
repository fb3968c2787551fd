//! More connections than admission can take: whether the known wait behind them.
//!
//! The door burns 100 µs over each stranger (`smtp.admission_spin_us`), so that it cannot keep up however fast the
//! machine is. Time to greeting, never to connect: `connect()` returns at once while thousands wait in the queue.

use postern_flood::{Behaviour, Crowd, Friends, Network};

use super::{Effort, Way, round};
use crate::bench::server::Setup;
use crate::exit::Failure;

/// As `--only` looks for it.
pub(super) const NAME: &str = "connects: 20,000 hostile connections a second, 100 us of admission each";

pub(super) fn measure(effort: Effort) -> Result<Vec<Way>, Failure> {
    let mut ways = [("Postern", ON), ("steering off: one accept queue", OFF)]
        .map(|(name, settings)| (settings, Way { name, rounds: Vec::new() }));
    for n in 1..=effort.rounds {
        for (settings, way) in &mut ways {
            eprintln!("round {n}/{}: {NAME}: {}", effort.rounds, way.name);
            way.rounds.push(one(effort, settings)?);
        }
    }
    Ok(ways.map(|(_, way)| way).into())
}

fn one(effort: Effort, settings: &'static str) -> Result<serde_json::Value, Failure> {
    round(&Setup { settings: settings.into(), ..Setup::default() }, |plan| {
        plan.offer_ms = effort.ms(9_000);
        // The queue of 4,096 is full by then.
        plan.friends_after_ms = 2_000;
        // A client whose SYN was dropped stays for its next try; there are enough of them to go on at the rate.
        let crowd = Crowd { rate: 20_000, fresh: true, ..Crowd::new(Behaviour::Churn, 17_000) };
        plan.crowds.push(crowd);
        let near = Friends { patience_ms: 10_000, ..Friends::new("known", 50, 80.0) };
        let from = Network::new([127, 200, 128, 0].into(), 17).unwrap_or(near.from);
        let far = Friends { rtt_ms: 100, from, ..Friends::new("known, 100 ms away", 50, 20.0) };
        plan.friends.extend([near, far]);
    })
}

const ON: &str = "[smtp]\nadmission_spin_us = 100\n[trust]\npinned = [\"127.200.0.0/16\"]\n";
const OFF: &str =
    "[smtp]\nadmission_spin_us = 100\n[trust]\npinned = [\"127.200.0.0/16\"]\n[auto]\nsteering = \"off\"\n";
