//! What a flood at a door is: which attacks from where and how fast, which friends, for how long. Plain data, checked
//! before the first packet.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::attack::{Attack, Means};
use super::origins::Origins;
use crate::limits::{
    CONNECTIONS_MAX, DOOR_CONNECTIONS_MAX, DOOR_PACKETS_MAX, MESSAGE_BYTES_MAX, MESSAGES_MAX, OFFER_MS_MAX,
};
use crate::network::Network;
use crate::plan::FloodError;
use crate::target;

/// Everything about one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DoorPlan {
    /// The door: loopback, or anything from inside a namespace of one's own ([`target::check`]).
    pub target: SocketAddr,
    /// Same seed, same packets.
    pub seed: u64,
    /// How long friends offer mail and attacks go on.
    pub offer_ms: u64,
    /// Friends begin to offer this long after the attacks. Their links that stand are made before.
    pub friends_after_ms: u64,
    /// The hostile.
    pub attacks: Vec<Assault>,
    /// The friendly.
    pub friends: Option<DoorFriends>,
    /// Core to run on.
    pub pin: Option<usize>,
}

/// One attack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assault {
    /// What they do.
    pub attack: Attack,
    /// Packets a second; Initials of those who honour cookies, handshakes of those who finish them. 0: as many as can be.
    pub rate: u32,
    /// Where they come from, or say so.
    pub from: Network,
    /// Addresses. Of insiders: connections.
    pub sources: u32,
    /// Prefixes (/24, /48) that the addresses lie in.
    pub prefixes: u32,
    /// Packets after which it stops; of those with handshakes, handshakes. `None`: the time says.
    pub packets_max: Option<u64>,
    /// Whom insiders are. `None`: the friends themselves.
    #[serde(default)]
    pub peer: Option<Peer>,
}

/// Somebody whom the door knows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// Whose mail it is.
    pub domain: String,
    /// Private key, a PEM file of PKCS #8.
    pub key: PathBuf,
}

impl Assault {
    /// As fast as can be, from 65,536 addresses in 16,384 prefixes of 127.64.0.0/10; insiders and those who finish
    /// handshakes are 8 and 256.
    pub fn new(attack: Attack) -> Self {
        let (sources, prefixes) = match attack.means() {
            Means::Forged | Means::Captured => (65_536, 16_384),
            Means::Cookies => (10_000, 10_000),
            Means::Handshakes => (256, 256),
            Means::Inside => (8, 8),
        };
        Self {
            attack,
            rate: 0,
            from: Network::new([127, 64, 0, 0].into(), 10).expect("a prefix of at most 32"),
            sources,
            prefixes,
            packets_max: None,
            peer: None,
        }
    }

    pub(super) fn origins(&self) -> Option<Origins> {
        Origins::new(&self.from, self.sources, self.prefixes)
    }
}

/// Friends at the door: they bring mail at a steady rate whatever the door does, and each message is timed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DoorFriends {
    /// Links that stand for the whole run.
    pub links: u32,
    /// Messages a second on all of these together.
    pub rate: f64,
    /// New connections a second, with a ticket, each for one message.
    pub fresh_rate: f64,
    /// Connections a second of honest strangers: no ticket, a cookie and its appointment first, each from an address
    /// that was not used before.
    pub strangers_rate: f64,
    /// Where the friends come from, each with an address of its own.
    pub from: Network,
    /// Where the strangers come from.
    pub strangers_from: Network,
    /// What counts as in time.
    pub patience_ms: u32,
    /// Octets of each message.
    pub bytes: u32,
    /// Whose mail it is.
    pub domain: String,
    /// Whom they write to.
    pub recipient: String,
    /// Private key, a PEM file of PKCS #8; `None`: a key made for this run, that no door knows.
    pub key: Option<PathBuf>,
    /// The door's key, base64 of its SubjectPublicKeyInfo; `None`: any.
    pub peer_key: Option<String>,
    /// Where tickets are kept between runs.
    pub tickets: Option<PathBuf>,
    /// How they are let in.
    pub entry: Entry,
    /// Tell when each message was taken: for runs in which the door is gone for a while.
    #[serde(default)]
    pub moments: bool,
}

/// How a friend comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// By a ticket where there is one, else by a cookie: a door.
    Door,
    /// Without a token: a server that is no door.
    Plain,
}

impl DoorFriends {
    /// Four links with 100 messages of 4 KiB a second and 20 new ticketed connections a second, from 127.200.0.0/16, patience
    /// 3 s; no strangers. (What the comparison with stock quinn was first made with.)
    pub fn new() -> Self {
        let network = |second: u8| Network::new([127, second, 0, 0].into(), 16).expect("a prefix of at most 32");
        Self {
            links: 4,
            rate: 100.0,
            fresh_rate: 20.0,
            strangers_rate: 0.0,
            from: network(200),
            strangers_from: network(201),
            patience_ms: 3_000,
            bytes: 4_096,
            domain: "friends.example".to_owned(),
            recipient: "ann@localhost".to_owned(),
            key: None,
            peer_key: None,
            tickets: None,
            entry: Entry::Door,
            moments: false,
        }
    }
}

impl Default for DoorFriends {
    fn default() -> Self {
        Self::new()
    }
}

impl DoorPlan {
    /// Nobody comes, for ten seconds.
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            seed: 1,
            offer_ms: 10_000,
            friends_after_ms: 1_000,
            attacks: Vec::new(),
            friends: None,
            pin: None,
        }
    }

    /// Whether it may run: the target is ours alone, sources are where answers cannot leave, numbers within limits.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub fn check(&self) -> Result<(), FloodError> {
        target::check(self.target.ip())?;
        let bad = |what: String| Err(FloodError::Plan(what));
        if self.offer_ms == 0 || self.offer_ms > OFFER_MS_MAX || self.friends_after_ms > OFFER_MS_MAX {
            return bad(format!("a flood lasts 1 ms to {} s", OFFER_MS_MAX / 1_000));
        }
        for assault in &self.attacks {
            let name = assault.attack;
            self.check_from(name.as_str(), &assault.from)?;
            if assault.origins().is_none() {
                let what = "no so many addresses in so many prefixes; a prefix (/24, /48) holds 254";
                return bad(format!("{name}: {what}, and {} must hold the prefixes", assault.from));
            }
            if assault.packets_max.is_some_and(|max| max > DOOR_PACKETS_MAX) {
                return bad(format!("{name}: {DOOR_PACKETS_MAX} packets at most"));
            }
            let alive = matches!(assault.attack.means(), Means::Handshakes | Means::Inside);
            if alive && assault.sources > DOOR_CONNECTIONS_MAX {
                return bad(format!("{name}: {DOOR_CONNECTIONS_MAX} connections at once at most"));
            }
        }
        let Some(friends) = &self.friends else { return Ok(()) };
        self.check_from("friends", &friends.from)?;
        self.check_from("strangers", &friends.strangers_from)?;
        let rates = [friends.rate, friends.fresh_rate, friends.strangers_rate];
        let rate_ok = rates.iter().all(|rate| rate.is_finite() && *rate >= 0.0);
        if !rate_ok || friends.patience_ms == 0 || (friends.links == 0 && friends.rate > 0.0) {
            return bad("friends: rates are 0 or more, patience is above 0, and mail needs a link".to_owned());
        }
        if friends.links > DOOR_CONNECTIONS_MAX.min(CONNECTIONS_MAX) || friends.bytes > MESSAGE_BYTES_MAX {
            return bad(format!("friends: {DOOR_CONNECTIONS_MAX} links, {MESSAGE_BYTES_MAX} octets at most"));
        }
        let messages = rates.iter().sum::<f64>() * self.offer_ms as f64 / 1_000.0;
        if messages > MESSAGES_MAX as f64 {
            return bad(format!("{messages:.0} messages of friends; {MESSAGES_MAX} at most"));
        }
        crate::plan::check_address(&friends.recipient)?;
        crate::plan::check_address(&format!("x@{}", friends.domain))
    }

    /// The door answers whom a packet says it is from: that must not lead out of here either.
    fn check_from(&self, name: &str, from: &Network) -> Result<(), FloodError> {
        if from.is_ipv4() != self.target.is_ipv4() {
            return Err(FloodError::Plan(format!("{name}: {from} cannot reach {}: not the same family", self.target)));
        }
        if self.target.ip().is_loopback() && !from.is_loopback() {
            let what = "loopback answers loopback only, and an answer to any other address would leave this machine";
            return Err(FloodError::Plan(format!("{name}: {from} is not loopback; {what}")));
        }
        Ok(())
    }
}
