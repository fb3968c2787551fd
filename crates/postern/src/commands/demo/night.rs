//! The night: when it is calm, when the flood comes and goes, who comes, and how many. Figures and plans only.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use postern_flood::{Behaviour, Crowd, Friends, Network, Plan};

use super::old_server::Size;

/// One night, seen from its beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Night {
    /// When the flood comes.
    pub(super) flood_from_ms: u64,
    /// When it is over.
    pub(super) flood_until_ms: u64,
    /// When friends stop writing.
    pub(super) over_ms: u64,
    /// Silent bots.
    pub(super) silent: u32,
    /// Connections that Postern takes at once; fewer than the bots, so that they fill it.
    pub(super) connections_max: u32,
    /// How long friends wait for each reply.
    pub(super) patience_ms: u32,
    /// Same seed, same senders.
    pub(super) seed: u64,
}

/// What it is like now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Calm,
    Flood,
    After,
    Reckoning,
}

/// Who comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Party {
    /// Friends that this site has exchanged mail with.
    Known,
    /// Honest senders that were never seen before.
    Strangers,
    /// The hostile.
    Hostile,
    /// Friends whose own site has a postern: by port 25 to the server without, through the postern to the one with.
    Peers,
}

impl Party {
    pub(super) const ALL: [Self; 4] = [Self::Known, Self::Strangers, Self::Hostile, Self::Peers];
}

impl Night {
    /// The calm is a sixth of the night, the flood five twelfths, and the rest is for what it left behind.
    pub(super) fn new(seconds: u32, silent: u32, seed: u64) -> Self {
        let over_ms = u64::from(seconds) * 1_000;
        Self {
            flood_from_ms: over_ms / 6,
            flood_until_ms: over_ms * 7 / 12,
            over_ms,
            silent,
            connections_max: (silent * 2 / 3).max(CONNECTIONS_MIN),
            patience_ms: if seconds < 30 { 4_000 } else { 8_000 },
            seed,
        }
    }

    pub(super) fn phase_at(&self, ms: u64) -> Phase {
        match ms {
            _ if ms < self.flood_from_ms => Phase::Calm,
            _ if ms < self.flood_until_ms => Phase::Flood,
            _ if ms < self.over_ms => Phase::After,
            _ => Phase::Reckoning,
        }
    }

    /// The server of 2007's kind.
    pub(super) fn old_size() -> Size {
        Size { processes: PROCESSES, filter_rate: FILTER_RATE }
    }

    /// When this party comes.
    pub(super) fn begins_ms(&self, party: Party) -> u64 {
        if party == Party::Hostile { self.flood_from_ms } else { 0 }
    }

    /// What it does; the ids of what was answered 250 go to `ledger`.
    pub(super) fn plan(&self, party: Party, target: SocketAddr, recipient: &str, ledger: &Path) -> Plan {
        let mut plan = Plan::new(target);
        // Ids begin with the seed: with one of its own no party takes another's.
        plan.seed = self.seed.wrapping_mul(Party::ALL.len() as u64).wrapping_add(party as u64);
        plan.ledger = Some(ledger.to_owned());
        match party {
            Party::Known => plan.friends.push(self.friends("known", FRIENDS_RATE, friends_network(), FRIENDS_DOMAIN)),
            Party::Strangers => {
                let strangers = self.friends("never seen", STRANGERS_RATE, strangers_network(), STRANGERS_DOMAIN);
                plan.friends.push(Friends { fresh: true, ..strangers });
            }
            Party::Peers => plan.friends.push(self.friends("peers", PEERS_RATE, peers_network(), PEERS_DOMAIN)),
            Party::Hostile => plan.crowds.extend(self.crowds()),
        }
        plan.friends.iter_mut().for_each(|friends| recipient.clone_into(&mut friends.recipient));
        plan.crowds.iter_mut().for_each(|crowd| recipient.clone_into(&mut crowd.recipient));
        plan.offer_ms = if party == Party::Hostile { self.flood_until_ms - self.flood_from_ms } else { self.over_ms };
        plan
    }

    fn friends(&self, name: &str, rate: f64, from: Network, domain: &str) -> Friends {
        Friends {
            from,
            patience_ms: self.patience_ms,
            // They try again after 1, 2, 4 s: a night of a minute has no room for the quarter of an hour that
            // servers wait, and the old server gets the same chances.
            retry_ms: self.patience_ms * 2,
            bytes: MESSAGE_BYTES,
            domain: domain.to_owned(),
            ..Friends::new(name, FRIENDS, rate)
        }
    }

    /// They come within three seconds or so, as they did: the volume rises, and stays.
    fn crowds(&self) -> [Crowd; 3] {
        let crowd =
            |behaviour, size, rate| Crowd { rate, fresh: true, bytes: MESSAGE_BYTES, ..Crowd::new(behaviour, size) };
        let silent = Crowd { pause_ms: 500, ..crowd(Behaviour::Hold, self.silent, (self.silent / 3).max(1)) };
        [silent, crowd(Behaviour::Spam, 60, SPAM_RATE), crowd(Behaviour::Backscatter, 30, BACKSCATTER_RATE)]
    }

    /// Postern's configuration: a small site's, with a postern, and the marks of `auto` as short as the night.
    pub(super) fn configuration(&self, next_hop: SocketAddr, domain: &str) -> String {
        format!(
            "hostname = \"mx.{domain}\"\ndeliver = \"smtp:{next_hop}\"\n[recipients]\n\"{domain}\" = \"any\"\n\
             [door]\nlisten = \"127.0.0.1:0\"\ndomain = \"{domain}\"\n\
             [smtp]\nconnections_max = {}\n[dns]\nidentity = false\n[drain]\nretry_first = \"1s\"\nretry_max = \"2s\"\n\
             [auto]\nstorm_min = \"3s\"\ncalm_after = \"2s\"\nbacklog_low = 10\n",
            self.connections_max
        )
    }
}

/// Configuration of the peers' own site: what its people write leaves by the other side's postern, or by port 25
/// where the rule of docs/postern.md says so.
pub(super) fn peers_configuration(port_25: SocketAddr) -> String {
    format!(
        "hostname = \"mx.{PEERS_DOMAIN}\"\ndeliver = \"none\"\n\
         [recipients]\n\"{PEERS_DOMAIN}\" = \"any\"\n\
         [door]\nlisten = \"127.0.0.1:0\"\ndomain = \"{PEERS_DOMAIN}\"\n\
         [relay]\nlisten = \"127.0.0.1:0\"\nnext_hop = \"smtp:{port_25}\"\n[dns]\nidentity = false\n\
         [drain]\nretry_first = \"1s\"\nretry_max = \"2s\"\n"
    )
}

/// Whom the half with Postern writes to: keys are a domain's, and `localhost` is none that could have one.
pub(super) fn with_a_domain(mailbox: &str) -> String {
    match mailbox.rsplit_once('@') {
        Some((_, domain)) if domain.contains('.') && !domain.starts_with('[') => mailbox.to_owned(),
        Some((name, _)) => format!("{name}@{HOME_DOMAIN}"),
        None => format!("{mailbox}@{HOME_DOMAIN}"),
    }
}

/// Every address that a known friend may come from.
pub(super) fn friends_addresses() -> Vec<IpAddr> {
    let network = friends_network();
    (0..network.hosts()).map(|host| network.host(host, 0)).collect()
}

/// Mailboxes of the known friends: as the flood names its senders.
pub(super) fn friends_mailboxes() -> Vec<String> {
    (0..FRIENDS).map(|n| format!("f{n}@{FRIENDS_DOMAIN}")).collect()
}

fn friends_network() -> Network {
    network(200, 28)
}

fn strangers_network() -> Network {
    network(201, 16)
}

fn peers_network() -> Network {
    network(202, 28)
}

fn network(second: u8, prefix: u8) -> Network {
    let address = IpAddr::V4(Ipv4Addr::new(127, second, 0, 0));
    Network::new(address, prefix).expect("a prefix of at most 32")
}

/// The usual limit of the time: `default_process_limit` of Postfix, and about what 512 MB of memory carried.
const PROCESSES: usize = 100;
/// Messages a second that a content filter of the time judged on a small machine, generously.
const FILTER_RATE: u32 = 40;
/// Messages a second of all known friends.
const FRIENDS_RATE: f64 = 6.0;
/// And of those never seen before.
const STRANGERS_RATE: f64 = 2.0;
/// And of those with a postern.
const PEERS_RATE: f64 = 4.0;
/// Together one and a half of what the filter can judge: what is collected has then left by the morning.
const SPAM_RATE: u32 = 38;
const BACKSCATTER_RATE: u32 = 18;
/// As many as addresses, so that each has its own.
const FRIENDS: u32 = 14;
/// Where the known friends write from.
pub(super) const FRIENDS_DOMAIN: &str = "friends.example";
const STRANGERS_DOMAIN: &str = "strangers.example";
/// Whom the peers' site speaks for.
pub(super) const PEERS_DOMAIN: &str = "peer.example";
const HOME_DOMAIN: &str = "home.example";
const MESSAGE_BYTES: u32 = 4_096;
/// Below this the spammers alone would fill it.
const CONNECTIONS_MIN: u32 = 150;
