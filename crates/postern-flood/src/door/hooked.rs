//! A socket of quinn's that does something beside each datagram, and is otherwise the one inside it.
//!
//! Used by `tap`, which looks at what is sent, and by `slow`, which lets time pass at what is read.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

/// What is done beside.
pub(super) trait Hook: fmt::Debug + Send + Sync + 'static {
    /// These octets are about to be sent, perhaps several datagrams of one size.
    fn sending(&self, _: &Transmit<'_>) {}

    /// These were read.
    fn read(&self, _: &[RecvMeta]) {}
}

/// A socket with a hook.
#[derive(Debug)]
pub(super) struct Hooked<H> {
    inner: Arc<dyn AsyncUdpSocket>,
    hook: H,
}

impl<H: Hook> Hooked<H> {
    pub(super) fn new(inner: Arc<dyn AsyncUdpSocket>, hook: H) -> Self {
        Self { inner, hook }
    }
}

impl<H: Hook> AsyncUdpSocket for Hooked<H> {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.hook.sending(transmit);
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(self.inner.poll_recv(cx, buffers, meta))?;
        self.hook.read(&meta[..read]);
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
