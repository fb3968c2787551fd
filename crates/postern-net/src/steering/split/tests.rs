use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::{Queue, kernel_drops, open};

const WORKER: u8 = 5;

/// An Initial (or, with another `first`, another long packet) with these octets as its token field, length included.
fn long(first: u8, source_id: usize, field: &[u8]) -> Vec<u8> {
    let mut datagram = vec![first, 0, 0, 0, 1, 16];
    datagram.extend([7; 16]);
    datagram.push(source_id as u8);
    datagram.extend(std::iter::repeat_n(9, source_id));
    datagram.extend(field);
    datagram.resize(1_200, 0);
    datagram
}

/// With the second octet that ids of ours have.
fn to_us(mut datagram: Vec<u8>) -> Vec<u8> {
    datagram[7] = WORKER;
    datagram
}

fn kinds() -> Vec<(&'static str, Vec<u8>, Queue)> {
    let cookie = |octet: u8| [vec![0x26, octet], vec![1; 37]].concat();
    let ticket = |octet: u8| [vec![0x40, 0x42, octet], vec![1; 65]].concat();
    vec![
        ("short header", vec![0x4f; 60], Queue::Established),
        ("handshake", long(0xe0, 8, &[]), Queue::Established),
        ("ticket", long(0xc0, 8, &ticket(0x81)), Queue::Ticket),
        ("ticket behind no source id", long(0xc0, 0, &ticket(0x83)), Queue::Ticket),
        ("cookie", long(0xc0, 20, &cookie(0x01)), Queue::Cookie),
        ("cookie's length, ticket's octet", long(0xc0, 8, &cookie(0x81)), Queue::Rest),
        ("ticket's length, cookie's octet", long(0xc0, 8, &ticket(0x01)), Queue::Rest),
        ("with an id of ours", to_us(long(0xc0, 8, &ticket(0x81))), Queue::Established),
        ("with an id of ours and no token", to_us(long(0xc0, 8, &[0])), Queue::Established),
        ("0-RTT with an id of ours", to_us(long(0xd0, 8, &[0])), Queue::Rest),
        ("no token", long(0xc0, 8, &[0]), Queue::Rest),
        ("another length", long(0xc0, 8, &[0x40, 0x43, 0x81]), Queue::Rest),
        ("0-RTT", long(0xd0, 8, &ticket(0x81)), Queue::Rest),
        ("source id too long", long(0xc0, 21, &ticket(0x81)), Queue::Rest),
        ("HELLO", [vec![0x11, 1], vec![0; 1_198]].concat(), Queue::Rest),
        ("garbage", vec![0x00; 100], Queue::Rest),
        ("cut off in the token", long(0xc0, 8, &[0x40])[..32].to_vec(), Queue::Rest),
        ("ten octets", long(0xc0, 8, &[])[..10].to_vec(), Queue::Rest),
        ("one octet", vec![0xc0], Queue::Rest),
        ("nothing", Vec::new(), Queue::Rest),
    ]
}

fn check(server: &str) {
    let sockets = open(server.parse().expect("an address"), WORKER).expect("opened");
    let to = sockets[0].local_addr().expect("bound");
    let mut buffer = [0; 2_000];
    for (name, datagram, expected) in kinds() {
        // A port of its own each time: without the program the kernel would spread them.
        let client = UdpSocket::bind((to.ip(), 0)).expect("a client");
        client.send_to(&datagram, to).expect("sent");
        let until = Instant::now() + Duration::from_secs(60);
        let found = loop {
            let found = Queue::ALL.into_iter().find(|queue| sockets[*queue as usize].recv_from(&mut buffer).is_ok());
            if found.is_some() || Instant::now() > until {
                break found;
            }
        };
        assert_eq!(found, Some(expected), "{name} at {server}");
    }
}

#[test]
fn the_kernel_puts_each_kind_into_its_queue_by_ipv4() {
    check("127.0.0.1:0");
}

#[test]
fn the_kernel_puts_each_kind_into_its_queue_by_ipv6() {
    check("[::1]:0");
}

#[test]
fn a_second_door_at_the_same_address_is_refused() {
    let sockets = open("127.0.0.1:0".parse().expect("an address"), WORKER).expect("opened");
    let addr = sockets[0].local_addr().expect("bound");
    assert_eq!(open(addr, WORKER).expect_err("it is taken").kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn a_full_queue_is_counted_and_the_others_stay_empty() {
    let sockets = open("127.0.0.1:0".parse().expect("an address"), WORKER).expect("opened");
    let to = sockets[0].local_addr().expect("bound");
    let client = UdpSocket::bind((to.ip(), 0)).expect("a client");
    let room = socket2::SockRef::from(&sockets[Queue::Rest as usize]).recv_buffer_size().expect("a size");
    // Each takes more of the room than its octets.
    let sent = room / 1_200 + 1;
    for _ in 0..sent {
        client.send_to(&[0; 1_200], to).expect("sent");
    }
    let lost = kernel_drops(&sockets[Queue::Rest as usize]).expect("counted") as usize;
    assert!((1..sent).contains(&lost), "{lost} of {sent} in {room} octets");
    for queue in [Queue::Cookie, Queue::Ticket, Queue::Established] {
        assert_eq!(kernel_drops(&sockets[queue as usize]).expect("counted"), 0);
    }
    // A flood of the rest leaves room for a ticket.
    let (_, ticket, _) = &kinds()[2];
    client.send_to(ticket, to).expect("sent");
    let mut buffer = [0; 2_000];
    assert!(sockets[Queue::Ticket as usize].recv_from(&mut buffer).is_ok());
}
