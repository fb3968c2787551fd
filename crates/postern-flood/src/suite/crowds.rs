//! Crowds with a friend beside: success and the slowest of a hundred tell whether slots are kept.
//!
//! The friend is the one whose control mails the server has been taking; beside it, for the figure only, come strangers
//! with one mail each from a new address.

use std::ops::ControlFlow;

use rustix::process::{Resource, getrlimit};

use super::client::Lost;
use super::stage::Stage;
use super::{Case, Judged, Verdict};
use crate::engine::Flood;
use crate::network::Network;
use crate::plan::{Behaviour, Crowd, Friends, Plan};
use crate::report::Percentiles;

pub(super) const CASES: [Case; 14] = [
    crowd("crowd-hold", |stage| beside(stage, Behaviour::Hold, 200)),
    crowd("crowd-slow", |stage| beside(stage, Behaviour::Slow, 500)),
    crowd("crowd-early", |stage| beside(stage, Behaviour::Early, 500)),
    crowd("crowd-spam", |stage| beside(stage, Behaviour::Spam, 500)),
    crowd("crowd-pipeline", |stage| beside(stage, Behaviour::Pipeline, 200)),
    crowd("crowd-harvest", |stage| beside(stage, Behaviour::Harvest, 200)),
    crowd("crowd-backscatter", |stage| beside(stage, Behaviour::Backscatter, 200)),
    crowd("crowd-half-open", |stage| beside(stage, Behaviour::HalfOpen, 200)),
    crowd("crowd-hurried", |stage| beside(stage, Behaviour::Hurried, 100)),
    crowd("crowd-churn", |stage| beside(stage, Behaviour::Churn, 100)),
    crowd("crowd-bdat", |stage| {
        if stage.offers("CHUNKING") {
            beside(stage, Behaviour::Bdat, 5_000)
        } else {
            Ok((Verdict::Skip, "CHUNKING is not offered".to_owned()))
        }
    }),
    crowd("crowd-size", |stage| beside(stage, Behaviour::Size, 5_000)),
    crowd("crowd-line-bomb", |stage| beside(stage, Behaviour::LineBomb, 50)),
    Case {
        name: "descriptors",
        holds: "18,000 silent connections, which is all descriptors (150 in a quick run): the friend gets 99 % through in 5 s each",
        play: |stage| beside(stage, Behaviour::Hold, 18_000),
    },
];

const fn crowd(name: &'static str, play: fn(&mut Stage<'_>) -> Judged) -> Case {
    Case { name, holds: "a friend beside the crowd gets 99 % of its mail through, in 5 s each", play }
}

fn beside(stage: &mut Stage<'_>, behaviour: Behaviour, size: u32) -> Judged {
    // Descriptors are ours as well; a quarter of a small limit is still a crowd.
    let ours = getrlimit(Resource::Nofile).current.unwrap_or(20_000).saturating_sub(500) as u32;
    let size = if stage.options.quick { size.min(QUICK_SIZE) } else { size }.min(ours);
    let mut plan = Plan::new(stage.options.target);
    plan.seed = stage.options.seed;
    plan.offer_ms = if stage.options.quick { 1_500 } else { 5_000 };
    plan.friends_after_ms = if stage.options.quick { 500 } else { 2_000 };
    let mut crowd = Crowd::new(behaviour, size);
    crowd.recipient.clone_from(&stage.options.recipient);
    if behaviour == Behaviour::Churn {
        crowd.rate = 2_000;
    }
    let mut friend = Friends::new("friend", 1, 20.0);
    friend.patience_ms = PATIENCE_MS;
    friend.recipient.clone_from(&stage.options.recipient);
    let mut strangers = Friends { fresh: true, rate: 4.0, ..friend.clone() };
    strangers.name = "strangers".to_owned();
    match stage.friend() {
        Some(address) => {
            friend.from = host(address);
            strangers.from = Network::new([127, 220, 0, 0].into(), 16).expect("a prefix of at most 32");
        }
        // Where addresses cannot be chosen all come from one.
        None => {
            let own = host(stage.options.target.ip());
            (crowd.from, friend.from, strangers.from) = (own, own, own);
        }
    }
    plan.crowds.push(crowd);
    plan.friends = vec![friend, strangers];
    let report = Flood::run(&plan, |_| ControlFlow::Continue(())).map_err(|error| Lost::Trouble(error.to_string()))?;
    let (friend, strangers) = (&report.friends[0], &report.friends[1]);
    let limited = if report.generator.limited { "; the generator was busy, too" } else { "" };
    let slowest = |times: Percentiles| match times.samples {
        0 => "never".to_owned(),
        _ => format!("in {:.0} ms", times.p99_ms),
    };
    let measured = format!(
        "{size} of them: friend {:.0} %, greeted {}, done {} (p99); strangers {:.0} %{limited}",
        friend.in_time_percent,
        slowest(friend.greeting),
        slowest(friend.final_reply),
        strangers.in_time_percent
    );
    let verdict = match friend.in_time_percent {
        99.0.. => Verdict::Pass,
        50.0.. => Verdict::Partial,
        _ => Verdict::Fail,
    };
    Ok((verdict, measured))
}

fn host(address: std::net::IpAddr) -> Network {
    Network::new(address, if address.is_ipv4() { 32 } else { 128 }).expect("the whole length")
}

/// In each phase, and for the whole to be in time.
const PATIENCE_MS: u32 = 5_000;

/// Enough to fill a hundred processes, few enough for a CI that shares its cores.
const QUICK_SIZE: u32 = 150;
