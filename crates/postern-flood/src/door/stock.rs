//! The comparator: a QUIC server without a gate, as the library makes it.
//!
//! The same keys and TLS as the door's, everything else at quinn's defaults. It takes every connection, or asks every
//! one for its address first (Retry, RFC 9000 section 8.1.2). What it serves is the least that a message needs: octets
//! up to the end of a stream, then a line of 16. [`serve_connection`] is that service alone, so that a server behind a
//! gate can be loaded in the same way.

use std::net::UdpSocket;
use std::sync::Arc;

use postern_net::door::{KeyPair, server_config};
use postern_proto::door::PeerClass;
use quinn::{Connection, Endpoint, EndpointConfig, Incoming, TokioRuntime};

/// How it treats those whose address is not proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stock {
    /// Begins the handshake at once.
    Accept,
    /// Sends a Retry; begins when they come back with its token.
    Retry,
}

/// Octets of the answer to a message.
pub const ANSWER: &[u8; 16] = b"250 2.0.0 taken\n";
/// A message is not longer: the rest is not read.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

impl Stock {
    /// Serves on this socket. Must be called inside a runtime, and ends with it.
    ///
    /// # Errors
    /// The system's.
    pub async fn serve(self, keys: &KeyPair, socket: UdpSocket) -> std::io::Result<()> {
        socket.set_nonblocking(true)?;
        let config = quinn::ServerConfig::with_crypto(Arc::clone(&server_config(keys, PeerClass::Known).crypto));
        let endpoint = Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))?;
        while let Some(incoming) = endpoint.accept().await {
            self.take(incoming);
        }
        Ok(())
    }

    fn take(self, incoming: Incoming) {
        if self == Self::Retry && !incoming.remote_address_validated() {
            // Only one that is validated cannot be asked again.
            let _asked = incoming.retry();
            return;
        }
        let Ok(connecting) = incoming.accept() else { return };
        tokio::spawn(async move {
            if let Ok(connection) = connecting.await {
                serve_connection(connection).await;
            }
        });
    }
}

/// Reads a message from each stream and answers it, until the connection ends.
pub async fn serve_connection(connection: Connection) {
    while let Ok((mut answer, mut message)) = connection.accept_bi().await {
        tokio::spawn(async move {
            if message.read_to_end(MESSAGE_BYTES_MAX).await.is_ok() && answer.write_all(ANSWER).await.is_ok() {
                let _gone = answer.finish();
            }
        });
    }
}
