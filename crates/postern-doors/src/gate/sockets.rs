//! The four UDP sockets of the postern: opened before privileges are given up, kept while the QUIC thread comes and goes.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use postern_net::steering::split::{self, Queue};

/// Bound, and not read from yet. A clone is the same sockets.
#[derive(Debug)]
pub struct DoorSockets {
    sockets: [UdpSocket; 4],
    /// Where the gate's steady clock begins: it must not jump when the thread comes back.
    epoch: Instant,
}

impl DoorSockets {
    /// Opens them for a gate that has this number ([`GateOptions::worker`](super::GateOptions)).
    ///
    /// # Errors
    /// The system's.
    pub fn open(addr: SocketAddr, worker: u8) -> io::Result<Self> {
        Ok(Self { sockets: split::open(addr, worker)?, epoch: Instant::now() })
    }

    /// Where they are.
    ///
    /// # Errors
    /// The system's.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.sockets[0].local_addr()
    }

    /// The same sockets once more.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn try_clone(&self) -> io::Result<Self> {
        let [a, b, c, d] = &self.sockets;
        let sockets = [a.try_clone()?, b.try_clone()?, c.try_clone()?, d.try_clone()?];
        Ok(Self { sockets, epoch: self.epoch })
    }

    pub(super) fn queue(&self, queue: Queue) -> io::Result<UdpSocket> {
        self.sockets[queue as usize].try_clone()
    }

    pub(super) fn epoch(&self) -> Instant {
        self.epoch
    }
}
