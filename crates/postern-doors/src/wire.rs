//! The octets of one connection, whatever carries them: a TCP socket, with or without TLS, or a
//! stream of the postern. Never waits; `WouldBlock` says when.
//!
//! One branch and no indirection: the sockets are the path of nearly all mail and must not pay for
//! the streams.

mod quic;
mod tcp;

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use postern_proto::envelope::TlsFacts;
use quinn::{RecvStream, SendStream};
use rustls::ServerConfig;
use tokio::net::TcpStream;

use quic::QuicWire;
use tcp::TcpWire;

/// One connection's octets.
pub(crate) enum Wire {
    /// Port 25 and the relay listener.
    Tcp(TcpWire),
    /// A mail stream.
    Quic(QuicWire),
}

impl Wire {
    /// Around a socket.
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        Self::Tcp(TcpWire::new(stream))
    }

    /// Around both halves of a stream.
    pub(crate) fn quic(send: SendStream, receive: RecvStream) -> Self {
        Self::Quic(QuicWire::new(send, receive))
    }

    /// Reads into `buffer`; zero is the end.
    pub(crate) fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(wire) => wire.poll_read(context, buffer),
            Self::Quic(wire) => wire.poll_read(context, buffer),
        }
    }

    /// Writes from `bytes`; says how many were taken. With TLS what was taken may still have to
    /// be [flushed](Self::try_flush).
    pub(crate) fn try_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(wire) => wire.try_write(bytes),
            Self::Quic(wire) => wire.try_write(context, bytes),
        }
    }

    /// Whether octets were taken that the socket has not.
    pub(crate) fn owes(&self) -> bool {
        match self {
            Self::Tcp(wire) => wire.owes(),
            Self::Quic(_) => false,
        }
    }

    /// Writes out what TLS still holds.
    pub(crate) fn try_flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(wire) => wire.try_flush(),
            Self::Quic(_) => Ok(()),
        }
    }

    /// Waits until more can be written. Call it behind a write that said `WouldBlock` only.
    pub(crate) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(wire) => wire.poll_writable(context),
            // The write that found no room has left word with the stream.
            Self::Quic(_) => Poll::Pending,
        }
    }

    /// Waits until the client has sent something, and leaves it where it is.
    pub(crate) fn poll_first_octet(&self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Tcp(wire) => wire.poll_first_octet(context),
            Self::Quic(_) => Poll::Ready(()),
        }
    }

    /// Whether TLS has begun.
    pub(crate) fn is_tls(&self) -> bool {
        match self {
            Self::Tcp(wire) => wire.is_tls(),
            Self::Quic(_) => true,
        }
    }

    /// Begins a handshake.
    pub(crate) fn start_tls(&mut self, config: Arc<ServerConfig>) -> Result<(), rustls::Error> {
        match self {
            Self::Tcp(wire) => wire.start_tls(config),
            Self::Quic(_) => Err(rustls::Error::General("a stream of the postern is in TLS already".into())),
        }
    }

    /// Drives the handshake as far as the socket lets it.
    pub(crate) fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<TlsFacts>>> {
        match self {
            Self::Tcp(wire) => wire.poll_handshake(context),
            Self::Quic(_) => Poll::Ready(Ok(None)),
        }
    }

    /// Says goodbye, if it can be said at once. The client may be gone: nobody waits.
    pub(crate) fn say_goodbye(&mut self) {
        match self {
            Self::Tcp(wire) => wire.say_goodbye(),
            Self::Quic(wire) => wire.say_goodbye(),
        }
    }

    /// For a client that is thrown out: see that our last reply can reach it, although there may be
    /// input that nobody reads any more.
    pub(crate) fn read_away(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) {
        match self {
            Self::Tcp(wire) => wire.read_away(context, buffer),
            Self::Quic(wire) => wire.refuse_input(),
        }
    }
}
