//! Who may bring what: the peer of a mail stream, and the authors whose mail it may hand in.
//!
//! The rule stands here once and is pure. The peer's own organisation is the one ground there is;
//! others (an aligned signature, an envelope sender that SPF lets through and that is aligned,
//! trusted forwarding) each become a variant of [`Ground`] with a proof in it. The envelope sender
//! alone is no ground: `evil.example` may say `MAIL FROM:<x@evil.example>` above `From: bank`.
//! [`crate::runtime::World`] asks for each message.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use postern_net::door::PublicKey;
use postern_proto::author::Author;

use super::prove::Prover;

/// Who stands behind a mail stream, as it was proven.
pub(crate) struct Principal {
    /// The domain whose key the peer holds, lower-case.
    pub(crate) domain: Box<str>,
    /// Its organisational domain (RFC 9989), lower-case; the domain itself where none is known.
    pub(crate) org: Box<str>,
    /// What it has shown in TLS.
    pub(crate) key: PublicKey,
    /// Knows the operator's pins, also those that came after the proof.
    pub(crate) prover: Arc<dyn Prover>,
    /// A message on one of its streams came below the floor of its class: noted by the stream, acted on by the
    /// connection.
    pub(crate) too_slow: Cell<bool>,
}

/// Why a message of this author may come by this stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum Ground {
    /// The author belongs to the peer's own organisation.
    Own,
}

/// On what ground the peer may bring mail of this author; none, and it has to take it to port 25.
pub(crate) fn ground_of(author: &Author, peer: &Principal) -> Option<Ground> {
    peer.speaks_for(&author.domain).then_some(Ground::Own)
}

impl Principal {
    /// Whether this peer may say this domain (lower case) behind From, or in the envelope: it is of its own organisation,
    /// and the operator has not pinned it, or one between it and the organisation, to others.
    pub(crate) fn speaks_for(&self, domain: &str) -> bool {
        self.owns(domain) && !self.prover.is_barred(domain, &self.org, &self.key)
    }

    /// Whether a domain (lower case) is of this peer's own organisation. Who owns a zone can speak for all below it anyway:
    /// he could publish whatever is asked for there.
    fn owns(&self, domain: &str) -> bool {
        let below_org = domain.strip_suffix(&*self.org).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        *domain == *self.domain || (below_org && !self.org.is_empty())
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal").field("domain", &self.domain).field("org", &self.org).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
