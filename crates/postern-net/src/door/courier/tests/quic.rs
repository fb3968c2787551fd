//! The courier over QUIC on loopback, both ends with the door's profile.

use std::net::Ipv4Addr;

use postern_proto::door::PeerClass;

use super::*;
use crate::door::KeyPair;
use crate::door::profile::{NO_NAME, client_tls, client_transport, server_config};

struct QuicRoad {
    connection: quinn::Connection,
    streams_max: usize,
}

impl Road for QuicRoad {
    fn open(&self) -> Pending<Result<Box<dyn Octets>, String>> {
        let connection = self.connection.clone();
        Box::pin(async move {
            let (send, recv) = connection.open_bi().await.map_err(|error| error.to_string())?;
            let octets: Box<dyn Octets> = Box::new(tokio::io::join(recv, send));
            Ok(octets)
        })
    }

    fn streams_max(&self) -> usize {
        self.streams_max
    }

    fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }
}

/// A server that gives every mail stream to the responder, and a courier that connects to it. `connections` counts them.
struct Rig {
    courier: Arc<Courier<String>>,
    connections: Arc<AtomicUsize>,
    server: quinn::Endpoint,
}

fn rig(responder: &Responder, class: PeerClass, rules: Rules) -> Rig {
    let pair = || KeyPair::from_pkcs8(&KeyPair::generate().expect("a key")).expect("the key");
    let (server_key, client_key) = (pair(), pair());
    let here = (Ipv4Addr::LOCALHOST, 0).into();
    let server = quinn::Endpoint::server(server_config(&server_key, class), here).expect("a socket");
    let to = server.local_addr().expect("an address");
    let connections = Arc::new(AtomicUsize::new(0));
    tokio::spawn(serve(server.clone(), responder.clone(), connections.clone(), rules));
    let client = quinn::Endpoint::client(here).expect("a socket");
    let streams_max = class.limits().streams as usize;
    let dial: Dial<String> = Arc::new(move || {
        let (tls, _) = client_tls(&client_key, &[server_key.public().sha256()]);
        let mut config = quinn::ClientConfig::new(tls);
        config.transport_config(Arc::new(client_transport()));
        let connecting = client.connect_with(config, to, NO_NAME);
        Box::pin(async move {
            let connection = connecting.map_err(|error| error.to_string())?.await.map_err(|error| error.to_string())?;
            let road: Arc<dyn Road> = Arc::new(QuicRoad { connection, streams_max });
            Ok(road)
        })
    });
    let courier = Arc::new(Courier::new(dial, "us.example".to_owned(), Deadlines::default()));
    Rig { courier, connections, server }
}

async fn serve(server: quinn::Endpoint, responder: Responder, connections: Arc<AtomicUsize>, rules: Rules) {
    while let Some(incoming) = server.accept().await {
        let Ok(connection) = incoming.await else { continue };
        connections.fetch_add(1, Ordering::Relaxed);
        responder.mend();
        let (responder, rules) = (responder.clone(), rules.clone());
        tokio::spawn(async move {
            while let Ok((send, recv)) = connection.accept_bi().await {
                responder.serve(tokio::io::join(recv, send), rules.clone());
            }
        });
    }
}

async fn send_all(courier: &Arc<Courier<String>>, n: usize, body: &str) -> Vec<(String, String)> {
    let mut sent = tokio::task::JoinSet::new();
    for i in 0..n {
        let (courier, body) = (courier.clone(), body.to_owned());
        sent.spawn(async move {
            let to = format!("r{i}@y.org");
            let result = courier.send(mail(&to, &body)).await;
            (to, words(&result))
        });
    }
    timeout(Duration::from_secs(60), sent.join_all()).await.expect("all are answered")
}

#[tokio::test]
async fn three_hundred_messages_share_four_streams_of_one_connection() {
    let responder = Responder::default();
    let rig = rig(&responder, PeerClass::Known, Rules::default());
    let results = send_all(&rig.courier, 300, &"x".repeat(4_000)).await;
    assert!(results.iter().all(|(_, words)| words == "delivered"));
    assert_eq!((responder.taken().len(), responder.streams(), rig.connections.load(Ordering::Relaxed)), (300, 4, 1));
}

#[tokio::test]
async fn a_stranger_s_one_stream_and_small_window_carry_large_messages() {
    let responder = Responder::default();
    let rig = rig(&responder, PeerClass::Stranger, Rules::default());
    let body = "0123456789abcde\r\n".repeat(60_000);
    let results = send_all(&rig.courier, 3, &body).await;
    assert!(results.iter().all(|(_, words)| words == "delivered"));
    let taken = responder.taken();
    assert!(taken.len() == 3 && taken.iter().all(|text| text.ends_with(&body)), "each came whole");
    assert_eq!(responder.streams(), 1);
}

#[tokio::test]
async fn streams_cut_in_the_middle_repeat_nothing_that_was_answered() {
    for cut_after in [0, 1, 5, 17, 60] {
        let responder = Responder::default();
        let rules = Rules { cut_after_messages: Some(cut_after), ..Rules::default() };
        let rig = rig(&responder, PeerClass::Known, rules);
        let results = send_all(&rig.courier, 60, "hello\r\n").await;
        let taken = responder.taken();
        for (to, words) in results {
            let times = taken.iter().filter(|item| item.starts_with(&format!("{to}:"))).count();
            let fits = match words.as_str() {
                "delivered" => times == 1,
                "in doubt" => times <= 1,
                _ => times == 0,
            };
            assert!(fits, "cut after {cut_after}: {to} was taken {times} times: {words}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_replaced() {
    let responder = Responder::default();
    let rig = rig(&responder, PeerClass::Proven, Rules::default());
    assert_eq!(send_all(&rig.courier, 1, "").await[0].1, "delivered");
    rig.server.close(7_u32.into(), b"");
    let gone = send_all(&rig.courier, 1, "").await;
    assert!(!gone[0].1.contains("delivered"), "nobody listens: {gone:?}");
    assert_eq!(responder.taken().len(), 1);
}

#[tokio::test]
async fn a_link_of_the_door_client_is_a_road() {
    let dir = tempfile::tempdir().expect("a directory");
    let rig = crate::door::rig::Rig::start();
    let key = KeyPair::load_or_make(&dir.path().join("key.pem")).expect("a key");
    let purse = crate::door::Purse::open(&dir.path().join("purse")).expect("a purse");
    let options = crate::door::DoorClientOptions::new(key, "us.example".to_owned(), purse);
    let door = crate::door::DoorAddress {
        domain: "friend.example".to_owned(),
        addresses: vec![rig.address],
        keys: vec![rig.key.public().clone()],
        digests: Vec::new(),
        alternates: Vec::new(),
    };
    let link = crate::door::DoorClient::new(options).connect(&door).await.expect("a link");
    let road: Arc<dyn Road> = Arc::new(link.clone());
    assert_eq!((road.streams_max(), road.is_open()), (link.limits().streams as usize, true));
    // The rig's streams say what they hear.
    let mut stream = road.open().await.expect("a stream");
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"hello").await.expect("written");
    tokio::io::AsyncWriteExt::shutdown(&mut stream).await.expect("finished");
    let mut back = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut back).await.expect("read");
    assert_eq!(back, b"hello");
    link.close();
    assert!(!road.is_open());
}
