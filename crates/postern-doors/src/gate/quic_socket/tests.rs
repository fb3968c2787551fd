//! The socket with real datagrams on loopback, polled by hand.

use std::future::poll_fn;
use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postern_proto::door::limits::HELLO_BYTES_MIN;
use postern_proto::door::{Challenge, Keyring, Master, hello};
use quinn::AsyncUdpSocket;
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};

use super::super::{DoorSockets, Gate, GateOptions, SharedGate};
use super::GateSocket;

fn gate() -> SharedGate {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let keys = Keyring::new(&Master::new([9; 32]), now_s);
    Arc::new(Mutex::new(Gate::new(keys, GateOptions::default(), [3; 16])))
}

fn sockets() -> DoorSockets {
    DoorSockets::open("127.0.0.1:0".parse().expect("an address"), 0).expect("opened")
}

fn socket(sockets: &DoorSockets, gate: &SharedGate) -> Arc<GateSocket> {
    GateSocket::new(sockets, Arc::clone(gate), Box::new(|| ())).expect("a socket")
}

fn client(sockets: &DoorSockets) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").expect("a port");
    client.connect(sockets.addr().expect("bound")).expect("connected");
    client
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Wakes that a poll asked for itself.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// One poll with so many buffers, and whether it asked to be polled again at once.
fn poll_once(socket: &GateSocket, buffers: usize) -> (Poll<usize>, bool) {
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut octets = vec![vec![0; 65_535]; buffers];
    let mut slices: Vec<_> = octets.iter_mut().map(|one| IoSliceMut::new(one)).collect();
    let mut meta = vec![RecvMeta::default(); buffers];
    let polled = socket.poll_recv(&mut Context::from_waker(&waker), &mut slices, &mut meta);
    (polled.map(|result| result.expect("no error")), wakes.0.load(Relaxed) > 0)
}

/// What passes next, and the length of the datagrams in it.
async fn next(socket: &GateSocket) -> (Vec<u8>, usize) {
    let mut octets = vec![vec![0; 65_535]; 32];
    let mut slices: Vec<_> = octets.iter_mut().map(|one| IoSliceMut::new(one)).collect();
    let mut meta = vec![RecvMeta::default(); 32];
    let passed = poll_fn(|cx| socket.poll_recv(cx, &mut slices, &mut meta));
    let count = tokio::time::timeout(Duration::from_secs(20), passed).await.expect("in time").expect("no error");
    assert_eq!(count, 1, "one sender's");
    (slices[0][..meta[0].len].to_vec(), meta[0].stride)
}

fn initial(dcid: &[u8; 16], field: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0xc0, 0, 0, 0, 1, 16];
    datagram.extend(dcid);
    datagram.push(0);
    datagram.extend(field);
    datagram.resize(1_200, 0);
    datagram
}

fn short(cid: &[u8; 16], octet: u8) -> Vec<u8> {
    let mut datagram = vec![0x40];
    datagram.extend(cid);
    datagram.resize(100, octet);
    datagram
}

/// Of each kind one that looks right to the kernel and is not ours: by queue, the best first.
fn trash() -> [Vec<u8>; 4] {
    [
        short(&[7; 16], 0),
        initial(&[7; 16], &[vec![0x40, 0x42], vec![0x81; 66]].concat()),
        initial(&[7; 16], &[vec![0x26], vec![1; 38]].concat()),
        vec![0; 100],
    ]
}

async fn readable(socket: &GateSocket) {
    for queue in &socket.queues {
        tokio::time::timeout(Duration::from_secs(20), queue.io.readable()).await.expect("in time").expect("no error");
    }
}

#[test]
fn a_hello_is_answered_and_only_what_the_gate_passes_reaches_quinn() {
    runtime().block_on(async {
        let (sockets, gate) = (sockets(), gate());
        let socket = socket(&sockets, &gate);
        let client = client(&sockets);
        client.set_nonblocking(true).expect("set");
        let client = tokio::net::UdpSocket::from_std(client).expect("a socket");
        for datagram in trash() {
            client.send(&datagram).await.expect("sent");
        }
        let mut datagram = [0; HELLO_BYTES_MIN];
        hello([5; 8], &mut datagram);
        client.send(&datagram).await.expect("sent");
        let mut answer = [0; 100];
        let answered = tokio::select! {
            _ = next(&socket) => panic!("nothing passes yet"),
            answered = client.recv(&mut answer) => answered.expect("an answer"),
        };
        let challenge = Challenge::parse(&answer[..answered], [5; 8]).expect("a challenge to this HELLO");
        let shown = initial(&[8; 16], &[vec![0x26], challenge.token().to_vec()].concat());
        client.send(&shown).await.expect("sent");
        assert_eq!(next(&socket).await.0, shown);
        let stats = gate.lock().expect("not poisoned").stats();
        assert_eq!((stats.received, stats.answered, stats.passed), (6, 1, 1));
        assert_eq!((stats.bad_id, stats.bad_ticket, stats.bad_cookie, stats.garbage), (1, 1, 1, 1));
    });
}

#[test]
fn a_train_of_datagrams_is_sifted_in_its_buffer() {
    runtime().block_on(async {
        let (sockets, gate) = (sockets(), gate());
        let socket = socket(&sockets, &gate);
        let client = client(&sockets);
        let id = gate.lock().expect("not poisoned").new_cid();
        let train: Vec<_> = (0..10).map(|n| short(if n % 3 == 1 { &id } else { &[7; 16] }, n)).collect();
        let state = UdpSocketState::new((&client).into()).expect("a state");
        let destination = sockets.addr().expect("bound");
        if state.max_gso_segments() < train.len() {
            return;
        }
        let contents = train.concat();
        let transmit = Transmit { destination, ecn: None, contents: &contents, segment_size: Some(100), src_ip: None };
        state.try_send((&client).into(), &transmit).expect("sent");
        let ours = [&train[1][..], &train[4], &train[7]].concat();
        assert_eq!(next(&socket).await, (ours, 100));
        assert_eq!(gate.lock().expect("not poisoned").stats().bad_id, 7);
    });
}

#[test]
fn full_queues_are_read_by_their_weights() {
    runtime().block_on(async {
        let (sockets, gate) = (sockets(), gate());
        let socket = socket(&sockets, &gate);
        let client = client(&sockets);
        let id = gate.lock().expect("not poisoned").new_cid();
        let counted = || {
            let stats = gate.lock().expect("not poisoned").stats();
            [stats.bad_id, stats.bad_ticket, stats.bad_cookie, stats.garbage]
        };
        // By four, so that a queue's bound by the system is far.
        for _ in 0..40 {
            trash().iter().for_each(|datagram| assert!(client.send(datagram).is_ok()));
        }
        client.send(&short(&id, 0)).expect("sent");
        readable(&socket).await;
        // The friend's waits behind 40 in the best queue: five rounds of eight, and what the others had in the meantime.
        while poll_once(&socket, 1) != (Poll::Ready(1), false) {
            // The runtime ends the turn of a task as well.
            tokio::task::yield_now().await;
        }
        assert_eq!(counted(), [40, 20, 10, 5]);
    });
}

#[test]
fn a_poll_ends_in_time_asks_for_another_and_what_is_to_be_done_is_done_after_each() {
    runtime().block_on(async {
        let (sockets, gate) = (sockets(), gate());
        let polls = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&polls);
        let busy = Box::new(move || {
            counter.fetch_add(1, Relaxed);
        });
        // No time at all: each poll ends behind its first read.
        let socket = GateSocket::with(&sockets, Arc::clone(&gate), busy, Duration::from_nanos(1)).expect("a socket");
        let client = client(&sockets);
        for _ in 0..40 {
            trash().iter().for_each(|datagram| assert!(client.send(datagram).is_ok()));
        }
        readable(&socket).await;
        let received = || gate.lock().expect("not poisoned").stats().received;
        assert_eq!(poll_once(&socket, 1), (Poll::Pending, true));
        assert_eq!(received(), 1);
        for _ in 1..160 {
            // The runtime ends the turn of a task as well.
            tokio::task::yield_now().await;
            assert_eq!(poll_once(&socket, 1), (Poll::Pending, true));
        }
        assert_eq!((received(), polls.load(Relaxed)), (160, 160));
    });
}

#[test]
fn what_waits_in_the_queues_outlives_the_thread() {
    let (sockets, gate) = (sockets(), gate());
    let client = client(&sockets);
    let id = gate.lock().expect("not poisoned").new_cid();
    for n in 0..3 {
        client.send(&short(&id, n)).expect("sent");
        runtime().block_on(async {
            let socket = socket(&sockets, &gate);
            assert_eq!(next(&socket).await.0, short(&id, n));
            client.send(&trash()[0]).expect("sent");
        });
    }
}
