//! Whose key is it: the question that the listener asks about each peer, and the answers it knows.
//!
//! A seam: DNS, pins and history live behind it, in other crates. The listener asks once for each
//! connection, after TLS has proven that the peer holds the key and not before.

use std::task::{Context, Poll};

use postern_net::door::PublicKey;
use postern_proto::door::PeerClass;
use tokio::sync::{oneshot, watch};

/// Finds out whose key it is.
pub trait Prover: Send + Sync + 'static {
    /// Whether the claim is true. The answer may come at once, later, or (counted as [`Proof::NotNow`]) never; from whatever
    /// thread.
    fn prove(&self, claim: Claim<'_>, answer: Answer);

    /// Whether the operator has said that `key` does not speak for `domain`: other keys are pinned for it, or for a domain
    /// above it up to `org`. Asked about each author; answers at once, and asks nobody.
    fn is_barred(&self, domain: &str, org: &str, key: &PublicKey) -> bool;

    /// Whether the operator has pinned `key` to `domain`, as of now.
    fn is_pinned(&self, domain: &str, key: &PublicKey) -> bool;

    /// Rings whenever what the operator has pinned has changed.
    fn pin_changes(&self) -> watch::Receiver<u64>;
}

/// What a peer says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Whose key it is.
    pub domain: &'a str,
    /// The name at which the peer says its key is published, when that is not the usual one.
    pub owner: Option<&'a str>,
    /// As TLS has proven it.
    pub key: &'a PublicKey,
    /// What the peer was at the gate: who comes first.
    pub class: PeerClass,
}

/// Where the answer goes.
#[derive(Debug)]
pub struct Answer(oneshot::Sender<Proof>);

impl Answer {
    pub(super) fn new() -> (Self, oneshot::Receiver<Proof>) {
        let (tell, told) = oneshot::channel();
        (Self(tell), told)
    }

    /// Gives it; to nobody, if the peer has left.
    pub fn tell(self, proof: Proof) {
        drop(self.0.send(proof));
    }

    /// The peer has left, or waits no longer.
    pub fn has_left(&self) -> bool {
        self.0.is_closed()
    }

    /// Ready when it has.
    pub fn poll_left(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll_closed(context)
    }
}

/// What was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The operator has pinned this key to the domain.
    Pinned(Standing),
    /// The key is the domain's, and the domain is known here.
    Known(Standing),
    /// The key is the domain's, by DNS.
    Proven(Standing),
    /// Nothing proves it.
    Unproven {
        /// For the log.
        why: String,
    },
    /// DNS does not answer, or a budget is used up.
    NotNow,
}

/// Where a domain stands whose key is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whose connections are counted together: its organisational domain (RFC 9989), lower-case.
    pub org: String,
    /// The domains above its own whose mail it may bring too, lower-case.
    pub above: Vec<String>,
    /// The proof could not be forged on the way: pinned, or validated by DNSSEC. Otherwise nothing that is said of a
    /// domain above it, in the book, is said of it.
    pub secure: bool,
}

impl Standing {
    /// Of a domain of the organisation `org` that speaks for itself only; by DNS that nothing signs.
    pub fn unsigned(org: impl Into<String>) -> Self {
        Self { org: org.into(), above: Vec::new(), secure: false }
    }

    /// The same, where nobody could have forged it.
    pub fn secure(org: impl Into<String>) -> Self {
        Self { org: org.into(), above: Vec::new(), secure: true }
    }
}
