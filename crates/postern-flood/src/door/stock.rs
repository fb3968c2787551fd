//! Stock quinn to compare a door with: everybody is accepted, or everybody is first told to come again (Retry).
//!
//! quinn's own defaults, no gate, no classes. Behind the handshake it says ACCEPT to whoever identifies himself and takes
//! mail into nothing, so that friends of a flood speak to it as to a door. It stores nothing and checks no key: a
//! comparator, not a server for anybody.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postern_net::door::{KeyPair, PublicKey, server_config};
use postern_proto::door::{Frame, FrameReader, PeerClass};
use quinn::{Endpoint, EndpointConfig, Incoming, RecvStream, Runtime, SendStream, TokioRuntime};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use serde::{Deserialize, Serialize};

use super::hooked::Hooked;
use super::slow::Slow;
use super::unix_s;

/// What it does with whoever comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StockKind {
    /// Accepts.
    Accept,
    /// Answers Retry to whoever has not shown that he can be answered.
    Retry,
}

impl StockKind {
    /// Its name in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "stock quinn, accepting",
            Self::Retry => "stock quinn, Retry",
        }
    }
}

/// How it runs.
#[derive(Clone, Copy, Debug)]
pub struct StockOptions {
    /// What it does with whoever comes.
    pub kind: StockKind,
    /// Burnt at each datagram, as the gate of a door can be told to.
    pub work: Duration,
}

/// Octets of the socket's queue, as a door's sockets have them: the comparison is about what is behind it.
const QUEUE_BYTES: usize = 4 << 20;

/// Serves until the process ends or the future is dropped. `ready` hears the address and the key.
///
/// # Errors
/// The address cannot be had.
pub async fn serve(
    address: SocketAddr,
    options: StockOptions,
    ready: impl FnOnce(SocketAddr, &PublicKey),
) -> io::Result<()> {
    let socket = std::net::UdpSocket::bind(address)?;
    // Beyond the system's limit by privilege, else up to it.
    if set_socket_recv_buffer_size_force(&socket, QUEUE_BYTES).is_err() {
        set_socket_recv_buffer_size(&socket, QUEUE_BYTES)?;
    }
    let pkcs8 = KeyPair::generate().map_err(io::Error::other)?;
    let keys = KeyPair::from_pkcs8(&pkcs8).map_err(io::Error::other)?;
    // The door's TLS, and nothing else of it.
    let tls = server_config(&keys, PeerClass::Known).crypto;
    let config = quinn::ServerConfig::with_crypto(tls);
    let runtime = Arc::new(TokioRuntime);
    let mut socket = runtime.wrap_udp_socket(socket)?;
    if !options.work.is_zero() {
        socket = Arc::new(Hooked::new(socket, Slow(options.work)));
    }
    let endpoint = Endpoint::new_with_abstract_socket(EndpointConfig::default(), Some(config), socket, runtime)?;
    ready(endpoint.local_addr()?, keys.public());
    while let Some(incoming) = endpoint.accept().await {
        if options.kind == StockKind::Retry && !incoming.remote_address_validated() {
            // Refused only when it was validated, which was asked.
            let _ = incoming.retry();
            continue;
        }
        tokio::spawn(attend(incoming));
    }
    Ok(())
}

/// A connection to its end; its errors end it and nothing else.
async fn attend(incoming: Incoming) {
    let Ok(connection) = incoming.await else { return };
    let mut first = true;
    while let Ok((send, receive)) = connection.accept_bi().await {
        if std::mem::take(&mut first) {
            tokio::spawn(control(send, receive));
        } else {
            tokio::spawn(mail(send, receive));
        }
    }
}

async fn control(mut send: SendStream, mut receive: RecvStream) {
    let mut frames = FrameReader::default();
    while let Ok(Some(chunk)) = receive.read_chunk(4_096, true).await {
        frames.push(&chunk.bytes);
        while let Ok(Some(frame)) = frames.next() {
            if !matches!(frame, Frame::Ident { .. }) {
                continue;
            }
            let accept = Frame::Accept {
                class: PeerClass::Known,
                server_time: u64::from(unix_s()),
                streams: 32,
                message_bytes: 0,
                hostname: "stock.localhost".to_owned(),
            };
            let mut answer = Vec::new();
            accept.encode(&mut answer);
            if send.write_all(&answer).await.is_err() {
                return;
            }
        }
    }
}

/// As much of SMTP as friends use.
pub(super) async fn mail(mut send: SendStream, mut receive: RecvStream) {
    let mut input: Vec<u8> = Vec::new();
    let mut body = 0_usize;
    while let Ok(Some(chunk)) = receive.read_chunk(65_536, true).await {
        input.extend_from_slice(&chunk.bytes);
        let mut replies = Vec::new();
        loop {
            if body > 0 {
                let taken = body.min(input.len());
                input.drain(..taken);
                body -= taken;
                if body > 0 {
                    break;
                }
                replies.extend_from_slice(b"250 taken\r\n");
            }
            let Some(end) = input.iter().position(|octet| *octet == b'\n') else { break };
            let line: Vec<u8> = input.drain(..=end).collect();
            match chunk_bytes(&line) {
                Some(octets) => body = octets,
                None => replies.extend_from_slice(b"250 ok\r\n"),
            }
        }
        if input.len() > 4_096 || (!replies.is_empty() && send.write_all(&replies).await.is_err()) {
            return;
        }
    }
}

/// Of `BDAT n LAST`.
fn chunk_bytes(line: &[u8]) -> Option<usize> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_whitespace();
    (words.next()? == "BDAT").then(|| words.next()?.parse().ok())?
}
