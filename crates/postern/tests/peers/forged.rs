//! Mail forged in our own name must not come out with our own signature.
//!
//! A next hop that sees only 127.0.0.1 takes every stranger for one of us: `permit_mynetworks` lets the mail in, and the
//! signing milter signs it. So Postern tells the next hop the real client's address, here by XCLIENT.

use crate::harness::opendkim::{self, Opendkim};
use crate::harness::postern::Postern;
use crate::harness::postfix::{self, Postfix, Setup};
use crate::harness::senders::{SWAKS, swaks};
use crate::harness::{Peers, maildir, wait_for};
use crate::postern;

const FORGED: &[u8] = b"From: The Boss <boss@example.com>\r\nTo: Alice <alice@example.com>\r\n\
    Date: Sat, 21 Nov 2026 18:00:00 +0000\r\nMessage-ID: <forged@example.com>\r\nSubject: Pay this\r\n\r\nNow.\r\n";

/// Sends forged mail from 127.0.0.2 (not one of us) through Postern and a signing Postfix; what reaches alice.
fn forged_mail_after(config: &str) -> Option<String> {
    let peers = Peers::need(&[&[SWAKS], &postfix::NEEDS[..], &opendkim::NEEDS[..]].concat())?;
    let milter = Opendkim::start(&peers);
    let main = vec![
        "mynetworks = 127.0.0.1/32".to_owned(),
        "smtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination".to_owned(),
        "smtpd_authorized_xclient_hosts = 127.0.0.1/32".to_owned(),
        format!("smtpd_milters = inet:127.0.0.1:{}", milter.port),
        "milter_default_action = tempfail".to_owned(),
    ];
    let setup = Setup { hostname: "next.example.com", domain: "example.com", mailboxes: &["alice"], main, core: None };
    let next = Postfix::start(&peers, &setup);
    let config =
        format!("deliver = \"smtp:127.0.0.1:{}\"\n{config}\n[recipients]\n\"example.com\" = \"any\"\n", next.port);
    let server = Postern::start_with_config(postern(), &config, &[]);
    let stranger = ["--local-interface", "127.0.0.2"];
    let talk = swaks(&peers, server.port, "boss@example.com", &["alice@example.com"], FORGED, &stranger);
    assert!(talk.taken, "{}", talk.text);
    let stored = wait_for("the forged mail", || maildir::messages(&next.mailbox("alice")).pop());
    Some(String::from_utf8_lossy(&stored).into_owned())
}

#[test]
fn forged_mail_in_our_own_name_comes_out_unsigned_because_xclient_tells_the_real_client() {
    let Some(stored) = forged_mail_after("client_address = \"xclient\"") else { return };
    assert!(!stored.contains("DKIM-Signature:"), "{stored}");
    assert!(stored.contains("[127.0.0.2]"), "the next hop does not know the client: {stored}");
}

#[test]
fn the_same_mail_would_be_signed_if_the_next_hop_saw_loopback_only() {
    let Some(stored) = forged_mail_after("client_address = \"none\"\ntrust_loopback = true") else { return };
    assert!(stored.contains("DKIM-Signature:"), "the other test proves nothing: {stored}");
}
