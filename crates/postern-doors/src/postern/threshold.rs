//! What every connection at the postern looks up or takes part in: the house, the gate's keys, the book, open questions.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postern_net::door::PublicKey;
use postern_proto::door::limits::TICKET_LIFE_S;
use postern_proto::door::{Keyring, Kind, PeerClass, Ticket, TicketBody, mint};
use postern_trust::Class;
use quinn::Connection;
use tokio::sync::watch;
use tokio::time::timeout;

use super::guest::Guest;
use super::house::House;
use super::prove::{Answer, Claim, Proof, Prover};
use super::share::{share_of, weight_of};
use super::stats::PosternStats;
use crate::gate::SharedGate;
use crate::limits;
use crate::runtime::Core;

/// What all connections share.
pub(super) struct Threshold {
    pub(super) core: Rc<Core>,
    pub(super) house: Rc<House>,
    pub(super) gate: SharedGate,
    pub(super) prover: Arc<dyn Prover>,
    pub(super) stats: Arc<PosternStats>,
    /// Questions about keys that are open, by class at the gate.
    pub(super) proofs: Cell<[u32; PeerClass::ALL.len()]>,
    pub(super) stopped: watch::Receiver<Option<Duration>>,
    /// No connection lives longer.
    pub(super) lifetime_max: Option<Duration>,
}

impl Threshold {
    pub(super) fn keys<T>(&self, look: impl FnOnce(&Keyring) -> T) -> T {
        look(self.gate.lock().unwrap_or_else(PoisonError::into_inner).keys())
    }

    /// What the book says of a domain that is proven to be the peer's; of those above it only where the proof is secure.
    pub(super) fn rank_of(&self, connection: &Connection, domain: &str, secure: bool) -> Class {
        let Some(admission) = self.core.usher.admission() else { return Class::New };
        let ip = connection.remote_address().ip().to_canonical();
        admission.book.class_of_speaker(Some(ip), &format!("postmaster@{domain}"), secure, unix_s())
    }

    /// How often the turn of a domain comes that is proven to be the peer's, by what the book says of this very domain.
    pub(super) fn weight_of(&self, domain: &str) -> u8 {
        weight_of(self.core.usher.admission().map_or(0, |admission| admission.book.good_days(domain, unix_s())))
    }

    /// Asks whose key it is. `None`: nobody can say now.
    pub(super) async fn prove(
        &self,
        class: PeerClass,
        (domain, owner): (&str, Option<&str>),
        key: &PublicKey,
    ) -> Option<Proof> {
        let _open = self.open_proof(class)?;
        let (answer, told) = Answer::new();
        self.prover.prove(Claim { domain, owner, key, class }, answer);
        timeout(limits::PROOF_TIMEOUT, told).await.ok()?.ok()
    }

    fn open_proof(&self, class: PeerClass) -> Option<OpenProof<'_>> {
        let mut open = self.proofs.get();
        let at = class as usize;
        if open[at] >= limits::PROOFS_UNDER_WAY[at] {
            return None;
        }
        open[at] += 1;
        self.proofs.set(open);
        Some(OpenProof(&self.proofs, at))
    }

    /// How many of these tickets a peer may be given.
    pub(super) fn grant(&self, guest: &Guest, tickets: u16) -> u16 {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner).grant_tickets(&guest.org, guest.class, tickets)
    }

    /// A ticket for this peer; none, when the system has no random octets.
    pub(super) fn ticket(&self, guest: &Guest, address: SocketAddr, weight: u8, now_s: u64) -> Option<Ticket> {
        let mut nonce = [0; 12];
        if let Err(error) = getrandom::fill(&mut nonce) {
            tracing::error!(%error, "no random octets: no tickets are given");
            return None;
        }
        let kind = if guest.class == PeerClass::Known { Kind::Known } else { Kind::Proven };
        Some(self.keys(|keys| {
            let body = TicketBody {
                domain_tag: keys.domain_tag(&guest.domain),
                prefix_tag: keys.prefix_tag(address.ip().to_canonical()),
                expiry_min: u32::try_from((now_s + TICKET_LIFE_S) / 60).unwrap_or(u32::MAX),
                class: guest.class,
                share: share_of(keys, &guest.domain, weight),
            };
            mint(keys, kind, nonce, &body)
        }))
    }
}

/// A question about a key, while it is open.
struct OpenProof<'a>(&'a Cell<[u32; PeerClass::ALL.len()]>, usize);

impl Drop for OpenProof<'_> {
    fn drop(&mut self) {
        let mut open = self.0.get();
        open[self.1] -= 1;
        self.0.set(open);
    }
}

pub(super) fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
