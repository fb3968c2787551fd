//! Peers whose keys the operator has pinned: no DNS, no budgets, no doubt. Pure.

use std::collections::BTreeMap;

use super::{KeyProof, KeyQuestion, ProvenBy, Unproven};
use crate::dns;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedPeer {
    /// SubjectPublicKeyInfo in DER; several while the peer rolls its key over.
    pub keys: Vec<Box<[u8]>>,
    /// Its organisation; `None`: the domain itself.
    pub org: Option<Box<str>>,
}

/// All of them, by domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinnedPeers {
    peers: BTreeMap<Box<str>, PinnedPeer>,
}

impl PinnedPeers {
    /// Adds one, in place of what was there for its domain. `false`: not a domain, nothing is added.
    pub fn insert(&mut self, domain: &str, peer: PinnedPeer) -> bool {
        let Some(domain) = dns::domain(domain) else { return false };
        self.peers.insert(domain, peer);
        true
    }

    /// The pins of a domain.
    pub fn get(&self, domain: &str) -> Option<&PinnedPeer> {
        self.peers.get(&*dns::domain(domain)?)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// The answer, where pins have one: whoever is pinned is asked about nowhere else.
    pub(super) fn prove(&self, question: &KeyQuestion) -> Option<KeyProof> {
        let domain = dns::domain(&question.domain)?;
        let peer = self.peers.get(&domain)?;
        Some(if peer.keys.contains(&question.spki) {
            KeyProof::Proven { org: peer.org.clone().unwrap_or(domain), by: ProvenBy::Pin, secure: true }
        } else {
            KeyProof::Unproven(Unproven::OtherPinned)
        })
    }
}
