//! One attempt at a QUIC connection with one token.
//!
//! Every attempt has a configuration of its own: the connection id, which a ticket's proof is bound to, is made first, and
//! quinn asks for both. Says whether a failure is final or only this way's. It never chooses the way.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use postern_proto::door::limits::CID_BYTES;
use quinn::{ConnectionError, ConnectionId, TransportConfig, TransportErrorCode};

use super::error::DoorError;
use super::key::{KeyPair, PublicKey};
use super::profile::{NO_NAME, WrongKeyShown, client_tls};

/// Under way.
pub(super) struct Attempt {
    connecting: quinn::Connecting,
    wrong: WrongKeyShown,
}

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum Miss {
    /// Nothing came of it; another way may still go.
    Lost,
    /// The server has spoken, or nothing will help.
    Final(DoorError),
    /// The endpoint is gone: its socket failed.
    NoEndpoint,
}

/// What every attempt of a client has in common.
pub(super) struct Common<'a> {
    pub(super) key: &'a KeyPair,
    pub(super) expected: &'a [PublicKey],
    pub(super) transport: &'a Arc<TransportConfig>,
}

impl Attempt {
    /// Sends the first Initial with this destination connection id and token.
    pub(super) fn start(
        endpoint: &quinn::Endpoint,
        common: &Common<'_>,
        address: std::net::SocketAddr,
        dcid: [u8; CID_BYTES],
        token: &[u8],
    ) -> Result<Self, Miss> {
        let (tls, wrong) = client_tls(common.key, common.expected);
        let mut config = quinn::ClientConfig::new(tls);
        config
            .transport_config(Arc::clone(common.transport))
            .initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&dcid)))
            .token_store(Arc::new(OneToken(Mutex::new(Some(Bytes::copy_from_slice(token))))));
        let connecting = endpoint.connect_with(config, address, NO_NAME).map_err(|error| match error {
            quinn::ConnectError::EndpointStopping => Miss::NoEndpoint,
            other => Miss::Final(DoorError::Transport(other.to_string())),
        })?;
        Ok(Self { connecting, wrong })
    }

    /// Waits for the end of the handshake. May be dropped and called again while it has not returned.
    pub(super) async fn done(&mut self) -> Result<quinn::Connection, Miss> {
        (&mut self.connecting).await.map_err(|error| {
            if self.wrong.load(Ordering::Relaxed) {
                return Miss::Final(DoorError::WrongKey);
            }
            match &error {
                ConnectionError::TimedOut | ConnectionError::Reset => Miss::Lost,
                // As many attempts wait at the listener as may: what QUIC calls "refused" is "not now".
                ConnectionError::ConnectionClosed(close)
                    if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
                {
                    Miss::Lost
                }
                other => Miss::Final(other.into()),
            }
        })
    }
}

/// Gives its token once. quinn asks after it has asked for the connection id.
struct OneToken(Mutex<Option<Bytes>>);

impl quinn::TokenStore for OneToken {
    /// Tokens of QUIC's own are of no use here.
    fn insert(&self, _server_name: &str, _token: Bytes) {}

    fn take(&self, _server_name: &str) -> Option<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
