//! A real group of listeners: which of them a connection comes out of.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::net::sockopt;
use socket2::{Domain, Socket, Type};

use super::*;
use crate::socket::{BACKLOG, listen};

/// Listeners in their order: strangers', then those of the known.
pub(super) struct Group {
    listeners: Vec<TcpListener>,
    cores: u16,
    pub(super) steering: Steering,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Queue {
    Strangers,
    Known,
}

impl Group {
    pub(super) fn open(addr: &str, cores: u16) -> Self {
        let mut addr: SocketAddr = addr.parse().expect("an address");
        let mut listeners = Vec::new();
        for _ in 0..2 * cores {
            listeners.push(listen(addr, BACKLOG, true).expect("a listener"));
            addr = listeners[0].local_addr().expect("an address");
        }
        Self::of(listeners, cores)
    }

    pub(super) fn of(listeners: Vec<TcpListener>, cores: u16) -> Self {
        let steering = Steering::new(&listeners[0], cores).expect("a descriptor");
        Self { listeners, cores, steering }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.listeners[0].local_addr().expect("an address")
    }

    /// Connects from `source` and says from which queue the connection came out.
    pub(super) fn queue_of(&self, source: &str) -> Queue {
        let index = self.index_of(source, self.addr());
        if index < usize::from(self.cores) { Queue::Strangers } else { Queue::Known }
    }

    fn index_of(&self, source: &str, addr: SocketAddr) -> usize {
        let source: IpAddr = source.parse().expect("an address");
        // Kept until the connection is found: the handshake is over when this returns, on loopback.
        let _client = connect_from(source, addr).unwrap_or_else(|error| panic!("{source}: {error}"));
        let came = |listener: &TcpListener| match listener.accept() {
            Ok((_, peer)) => {
                assert_eq!(peer.ip().to_canonical(), source);
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        };
        let found: Vec<usize> =
            self.listeners.iter().enumerate().filter(|(_, one)| came(one)).map(|(index, _)| index).collect();
        assert_eq!(found.len(), 1, "{source} came out of {found:?}");
        found[0]
    }
}

fn connect_from(source: IpAddr, addr: SocketAddr) -> io::Result<TcpStream> {
    let source = SocketAddr::new(source, 0);
    let socket = Socket::new(Domain::for_address(source), Type::STREAM, None)?;
    if source.is_ipv6() {
        // Any address of a prefix that is routed here, without adding it to an interface.
        sockopt::set_ipv6_freebind(&socket, true)?;
    }
    socket.bind(&source.into())?;
    socket.connect(&addr.into())?;
    Ok(socket.into())
}

#[test]
fn the_kernel_puts_the_known_into_their_own_queues() {
    for cores in [1, 2, 3] {
        let mut group = Group::open("127.0.0.1:0", cores);
        let held = group.steering.attach(&networks("127.7.0.0/16 127.9.1.2 2001:db8::/32")).expect("steering");
        assert_eq!((held.networks, held.left_out, held.replaced), (3, 0, true));
        for _ in 0..8 {
            for (source, queue) in [
                ("127.7.0.0", Queue::Known),
                ("127.7.255.255", Queue::Known),
                ("127.9.1.2", Queue::Known),
                ("127.8.0.0", Queue::Strangers),
                ("127.6.255.255", Queue::Strangers),
                ("127.9.1.3", Queue::Strangers),
                ("127.0.0.1", Queue::Strangers),
            ] {
                assert_eq!(group.queue_of(source), queue, "{source} with {cores} cores");
            }
        }
    }
}

#[test]
fn the_kernel_reads_ipv6_addresses_too() {
    let mut group = Group::open("[::1]:0", 2);
    group.steering.attach(&networks("::1 127.0.0.1")).expect("steering");
    assert_eq!(group.queue_of("::1"), Queue::Known);
    group.steering.attach(&networks("::2/127 ::4/126 ::/128")).expect("steering");
    assert_eq!(group.queue_of("::1"), Queue::Strangers);
}

#[test]
fn a_socket_for_both_families_steers_both() {
    let mut listeners = Vec::new();
    let mut addr: SocketAddr = "[::]:0".parse().expect("an address");
    for _ in 0..2 {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).expect("a socket");
        socket.set_reuse_port(true).expect("shared");
        socket.set_only_v6(false).expect("both families");
        socket.bind(&addr.into()).expect("bound");
        socket.listen(16).expect("listening");
        socket.set_nonblocking(true).expect("non-blocking");
        listeners.push(TcpListener::from(socket));
        addr = listeners[0].local_addr().expect("an address");
    }
    let mut group = Group::of(listeners, 1);
    group.steering.attach(&networks("127.5.0.0/16 ::1")).expect("steering");
    let port = group.addr().port();
    for (source, to, index) in [("127.5.1.1", "127.0.0.1", 1), ("127.6.1.1", "127.0.0.1", 0), ("::1", "::1", 1)] {
        let to = SocketAddr::new(to.parse().expect("an address"), port);
        assert_eq!(group.index_of(source, to), index, "{source}");
    }
}

#[test]
fn a_program_is_replaced_while_clients_come_and_only_when_it_changed() {
    let mut group = Group::open("127.0.0.1:0", 2);
    let mut attach = |list: &str| group.steering.attach(&networks(list)).expect("steering").replaced;
    assert!(attach("127.1.0.0/16"));
    assert!(!attach("127.1.128.0/17 127.1.0.0/17"));
    assert!(attach("127.2.0.0/16"));
    assert_eq!(group.queue_of("127.1.0.1"), Queue::Strangers);
    assert_eq!(group.queue_of("127.2.0.1"), Queue::Known);
}

#[test]
fn without_known_networks_all_are_strangers() {
    let mut group = Group::open("127.0.0.1:0", 2);
    group.steering.attach(&[]).expect("steering");
    for number in 1..40 {
        assert_eq!(group.queue_of(&format!("127.0.0.{number}")), Queue::Strangers);
    }
}

#[test]
fn detached_the_group_shares_all_connections_among_all_queues() {
    let mut group = Group::open("127.0.0.1:0", 1);
    group.steering.attach(&networks("127.0.0.0/8")).expect("steering");
    group.steering.detach().expect("detached");
    let mut known = 0;
    for number in 0..64 {
        known += u32::from(group.queue_of(&format!("127.3.0.{number}")) == Queue::Known);
    }
    // Each with 2^-64 when the kernel's hash is as good as a coin.
    assert!((1..64).contains(&known), "{known} of 64 were taken for known");
    assert!(group.steering.attach(&networks("127.0.0.0/8")).expect("again").replaced);
}

#[test]
fn the_kernel_takes_as_many_instructions_as_we_think() {
    let list: Vec<IpNet> = (0..9000u32)
        .map(|n| IpNet::from(IpAddr::from(std::net::Ipv4Addr::from(n.wrapping_mul(2_654_435_761)))))
        .collect();
    let mut group = Group::open("127.0.0.1:0", 2);
    let held = group.steering.attach(&list).expect("steering");
    assert_eq!(held.networks + held.left_out, 9000);
    // A kernel with little room for programs (net.core.optmem_max) holds fewer, and says so.
    assert!(held.networks >= 64 && held.instructions <= INSTRUCTIONS_MAX, "{held:?}");
    let coldest = list[held.networks - 1];
    assert!(coldest.prefix_len() == 32);
}

#[test]
fn a_listener_on_its_own_cannot_be_steered_and_says_why() {
    let alone = listen("127.0.0.1:0".parse().expect("an address"), BACKLOG, false).expect("a listener");
    let mut steering = Steering::new(&alone, 1).expect("a descriptor");
    let error = steering.attach(&networks("127.0.0.0/8")).expect_err("not in a group");
    assert!(matches!(error, SteeringError::Refused(_)), "{error}");
    let error = |errno: Errno| sorted(errno.into()).to_string();
    assert!(error(Errno::NOPROTOOPT).contains("Linux 4.6"));
    assert!(error(Errno::PERM).contains("seccomp"));
    assert!(error(Errno::NOMEM).contains("optmem_max"));
}
