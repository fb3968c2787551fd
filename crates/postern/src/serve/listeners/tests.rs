//! Groups of listeners on real sockets.

use std::net::{IpAddr, TcpStream};

use ipnet::IpNet;

use super::*;

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

fn network(text: &str) -> IpNet {
    text.parse().expect("a network")
}

/// Connects and says in which thread's queue, and among the known or not, the connection waited.
fn queue_of(group: &Group, source: &str) -> (usize, bool) {
    let source: IpAddr = source.parse().expect("an address");
    let socket = socket(group.addr).expect("a socket");
    rustix::net::bind(&socket, &SocketAddr::new(source, 0)).expect("bound");
    rustix::net::connect(&socket, &group.addr).expect("connected");
    let _client = TcpStream::from(socket);
    for (thread, (strangers, known)) in group.threads.iter().enumerate() {
        for (listener, is_known) in [(Some(strangers), false), (known.as_ref(), true)] {
            if listener.is_some_and(|listener| listener.accept().is_ok()) {
                return (thread, is_known);
            }
        }
    }
    panic!("{source} is in no queue");
}

#[test]
fn every_thread_has_a_queue_for_strangers_and_one_for_the_known() {
    for threads in [1, 2, 3] {
        let mut group = Group::open(any_port(), threads, true).expect("listeners");
        assert_eq!(group.threads.len(), threads);
        assert!(!queue_of(&group, "127.9.0.1").1, "a stranger while nobody is known");
        let steering = group.steering.as_mut().expect("steered");
        assert_eq!(steering.attach(&[network("127.9.0.0/16")]).expect("replaced").networks, 1);
        let mut reached = vec![0; threads];
        for number in 0..64 {
            assert!(!queue_of(&group, &format!("127.8.0.{number}")).1);
            let (thread, known) = queue_of(&group, &format!("127.9.0.{number}"));
            assert!(known);
            reached[thread] += 1;
        }
        assert!(reached.iter().all(|count| *count > 0), "each thread serves the known: {reached:?}");
    }
}

#[test]
fn plain_listeners_are_one_for_each_thread_and_say_why() {
    for threads in [1, 2] {
        let group = Group::open(any_port(), threads, false).expect("listeners");
        assert_eq!(group.threads.len(), threads);
        assert!(group.threads.iter().all(|(_, known)| known.is_none()));
        assert_eq!(group.steering.as_ref().expect_err("plain"), "auto.steering is off");
        queue_of(&group, "127.9.0.1");
    }
}

#[test]
fn an_address_that_is_steered_is_not_taken_a_second_time() {
    let group = Group::open(any_port(), 2, true).expect("listeners");
    Group::open(group.addr, 2, true).expect_err("occupied");
    let addr = group.addr;
    drop(group);
    // The steering's own descriptor went with the group: nobody waits in a queue without a door.
    TcpStream::connect(addr).expect_err("closed");
    Group::open(addr, 2, true).expect("free again");
}
