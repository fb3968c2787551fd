//! The one system call that no safe wrapper offers: IP_BIND_ADDRESS_NO_PORT.
//!
//! Without it `bind` to a source address takes a port at once that no other connection of that address may use, and
//! looks for it in one table for all of 127/8; with it the port is chosen at `connect`, by the whole four-tuple.

#![expect(unsafe_code, reason = "setsockopt with an option that neither std nor rustix knows")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Leaves the choice of the source port to `connect`. Also right for IPv6 sockets: the option lives at the IP level.
pub(super) fn bind_address_no_port(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open for as long as it is borrowed, and the option reads one c_int at the pointer.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
