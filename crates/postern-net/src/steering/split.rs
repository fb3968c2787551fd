//! The postern's four sockets: the kernel sorts its datagrams by their first octets, before they queue.
//!
//! A queue that is drained more slowly than it fills loses the same share of everything in it, tickets and trash alike. So each
//! kind has its own: a naive flood fills only the queue of its kind. Who writes packets that look like tickets fills theirs; only
//! a keyed check before the queue would help against that (`docs/design/gate.md`).
//!
//! The program cannot drop, only choose. A load behind the end of a datagram answers 0, hence 0 is the least of them.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use socket2::{Domain, Socket, Type};

use super::SteeringError;
use super::kernel;
use super::program::{Instruction, Program};

/// The sockets, by index: the order in which they are bound is that in which the kernel counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// HELLO, Initials without a token of ours, everything else.
    Rest = 0,
    /// Initials with a cookie.
    Cookie = 1,
    /// Initials with a ticket.
    Ticket = 2,
    /// Short headers, Handshake packets and all Initials but a client's first: they must carry an id of ours. In one queue, because
    /// QUIC throws away what overtakes the end of the handshake.
    Established = 3,
}

impl Queue {
    /// The best first.
    pub const ALL: [Self; 4] = [Self::Established, Self::Ticket, Self::Cookie, Self::Rest];

    /// What the kernel may hold in this queue, in octets: it is what a burst may bring before the gate has its turn. The rest
    /// gets the least: what waits long there is answered too late anyway.
    pub fn kernel_bytes(self) -> usize {
        match self {
            Self::Established | Self::Ticket => 4 << 20,
            Self::Cookie => 1 << 20,
            Self::Rest => 256 << 10,
        }
    }
}

/// Opens the group: four sockets at one address, by [`Queue`] index, and the program that chooses among them. Port 0 finds one.
/// `worker` is the second octet of every connection id of ours. A client's first Initial has a random one, which is taken for
/// ours once in 256 times: it then waits in the better queue, and the gate looks at it as at any other.
///
/// # Errors
/// The system's. `AddrInUse` also when another program has the port.
pub fn open(addr: SocketAddr, worker: u8) -> io::Result<[UdpSocket; 4]> {
    // Without SO_REUSEPORT first: else a second server of this user would get a share of the datagrams.
    drop(bind(addr, false)?);
    let first = bind(addr, true)?;
    let addr = first.local_addr()?;
    let sockets = [first, bind(addr, true)?, bind(addr, true)?, bind(addr, true)?];
    for queue in Queue::ALL {
        let socket = socket2::SockRef::from(&sockets[queue as usize]);
        // Beyond net.core.rmem_max only with CAP_NET_ADMIN; the kernel then gives what it gives to everybody.
        if rustix::net::sockopt::set_socket_recv_buffer_size_force(&sockets[queue as usize], queue.kernel_bytes())
            .is_err()
        {
            socket.set_recv_buffer_size(queue.kernel_bytes())?;
        }
        socket.set_send_buffer_size(Queue::Established.kernel_bytes())?;
    }
    attach(&sockets[0], worker).map_err(io::Error::other)?;
    Ok(sockets)
}

/// Datagrams that the kernel dropped because the queue of this socket was full, since it was opened.
///
/// # Errors
/// The system's: it does not count them.
pub fn kernel_drops(socket: &impl AsFd) -> io::Result<u32> {
    kernel::drops(socket)
}

fn bind(addr: SocketAddr, reuse_port: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, None)?;
    socket.set_reuse_port(reuse_port)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&addr.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn attach(socket: &UdpSocket, worker: u8) -> Result<(), SteeringError> {
    kernel::attach(socket, &program(worker))
}

/// Offsets are from the first octet behind the UDP header: RFC 9000 section 17.2 for the long header.
pub(super) fn program(worker: u8) -> Program {
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_WORD: u16 = 0x20;
    const LOAD_BYTE_AT_X: u16 = 0x50;
    const AND: u16 = 0x54;
    const JUMP_SET: u16 = 0x45;
    const JUMP_EQUAL: u16 = 0x15;
    const JUMP_ABOVE: u16 = 0x25;
    const A_TO_X: u16 = 0x07;
    const RETURN: u16 = 0x06;
    let at = |code, k, if_true, if_false| Instruction { code, if_true, if_false, k };
    let answer = |queue: Queue| at(RETURN, queue as u32, 0, 0);
    Program::from_instructions(vec![
        at(LOAD_BYTE, 0, 0, 0),
        // The fixed bit; then the long header.
        at(JUMP_SET, 0x40, 0, 22),
        at(JUMP_SET, 0x80, 0, 24),
        // Handshake, or Initial.
        at(AND, 0x30, 0, 0),
        at(JUMP_EQUAL, 0x20, 22, 0),
        at(JUMP_EQUAL, 0, 0, 18),
        // Version 1, destination id of 16 octets, source id of at most 20.
        at(LOAD_WORD, 1, 0, 0),
        at(JUMP_EQUAL, 1, 0, 16),
        at(LOAD_BYTE, 5, 0, 0),
        at(JUMP_EQUAL, 16, 0, 14),
        // An id of ours, by its second octet: a handshake goes on.
        at(LOAD_BYTE, 7, 0, 0),
        at(JUMP_EQUAL, u32::from(worker), 15, 0),
        at(LOAD_BYTE, 22, 0, 0),
        at(JUMP_ABOVE, 20, 10, 0),
        at(A_TO_X, 0, 0, 0),
        // The token's length: 38 in one octet, 66 in two.
        at(LOAD_BYTE_AT_X, 23, 0, 0),
        at(JUMP_EQUAL, 0x26, 0, 2),
        at(LOAD_BYTE_AT_X, 24, 0, 0),
        at(JUMP_SET, 0x80, 5, 6),
        at(JUMP_EQUAL, 0x40, 0, 4),
        at(LOAD_BYTE_AT_X, 24, 0, 0),
        at(JUMP_EQUAL, 0x42, 0, 2),
        at(LOAD_BYTE_AT_X, 25, 0, 0),
        at(JUMP_SET, 0x80, 2, 0),
        answer(Queue::Rest),
        answer(Queue::Cookie),
        answer(Queue::Ticket),
        answer(Queue::Established),
    ])
}

#[cfg(test)]
mod tests;
