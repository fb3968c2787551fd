//! The octets of one mail stream of a QUIC connection. Never waits; `WouldBlock` says when, and the
//! task that polled is woken.
//!
//! TLS is the connection's and on already: nothing of it is done here. Dropping both halves gives
//! the stream back to the peer, whatever state it is in.

use std::io;
use std::task::{Context, Poll};

use quinn::{RecvStream, SendStream, VarInt};

/// What the peer's unread octets are told when a stream is given up.
const NOT_WANTED: VarInt = VarInt::from_u32(0);

/// One stream's octets.
pub(crate) struct QuicWire {
    send: SendStream,
    receive: RecvStream,
}

impl QuicWire {
    pub(crate) fn new(send: SendStream, receive: RecvStream) -> Self {
        Self { send, receive }
    }

    /// Reads into `buffer`; zero is the end.
    pub(crate) fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.receive.poll_read(context, buffer).map_err(io::Error::from)
    }

    /// Writes from `bytes`; says how many were taken.
    pub(crate) fn try_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> io::Result<usize> {
        match std::pin::Pin::new(&mut self.send).poll_write(context, bytes) {
            Poll::Ready(taken) => taken.map_err(io::Error::from),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Ends our side behind what was written. The peer may be gone: nobody waits.
    pub(crate) fn say_goodbye(&mut self) {
        let _gone = self.send.finish();
    }

    /// Tells the peer that nothing more is read.
    pub(crate) fn refuse_input(&mut self) {
        let _gone = self.receive.stop(NOT_WANTED);
    }
}
