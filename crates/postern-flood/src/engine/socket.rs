//! Sockets of the crowd: made, bound to a member's address, connected without waiting, and ended with or without
//! manners.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::no_port::bind_address_no_port;

/// Begins a connection from `source`; writable means decided.
pub(super) fn dial(source: IpAddr, target: SocketAddr) -> io::Result<OwnedFd> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // Commands are small and each waits for its reply: Nagle would add 40 ms and blame the server.
    sockopt::set_tcp_nodelay(&socket, true)?;
    bind_address_no_port(socket.as_fd())?;
    if !target.ip().is_loopback() {
        // A prefix routed to this host (AnyIP) has no address on any interface.
        match source {
            IpAddr::V4(_) => sockopt::set_ip_freebind(&socket, true)?,
            IpAddr::V6(_) => sockopt::set_ipv6_freebind(&socket, true)?,
        }
    }
    rustix::net::bind(&socket, &SocketAddr::new(source, 0))?;
    match rustix::net::connect(&socket, &target) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// Makes the coming close a reset: what churning bots do, and no TIME_WAIT stays behind.
pub(super) fn close_with_reset(socket: &OwnedFd) {
    // The worst that can happen is an orderly close.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}
