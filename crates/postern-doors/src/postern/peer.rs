//! A connection on its way in: handshake, control stream, proof, a place in the house. From there on it is a [`Guest`]'s.
//!
//! Nothing of a peer is believed before its key is proven, and nothing it can do takes longer than a deadline or more
//! than its class may have.

use std::rc::Rc;
use std::sync::Arc;

use postern_net::door::{PublicKey, peer_key, raise};
use postern_proto::door::{CloseCode, Frame, Kind, PeerClass};
use postern_trust::Class;
use quinn::{Connection, Incoming, VarInt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::control::{Control, Gone};
use super::guest::{Guest, close};
use super::house::{NoRoom, Window};
use super::prove::Proof;
use super::threshold::Threshold;
use crate::gate::{Admission, AdmittedBy};
use crate::limits;
use crate::stats::count;

/// A peer on its way in.
pub(super) struct Peer {
    pub(super) threshold: Rc<Threshold>,
    pub(super) admission: Admission,
    /// At the gate.
    pub(super) class: PeerClass,
    /// What QUIC may keep for it.
    pub(super) window: Window,
    /// For handshake and IDENT.
    pub(super) deadline: Instant,
}

/// Why a connection ended before it was let in.
enum Out {
    /// Closed with this code; counted already.
    Closed(CloseCode),
    /// The peer has gone, or QUIC has given it up.
    Gone,
}

impl Peer {
    /// From the first packet to the last. `over` hears when its place in the pool is free again.
    pub(super) async fn serve(
        mut self,
        incoming: Incoming,
        profile: Arc<quinn::ServerConfig>,
        over: mpsc::UnboundedSender<PeerClass>,
    ) {
        let stats = Arc::clone(&self.threshold.stats);
        let shaken = self.shake(incoming, profile).await;
        // The listener may be gone: then nobody counts.
        let _nobody_counts = over.send(self.class);
        let Some((connection, control, domain, owner)) = shaken else { return };
        match self.admit(&connection, control, &domain, owner.as_deref()).await {
            Ok(()) => {}
            Err(Out::Closed(code)) => {
                tracing::debug!(peer = %connection.remote_address(), domain, why = code.as_str(), "the postern stays shut");
                close(&connection, code).await;
            }
            Err(Out::Gone) => count(&stats.failed),
        }
    }

    /// Handshake, control stream and IDENT, within one deadline.
    async fn shake(
        &self,
        incoming: Incoming,
        profile: Arc<quinn::ServerConfig>,
    ) -> Option<(Connection, Control, String, Option<String>)> {
        let stats = &self.threshold.stats;
        let Ok(connecting) = incoming.accept_with(profile) else {
            count(&stats.failed);
            return None;
        };
        let connection = match timeout_at(self.deadline, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a handshake of the postern failed");
                count(&stats.failed);
                return None;
            }
            Err(_) => {
                count(&stats.expired);
                return None;
            }
        };
        let ident = timeout_at(self.deadline, async {
            let mut control = Control::accept(&connection).await.ok()?;
            match control.next().await {
                Some(Frame::Ident { domain, owner, .. }) => Some(Ok((control, domain, owner))),
                Some(_) | None => Some(Err(())),
            }
        });
        match ident.await {
            Ok(Some(Ok((control, domain, owner)))) => Some((connection, control, domain, owner)),
            Ok(Some(Err(()))) => {
                count(&stats.protocol_errors);
                close(&connection, CloseCode::Protocol).await;
                None
            }
            Ok(None) => {
                count(&stats.failed);
                None
            }
            Err(_) => {
                count(&stats.expired);
                close(&connection, CloseCode::TooSlow).await;
                None
            }
        }
    }

    async fn admit(
        &mut self,
        connection: &Connection,
        mut control: Control,
        domain: &str,
        owner: Option<&str>,
    ) -> Result<(), Out> {
        let threshold = Rc::clone(&self.threshold);
        let stats = &threshold.stats;
        // An introduction carries the tag of whoever introduced: it is the proof below that counts.
        if let AdmittedBy::Ticket { kind: Kind::Known | Kind::Proven, body } = self.admission.by
            && !threshold.keys(|keys| keys.is_domain_tag(body.domain_tag, domain))
        {
            count(&stats.foreign_tickets);
            return Err(Out::Closed(CloseCode::ForeignTicket));
        }
        // From before the question: a pin that goes while it is answered is not missed.
        let pins = threshold.prover.pin_changes();
        let Some(key) = peer_key(connection) else { return self.park(connection, control).await };
        let proof = tokio::select! {
            proof = self.prove(&key, domain, owner) => proof,
            _gone = connection.closed() => return Err(Out::Gone),
        };
        let Some(proof) = proof else { return self.park(connection, control).await };
        let guest = match proof {
            Proof::Pinned(standing) => Guest::pinned((domain, key), standing),
            Proof::Known(standing) => Guest::new((domain, key), standing, PeerClass::Known, Class::Known),
            Proof::Proven(standing) => {
                let class = if self.class == PeerClass::Vouched { PeerClass::Vouched } else { PeerClass::Proven };
                let rank = threshold.rank_of(connection, domain, standing.secure);
                Guest::new((domain, key), standing, class, rank)
            }
            Proof::Unproven { why } => {
                tracing::info!(peer = %connection.remote_address(), domain, why, "an unproven key at the postern");
                count(&stats.unproven);
                return Err(Out::Closed(CloseCode::NoProof));
            }
            Proof::NotNow => return self.park(connection, control).await,
        };
        let _place = match threshold.house.enter(&guest.org, guest.class) {
            Ok(place) => place,
            Err(NoRoom::Domain) => {
                count(&stats.too_many);
                return Err(Out::Closed(CloseCode::TooMany));
            }
            Err(NoRoom::House) => return self.park(connection, control).await,
        };
        if self.window.grow(guest.class) {
            raise(connection, guest.class);
        } else {
            count(&stats.narrowed);
            connection.set_max_concurrent_bi_streams(VarInt::from_u32(guest.class.limits().streams + 1));
        }
        let by_ticket = matches!(self.admission.by, AdmittedBy::Ticket { .. });
        control.say(&guest.welcome(&threshold, connection, by_ticket)).await.map_err(|Gone| Out::Gone)?;
        count(&stats.accepted);
        count(match guest.class {
            PeerClass::Known => &stats.accepted_known,
            PeerClass::Vouched => &stats.accepted_vouched,
            PeerClass::Proven | PeerClass::Stranger => &stats.accepted_proven,
        });
        tracing::debug!(peer = %connection.remote_address(), domain, class = guest.class.as_str(), "in by the postern");
        guest.stay(&threshold, connection, control, pins).await;
        Ok(())
    }

    /// `None`: nobody can say now.
    async fn prove(&self, key: &PublicKey, domain: &str, owner: Option<&str>) -> Option<Proof> {
        self.threshold.prove(self.class, (domain, owner), key).await
    }

    async fn park(&self, connection: &Connection, mut control: Control) -> Result<(), Out> {
        count(&self.threshold.stats.parked);
        let mut frame = Vec::new();
        Frame::Park { retry_after_s: limits::PARK_S }.encode(&mut frame);
        let _gone = control.say(&frame).await;
        control.finish();
        close(connection, CloseCode::Done).await;
        Ok(())
    }
}
