//! One UDP socket for the prelude and for QUIC: the source address of both must be the same.
//!
//! Takes datagrams that begin with 0x12 (fixed bit 0, so they can be no QUIC of ours) out of what quinn reads, and gives a
//! CHALLENGE to whoever waits for its nonce. Everything else passes untouched. It never answers and decides nothing.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use postern_proto::door::Challenge;
use postern_proto::door::limits::NONCE_BYTES;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{Notify, mpsc};

/// First octet of a CHALLENGE.
const CHALLENGE: u8 = 0x12;
/// Reads in a row that hold nothing for quinn, before the runtime gets its turn: quinn's own bound counts only what it is given.
const READS_MAX: usize = 16;
/// What the kernel may hold for us in each direction; mail of many links goes through one socket. Full: QUIC sends again.
const KERNEL_BYTES: usize = 1 << 20;
/// Nonces that are waited for at a time: a connect has four at most. Full: the HELLO counts as unanswered.
const WAITING_MAX: usize = 4096;

/// The socket of an address family.
pub(super) struct DoorSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    waiting: Mutex<Waiting>,
    /// Reading failed: quinn's driver ends with that, and the next connect opens another socket.
    dead: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    answers: Vec<Answer>,
    hints: Vec<(SocketAddr, Arc<Notify>)>,
}

struct Answer {
    nonce: [u8; NONCE_BYTES],
    from: SocketAddr,
    to: mpsc::Sender<(SocketAddr, Challenge)>,
}

impl DoorSocket {
    /// Binds to an address of the host, or to any (`is_ipv6` tells the family). Must be called inside a tokio runtime.
    pub(super) fn open(bind: Option<IpAddr>, is_ipv6: bool) -> io::Result<Arc<Self>> {
        let any: IpAddr = if is_ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let address = SocketAddr::new(bind.unwrap_or(any), 0);
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if is_ipv6 {
            socket.set_only_v6(true)?;
        }
        // Refused by a tight kernel limit: slower, nothing else.
        let _ = socket.set_recv_buffer_size(KERNEL_BYTES);
        let _ = socket.set_send_buffer_size(KERNEL_BYTES);
        socket.bind(&address.into())?;
        let inner = TokioRuntime.wrap_udp_socket(socket.into())?;
        Ok(Arc::new(Self { inner, waiting: Mutex::default(), dead: AtomicBool::new(false) }))
    }

    /// Sends one datagram of the prelude. A full socket counts as a lost datagram.
    pub(super) fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let transmit = Transmit { destination: to, ecn: None, contents: datagram, segment_size: None, src_ip: None };
        match self.inner.try_send(&transmit) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }

    /// A CHALLENGE with this nonce from this address goes to `to`, until the guard is dropped.
    pub(super) fn expect(
        self: &Arc<Self>,
        nonce: [u8; NONCE_BYTES],
        from: SocketAddr,
        to: mpsc::Sender<(SocketAddr, Challenge)>,
    ) -> Expected {
        let mut waiting = self.lock();
        if waiting.answers.len() < WAITING_MAX {
            waiting.answers.push(Answer { nonce, from, to });
        }
        Expected { socket: Arc::clone(self), nonce }
    }

    /// Tells of any CHALLENGE from this address: the gate would rather have a cookie. Only a hint, for its nonce is not checked.
    pub(super) fn hint(self: &Arc<Self>, from: SocketAddr) -> Hint {
        let notify = Arc::new(Notify::new());
        let mut waiting = self.lock();
        if waiting.hints.len() < WAITING_MAX {
            waiting.hints.push((from, Arc::clone(&notify)));
        }
        Hint { socket: Arc::clone(self), notify }
    }

    /// Whether it can be read no more.
    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Whether the datagram is of the prelude; then it has been dealt with.
    fn take(&self, from: SocketAddr, datagram: &[u8]) -> bool {
        if datagram.first() != Some(&CHALLENGE) {
            return false;
        }
        let Some(nonce) = datagram.get(4..4 + NONCE_BYTES).and_then(|nonce| nonce.try_into().ok()) else { return true };
        let Some(challenge) = Challenge::parse(datagram, nonce) else { return true };
        let waiting = self.lock();
        waiting.hints.iter().filter(|(of, _)| *of == from).for_each(|(_, notify)| notify.notify_one());
        if let Some(answer) = waiting.answers.iter().find(|answer| answer.nonce == nonce && answer.from == from) {
            // Full: this one was answered already.
            let _ = answer.to.try_send((from, challenge));
        }
        true
    }

    /// Moves the datagrams for quinn to the front of a buffer (which may hold many, by GRO). Returns their length.
    fn sift(&self, buffer: &mut [u8], meta: &RecvMeta) -> usize {
        let stride = meta.stride.max(1);
        let (mut read, mut kept) = (0, 0);
        while read < meta.len {
            let end = (read + stride).min(meta.len);
            if !self.take(meta.addr, &buffer[read..end]) {
                buffer.copy_within(read..end, kept);
                kept += end - read;
            }
            read = end;
        }
        kept
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncUdpSocket for DoorSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        for _ in 0..READS_MAX {
            let count = match ready!(self.inner.poll_recv(cx, buffers, meta)) {
                Ok(count) => count,
                Err(error) => {
                    // The one error that quinn reads on after.
                    self.dead.fetch_or(error.kind() != io::ErrorKind::ConnectionReset, Ordering::Relaxed);
                    return Poll::Ready(Err(error));
                }
            };
            let mut out = 0;
            for at in 0..count {
                let kept = self.sift(&mut buffers[at], &meta[at]);
                if kept > 0 {
                    buffers.swap(out, at);
                    meta[out] = RecvMeta { len: kept, ..meta[at] };
                    out += 1;
                }
            }
            if out > 0 {
                return Poll::Ready(Ok(out));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

impl fmt::Debug for DoorSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DoorSocket({:?})", self.local_addr())
    }
}

/// A nonce is waited for while this lives.
pub(super) struct Expected {
    socket: Arc<DoorSocket>,
    nonce: [u8; NONCE_BYTES],
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.socket.lock().answers.retain(|answer| answer.nonce != self.nonce);
    }
}

/// Tells of a CHALLENGE from an address while this lives.
pub(super) struct Hint {
    socket: Arc<DoorSocket>,
    notify: Arc<Notify>,
}

impl Hint {
    pub(super) async fn came(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Hint {
    fn drop(&mut self) {
        self.socket.lock().hints.retain(|(_, notify)| !Arc::ptr_eq(notify, &self.notify));
    }
}

#[cfg(test)]
mod tests;
