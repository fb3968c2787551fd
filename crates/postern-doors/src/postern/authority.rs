//! Who may bring what: the peer of a mail stream, and the authors whose mail it may hand in.
//!
//! The rule stands here once and is pure. The peer's own domain with all below it, and those above it in its organisation
//! that leave alignment relaxed (RFC 9989), are the one ground there is; others (an aligned signature, an envelope sender that SPF lets through and that is aligned,
//! trusted forwarding) each become a variant of [`Ground`] with a proof in it. The envelope sender
//! alone is no ground: `evil.example` may say `MAIL FROM:<x@evil.example>` above `From: bank`.
//! [`crate::runtime::World`] asks for each message.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use postern_net::door::PublicKey;
use postern_proto::author::{Author, in_dns};

use super::prove::Prover;

/// Who stands behind a mail stream, as it was proven.
pub(crate) struct Principal {
    /// The domain whose key the peer holds, lower-case.
    pub(crate) domain: Box<str>,
    /// Its organisational domain (RFC 9989), lower-case; the domain itself where none is known.
    pub(crate) org: Box<str>,
    /// The domains above its own for which it speaks too, lower-case.
    pub(crate) above: Vec<String>,
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
    /// The author is of the peer's own domain, or of one above it for which it speaks.
    Own,
}

/// On what ground the peer may bring mail of this author; none, and it has to take it to port 25.
pub(crate) fn ground_of(author: &Author, peer: &Principal) -> Option<Ground> {
    peer.speaks_for(&author.domain).then_some(Ground::Own)
}

impl Principal {
    /// Whether this peer may say this domain (lower case) in the envelope, in whatever script.
    pub(crate) fn may_send_as(&self, domain: &str) -> bool {
        in_dns(domain).is_some_and(|domain| self.speaks_for(&domain))
    }

    /// Whether this peer may say this domain (lower case, A-labels) behind From: it is its own, or of its
    /// organisation and open to it, and the operator has not pinned it, or one between it and the organisation, to others.
    fn speaks_for(&self, domain: &str) -> bool {
        self.owns(domain) && !self.prover.is_barred(domain, &self.org, &self.key)
    }

    /// Whether a domain (lower case) is the peer's own, below that, or above it and open to it. Who owns a zone can speak for
    /// all below it anyway: he could publish whatever is asked for there. Who owns a part of one cannot speak for the whole
    /// unless the whole says so, nor for another part.
    fn owns(&self, domain: &str) -> bool {
        let below = domain.strip_suffix(&*self.domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        (below && !self.domain.is_empty()) || self.above.iter().any(|above| above == domain)
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal").field("domain", &self.domain).field("org", &self.org).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
