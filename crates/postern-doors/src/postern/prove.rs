//! Whose key is it: the question that the listener asks about each peer, and the answers it knows.
//!
//! A seam: DNS, pins and history live behind it, in other crates. The listener asks once for each
//! connection, after TLS has proven that the peer holds the key and not before.

use postern_net::door::PublicKey;

/// Finds out whose key it is.
pub trait Prover: Send + Sync + 'static {
    /// Whether `key` is that of `domain`. `owner` is the name at which the peer says its key is
    /// published, when that is not the usual one. The answer may come at once, later, or (counted as [`Proof::NotNow`])
    /// never; from whatever thread.
    fn prove(&self, domain: &str, owner: Option<&str>, key: &PublicKey, answer: Box<dyn FnOnce(Proof) + Send>);
}

/// What was found out. `org` is the organisational domain (RFC 9989) of the domain that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The operator has pinned this key to the domain.
    Pinned {
        /// Lower-case.
        org: String,
    },
    /// The key is the domain's, and the domain is known here.
    Known {
        /// Lower-case.
        org: String,
    },
    /// The key is the domain's, by DNS.
    Proven {
        /// Lower-case.
        org: String,
    },
    /// Nothing proves it.
    Unproven {
        /// For the log.
        why: String,
    },
    /// DNS does not answer, or a budget is used up.
    NotNow,
}
