//! A link: an accepted connection to a door, its control stream and its mail streams.
//!
//! Says who we are and hears the answer, keeps reading the control stream (tickets, a second door), opens mail streams within
//! what the server allows, and ends itself when nothing was sent for a while. It knows no SMTP. Made by the door client.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use postern_proto::door::{CloseCode, Frame, FrameReader, PeerClass};
use quinn::{RecvStream, SendStream, VarInt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};

use super::client::{Deadlines, keep};
use super::clock::ServerClocks;
use super::error::DoorError;
use super::key::PublicKey;
use super::profile::{CLIENT_RECEIVE_BYTES_ALL, peer_key};
use super::pulse::{Awaited, Pulse};
use super::purse::{AltDoor, Grant, Purse};

/// Mail streams of a link, whatever the server allows: as many as the best class has.
const STREAMS_MAX: u32 = PeerClass::Known.limits().streams;
/// Tickets taken of one link. Each is two syncs of our disk; a purse is full with eight. More are dropped.
const TICKETS_MAX: u32 = 64;
/// Second doors taken of one link. More are dropped.
const ALT_DOORS_MAX: u32 = 4;
/// What is read of the control stream at once.
const READ_BYTES: usize = 4096;

/// What the link needs to know of its client.
pub(super) struct Ident {
    pub(super) domain: String,
    pub(super) owner: Option<String>,
    /// The domain of the door.
    pub(super) peer: String,
    pub(super) purse: Purse,
    pub(super) clocks: Arc<ServerClocks>,
    pub(super) deadlines: Deadlines,
}

/// What the server granted in ACCEPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkLimits {
    /// Who we are to the server.
    pub class: PeerClass,
    /// Mail streams at a time.
    pub streams: u32,
    /// Octets of a message; 0 is no fixed limit.
    pub message_bytes: u64,
    /// The server's name, as a greeting would give it.
    pub hostname: String,
}

/// An accepted connection. Clones share it; it closes when the last of them and of its streams is gone.
#[derive(Clone)]
pub struct Link {
    inner: Arc<Inner>,
}

struct Inner {
    connection: quinn::Connection,
    limits: LinkLimits,
    free: Arc<Semaphore>,
    stream_deadline: Duration,
    /// Set when a stream begins and when it ends; cleared by the idle watch.
    used: Arc<AtomicBool>,
    pulse: Pulse,
    /// The control stream stays open as long as the link: its end would be the end of the connection.
    _control: SendStream,
}

/// Says who we are and waits for the answer.
pub(super) async fn introduce(connection: quinn::Connection, ident: Ident) -> Result<Link, DoorError> {
    let guard = CloseUnlessKept(Some(connection.clone()));
    let answer = timeout(ident.deadlines.accept, exchange(&connection, &ident)).await;
    let answer = answer.unwrap_or_else(|_| Err(DoorError::Transport("no ACCEPT came in time".to_owned())));
    let (send, control, limits) =
        answer.map_err(|error| if is_confirmed(&connection) { error } else { unsaid(error) })?;
    guard.keep();
    let streams = limits.streams.clamp(1, STREAMS_MAX);
    let (free, used) = (Arc::new(Semaphore::new(streams as usize)), Arc::new(AtomicBool::new(true)));
    let idle = IdleWatch { free: Arc::clone(&free), streams, used: Arc::clone(&used), linger: ident.deadlines.linger };
    let stream_deadline = ident.deadlines.stream;
    tokio::spawn(follow(connection.clone(), control, ident, idle));
    let pulse = Pulse::of(connection.clone(), CLIENT_RECEIVE_BYTES_ALL);
    Ok(Link { inner: Arc::new(Inner { connection, limits, free, stream_deadline, used, pulse, _control: send }) })
}

/// Whether the server has shown, under the keys of the finished handshake, that it saw ours finish.
///
/// Until we have sent the end of our handshake, which we do after we have its, the keys of Initial packets are still in
/// use, and everybody on the way has them (`attempt`). The server's HANDSHAKE_DONE can only be an answer to that end, and
/// after a forged close none is read. So with it a close is the server's own, and without it perhaps not.
fn is_confirmed(connection: &quinn::Connection) -> bool {
    connection.stats().frame_rx.handshake_done > 0
}

/// What nobody has said yet who has proven to be the server is silence.
fn unsaid(error: DoorError) -> DoorError {
    tracing::debug!(%error, "the handshake was not confirmed");
    DoorError::Silent
}

/// IDENT out, ACCEPT or PARK in. Frames of a later version are read over.
async fn exchange(
    connection: &quinn::Connection,
    ident: &Ident,
) -> Result<(SendStream, Control, LinkLimits), DoorError> {
    let (mut send, recv) = connection.open_bi().await.map_err(|error| DoorError::from(&error))?;
    let mut frame = Vec::new();
    Frame::Ident { domain: ident.domain.clone(), owner: ident.owner.clone(), vouches: Vec::new() }.encode(&mut frame);
    if send.write_all(&frame).await.is_err() {
        return Err(ended(connection).await);
    }
    let mut control = Control { recv, reader: FrameReader::new() };
    loop {
        match control.next(connection).await? {
            Frame::Accept { class, server_time, streams, message_bytes, hostname } => {
                let offset_s = ident.clocks.learn(&ident.peer, server_time);
                keep(&ident.purse, &ident.peer, move |purse, domain| purse.set_clock_offset(domain, offset_s)).await;
                return Ok((send, control, LinkLimits { class, streams, message_bytes, hostname }));
            }
            Frame::Park { retry_after_s } => return Err(DoorError::Parked { retry_after_s }),
            Frame::Unknown(_) => {}
            other => {
                connection.close(code(CloseCode::Protocol), b"ACCEPT or PARK comes first");
                return Err(DoorError::Transport(format!("{other:?} came before ACCEPT")));
            }
        }
    }
}

/// The server's side of the control stream.
struct Control {
    recv: RecvStream,
    reader: FrameReader,
}

impl Control {
    async fn next(&mut self, connection: &quinn::Connection) -> Result<Frame, DoorError> {
        let mut octets = [0; READ_BYTES];
        loop {
            match self.reader.next() {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(fault) => {
                    connection.close(code(CloseCode::Protocol), b"a frame cannot be read");
                    return Err(DoorError::Transport(format!("a control frame cannot be read: {fault:?}")));
                }
            }
            match self.recv.read(&mut octets).await {
                Ok(Some(length)) => self.reader.push(&octets[..length]),
                // A server that closes says why in the close itself, which may come a packet later.
                Ok(None) | Err(_) => return Err(ended(connection).await),
            }
        }
    }
}

/// The control stream is over; why, the connection says.
async fn ended(connection: &quinn::Connection) -> DoorError {
    match timeout(CLOSE_WAIT, connection.closed()).await {
        Ok(error) => (&error).into(),
        Err(_) => {
            connection.close(code(CloseCode::Protocol), b"the control stream ended");
            DoorError::Transport("the server ended the control stream".to_owned())
        }
    }
}

/// How long the reason of an end is waited for.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

fn code(code: CloseCode) -> VarInt {
    VarInt::from_u32(code.code())
}

/// Ends links that nobody uses: keep-alives would hold them open, and the server's memory with them.
struct IdleWatch {
    free: Arc<Semaphore>,
    streams: u32,
    used: Arc<AtomicBool>,
    linger: Duration,
}

impl IdleWatch {
    /// Whether no stream is open, and none was opened since the last call.
    fn is_idle(&self) -> bool {
        let was_used = self.used.swap(false, Ordering::AcqRel);
        !was_used && self.free.available_permits() == self.streams as usize
    }
}

/// Reads the control stream until the connection ends.
async fn follow(connection: quinn::Connection, mut control: Control, ident: Ident, idle: IdleWatch) {
    let (mut tickets, mut alt_doors) = (0, 0);
    let mut look = Instant::now() + idle.linger;
    loop {
        let frame = tokio::select! {
            frame = control.next(&connection) => frame,
            () = sleep_until(look) => {
                if idle.is_idle() {
                    connection.close(code(CloseCode::Done), b"");
                }
                look = Instant::now() + idle.linger;
                continue;
            }
        };
        match frame {
            Ok(Frame::Ticket { ticket, key, expires_s }) if tickets < TICKETS_MAX => {
                tickets += 1;
                let (grant, now_s) = (Grant { ticket, key, expires_s }, ident.clocks.wall_s());
                keep(&ident.purse, &ident.peer, move |purse, domain| purse.put(domain, grant, now_s)).await;
            }
            Ok(Frame::AltDoor { host, port }) if alt_doors < ALT_DOORS_MAX => {
                alt_doors += 1;
                let alt = AltDoor { host, port };
                keep(&ident.purse, &ident.peer, move |purse, domain| purse.set_alt(domain, alt)).await;
            }
            Ok(other) => tracing::debug!(frame = ?other, domain = ident.peer, "not for us"),
            Err(error) => {
                tracing::debug!(%error, domain = ident.peer, "the link has ended");
                return;
            }
        }
    }
}

impl Link {
    /// Opens a mail stream, and waits for one when all are in use. The server says nothing first: send EHLO.
    ///
    /// # Errors
    /// [`DoorError::Busy`] when none became free in time, otherwise why the link has ended.
    pub async fn open(&self) -> Result<DoorStream, DoorError> {
        let opened = async {
            let permit = Arc::clone(&self.inner.free).acquire_owned().await.map_err(|_| DoorError::Busy)?;
            self.inner.used.store(true, Ordering::Release);
            let (send, recv) = self.inner.connection.open_bi().await.map_err(|error| DoorError::from(&error))?;
            Ok(DoorStream { send, recv, finished: false, _permit: permit, link: self.clone() })
        };
        timeout(self.inner.stream_deadline, opened).await.unwrap_or(Err(DoorError::Busy))
    }

    /// Says that an answer is awaited, until the value is dropped: a server that stays silent meanwhile is asked whether it
    /// lives, so that one which was killed and is back ends the link within a second at most.
    pub fn awaits(&self) -> Awaited {
        self.inner.pulse.awaits()
    }

    /// Who we are to the server.
    pub fn class(&self) -> PeerClass {
        self.inner.limits.class
    }

    /// What the server granted.
    pub fn limits(&self) -> &LinkLimits {
        &self.inner.limits
    }

    /// The key that the server proved to have.
    pub fn server_key(&self) -> Option<PublicKey> {
        peer_key(&self.inner.connection)
    }

    /// Whether streams can still be opened, as far as is known here.
    pub fn is_open(&self) -> bool {
        self.inner.connection.close_reason().is_none()
    }

    /// Streams that could be opened without waiting.
    pub fn free_streams(&self) -> usize {
        self.inner.free.available_permits()
    }

    /// Waits for the end of the link and says why.
    pub async fn closed(&self) -> DoorError {
        (&self.inner.connection.closed().await).into()
    }

    /// Ends the link with all its streams.
    pub fn close(&self) {
        self.inner.connection.close(code(CloseCode::Done), b"");
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({} as {})", self.inner.limits.hostname, self.class().as_str())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.connection.close(code(CloseCode::Done), b"");
    }
}

/// Closes a connection that came to nothing: with its reason if it has one already.
struct CloseUnlessKept(Option<quinn::Connection>);

impl CloseUnlessKept {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for CloseUnlessKept {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.close(code(CloseCode::Done), b"");
        }
    }
}

/// A mail stream: an SMTP session without a greeting.
///
/// Shut down, its end is told to the server. Dropped without that, it is reset, so that half a message can never look like
/// a whole one.
pub struct DoorStream {
    send: SendStream,
    recv: RecvStream,
    finished: bool,
    _permit: OwnedSemaphorePermit,
    link: Link,
}

impl AsyncRead for DoorStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.recv), cx, buf)
    }
}

impl AsyncWrite for DoorStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finished = true;
        AsyncWrite::poll_shutdown(Pin::new(&mut self.send), cx)
    }
}

impl Drop for DoorStream {
    fn drop(&mut self) {
        self.link.inner.used.store(true, Ordering::Release);
        if !self.finished {
            // Refused only when the stream is over already.
            let _ = self.send.reset(code(CloseCode::Done));
        }
    }
}

impl fmt::Debug for DoorStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DoorStream({})", self.send.id())
    }
}
