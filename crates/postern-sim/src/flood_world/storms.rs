//! What goes wrong, and when: outages, restarts, kills, power cuts, a full disk, a clock that jumps.

use postern_trust::Class;

use super::peers::{DOMAINS, Kind, Peer};
use super::{FloodProfile, FloodWorld, Mistake};
use crate::disk::Faults;
use crate::rng::Rng;

/// One thing that happens to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storm {
    /// The filter is away, or back.
    Filter(bool),
    /// A judgement takes so long from now on.
    FilterTakes(u64),
    /// A next hop is away, or back.
    Hop(usize, bool),
    /// The identity desk has no answers, or has again.
    Dns(bool),
    /// The disk has little room, or much.
    Full(bool),
    /// The wall clock jumps.
    Clock(i64),
    /// An orderly stop and start.
    Restart,
    /// `kill -9`.
    Kill,
    /// The power goes.
    PowerCut,
}

/// Who comes.
pub(super) fn crowd(profile: &FloodProfile, rng: &mut Rng) -> Vec<Peer> {
    let mut peers = Vec::new();
    for kind in [Kind::Friend, Kind::Stranger, Kind::Tenant] {
        for _ in 0..2 + rng.below(5) {
            peers.push(kind);
        }
    }
    let hostile = if profile.hostile == 0 { 0 } else { profile.hostile / 3 + rng.below(profile.hostile) };
    let tribe = [
        Kind::Spammer,
        Kind::Silent,
        Kind::Dribbler,
        Kind::EarlyTalker,
        Kind::Harvester,
        Kind::Backscatter,
        Kind::Chatter,
    ];
    // Each world has a hostile crowd of its own mixture.
    let favourite = tribe[rng.below(tribe.len() as u64) as usize];
    for _ in 0..hostile {
        let kind = if rng.one_in(2) { favourite } else { tribe[rng.below(tribe.len() as u64) as usize] };
        peers.push(kind);
    }
    peers.into_iter().enumerate().map(|(number, kind)| Peer::new(kind, number as u32, rng)).collect()
}

/// What will happen, with the times.
pub(super) fn forecast(profile: &FloodProfile, rng: &mut Rng) -> Vec<(u64, Storm)> {
    let flood_ms = profile.flood_s * 1000;
    let mut storms = Vec::new();
    if profile.outages {
        for _ in 0..1 + rng.below(3) {
            let (from, lasts) = (rng.below(flood_ms), 2_000 + rng.below(50_000));
            let hop = rng.below(DOMAINS.len() as u64) as usize;
            let [begin, end] = match rng.below(6) {
                0 => [Storm::Filter(true), Storm::Filter(false)],
                1 => [Storm::FilterTakes(3_000), Storm::FilterTakes(50)],
                2 => [Storm::Hop(hop, true), Storm::Hop(hop, false)],
                3 => [Storm::Dns(false), Storm::Dns(true)],
                4 => [Storm::Full(true), Storm::Full(false)],
                _ => [Storm::Clock(DAY_MS), Storm::Clock(-DAY_MS)],
            };
            let (begin, end) = if rng.one_in(2) { (begin, end) } else { swap_clock(begin, end) };
            storms.extend([(from, begin), (from + lasts, end)]);
        }
    }
    if profile.crashes {
        for _ in 0..1 + rng.below(3) {
            let storm = [Storm::Restart, Storm::Kill, Storm::PowerCut][rng.below(3) as usize];
            storms.push((rng.below(flood_ms), storm));
        }
    }
    storms
}

/// A clock goes back first, and forward later.
fn swap_clock(begin: Storm, end: Storm) -> (Storm, Storm) {
    match (begin, end) {
        (Storm::Clock(_), Storm::Clock(_)) => (end, begin),
        both => both,
    }
}

impl FloodWorld {
    pub(super) fn storm(&mut self, storm: Storm) {
        self.note(&format!("{storm:?}"), 0);
        match storm {
            Storm::Filter(down) => self.drain.filter_down = down,
            Storm::FilterTakes(ms) => self.drain.filter_ms = ms,
            Storm::Hop(hop, down) => drop(self.drain.hops_down.insert(DOMAINS[hop].to_owned(), down)),
            Storm::Dns(answers) => self.house.dns = answers,
            Storm::Full(full) => self.sky.free_bytes = if full { 1 << 18 } else { 1 << 30 },
            Storm::Clock(by) => self.house.wall_ms += by,
            Storm::Restart | Storm::Kill | Storm::PowerCut => self.start_again(storm),
        }
    }

    fn start_again(&mut self, storm: Storm) {
        self.report.restarts += 1;
        let friends: Vec<_> = self.peers.iter().filter(|peer| peer.kind == Kind::Friend).map(|peer| peer.ip).collect();
        let known_before: Vec<_> = friends.into_iter().filter(|ip| self.house.class_of(*ip) == Class::Known).collect();
        self.house.gather();
        match storm {
            Storm::Restart => {
                self.house.save_book();
                self.house.disk.kill();
            }
            Storm::Kill => self.house.disk.kill(),
            _ => self.house.disk.power_cut(),
        }
        self.disk_busy = false;
        self.drop_all();
        for letter in self.drain.start_again() {
            self.house.ledger.unsure(letter);
        }
        let faults = std::mem::take(&mut self.house.disk.faults);
        match self.house.start_again() {
            Ok(_) => {}
            Err(error) => self.fault(&format!("it does not start: {error}")),
        }
        self.house.disk.faults = faults;
        self.sky.start_again(self.now_ms);
        let modes = self.house.modes.clone();
        self.house.modes = self.sky.modes();
        let changed = DOMAINS.iter().any(|domain| modes.of(domain) != self.house.modes.of(domain));
        if changed && self.profile.mistake != Some(Mistake::StayInStorm) {
            self.fault("a restart has changed the modes");
        }
        if known_before.into_iter().any(|ip| self.house.class_of(ip) > Class::Known) {
            self.fault("a friend is not known any more after a restart");
        }
        if self.profile.mistake == Some(Mistake::LoseItem) {
            self.lose_items();
        }
        self.down_until_ms = self.now_ms + 200 + self.rng.below(2_000);
        let down_until_ms = self.down_until_ms;
        self.look_asked = true;
        self.at(down_until_ms, super::Event::Look);
    }

    /// The crowd goes home; whatever was wrong is mended.
    pub(super) fn end_flood(&mut self) {
        self.house.disk.faults = Faults::default();
        self.drain.filter_down = false;
        self.drain.filter_ms = self.drain.filter_ms.min(200);
        self.drain.hops_down.clear();
        self.house.dns = true;
        self.sky.free_bytes = 1 << 30;
    }
}

const DAY_MS: i64 = 86_400_000;
