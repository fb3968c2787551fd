//! What the next hop reads about us.

use super::*;
use crate::envelope::{DsnRequest, TlsFacts};
use alloc::vec;

fn meta(peer: &str, esmtp: bool, tls: bool) -> Meta {
    Meta {
        arrival: Arrival {
            at_unix_ms: 1_795_284_384_000,
            peer: peer.parse().unwrap(),
            peer_name: None,
            local: "192.0.2.25:25".parse().unwrap(),
            by: "mx.example.com".into(),
            helo: "client.example".into(),
            esmtp,
            tls: tls.then(|| TlsFacts { version: "TLSv1.3".into(), cipher: "TLS13_AES_256_GCM_SHA384".into() }),
            via: Via::Public,
        },
        sender: None,
        recipients: vec![],
        eight_bit: false,
        smtputf8: false,
        dsn: DsnRequest::default(),
        size: 0,
        judged: false,
        attempts: 0,
        tried_since_unix_ms: None,
        last_error: None,
        note: None,
        checks: Default::default(),
        judgement: None,
    }
}

#[test]
fn the_field_tells_client_protocol_and_tls() {
    let ann = Address::parse(b"ann@example.com", false).unwrap();
    assert_eq!(
        received_field(&meta("198.51.100.7:4711", true, true), "0A1B", Some(&ann)),
        "Received: from client.example ([198.51.100.7])\r\n\tby mx.example.com (Postern) with ESMTPS\r\n\
         \t(TLSv1.3 TLS13_AES_256_GCM_SHA384)\r\n\tid 0A1B\r\n\tfor <ann@example.com>; Sat, 21 Nov 2026 18:06:24 +0000\r\n"
    );
    let plain = received_field(&meta("[2001:db8::1]:4711", false, false), "0A1B", None);
    assert!(plain.starts_with(
        "Received: from client.example ([IPv6:2001:db8::1])\r\n\tby mx.example.com (Postern) with SMTP\r\n\tid 0A1B; "
    ));
    assert!(received_field(&meta("[::ffff:198.51.100.7]:1", true, false), "0", None).contains("([198.51.100.7])"));
}

#[test]
fn dates_are_those_of_rfc_5322() {
    assert_eq!(rfc5322_date(0), "Thu, 01 Jan 1970 00:00:00 +0000");
    assert_eq!(rfc5322_date(951_782_400_000), "Tue, 29 Feb 2000 00:00:00 +0000");
}
