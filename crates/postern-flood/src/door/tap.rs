//! A wire-tap on a friend: what somebody on his path would read, for replay and theft.
//!
//! Wraps the socket of a friend's endpoint and copies, within bounds, his Initials with a token and the connection ids
//! that the server gave him. It changes nothing and delays nothing; the friend does not know. Fed by `link`, read by
//! `packets`.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use postern_proto::door::limits::CID_BYTES;
use postern_proto::door::{Shape, Token, shape};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

/// Datagrams, and ids, that a tap keeps: an attacker who has read so many need not read more. Full: what comes is not
/// kept.
const KEPT_MAX: usize = 256;

/// What was read on the wire.
#[derive(Clone, Default)]
pub(super) struct Captured {
    initials: Vec<(IpAddr, Vec<u8>)>,
    ids: Vec<[u8; CID_BYTES]>,
}

impl Captured {
    /// One of the Initials, and the address it came from.
    pub(super) fn initial(&self, n: usize) -> Option<(IpAddr, &[u8])> {
        let (from, datagram) = self.initials.get(n % self.initials.len().max(1))?;
        Some((*from, datagram))
    }

    /// One of the connection ids that the server uses.
    pub(super) fn id(&self, n: usize) -> Option<&[u8; CID_BYTES]> {
        self.ids.get(n % self.ids.len().max(1))
    }
}

/// Shared by the friends' sockets and the attackers.
#[derive(Clone, Default)]
pub(super) struct Tap(Arc<Mutex<Captured>>);

impl Tap {
    /// What there is by now.
    pub(super) fn captured(&self) -> Captured {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at a datagram that a friend sends.
    pub(super) fn see(&self, from: IpAddr, datagram: &[u8]) {
        match shape(datagram) {
            Shape::Initial { token: Token::Ticket(_) | Token::Cookie(_), .. } => {
                let mut captured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if captured.initials.len() < KEPT_MAX {
                    captured.initials.push((from, datagram.to_vec()));
                }
            }
            Shape::Established { cid } => {
                let mut captured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if captured.ids.len() < KEPT_MAX && !captured.ids.contains(cid) {
                    captured.ids.push(*cid);
                }
            }
            _ => {}
        }
    }
}

/// A friend's socket with a tap on it.
pub(super) struct TappedSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    from: IpAddr,
    tap: Tap,
}

impl TappedSocket {
    pub(super) fn new(inner: Arc<dyn AsyncUdpSocket>, tap: Tap) -> io::Result<Self> {
        let from = inner.local_addr()?.ip();
        Ok(Self { inner, from, tap })
    }
}

impl fmt::Debug for TappedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TappedSocket({})", self.from)
    }
}

impl AsyncUdpSocket for TappedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        for datagram in transmit.contents.chunks(transmit.segment_size.unwrap_or(usize::MAX).max(1)) {
            self.tap.see(self.from, datagram);
        }
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
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
