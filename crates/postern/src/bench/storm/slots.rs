//! Every slot taken: twice as many bots as there are slots, each back a second after it is sent away. Back at once
//! would measure the generator: it would have no time for friends.

use postern_flood::{Behaviour, Crowd, Friends, Plan};

use super::{Effort, Way, round, round_against};
use crate::bench::server::{Server, Setup};
use crate::exit::Failure;

/// As `--only` looks for it.
pub(super) const NAME: &str = "slots: 18,000 bots want 9,500 connections";

pub(super) fn measure(effort: Effort) -> Result<Vec<Way>, Failure> {
    let mut merit = Way { name: "Postern", rounds: Vec::new() };
    let mut sybils = Way { name: "Postern, 1,000 of the bots are known by correspondence", rounds: Vec::new() };
    let mut floor =
        Way { name: "nobody hostile: what this machine and the generator take themselves", rounds: Vec::new() };
    let mut fifo = Way { name: "merit off (`postern bypass on`), one queue", rounds: Vec::new() };
    for n in 1..=effort.rounds {
        eprintln!("round {n}/{}: {NAME}", effort.rounds);
        merit.rounds.push(round(&setup(effort, "auto"), |plan| crowd(plan, effort, 0))?);
        let server = Server::start(&setup(effort, "auto"))?;
        let network = sybil_network();
        server.make_known((0..network.hosts()).map(|host| network.host(host, 0)))?;
        let mut figures = round_against(&server, |plan| crowd(plan, effort, SYBIL_COUNT))?;
        let class = server.class_of(network.host(7, 0))?;
        figures["a_sybil_is_known"] = u8::from(class == "known").into();
        sybils.rounds.push(figures);
        // Friends who get nowhere wait to the end of their patience: once says it.
        if n == 1 {
            floor.rounds.push(round(&setup(effort, "auto"), |plan| {
                plan.offer_ms = effort.ms(12_000);
                plan.friends.extend(friends());
            })?);
            fifo.rounds.push(round(&Setup { bypass: true, ..setup(effort, "off") }, |plan| crowd(plan, effort, 0))?);
        }
    }
    Ok(vec![merit, sybils, fifo, floor])
}

fn setup(effort: Effort, steering: &str) -> Setup {
    let settings = format!(
        "[smtp]\nconnections_max = {}\n[trust]\npinned = [\"127.200.0.0/16\"]\n[auto]\nsteering = \"{steering}\"\n",
        effort.size(9_500)
    );
    Setup { settings: settings.into(), descriptors: Some(10_000), ..Setup::default() }
}

fn crowd(plan: &mut Plan, effort: Effort, sybils: u32) {
    plan.offer_ms = effort.ms(12_000);
    // All slots are taken by then.
    plan.friends_after_ms = 4_000;
    let bots = |size| Crowd { pause_ms: 1_000, ..Crowd::new(Behaviour::Hold, effort.size(size)) };
    plan.crowds.push(bots(18_000 - sybils));
    if sybils > 0 {
        plan.crowds.push(Crowd { name: "sybils".to_owned(), from: sybil_network(), ..bots(sybils) });
    }
    plan.friends.extend(friends());
}

/// 50 at the door, 50 a round trip of 100 ms away, and friends that nobody has heard of, each from a new address.
fn friends() -> [Friends; 3] {
    let network = |second, third| postern_flood::Network::new([127, second, third, 0].into(), 17);
    let known = Friends::new("known", 50, 60.0);
    let from = network(200, 128).unwrap_or(known.from);
    let far = Friends { rtt_ms: 100, from, ..Friends::new("known, 100 ms away", 50, 20.0) };
    let from = network(201, 0).unwrap_or(known.from);
    let new = Friends { fresh: true, retry_ms: 60_000, from, ..Friends::new("never seen, retries", 50, 10.0) };
    [known, far, new]
}

/// 1,022 addresses.
fn sybil_network() -> postern_flood::Network {
    let nearly = Crowd::new(Behaviour::Hold, 1).from;
    postern_flood::Network::new([127, 203, 0, 0].into(), 22).unwrap_or(nearly)
}

const SYBIL_COUNT: u32 = 1_000;
