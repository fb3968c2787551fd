//! Whose key is this? The proof that a peer of the postern is the domain it says it is.
//!
//! A peer has shown in TLS that it holds a key; this desk says whose key that is: pinned by the operator, or published
//! in DNS (TXT at `_postern.DOMAIN`, or a signed TLSA at `_smtp-client.DOMAIN`, draft-ietf-dance-client-auth), and which
//! organisation the domain belongs to. Asked only after TLS: nothing that a stranger can send without a handshake causes
//! a question to DNS. A thread of its own, because it checks signatures: a domain that makes them costly slows nobody who
//! looks into port 25. When DNS is in trouble it says "not now", and whoever was proven lately stays proven.

mod desk;
mod line;
mod lookups;
mod org;
mod owner;
mod pinned;
mod worker;

use std::net::SocketAddr;
use std::time::Duration;

use postern_net::dns::DnsTrust;
use postern_proto::door::PeerClass;

pub use self::desk::{Asker, KeyDesk, KeyStats, OnProof};
pub use self::pinned::{PinWord, PinnedPeer, PinnedPeers};

/// What is asked: does the holder of this key speak for this domain?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyQuestion {
    /// As the peer says it.
    pub domain: Box<str>,
    /// Where its TLSA record is, when it says so; else `_smtp-client.DOMAIN`.
    pub owner: Option<Box<str>>,
    /// SubjectPublicKeyInfo in DER, as TLS proved it.
    pub spki: Box<[u8]>,
    /// What the peer was at the gate: its ticket's class, or a stranger. Who comes first.
    pub class: PeerClass,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyProof {
    /// It does.
    Proven {
        /// Whose budgets and credit the peer has: the organisational domain, lower case.
        org: Box<str>,
        /// The domains above its own, up to the organisation, for which it speaks too: those whose DMARC record asks for
        /// no strict alignment. Eight at most.
        above: Vec<Box<str>>,
        /// What says so.
        by: ProvenBy,
        /// That could not be forged on the way: validated by DNSSEC, or pinned.
        secure: bool,
    },
    /// It does not. The peer delivers nothing and gets no ticket.
    Unproven(Unproven),
    /// Nobody knows now. The peer is to come again.
    NotNow(NotNow),
}

/// What proves a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProvenBy {
    /// The operator has pinned it.
    Pin,
    /// The record at `_postern.DOMAIN`.
    Txt,
    /// A validated TLSA record.
    Tlsa,
}

impl ProvenBy {
    /// For the log and `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Txt => "txt",
            Self::Tlsa => "tlsa",
        }
    }
}

/// Why a key is not the domain's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// The claim is no domain name of two labels or more.
    #[error("the domain it claims is none")]
    NotADomain,
    /// The owner name is neither `_smtp-client.DOMAIN` nor below that.
    #[error("the owner name is not the domain's own")]
    ForeignOwner,
    /// Not a key that door/1 knows.
    #[error("the key is of no kind that is known here")]
    UnknownKey,
    /// Others register below the domain; nobody is it (`psd=y`).
    #[error("the domain is a public suffix")]
    PublicSuffix,
    /// The operator has pinned other keys of the domain, or of one above it in its organisation, and these are all that
    /// count.
    #[error("other keys of the domain, or of one above it, are pinned")]
    OtherPinned,
    /// The domain publishes keys, and this is none of them.
    #[error("the domain publishes other keys")]
    OtherKey,
    /// The domain's record cannot be read, or there are several.
    #[error("the domain's record does not count: there are several, or it cannot be read")]
    BadRecord,
    /// The domain publishes no key that counts.
    #[error("the domain publishes no key")]
    NoKey,
}

/// Why there is no answer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// DNS failed, or what it said does not validate.
    #[error("DNS has no answer, or none that validates")]
    Dns,
    /// The question's time was over.
    #[error("DNS did not answer in time")]
    Late,
    /// The budgets of DNS are spent, in all or for this domain.
    #[error("what may be asked of DNS is spent")]
    Budget,
    /// The desk has its fill of questions, or has ended.
    #[error("too many ask at once")]
    Full,
}

/// How the desk works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyOptions {
    /// The name server; `None` takes those of `/etc/resolv.conf`.
    pub resolver: Option<SocketAddr>,
    /// What makes an answer secure. With [`DnsTrust::None`] only pins and TXT records prove a key.
    pub trust: DnsTrust,
    /// Pinned peers, to begin with.
    pub pinned: PinnedPeers,
    /// For a whole question; ten look-ups at most. 8 s: the handshake's own deadline does not run any more, and mail
    /// that comes a few seconds later is better than mail that is parked.
    pub question: Duration,
    /// For one look-up.
    pub lookup: Duration,
    /// Look-ups in flight, 32 at least, each with up to ten datagrams of its own when answers are validated.
    pub in_flight: u32,
    /// Look-ups a second. A proof costs two to ten when nothing is cached: some ten new domains a second.
    pub per_second: u32,
    /// Look-ups in flight for one peer's domain.
    pub per_domain: u32,
    /// Answers are kept for their TTL. Off only for who wants to see each question asked.
    pub keep_answers: bool,
}

impl Default for KeyOptions {
    fn default() -> Self {
        Self {
            resolver: None,
            trust: DnsTrust::None,
            pinned: PinnedPeers::default(),
            question: Duration::from_secs(8),
            lookup: Duration::from_millis(2500),
            in_flight: 64,
            per_second: 100,
            per_domain: 4,
            keep_answers: true,
        }
    }
}
