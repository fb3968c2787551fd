//! The pump against next hops on sockets of this machine.

use std::io::Write;
use std::time::Duration;

use postern_proto::envelope::{Notify, Via};
use postern_proto::proxy::Header;

use super::*;
use crate::hop;

fn address(text: &str) -> Address {
    Address::parse(text.as_bytes(), false).expect(text)
}

fn recipients(to: &[&str]) -> Vec<Recipient> {
    to.iter().map(|to| Recipient { address: address(to), original: None, notify: Notify::default() }).collect()
}

fn arrival(peer: &str) -> Arrival {
    Arrival {
        at_unix_ms: 0,
        peer: peer.parse().expect(peer),
        peer_name: None,
        local: "192.0.2.25:25".parse().expect("address"),
        by: "us.example".into(),
        helo: "them.example".into(),
        esmtp: true,
        tls: None,
        via: Via::Public,
    }
}

/// A message from `peer` to ann.
struct Letter {
    arrival: Arrival,
    to: Vec<Recipient>,
    dsn: DsnRequest,
}

impl Letter {
    fn from(peer: &str) -> Self {
        Self { arrival: arrival(peer), to: recipients(&["ann@y.org"]), dsn: DsnRequest::default() }
    }

    fn outgoing<'a>(&'a self, body: OutgoingBody<'a>) -> Outgoing<'a> {
        Outgoing {
            arrival: &self.arrival,
            sender: None,
            recipients: &self.to,
            eight_bit: false,
            smtputf8: false,
            dsn: &self.dsn,
            header_prefix: b"Received: x\r\n",
            body,
        }
    }
}

fn words(results: &[RecipientResult]) -> Vec<String> {
    results
        .iter()
        .map(|result| match result {
            RecipientResult::Delivered(reply) => format!("delivered {reply}"),
            RecipientResult::Refused(reply) => format!("refused {reply}"),
            RecipientResult::Deferred(reply) => format!("deferred {reply}"),
        })
        .collect()
}

async fn connect(hop: &hop::Hop, protocol: Protocol, how: ClientAddress, peer: &str) -> Result<Connection, Failure> {
    Connector::new("us.example").connect(&hop.target, protocol, how, Some(&arrival(peer))).await
}

const ENVELOPE: &str = "S: 220 hop
    C: EHLO us.example
    S: 250-hop
    S: 250 PIPELINING
    C: MAIL FROM:<>
    C: RCPT TO:<ann@y.org>
    C: DATA
    S: 250 ok
    S: 250 ok
    S: 354 go
    BODY
    S: 250 2.0.0 taken
    C: QUIT
    S: 221 bye";

#[tokio::test]
async fn a_message_from_memory_arrives_behind_its_prefix() {
    let hop = hop::tcp(&[ENVELOPE]).await;
    let mut connection = connect(&hop, Protocol::Smtp, ClientAddress::None, "192.0.2.1:1").await.expect("a session");
    assert!(connection.capabilities().pipelining);
    let letter = Letter::from("192.0.2.1:1");
    let results = connection.send(letter.outgoing(OutgoingBody::Bytes(b"\r\n.x"))).await.expect("an answer");
    assert_eq!(words(&results), ["delivered 250 2.0.0 taken"]);
    assert!(connection.reusable());
    connection.quit().await;
    assert_eq!(hop.heard().await[0].bodies, [b"Received: x\r\n\r\n..x\r\n.\r\n".to_vec()]);
}

#[tokio::test]
async fn a_message_from_a_file_arrives_byte_for_byte() {
    let hop = hop::tcp(&[ENVELOPE]).await;
    let mut connection = connect(&hop, Protocol::Smtp, ClientAddress::None, "192.0.2.1:1").await.expect("a session");
    let body: Vec<u8> = (0..40_000).flat_map(|n| format!("line {n}\r\n").into_bytes()).collect();
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&body).expect("room");
    file.write_all(b"not part of the message").expect("room");
    let letter = Letter::from("192.0.2.1:1");
    let source = OutgoingBody::File(Arc::new(file), body.len() as u64);
    let results = connection.send(letter.outgoing(source)).await.expect("an answer");
    assert_eq!(words(&results), ["delivered 250 2.0.0 taken"]);
    connection.quit().await;
    let expected = [b"Received: x\r\n".as_slice(), &body, b".\r\n"].concat();
    assert!(hop.heard().await[0].bodies[0] == expected, "the octets differ");
}

#[tokio::test]
async fn a_file_is_sent_without_its_first_octets() {
    let hop = hop::tcp(&[ENVELOPE]).await;
    let mut connection = connect(&hop, Protocol::Smtp, ClientAddress::None, "192.0.2.1:1").await.expect("a session");
    let mut file = tempfile::tempfile().expect("a file");
    let body: Vec<u8> = (0..20_000).flat_map(|n| format!("line {n}\r\n").into_bytes()).collect();
    file.write_all(&body).expect("room");
    let source = OutgoingBody::Rest { file: Arc::new(file), from: 8, len: body.len() as u64 };
    let results = connection.send(Letter::from("192.0.2.1:1").outgoing(source)).await.expect("an answer");
    assert_eq!(words(&results), ["delivered 250 2.0.0 taken"]);
    connection.quit().await;
    let expected = [b"Received: x\r\n".as_slice(), &body[8..], b".\r\n"].concat();
    assert!(hop.heard().await[0].bodies[0] == expected, "the octets differ");
}

#[tokio::test]
async fn a_file_shorter_than_told_never_ends_in_a_dot() {
    let hop = hop::tcp(&["S: 220 hop
        C: EHLO us.example
        S: 250 hop
        C: MAIL FROM:<>
        S: 250 ok
        C: RCPT TO:<ann@y.org>
        S: 250 ok
        C: DATA
        S: 354 go
        CLOSE"])
    .await;
    let mut connection = connect(&hop, Protocol::Smtp, ClientAddress::None, "192.0.2.1:1").await.expect("a session");
    let letter = Letter::from("192.0.2.1:1");
    let file = Arc::new(tempfile::tempfile().expect("a file"));
    let error = connection.send(letter.outgoing(OutgoingBody::File(file, 10))).await.expect_err("no file");
    assert!(matches!(error.failure, Failure::Body(_)), "{error:?}");
    assert!(!connection.reusable());
    drop(connection);
    hop.heard().await;
}

#[tokio::test]
async fn starttls_is_used_when_offered_and_its_facts_are_told() {
    let hop = hop::tcp(&["S: 220 hop
        C: EHLO us.example
        S: 250-hop
        S: 250 STARTTLS
        C: STARTTLS
        S: 220 go
        TLS
        C: EHLO us.example
        S: 250 hop
        C: MAIL FROM:<>
        S: 250 ok
        C: RCPT TO:<ann@y.org>
        S: 250 ok
        C: DATA
        S: 354 go
        BODY
        S: 250 taken
        C: QUIT"])
    .await;
    let mut connection = connect(&hop, Protocol::Smtp, ClientAddress::None, "192.0.2.1:1").await.expect("a session");
    let facts = connection.tls().expect("TLS").clone();
    assert_eq!((facts.version.as_str(), facts.cipher.starts_with("TLS13_")), ("TLSv1.3", true), "{facts:?}");
    let body = vec![b'x'; 300_000];
    let letter = Letter::from("192.0.2.1:1");
    let results = connection.send(letter.outgoing(OutgoingBody::Bytes(&body))).await.expect("an answer");
    assert_eq!(words(&results), ["delivered 250 taken"]);
    connection.quit().await;
    assert_eq!(hop.heard().await[0].bodies[0].len(), 13 + 300_000 + 5);
}

#[tokio::test]
async fn a_failed_handshake_is_followed_by_a_session_without_tls() {
    let hop = hop::tcp(&[
        "S: 220 hop
        C: EHLO us.example
        S: 250-hop
        S: 250 STARTTLS
        C: STARTTLS
        S: 220 go
        S: this is no handshake",
        "S: 220 hop
        C: EHLO us.example
        S: 250-hop
        S: 250 STARTTLS
        CLOSE",
    ])
    .await;
    let connection = connect(&hop, Protocol::Smtp, ClientAddress::None, "192.0.2.1:1").await.expect("a session");
    assert_eq!(connection.tls(), None);
    drop(connection);
    hop.heard().await;
}

#[tokio::test]
async fn lmtp_over_a_unix_socket_answers_for_each_recipient() {
    let dir = tempfile::tempdir().expect("a directory");
    let hop = hop::unix(
        &dir.path().join("lmtp"),
        "S: 220 hop
        C: LHLO us.example
        S: 250 hop
        C: MAIL FROM:<>
        S: 250 ok
        C: RCPT TO:<ann@y.org>
        S: 250 ok
        C: RCPT TO:<bob@y.org>
        S: 250 ok
        C: DATA
        S: 354 go
        BODY
        S: 250 2.0.0 saved
        S: 552 5.2.2 over quota",
    )
    .await;
    let mut connection = connect(&hop, Protocol::Lmtp, ClientAddress::None, "192.0.2.1:1").await.expect("a session");
    let letter = Letter { to: recipients(&["ann@y.org", "bob@y.org"]), ..Letter::from("192.0.2.1:1") };
    let results = connection.send(letter.outgoing(OutgoingBody::Bytes(b"x\r\n"))).await.expect("answers");
    assert_eq!(words(&results), ["delivered 250 2.0.0 saved", "refused 552 5.2.2 over quota"]);
    hop.heard().await;
}

#[tokio::test]
async fn xclient_is_told_anew_when_the_client_is_another() {
    let hop = hop::tcp(&["S: 220 hop
        C: EHLO us.example
        S: 250-hop
        S: 250 XCLIENT ADDR PORT
        C: XCLIENT ADDR=192.0.2.1 PORT=1
        S: 220 hop
        C: EHLO them.example
        S: 250-hop
        S: 250 XCLIENT ADDR PORT
        C: MAIL FROM:<>
        S: 250 ok
        C: RCPT TO:<ann@y.org>
        S: 550 5.7.1 spf says no
        C: RSET
        S: 250 ok
        C: MAIL FROM:<>
        S: 451 4.7.1 later
        C: XCLIENT ADDR=192.0.2.2 PORT=2
        S: 220 hop
        C: EHLO them.example
        S: 250-hop
        S: 250 XCLIENT ADDR PORT
        C: MAIL FROM:<>
        S: 250 ok
        C: RCPT TO:<ann@y.org>
        S: 250 ok
        C: DATA
        S: 354 go
        BODY
        S: 250 ok"])
    .await;
    let mut connection = connect(&hop, Protocol::Smtp, ClientAddress::Xclient, "192.0.2.1:1").await.expect("a session");
    for (peer, expected) in [
        ("192.0.2.1:1", "refused 550 5.7.1 spf says no"),
        ("192.0.2.1:1", "deferred 451 4.7.1 later"),
        ("192.0.2.2:2", "delivered 250 ok"),
    ] {
        let letter = Letter::from(peer);
        assert!(connection.reusable_for(&letter.arrival));
        let results = connection.send(letter.outgoing(OutgoingBody::Bytes(b"x\r\n"))).await.expect("an answer");
        assert_eq!(words(&results), [expected]);
    }
    hop.heard().await;
}

#[tokio::test]
async fn a_hop_that_takes_xclient_only_once_keeps_the_connection_for_that_client() {
    let hop = hop::tcp(&["S: 220 hop
        C: EHLO us.example
        S: 250-hop
        S: 250 XCLIENT ADDR
        C: XCLIENT ADDR=192.0.2.1
        S: 220 hop
        C: EHLO them.example
        S: 250 hop
        C: MAIL FROM:<>
        S: 451 4.7.1 later
        C: MAIL FROM:<>
        S: 451 4.7.1 later still
        CLOSE"])
    .await;
    let mut connection = connect(&hop, Protocol::Smtp, ClientAddress::Xclient, "192.0.2.1:1").await.expect("a session");
    let letter = Letter::from("192.0.2.1:1");
    for expected in ["deferred 451 4.7.1 later", "deferred 451 4.7.1 later still"] {
        assert!(connection.reusable_for(&letter.arrival));
        let results = connection.send(letter.outgoing(OutgoingBody::Bytes(b"x"))).await.expect("an answer");
        assert_eq!(words(&results), [expected]);
    }
    assert!(!connection.reusable() && !connection.reusable_for(&arrival("192.0.2.2:1")));
    drop(connection);
    hop.heard().await;
}

#[tokio::test]
async fn nothing_is_delivered_where_xclient_is_wanted_and_not_offered() {
    let hop = hop::tcp(&["S: 220 hop
        C: EHLO us.example
        S: 250 hop
        CLOSE"])
    .await;
    let mut connection = connect(&hop, Protocol::Smtp, ClientAddress::Xclient, "192.0.2.1:1").await.expect("a session");
    let letter = Letter::from("192.0.2.1:1");
    let error = connection.send(letter.outgoing(OutgoingBody::Bytes(b"x"))).await.expect_err("not offered");
    assert_eq!(error.failure, Failure::XclientNotOffered);
    drop(connection);
    hop.heard().await;
}

#[tokio::test]
async fn a_proxy_header_comes_first_and_binds_the_connection_to_one_client() {
    let hop = hop::tcp(&["PROXY
        S: 220 hop
        C: EHLO them.example
        S: 250 hop
        CLOSE"])
    .await;
    let connection = connect(&hop, Protocol::Smtp, ClientAddress::ProxyV2, "192.0.2.1:1").await.expect("a session");
    assert!(!connection.reusable());
    assert!(connection.reusable_for(&arrival("192.0.2.1:1")));
    assert!(!connection.reusable_for(&arrival("192.0.2.2:1")));
    drop(connection);
    let expected = Header::Proxied {
        source: "192.0.2.1:1".parse().expect("address"),
        destination: "192.0.2.25:25".parse().expect("address"),
    };
    assert_eq!(hop.heard().await[0].proxied, Some(expected));
}

#[tokio::test]
async fn a_connect_that_fails_says_so() {
    // Bound and not listening: nobody else gets the port meanwhile.
    let silent = tokio::net::TcpSocket::new_v4().expect("a socket");
    silent.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let free = silent.local_addr().expect("an address");
    let connector = Connector::new("us.example");
    let refused = connector.connect(&hop::target(free), Protocol::Smtp, ClientAddress::None, None).await;
    assert!(matches!(refused, Err(Failure::Connect(_))), "{refused:?}");
    let missing = Target::Unix("/nonexistent/lmtp".into());
    let missing = connector.connect(&missing, Protocol::Lmtp, ClientAddress::None, None).await;
    assert!(matches!(missing, Err(Failure::Connect(_))), "{missing:?}");
}

#[tokio::test]
async fn a_silent_next_hop_is_given_up_at_the_deadline() {
    let hop = hop::tcp(&["CLOSE"]).await;
    let mut connector = Connector::new("us.example");
    connector.deadlines.greeting = Duration::from_millis(30);
    let silent = connector.connect(&hop.target, Protocol::Smtp, ClientAddress::None, None).await;
    assert_eq!(silent.err(), Some(Failure::Timeout(Phase::Greeting)));
    hop.heard().await;
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_noticed_before_anything_is_said() {
    let hop = hop::tcp(&["S: 220 hop
        C: EHLO us.example
        S: 250 hop"])
    .await;
    let mut connection = connect(&hop, Protocol::Smtp, ClientAddress::None, "192.0.2.1:1").await.expect("a session");
    hop.heard().await;
    let letter = Letter::from("192.0.2.1:1");
    // The end may be on its way still; then MAIL meets it.
    let error = connection.send(letter.outgoing(OutgoingBody::Bytes(b"x"))).await.expect_err("closed");
    assert!(matches!(error.failure, Failure::Closed(Phase::Idle | Phase::Mail, _)), "{error:?}");
    assert!(!connection.reusable());
}

#[tokio::test]
async fn an_order_that_was_dropped_half_way_ends_the_use_of_the_connection() {
    let hop = hop::tcp(&["S: 220 hop
        C: EHLO us.example
        S: 250 hop
        DEAF"])
    .await;
    let mut connection = connect(&hop, Protocol::Smtp, ClientAddress::None, "192.0.2.1:1").await.expect("a session");
    let letter = Letter::from("192.0.2.1:1");
    let unanswered = connection.send(letter.outgoing(OutgoingBody::Bytes(b"x")));
    timeout(Duration::from_millis(30), unanswered).await.expect_err("no answer");
    assert!(!connection.reusable());
    let next = connection.send(letter.outgoing(OutgoingBody::Bytes(b"y"))).await.expect_err("given up");
    assert!(matches!(next.failure, Failure::Closed(Phase::Idle, _)), "{next:?}");
    drop(connection);
    hop.heard().await;
}

#[tokio::test]
async fn a_message_refused_while_it_is_sent_is_refused_with_that_reply() {
    let hop = hop::tcp(&["S: 220 hop
        C: EHLO us.example
        S: 250 hop
        C: MAIL FROM:<>
        S: 250 ok
        C: RCPT TO:<ann@y.org>
        S: 250 ok
        C: DATA
        S: 354 go
        C: Received: x
        S: 552 5.3.4 too large"])
    .await;
    let mut connection = connect(&hop, Protocol::Smtp, ClientAddress::None, "192.0.2.1:1").await.expect("a session");
    let letter = Letter::from("192.0.2.1:1");
    let body = vec![b'x'; 20_000_000];
    match connection.send(letter.outgoing(OutgoingBody::Bytes(&body))).await {
        Ok(results) => assert_eq!(words(&results), ["refused 552 5.3.4 too large"]),
        // The hop closed with our octets unread: the reset may overtake its reply.
        Err(error) => assert!(matches!(error.failure, Failure::Closed(Phase::Body, _)), "{error:?}"),
    }
    assert!(!connection.reusable());
    hop.heard().await;
}

#[tokio::test]
async fn a_connection_lost_after_the_dot_is_ambiguous() {
    let hop = hop::tcp(&["S: 220 hop
        C: EHLO us.example
        S: 250 hop
        C: MAIL FROM:<>
        S: 250 ok
        C: RCPT TO:<ann@y.org>
        S: 250 ok
        C: DATA
        S: 354 go
        BODY"])
    .await;
    let mut connection = connect(&hop, Protocol::Smtp, ClientAddress::None, "192.0.2.1:1").await.expect("a session");
    let letter = Letter::from("192.0.2.1:1");
    let error = connection.send(letter.outgoing(OutgoingBody::Bytes(b"x"))).await.expect_err("no answer");
    assert!(matches!(error.failure, Failure::AfterFinalDot(_)), "{error:?}");
    assert_eq!(error.decided, [None]);
    hop.heard().await;
}
