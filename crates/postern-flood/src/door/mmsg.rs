//! The system calls that neither std nor rustix offers: sendmmsg and recvmmsg with IP_PKTINFO, IPV6_FREEBIND.
//!
//! One unbound socket sends from, and hears for, any address of 127/8 without privilege: the address travels beside each
//! datagram as a control message. Only batches of bytes come in here; what is sent, and whether to whom is allowed, is
//! decided by the callers, which hold a checked plan.

#![expect(unsafe_code, reason = "system calls with control messages that neither std nor rustix knows")]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

/// Datagrams of one call: at 64 the cost of the call itself is a thirtieth of what the network stack takes.
pub(super) const BATCH: usize = 64;

/// Octets that are kept of a datagram that came in: no packet of the door is longer.
pub(super) const DATAGRAM_BYTES_MAX: usize = 1_536;

/// A control message with an address: 16 octets of header, then in_pktinfo (12) or in6_pktinfo (20), aligned.
const CONTROL_BYTES: usize = 40;

/// Aligned as a cmsghdr wants it.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_BYTES]);

/// One datagram on its way out.
#[derive(Clone, Copy)]
pub(super) struct Out<'a> {
    pub(super) source: IpAddr,
    pub(super) bytes: &'a [u8],
}

/// A socket for datagrams from and to many addresses of ours, of the target's family.
pub(super) fn socket(target: SocketAddr) -> io::Result<UdpSocket> {
    let any = if target.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    if target.is_ipv4() {
        switch_on(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO)?;
    } else {
        switch_on(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)?;
        // Without it a source of a network that is routed here, but not configured, is refused with EINVAL.
        switch_on(&socket, libc::IPPROTO_IPV6, libc::IPV6_FREEBIND)?;
    }
    Ok(socket)
}

fn switch_on(socket: &UdpSocket, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open for as long as the socket is borrowed; the option reads one c_int at the pointer.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends the first [`BATCH`] of these to the target; says how many the kernel took.
///
/// # Errors
/// The first datagram was refused; `WouldBlock` when the socket's buffer is full.
pub(super) fn send(socket: &UdpSocket, target: SocketAddr, batch: &[Out<'_>]) -> io::Result<usize> {
    let (mut name, name_bytes) = name_of(target);
    let mut controls = [Control([0; CONTROL_BYTES]); BATCH];
    // SAFETY: iovec and mmsghdr are plain C structures, for which all zeroes (null pointers, length 0) is a value.
    let (mut parts, mut headers): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) = unsafe { (zeroed(), zeroed()) };
    let count = batch.len().min(BATCH);
    for (n, out) in batch.iter().take(BATCH).enumerate() {
        let used = write_control(&mut controls[n], out.source);
        // The kernel only reads what is sent.
        parts[n] = libc::iovec { iov_base: out.bytes.as_ptr().cast_mut().cast(), iov_len: out.bytes.len() };
        let header = &mut headers[n].msg_hdr;
        header.msg_name = (&raw mut name).cast();
        header.msg_namelen = name_bytes;
        header.msg_iov = &raw mut parts[n];
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut controls[n]).cast();
        header.msg_controllen = used as _;
    }
    // SAFETY: `count` headers are filled, each points to a name, one part and a control message that live until the
    // call returns, with their true lengths.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count as libc::c_uint, 0) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Room for a batch that comes in; reused.
pub(super) struct Inbox {
    bytes: Vec<[u8; DATAGRAM_BYTES_MAX]>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { bytes: vec![[0; DATAGRAM_BYTES_MAX]; BATCH] }
    }

    /// Takes what waits, at most [`BATCH`] datagrams, and shows each: which of our addresses it was sent to, and its
    /// octets (the first [`DATAGRAM_BYTES_MAX`]). Says how many there were.
    ///
    /// # Errors
    /// As recvmmsg gives them; nothing waiting is 0.
    pub(super) fn receive(&mut self, socket: &UdpSocket, mut each: impl FnMut(IpAddr, &[u8])) -> io::Result<usize> {
        let mut controls = [Control([0; CONTROL_BYTES]); BATCH];
        // SAFETY: as in `send`.
        let (mut parts, mut headers): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) = unsafe { (zeroed(), zeroed()) };
        for (n, bytes) in self.bytes.iter_mut().enumerate() {
            parts[n] = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: DATAGRAM_BYTES_MAX };
            let header = &mut headers[n].msg_hdr;
            header.msg_iov = &raw mut parts[n];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut controls[n]).cast();
            header.msg_controllen = CONTROL_BYTES as _;
        }
        // SAFETY: BATCH headers are filled, each points to one part and a control buffer of the lengths given, and
        // both live until the call returns; no time limit is given.
        let got = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let Ok(got) = usize::try_from(got) else {
            let error = io::Error::last_os_error();
            // An ICMP error of an earlier datagram of ours: said once, and then gone.
            let nothing = [io::ErrorKind::WouldBlock, io::ErrorKind::ConnectionRefused, io::ErrorKind::Interrupted];
            return if nothing.contains(&error.kind()) { Ok(0) } else { Err(error) };
        };
        for n in 0..got {
            let length = (headers[n].msg_len as usize).min(DATAGRAM_BYTES_MAX);
            let used = headers[n].msg_hdr.msg_controllen;
            if let Some(to) = read_control(&controls[n], used) {
                each(to, &self.bytes[n][..length]);
            }
        }
        Ok(got)
    }
}

/// As the kernel wants an address, and its length.
fn name_of(target: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: sockaddr_storage is plain octets; all zeroes is an address of no family.
    let mut name: libc::sockaddr_storage = unsafe { zeroed() };
    let bytes = match target {
        SocketAddr::V4(v4) => {
            let at = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: a sockaddr_storage has room for, and the alignment of, each kind of address.
            unsafe { (&raw mut name).cast::<libc::sockaddr_in>().write(at) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let at = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { (&raw mut name).cast::<libc::sockaddr_in6>().write(at) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (name, bytes as libc::socklen_t)
}

/// struct cmsghdr {length, level, type} and a pktinfo, octet by octet; the length in use.
fn write_control(control: &mut Control, source: IpAddr) -> usize {
    let head = size_of::<libc::cmsghdr>();
    let (level, kind, data) = match source {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO, size_of::<libc::in_pktinfo>()),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, size_of::<libc::in6_pktinfo>()),
    };
    let bytes = &mut control.0;
    bytes[..8].copy_from_slice(&((head + data) as u64).to_ne_bytes());
    bytes[8..12].copy_from_slice(&level.to_ne_bytes());
    bytes[12..16].copy_from_slice(&kind.to_ne_bytes());
    match source {
        // Interface 0 (any), then the source (ipi_spec_dst); the third field is for receiving.
        IpAddr::V4(v4) => bytes[head + 4..head + 8].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => bytes[head..head + 16].copy_from_slice(&v6.octets()),
    }
    head + data.next_multiple_of(8)
}

/// Which address of ours a datagram was sent to.
fn read_control(control: &Control, used: usize) -> Option<IpAddr> {
    let (bytes, head) = (&control.0, size_of::<libc::cmsghdr>());
    let word = |at: usize| libc::c_int::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    match (word(8), word(12)) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) if used >= head + 12 => {
            let to: [u8; 4] = bytes[head + 8..head + 12].try_into().ok()?;
            Some(to.into())
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if used >= head + 20 => {
            let to: [u8; 16] = bytes[head..head + 16].try_into().ok()?;
            Some(to.into())
        }
        _ => None,
    }
}

// The length of a control message is written as 64 bits above.
const _: () = assert!(size_of::<libc::cmsghdr>() == 16, "a 64-bit Linux");
