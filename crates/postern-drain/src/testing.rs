//! What the unit tests of several files need: one plain message of a stranger.

use postern_proto::address::Address;
use postern_proto::checks::Checks;
use postern_proto::envelope::{Arrival, DsnRequest, Meta, Notify, Recipient, Via};

/// A message from `ann@sender.example` by the public door.
pub(crate) fn meta(recipients: &[&str]) -> Meta {
    let address = |text: &str| Address::parse(text.as_bytes(), false).unwrap();
    let recipient = |text: &&str| Recipient { address: address(text), original: None, notify: Notify::default() };
    Meta {
        arrival: Arrival {
            at_unix_ms: 1_000_000,
            peer: "192.0.2.1:1000".parse().unwrap(),
            peer_name: None,
            local: "127.0.0.1:25".parse().unwrap(),
            by: "mx.example".into(),
            helo: "client.example".into(),
            esmtp: true,
            tls: None,
            via: Via::Public,
        },
        sender: Some(address("ann@sender.example")),
        recipients: recipients.iter().map(recipient).collect(),
        eight_bit: false,
        smtputf8: false,
        dsn: DsnRequest::default(),
        size: 10,
        judged: false,
        attempts: 0,
        tried_since_unix_ms: None,
        last_error: None,
        note: None,
        checks: Checks::default(),
        judgement: None,
    }
}
