//! One attempt at a QUIC connection with one token.
//!
//! Every attempt has a configuration of its own: the connection id, which a ticket's proof is bound to, is made first, and
//! quinn asks for both. Says whether a failure is final or only this way's. It never chooses the way.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use postern_proto::door::limits::{CID_BYTES, NONCE_BYTES};
use postern_proto::door::{Challenge, token_of};
use quinn::{ConnectionError, ConnectionId, Endpoint, TransportConfig};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::error::DoorError;
use super::key::KeyPair;
use super::prelude::{Appointment, random};
use super::profile::{NO_NAME, WrongKeyShown, client_tls};
use super::purse::Grant;
use super::socket::{DoorSocket, Expected};

/// Under way. Dropped, it is given up.
pub(super) struct Attempt {
    connecting: quinn::Connecting,
    wrong: WrongKeyShown,
    answers: mpsc::Receiver<(SocketAddr, Challenge)>,
    /// A CHALLENGE must come later than this to be news: one that was sent twice is not.
    not_before: u32,
    _expected: Expected,
}

/// What an attempt came to.
pub(super) enum Outcome {
    /// The handshake is done.
    In(quinn::Connection),
    /// The gate answered with a CHALLENGE instead: what was shown is good, and it would rather have this cookie.
    Come(Appointment),
}

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum Miss {
    /// Nothing came of it; another way may still go.
    Lost,
    /// Another key was shown, or nothing will help.
    Final(DoorError),
}

impl From<DoorError> for Miss {
    fn from(error: DoorError) -> Self {
        Self::Final(error)
    }
}

/// The socket of an address family, and what speaks QUIC through it.
#[derive(Clone, Debug)]
pub(super) struct Family {
    pub(super) endpoint: Endpoint,
    pub(super) socket: Arc<DoorSocket>,
}

/// A door's address with the socket to reach it by.
pub(super) type Reachable = (SocketAddr, Family);

/// What every attempt of a client has in common.
pub(super) struct Common<'a> {
    pub(super) key: Arc<KeyPair>,
    /// SHA-256 of the keys that the server may show.
    pub(super) expected: Vec<[u8; 32]>,
    pub(super) transport: &'a Arc<TransportConfig>,
}

impl Attempt {
    /// Shows a ticket, with the proof for a connection id of its own and this time of the server.
    pub(super) fn with_ticket(common: &Common<'_>, to: &Reachable, grant: &Grant, server_s: u64) -> Result<Self, Miss> {
        let dcid = random()?;
        let time = u32::try_from(server_s).unwrap_or(u32::MAX);
        let token = token_of(&grant.ticket, &grant.key, &dcid, time);
        let [nonce @ .., _, _, _, _, _, _, _, _] = dcid;
        Self::start(common, to, dcid, &token, nonce, 0)
    }

    /// Shows a cookie.
    pub(super) fn with_cookie(common: &Common<'_>, to: &Reachable, challenge: &Challenge) -> Result<Self, Miss> {
        let token = challenge.token();
        let nonce = *token[2..].first_chunk().expect("a token is longer than its nonce");
        Self::start(common, to, random()?, &token, nonce, challenge.terms.not_before)
    }

    /// Sends the first Initial with this destination connection id and token.
    fn start(
        common: &Common<'_>,
        (address, family): &Reachable,
        dcid: [u8; CID_BYTES],
        token: &[u8],
        nonce: [u8; NONCE_BYTES],
        not_before: u32,
    ) -> Result<Self, Miss> {
        let (sender, answers) = mpsc::channel(2);
        let expected = family.socket.expect(nonce, *address, sender);
        let (tls, wrong) = client_tls(&common.key, &common.expected);
        let mut config = quinn::ClientConfig::new(tls);
        config
            .transport_config(Arc::clone(common.transport))
            .initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&dcid)))
            .token_store(Arc::new(OneToken(Mutex::new(Some(Bytes::copy_from_slice(token))))));
        let connecting = family
            .endpoint
            .connect_with(config, *address, NO_NAME)
            .map_err(|error| Miss::Final(DoorError::Transport(error.to_string())))?;
        Ok(Self { connecting, wrong, answers, not_before, _expected: expected })
    }

    /// Waits for the end of the handshake, or a CHALLENGE. May be dropped and called again while it has not returned.
    pub(super) async fn done(&mut self) -> Result<Outcome, Miss> {
        loop {
            tokio::select! {
                biased;
                connected = &mut self.connecting => {
                    return connected.map(Outcome::In).map_err(|error| self.miss(&error));
                }
                Some((address, challenge)) = self.answers.recv() => {
                    if challenge.terms.not_before > self.not_before {
                        return Ok(Outcome::Come(Appointment::new(address, challenge, Instant::now())));
                    }
                }
            }
        }
    }

    fn miss(&self, error: &ConnectionError) -> Miss {
        if self.wrong.load(Ordering::Relaxed) {
            return Miss::Final(DoorError::WrongKey);
        }
        tracing::debug!(%error, "no handshake");
        match error {
            ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => Miss::Final(error.into()),
            // Nobody has signed any of the others. The keys of Initial packets follow from the first connection id, which is
            // in the clear (RFC 9001 section 5.2): whoever sees our first datagram can write one that closes with any
            // code. RFC 9000 section 12.5 forbids the application's close there; QUIC's implementation takes it. So none
            // is the server's word: that counts from the end of the handshake on (`link`).
            _ => Miss::Lost,
        }
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
