//! Peers whose keys the operator has pinned: no DNS, no budgets, no doubt. Pure.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

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

/// What pins say of a key and a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinWord {
    /// The key is pinned for this very domain.
    Pinned,
    /// Other keys are, for the domain or one above it: this key does not speak for it, whatever DNS says.
    Barred,
    /// Nothing.
    Silent,
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

    /// Whether a key may speak for `domain`, as far as pins go: those of the domain, and of the domains above it up to
    /// `org`, the last that counts. A name that is made up below a pinned domain must not do what the domain itself could
    /// not; a pin of the very name is nearer than those above it.
    pub fn word(&self, domain: &str, org: &str, spki: &[u8]) -> PinWord {
        if self.peers.is_empty() {
            return PinWord::Silent;
        }
        let Some(domain) = dns::domain(domain) else { return PinWord::Silent };
        match self.peers.get(&domain) {
            Some(peer) if peer.has(spki) => return PinWord::Pinned,
            Some(_) => return PinWord::Barred,
            None => {}
        }
        let mut name = &*domain;
        while name != org
            && let Some((_, above)) = name.split_once('.')
        {
            if self.peers.get(above).is_some_and(|peer| !peer.has(spki)) {
                return PinWord::Barred;
            }
            name = above;
        }
        PinWord::Silent
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
        Some(if peer.has(&question.spki) {
            KeyProof::Proven {
                org: peer.org.clone().unwrap_or(domain),
                above: Vec::new(),
                by: ProvenBy::Pin,
                secure: true,
            }
        } else {
            KeyProof::Unproven(Unproven::OtherPinned)
        })
    }
}

impl PinnedPeer {
    fn has(&self, spki: &[u8]) -> bool {
        self.keys.iter().any(|key| **key == *spki)
    }
}

/// The pins in force: what the front and the thread of a desk share.
#[derive(Debug)]
pub(super) struct InForce {
    pins: RwLock<Arc<PinnedPeers>>,
    /// How often they were replaced.
    changes: watch::Sender<u64>,
}

impl InForce {
    pub(super) fn new(pins: PinnedPeers) -> Self {
        Self { pins: RwLock::new(Arc::new(pins)), changes: watch::Sender::new(0) }
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn now(&self) -> Arc<PinnedPeers> {
        Arc::clone(&self.pins.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn replace(&self, pins: PinnedPeers) {
        *self.pins.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pins);
        // Who is told finds the new ones.
        self.changes.send_modify(|changes| *changes += 1);
    }
}
