//! One UDP socket that sends from any address of 127/8: `sendmmsg` with a source for each datagram.
//!
//! IP_PKTINFO with `ipi_spec_dst` chooses the source, without privileges, because all of 127/8 is this machine's. The
//! one file of the crate with unsafe code; it neither makes datagrams nor decides how many.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

/// Datagrams of one system call: more gain nothing (0.50 against 0.42 million a second for 64 against 1).
pub(super) const BATCH: usize = 64;
/// Octets of a datagram at most: what the largest of door/1 and QUIC's first ones have.
pub(super) const DATAGRAM_BYTES_MAX: usize = 1_452;

/// A datagram to be sent.
#[derive(Clone)]
pub(super) struct Slot {
    pub(super) bytes: [u8; DATAGRAM_BYTES_MAX],
    pub(super) len: usize,
    /// `None`: the socket's own.
    pub(super) source: Option<Ipv4Addr>,
}

/// The socket and room for a batch.
pub(super) struct Sender {
    socket: UdpSocket,
    target: SocketAddr,
    slots: Vec<Slot>,
}

/// As the kernel reads it: `cmsghdr` and what follows, with the padding of `CMSG_SPACE` at the end by alignment.
#[repr(C)]
#[derive(Clone, Copy)]
struct Control {
    header: libc::cmsghdr,
    info: libc::in_pktinfo,
}

impl Sender {
    /// Bound to every address at once: answers to any of the sources end in its queue and are dropped there, so that the
    /// server does not see an ICMP error for each.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(target: SocketAddr) -> io::Result<Self> {
        let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        let slot = Slot { bytes: [0; DATAGRAM_BYTES_MAX], len: 0, source: None };
        Ok(Self { socket, target, slots: vec![slot; BATCH] })
    }

    /// Room for the `n`-th datagram of the next batch, below [`BATCH`].
    pub(super) fn slot(&mut self, n: usize) -> &mut Slot {
        &mut self.slots[n]
    }

    /// Sends the first `count` and says how many the kernel took.
    ///
    /// # Errors
    /// The system's, when it took none.
    #[expect(unsafe_code, reason = "no safe wrapper sends many datagrams, each with a source of its own")]
    pub(super) fn send(&mut self, count: usize) -> io::Result<usize> {
        let count = count.min(BATCH);
        let (v4, v6) = (name_v4(self.target), name_v6(self.target));
        // SAFETY: these are plain C structures of integers and pointers, for which all zeros is a value.
        let (mut headers, mut vectors, mut controls): ([libc::mmsghdr; BATCH], [libc::iovec; BATCH], [Control; BATCH]) =
            unsafe { std::mem::zeroed() };
        for n in 0..count {
            let slot = &mut self.slots[n];
            vectors[n].iov_base = slot.bytes.as_mut_ptr().cast();
            vectors[n].iov_len = slot.len;
            let header = &mut headers[n].msg_hdr;
            header.msg_iov = &raw mut vectors[n];
            header.msg_iovlen = 1;
            match (&v4, &v6) {
                (Some(name), _) => {
                    header.msg_name = (&raw const *name).cast_mut().cast();
                    header.msg_namelen = size_of_val(name) as libc::socklen_t;
                }
                (None, Some(name)) => {
                    header.msg_name = (&raw const *name).cast_mut().cast();
                    header.msg_namelen = size_of_val(name) as libc::socklen_t;
                }
                (None, None) => {}
            }
            let Some(source) = slot.source.filter(|_| v4.is_some()) else { continue };
            let control = &mut controls[n];
            control.header.cmsg_level = libc::IPPROTO_IP;
            control.header.cmsg_type = libc::IP_PKTINFO;
            control.header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<libc::in_pktinfo>()) as _;
            control.info.ipi_spec_dst.s_addr = u32::from_ne_bytes(source.octets());
            header.msg_control = (&raw mut *control).cast();
            header.msg_controllen = size_of::<Control>() as _;
        }
        // SAFETY: `headers[..count]` point to names, vectors, buffers and control data that live and do not move until
        // the call returns; the kernel only reads them and writes `msg_len` of each header.
        let sent = unsafe { libc::sendmmsg(self.socket.as_raw_fd(), headers.as_mut_ptr(), count as libc::c_uint, 0) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

fn name_v4(target: SocketAddr) -> Option<libc::sockaddr_in> {
    let SocketAddr::V4(target) = target else { return None };
    Some(libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: target.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(target.ip().octets()) },
        sin_zero: [0; 8],
    })
}

fn name_v6(target: SocketAddr) -> Option<libc::sockaddr_in6> {
    let SocketAddr::V6(target) = target else { return None };
    Some(libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6 as libc::sa_family_t,
        sin6_port: target.port().to_be(),
        sin6_flowinfo: target.flowinfo(),
        sin6_addr: libc::in6_addr { s6_addr: target.ip().octets() },
        sin6_scope_id: target.scope_id(),
    })
}
