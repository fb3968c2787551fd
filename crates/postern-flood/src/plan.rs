//! What a flood is: who comes, how many, from where, how they behave, for how long. Plain data, checked before the
//! first connect; the same plan and seed give the same sequence of clients, addresses and messages.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::{CONNECTIONS_MAX, MESSAGE_BYTES_MAX, MESSAGES_MAX, OFFER_MS_MAX, RTT_MS_MAX};
use crate::network::Network;
use crate::target;

/// Everything about one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The server: loopback, or anything from inside a namespace of one's own ([`target::check`]).
    pub target: SocketAddr,
    /// Same seed, same addresses, identities and bodies.
    pub seed: u64,
    /// How long friends offer mail. The crowds go on until the last friend's message is concluded.
    pub offer_ms: u64,
    /// Friends begin this long after the crowds, so that the crowds are there first.
    pub friends_after_ms: u64,
    /// Connects of all crowds after which they stop; `None`: as many as the time allows.
    pub connects_max: Option<u64>,
    /// The hostile.
    pub crowds: Vec<Crowd>,
    /// The friendly.
    pub friends: Vec<Friends>,
    /// Core to run on.
    pub pin: Option<usize>,
    /// File that gets the id of each message answered 250, one a line.
    pub ledger: Option<PathBuf>,
}

/// How the members of a hostile crowd behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Behaviour {
    /// Connect and say nothing.
    Hold,
    /// One octet a second.
    Slow,
    /// Talk before the greeting, then send like spam.
    Early,
    /// A message a connection in lockstep, and back at once.
    Spam,
    /// Commands without end, never waiting for a reply.
    Pipeline,
    /// One recipient after the other from a dictionary.
    Harvest,
    /// Reports to forged senders: `MAIL FROM:<>`.
    Backscatter,
    /// Announce a chunk of 100 MB, then silence.
    Bdat,
    /// Announce SIZE=, start the data, then silence.
    Size,
    /// Connect and reset.
    Churn,
    /// Send and never read a reply.
    HalfOpen,
    /// A header that does not end.
    HeaderBomb,
    /// A line that does not end.
    LineBomb,
    /// A message, and gone behind its final dot.
    Hurried,
}

impl Behaviour {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Hold,
        Self::Slow,
        Self::Early,
        Self::Spam,
        Self::Pipeline,
        Self::Harvest,
        Self::Backscatter,
        Self::Bdat,
        Self::Size,
        Self::Churn,
        Self::HalfOpen,
        Self::HeaderBomb,
        Self::LineBomb,
        Self::Hurried,
    ];

    /// Its name on the command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Slow => "slow",
            Self::Early => "early",
            Self::Spam => "spam",
            Self::Pipeline => "pipeline",
            Self::Harvest => "harvest",
            Self::Backscatter => "backscatter",
            Self::Bdat => "bdat",
            Self::Size => "size",
            Self::Churn => "churn",
            Self::HalfOpen => "half-open",
            Self::HeaderBomb => "header-bomb",
            Self::LineBomb => "line-bomb",
            Self::Hurried => "hurried",
        }
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Behaviour {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or_else(|| format!("no crowd behaves `{text}`"))
    }
}

/// A hostile crowd.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Crowd {
    /// In the report; the behaviour's name when made by [`Crowd::new`].
    pub name: String,
    /// What each of them does.
    pub behaviour: Behaviour,
    /// Connections at once.
    pub size: u32,
    /// New connections a second of the whole crowd; 0: each member comes back at once.
    pub rate: u32,
    /// Where they come from.
    pub from: Network,
    /// A new address for every connection, instead of one per member.
    pub fresh: bool,
    /// Simulated round trip.
    pub rtt_ms: u32,
    /// Octets of each message.
    pub bytes: u32,
    /// Whom they write to.
    pub recipient: String,
    /// A member waits this long before it comes back.
    pub pause_ms: u32,
}

impl Crowd {
    /// `size` members that come back at once, from 127.64.0.0/10, with messages of 4 KiB to ann@localhost.
    pub fn new(behaviour: Behaviour, size: u32) -> Self {
        Self {
            name: behaviour.as_str().to_owned(),
            behaviour,
            size,
            rate: 0,
            from: Network::new([127, 64, 0, 0].into(), 10).expect("a prefix of at most 32"),
            fresh: false,
            rtt_ms: 0,
            bytes: 4_096,
            recipient: "ann@localhost".to_owned(),
            pause_ms: 0,
        }
    }
}

/// Friends: they write at a steady rate whatever the server does, and each message is timed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Friends {
    /// In the report: `known`, `never seen`.
    pub name: String,
    /// How many, each with an address of its own.
    pub count: u32,
    /// Messages a second of all of them.
    pub rate: f64,
    /// Where they come from.
    pub from: Network,
    /// Each message comes from an address that was not used before.
    pub fresh: bool,
    /// How long each phase (connect and greeting; each reply) may take, and what counts as in time for the whole.
    pub patience_ms: u32,
    /// After a 4xx, a time-out or a lost connection they try again after 1, 2, 4 … s, up to this long in all; 0: never.
    pub retry_ms: u32,
    /// Simulated round trip.
    pub rtt_ms: u32,
    /// Octets of each message.
    pub bytes: u32,
    /// Domain of their addresses; their name in EHLO is `mail.` and this.
    pub domain: String,
    /// Whom they write to.
    pub recipient: String,
}

impl Friends {
    /// `count` friends that send `rate` messages a second together, from 127.200.0.0/16, patience 20 s, no retry,
    /// 4 KiB, no simulated round trip.
    pub fn new(name: &str, count: u32, rate: f64) -> Self {
        Self {
            name: name.to_owned(),
            count,
            rate,
            from: Network::new([127, 200, 0, 0].into(), 16).expect("a prefix of at most 32"),
            fresh: false,
            patience_ms: 20_000,
            retry_ms: 0,
            rtt_ms: 0,
            bytes: 4_096,
            domain: "friends.example".to_owned(),
            recipient: "ann@localhost".to_owned(),
        }
    }
}

impl Plan {
    /// Nobody comes, for ten seconds.
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            seed: 1,
            offer_ms: 10_000,
            friends_after_ms: 0,
            connects_max: None,
            crowds: Vec::new(),
            friends: Vec::new(),
            pin: None,
            ledger: None,
        }
    }

    /// Whether it may run: the target is ours alone, and every number is within its limit.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub fn check(&self) -> Result<(), FloodError> {
        target::check(self.target.ip())?;
        let bad = |what: String| Err(FloodError::Plan(what));
        if self.offer_ms == 0 || self.offer_ms > OFFER_MS_MAX || self.friends_after_ms > OFFER_MS_MAX {
            return bad(format!("a flood lasts 1 ms to {} s", OFFER_MS_MAX / 1_000));
        }
        let members: u64 = self.crowds.iter().map(|crowd| u64::from(crowd.size)).sum();
        if members > u64::from(CONNECTIONS_MAX) {
            return bad(format!("{members} connections at once; {CONNECTIONS_MAX} at most"));
        }
        for crowd in &self.crowds {
            check_common(&crowd.name, &crowd.from, self.target, crowd.rtt_ms, crowd.bytes)?;
            check_address(&crowd.recipient)?;
        }
        for friends in &self.friends {
            check_common(&friends.name, &friends.from, self.target, friends.rtt_ms, friends.bytes)?;
            check_address(&friends.recipient)?;
            check_address(&format!("x@{}", friends.domain))?;
            if friends.count == 0 || !friends.rate.is_finite() || friends.rate <= 0.0 || friends.patience_ms == 0 {
                return bad(format!("{}: count, rate and patience are above 0", friends.name));
            }
        }
        let messages: f64 = self.friends.iter().map(|friends| friends.rate * self.offer_ms as f64 / 1_000.0).sum();
        if messages > MESSAGES_MAX as f64 {
            return bad(format!("{messages:.0} messages of friends; {MESSAGES_MAX} at most"));
        }
        Ok(())
    }
}

fn check_common(name: &str, from: &Network, target: SocketAddr, rtt_ms: u32, bytes: u32) -> Result<(), FloodError> {
    let bad = |what: String| Err(FloodError::Plan(format!("{name}: {what}")));
    if from.is_ipv4() != target.is_ipv4() {
        return bad(format!("{from} cannot reach {target}: not the same family"));
    }
    if target.ip().is_loopback() && !from.is_loopback() {
        return bad(format!("{from} cannot reach {target}: loopback answers loopback only"));
    }
    if rtt_ms > RTT_MS_MAX {
        return bad(format!("a round trip is 0 to {RTT_MS_MAX} ms"));
    }
    if bytes > MESSAGE_BYTES_MAX {
        return bad(format!("a message has {MESSAGE_BYTES_MAX} octets at most"));
    }
    Ok(())
}

/// An address goes into a command line as it is: nothing in it may end the line.
pub(crate) fn check_address(address: &str) -> Result<(), FloodError> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>');
    if address.contains('@') && address.len() < 250 && address.bytes().all(plain) {
        return Ok(());
    }
    Err(FloodError::Plan(format!("`{address}` is no address")))
}

/// Why a flood did not run.
#[derive(Debug, thiserror::Error)]
pub enum FloodError {
    /// The target is somebody else's.
    #[error("{0}")]
    Foreign(String),
    /// A number is beyond its limit.
    #[error("{0}")]
    Plan(String),
    /// Too few descriptors for the plan.
    #[error(
        "{wanted} connections need more descriptors than the {limit} allowed here; raise the limit (`ulimit -n`) or come with fewer"
    )]
    Descriptors {
        /// By the plan.
        wanted: u64,
        /// By the system.
        limit: u64,
    },
    /// The system refused something.
    #[error("{0}: {1}")]
    System(String, std::io::Error),
    /// Nobody answers: a flood against nothing would look like a perfect score.
    #[error("{0} does not answer: {1}")]
    Unreachable(SocketAddr, String),
}

#[cfg(test)]
mod tests;
