//! A socket that costs more for each datagram: so that the same flood outruns whatever is behind it on any machine.
//!
//! Used by `stock`, as the gate burns time in its own loop: beside each other both drain the same number of packets.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

/// Burns so much time at each datagram that is read.
pub(super) struct SlowSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    each: Duration,
}

impl SlowSocket {
    pub(super) fn new(inner: Arc<dyn AsyncUdpSocket>, each: Duration) -> Self {
        Self { inner, each }
    }
}

impl fmt::Debug for SlowSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlowSocket({:?})", self.each)
    }
}

impl AsyncUdpSocket for SlowSocket {
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
        let read = ready!(self.inner.poll_recv(cx, buffers, meta))?;
        let datagrams: usize = meta[..read].iter().map(|one| one.len.div_ceil(one.stride.max(1))).sum();
        let until = Instant::now() + self.each * u32::try_from(datagrams).unwrap_or(u32::MAX);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        Poll::Ready(Ok(read))
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
