//! What the postern is made of.

use std::sync::Arc;
use std::time::Duration;

use postern_net::door::ServerProfile;
use postern_proto::session::SessionOptions;

use super::prove::Prover;
use crate::admission::Admission;
use crate::callout::CalloutCache;
use crate::gate::{DoorSockets, SharedGate};
use crate::limits;

/// Everything the thread needs, through all its lives.
pub struct PosternOptions {
    /// Bound before privileges were given up.
    pub sockets: DoorSockets,
    /// Keys, tables and counters before QUIC. They outlive the thread.
    pub gate: SharedGate,
    /// Our key in TLS, and the limits by class.
    pub profile: ServerProfile,
    /// Keys stateless resets; made from the master, so that it is the same after a restart.
    pub reset_secret: [u8; 32],
    /// Whose key is it?
    pub prover: Arc<dyn Prover>,
    /// Name, sizes and deadlines of sessions. Door and author are the postern's own business, and no message may be
    /// further behind the floor of its class than [`limits::FLOOR_WINDOW`].
    pub session: SessionOptions,
    /// Book, evidence and pressure, as for the public door; without an identity desk of its own.
    pub admission: Option<Admission>,
    /// Where callouts are remembered.
    pub callouts: Option<CalloutCache>,
    /// From the first packet to IDENT, whatever the class; `None`: as long as the class may.
    pub handshake: Option<Duration>,
    /// No connection lives longer, whatever its class; `None`: as long as its class may.
    pub lifetime_max: Option<Duration>,
    /// [`limits::PEERS_MAX_DEFAULT`].
    pub peers_max: usize,
    /// [`limits::STREAMS_MAX_DEFAULT`].
    pub streams_max: usize,
    /// [`limits::WINDOW_BYTES_MAX_DEFAULT`].
    pub window_bytes_max: u64,
}

impl PosternOptions {
    /// With the limits that have reasons.
    pub fn new(
        sockets: DoorSockets,
        gate: SharedGate,
        profile: ServerProfile,
        reset_secret: [u8; 32],
        prover: Arc<dyn Prover>,
        session: SessionOptions,
    ) -> Self {
        Self {
            sockets,
            gate,
            profile,
            reset_secret,
            prover,
            session,
            admission: None,
            callouts: None,
            handshake: None,
            lifetime_max: None,
            peers_max: limits::PEERS_MAX_DEFAULT,
            streams_max: limits::STREAMS_MAX_DEFAULT,
            window_bytes_max: limits::WINDOW_BYTES_MAX_DEFAULT,
        }
    }
}
