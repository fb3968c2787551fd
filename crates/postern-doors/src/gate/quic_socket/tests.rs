//! The socket with real datagrams on loopback, polled by hand.

use std::future::poll_fn;
use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postern_proto::door::limits::HELLO_BYTES_MIN;
use postern_proto::door::{Challenge, Keyring, Master, hello};
use quinn::AsyncUdpSocket;
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};

use super::super::{DoorSockets, Gate, GateOptions, SharedGate};
use super::{DATAGRAMS_MAX, GateSocket, READS_MAX};

fn gate() -> SharedGate {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let keys = Keyring::new(&Master::new([9; 32]), now_s);
    Arc::new(Mutex::new(Gate::new(keys, GateOptions::default(), [3; 16])))
}

fn sockets() -> DoorSockets {
    DoorSockets::open("127.0.0.1:0".parse().expect("an address")).expect("opened")
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
        let socket = GateSocket::new(&sockets, Arc::clone(&gate)).expect("a socket");
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
        let socket = GateSocket::new(&sockets, Arc::clone(&gate)).expect("a socket");
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
fn full_queues_are_read_by_their_weights_and_a_poll_ends_and_asks_for_another() {
    runtime().block_on(async {
        let (sockets, gate) = (sockets(), gate());
        let socket = GateSocket::new(&sockets, Arc::clone(&gate)).expect("a socket");
        let client = client(&sockets);
        // By four, so that a queue's bound by the system is far.
        for _ in 0..40 {
            trash().iter().for_each(|datagram| assert!(client.send(datagram).is_ok()));
        }
        readable(&socket).await;
        let counted = || {
            let stats = gate.lock().expect("not poisoned").stats();
            assert_eq!(stats.passed, 0);
            [stats.bad_id, stats.bad_ticket, stats.bad_cookie, stats.garbage]
        };
        assert_eq!(poll_once(&socket, 1), (Poll::Pending, true));
        assert_eq!(counted(), [16, 8, 4, 2], "{READS_MAX} reads of one datagram");
        assert_eq!(poll_once(&socket, 1), (Poll::Pending, true));
        assert_eq!(counted(), [32, 16, 8, 4]);
        // The runtime ends the turn of a task as well.
        tokio::task::yield_now().await;
        while poll_once(&socket, 1) == (Poll::Pending, true) {
            tokio::task::yield_now().await;
        }
        assert_eq!(counted(), [40; 4], "the least is read at last");
    });
}

#[test]
fn long_trains_of_trash_end_a_poll_as_well() {
    runtime().block_on(async {
        let (sockets, gate) = (sockets(), gate());
        let socket = GateSocket::new(&sockets, Arc::clone(&gate)).expect("a socket");
        let client = client(&sockets);
        let state = UdpSocketState::new((&client).into()).expect("a state");
        let destination = sockets.addr().expect("bound");
        let segments = state.max_gso_segments().min(64);
        if segments < 64 {
            return;
        }
        let contents = short(&[7; 16], 0).repeat(segments);
        let transmit = Transmit { destination, ecn: None, contents: &contents, segment_size: Some(100), src_ip: None };
        for _ in 0..20 {
            state.try_send((&client).into(), &transmit).expect("sent");
        }
        tokio::time::timeout(Duration::from_secs(20), socket.queues[0].io.readable())
            .await
            .expect("in time")
            .expect("no error");
        assert_eq!(poll_once(&socket, 1), (Poll::Pending, true));
        let seen = gate.lock().expect("not poisoned").stats().received as usize;
        assert!((DATAGRAMS_MAX..DATAGRAMS_MAX + 64).contains(&seen), "{seen}");
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
            let socket = GateSocket::new(&sockets, Arc::clone(&gate)).expect("a socket");
            assert_eq!(next(&socket).await.0, short(&id, n));
            client.send(&trash()[0]).expect("sent");
        });
    }
}
