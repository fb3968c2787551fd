//! The octets of one TCP connection: plain, or through TLS. Never waits; `WouldBlock` says when.
//!
//! TLS is driven here and not by a stream type, because an idle connection may then own nothing
//! but the TLS state itself: input goes through the runtime's shared buffer.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use postern_proto::envelope::TlsFacts;
use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use crate::limits;

/// One socket's octets.
pub(crate) struct TcpWire {
    stream: TcpStream,
    tls: Option<Box<ServerConnection>>,
}

impl TcpWire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, tls: None }
    }

    /// Reads into `buffer`; zero is the end.
    pub(crate) fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(tls) = self.tls.as_deref_mut() else { return poll_socket(&mut self.stream, context, buffer) };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A client that closes without close_notify has closed all the same: nothing of
                // SMTP depends on the end of the stream.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(0)),
                other => return Poll::Ready(other),
            }
            match tls.read_tls(&mut Socket(&mut self.stream, context)) {
                Ok(0) => return Poll::Ready(Ok(0)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
            let state = tls.process_new_packets();
            // An alert, or the answer to a key update, goes out when it can; the next write
            // takes along what cannot go now.
            while tls.wants_write() && tls.write_tls(&mut Outlet(&self.stream)).is_ok() {}
            if let Err(error) = state {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
        }
    }

    /// Writes from `bytes`; says how many were taken. With TLS what was taken may still have to
    /// be [flushed](Self::try_flush).
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.tls.as_deref_mut() {
            None => self.stream.try_write(bytes),
            Some(tls) => {
                let taken = tls.writer().write(bytes)?;
                match self.try_flush() {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && taken > 0 => Ok(taken),
                    Err(error) => Err(error),
                    Ok(()) => Ok(taken),
                }
            }
        }
    }

    /// Whether TLS holds octets that the socket has not taken.
    pub(crate) fn owes(&self) -> bool {
        self.tls.as_deref().is_some_and(|tls| tls.wants_write())
    }

    /// Writes out what TLS still holds.
    pub(crate) fn try_flush(&mut self) -> io::Result<()> {
        if let Some(tls) = self.tls.as_deref_mut() {
            while tls.wants_write() {
                tls.write_tls(&mut Outlet(&self.stream))?;
            }
        }
        Ok(())
    }

    pub(crate) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_write_ready(context)
    }

    /// Waits until the client has sent something, and leaves it where it is.
    pub(crate) fn poll_first_octet(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut octet = [0];
        // An error is found again by whoever reads.
        self.stream.poll_peek(context, &mut ReadBuf::new(&mut octet)).map(drop)
    }

    /// Whether TLS has begun.
    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Begins a handshake.
    pub(crate) fn start_tls(&mut self, config: Arc<ServerConfig>) -> Result<(), rustls::Error> {
        self.tls = Some(Box::new(ServerConnection::new(config)?));
        Ok(())
    }

    /// Drives the handshake as far as the socket lets it.
    pub(crate) fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<TlsFacts>>> {
        loop {
            match self.try_flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.stream.poll_write_ready(context))?;
                    continue;
                }
                other => other?,
            }
            let Some(tls) = self.tls.as_deref_mut() else { return Poll::Ready(Ok(None)) };
            if !tls.is_handshaking() {
                return Poll::Ready(Ok(postern_net::tls::facts(tls)));
            }
            match tls.read_tls(&mut Socket(&mut self.stream, context)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {
                    let state = tls.process_new_packets();
                    // The alert that says why goes out first.
                    let flushed = self.try_flush();
                    state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                    drop(flushed);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Says goodbye in TLS, if it can be said at once. The client may be gone: nobody waits.
    pub(crate) fn say_goodbye(&mut self) {
        if let Some(tls) = self.tls.as_deref_mut() {
            tls.send_close_notify();
            let _gone = self.try_flush();
        }
    }

    /// For a client that is thrown out: says that nothing more will come, and reads away what is
    /// there already, because closing a socket with unread input resets the connection, and the
    /// client may lose our last reply.
    pub(crate) fn read_away(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) {
        let _gone = rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Write);
        for _ in 0..limits::CLOSING_READS_MAX {
            match poll_socket(&mut self.stream, context, buffer) {
                Poll::Ready(Ok(read)) if read > 0 => {}
                _ => break,
            }
        }
    }
}

/// One read of the socket. It goes through tokio's own `poll_read` because that forgets the
/// readiness after a short read, which spares the second read that would find nothing.
fn poll_socket(stream: &mut TcpStream, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}

/// The socket as a reader that says `WouldBlock` and will wake.
struct Socket<'a, 'b, 'c>(&'a mut TcpStream, &'b mut Context<'c>);

impl Read for Socket<'_, '_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match poll_socket(self.0, self.1, buffer) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// The socket as a writer that never waits.
struct Outlet<'a>(&'a TcpStream);

impl Write for Outlet<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
