//! The ways to attack a door, by name: what each sends, and what it needs to be let loose.
//!
//! One enum, so that the command line, the plan and the report cannot disagree. It sends nothing itself: `packets` makes
//! the packets of those without an address of their own, `botnet` and `insider` play the rest.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a hostile crowd at the door does. The first nine forge their source addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    /// Octets without a shape.
    Garbage,
    /// Short headers with random connection ids.
    Short,
    /// Initials without a token, with a payload that does not decrypt.
    Initial,
    /// HELLOs: each asks for an answer to somebody else.
    Hello,
    /// Garbage, HELLOs and tokenless Initials in turn: who floods without having read the specification.
    Naive,
    /// Initials with a token of a ticket's shape, under today's key id, with the right time.
    ForgedTicket,
    /// Initials with a token of a cookie's shape, under the key id and the times of now.
    ForgedCookie,
    /// Short headers whose id has the epoch of now and the usual worker number: only the keyed hash is wrong.
    ForgedId,
    /// Forged tickets, cookies and ids in turn: who has read the specification.
    Aware,
    /// A friend's captured Initial, ticket and all, again and again from his own address.
    Replay,
    /// The same with another connection id each time: the token was not proved for it.
    ReplayOtherId,
    /// The same from everywhere: a stolen ticket, shared.
    ReplayElsewhere,
    /// Short headers with a friend's captured connection id, from everywhere.
    CapturedId,
    /// Real addresses: HELLO, cookie, appointment, a real ClientHello; and never another word.
    Abandon,
    /// Real addresses, whole handshakes with a key that nobody knows; back at once.
    Complete,
    /// An insider with every stream open and an octet a second in each.
    SlowStreams,
    /// An insider that fills every window and never reads a reply.
    Hoard,
    /// An insider that sends without pause on all its streams.
    Greedy,
    /// An insider that opens and resets streams as fast as it can.
    ResetStreams,
}

impl Attack {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Garbage,
        Self::Short,
        Self::Initial,
        Self::Hello,
        Self::Naive,
        Self::ForgedTicket,
        Self::ForgedCookie,
        Self::ForgedId,
        Self::Aware,
        Self::Replay,
        Self::ReplayOtherId,
        Self::ReplayElsewhere,
        Self::CapturedId,
        Self::Abandon,
        Self::Complete,
        Self::SlowStreams,
        Self::Hoard,
        Self::Greedy,
        Self::ResetStreams,
    ];

    /// Its name on the command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Garbage => "garbage",
            Self::Short => "short",
            Self::Initial => "initial",
            Self::Hello => "hello",
            Self::Naive => "naive",
            Self::ForgedTicket => "forged-ticket",
            Self::ForgedCookie => "forged-cookie",
            Self::ForgedId => "forged-id",
            Self::Aware => "aware",
            Self::Replay => "replay",
            Self::ReplayOtherId => "replay-other-id",
            Self::ReplayElsewhere => "replay-elsewhere",
            Self::CapturedId => "captured-id",
            Self::Abandon => "abandon",
            Self::Complete => "complete",
            Self::SlowStreams => "slow-streams",
            Self::Hoard => "hoard",
            Self::Greedy => "greedy",
            Self::ResetStreams => "reset-streams",
        }
    }

    /// What kind of player it takes.
    pub fn means(self) -> Means {
        match self {
            Self::Garbage
            | Self::Short
            | Self::Initial
            | Self::Hello
            | Self::Naive
            | Self::ForgedTicket
            | Self::ForgedCookie
            | Self::ForgedId
            | Self::Aware => Means::Forged,
            Self::Replay | Self::ReplayOtherId | Self::ReplayElsewhere | Self::CapturedId => Means::Captured,
            Self::Abandon => Means::Cookies,
            Self::Complete => Means::Handshakes,
            Self::SlowStreams | Self::Hoard | Self::Greedy | Self::ResetStreams => Means::Inside,
        }
    }
}

/// What an attacker must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// A network that lets forged source addresses out.
    Forged,
    /// The same, and datagrams of a friend, read on the wire.
    Captured,
    /// Addresses that can be answered.
    Cookies,
    /// The same, and the will to finish handshakes.
    Handshakes,
    /// A key that the door lets in.
    Inside,
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Attack {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|one| one.as_str() == text)
            .ok_or_else(|| format!("no attack is called `{text}`; there are {}", known()))
    }
}
