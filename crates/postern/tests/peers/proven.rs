//! Who proves to be a domain's server, in a signed DNS: at the postern by TLSA records, and at port 25 in the downgrade by
//! DANE, with Postfix there.
//!
//! The sites and the network are those of `sites.rs`; more domains are published on them. Needs root.

use std::time::Duration;

use postern_net::door::{KeyPair, PublicKey};
use postern_net::published::{Refused, Roots, Tlsa, refusals};
use postern_net::tls::{ReloadableCert, self_signed};

use crate::harness::netns::Network;
use crate::harness::postfix::{Postfix, Setup};
use crate::harness::zones::{Signed, Zone};
use crate::harness::{Peers, Scratch, maildir, wait_for, wait_within};
use crate::sites::{LONG, World, message_of, same};

fn key() -> PublicKey {
    KeyPair::from_pkcs8(&KeyPair::generate().expect("randomness")).expect("a key").public().clone()
}

#[test]
fn the_key_of_a_server_may_be_in_a_signed_tlsa_record_and_then_an_unsigned_record_alone_proves_nothing() {
    let published = World::start_with(3, |_, _, zones| {
        let beta = &mut zones[1];
        let (_, rest) = beta.records.split_once("key=").expect("a record with a key");
        let beta_key = rest.split([';', '"']).next().expect("a key").to_owned();
        // Beta's record has another key; its TLSA record is as `identity dns` prints it. `other` is beta too, by another key.
        beta.records = beta.records.replace(&beta_key, &key().to_string());
        let address = Network::address(2);
        beta.records += &format!("other A {address}\n_2526._quic.other TLSA {}\nthird A {address}\n", key().tlsa());
        for (name, host) in [("gamma.example", "other"), ("delta.example", "third")] {
            let records = format!(
                "@ MX 10 mail.beta.example.\n_postern TXT \"v=postern1; host={host}.beta.example; key={beta_key}\"\n"
            );
            zones.push(Zone { name: name.to_owned(), records, signed: Signed::No });
        }
    });
    let Some((world, ())) = published else { return };
    let World { alpha, beta, .. } = &world;
    let message = message_of("ann@alpha.example", "tlsa");
    world.send(alpha, "ann@alpha.example", "bob@beta.example", &message);
    same(&world.arrived(beta, 1), &[("tlsa", message.clone())]);
    wait_for("the sender to know", || (alpha.outbound("by_postern") == 1).then_some(()));
    assert_eq!((beta.door("accepted"), alpha.outbound("silent")), (1, 0));

    // Unsigned records with the server's key: enough where there is no TLSA record (the door then says whom it serves), and not
    // where a signed one names another key.
    world.send(alpha, "ann@alpha.example", "dan@delta.example", &message);
    wait_for("a link for delta", || (beta.door("accepted") == 2).then_some(()));
    assert_eq!(alpha.outbound("silent"), 0);
    world.send(alpha, "ann@alpha.example", "gil@gamma.example", &message);
    wait_within(LONG, "gamma's door to be taken for silent", || (alpha.outbound("waits") > 0).then_some(()));
    assert!(alpha.outbound("silent") > 0);
    assert_eq!((beta.door("accepted"), beta.port_25()), (2, 0));
}

/// A domain whose postern says nothing and asks for enforcement, with a Postfix on port 25 that has a certificate of its own.
struct Enforced {
    postfix: Postfix,
    _scratch: Scratch,
}

impl Enforced {
    /// Publishes `_25._tcp.mail` for the certificate that it shows, or for another one.
    fn start(
        peers: &Peers,
        network: &Network,
        zones: &mut Vec<Zone>,
        (host, domain): (u8, &str),
        is_proven: bool,
    ) -> Self {
        let scratch = Scratch::new("enforced");
        let hostname = format!("mail.{domain}");
        let files = self_signed(scratch.path(), &["nobody.invalid".to_owned()]).expect("a certificate");
        let main = vec![
            "smtpd_tls_security_level = may".to_owned(),
            "smtpd_tls_loglevel = 1".to_owned(),
            format!("smtpd_tls_cert_file = {}", files.cert.display()),
            format!("smtpd_tls_key_file = {}", files.key.display()),
        ];
        let setup = Setup { hostname: &hostname, domain, mailboxes: &["eve"], main, core: None };
        let address = Network::address(host);
        let postfix = network.on(host, || Postfix::start_at(peers, &setup, address));
        let chain = ReloadableCert::load(files).expect("what was just made").chain();
        let other = Tlsa { usage: 3, selector: 1, matching: 1, data: vec![7; 32] };
        let tlsa = match &refusals(&chain, std::slice::from_ref(&other), None, &hostname, &Roots::Mozilla, 0)[..] {
            [Refused::Tlsa { would_match, .. }] if is_proven => would_match.clone(),
            _ => other.to_string(),
        };
        let records = format!(
            "@ MX 10 mail\nmail A {address}\n_25._tcp.mail TLSA {tlsa}\n\
             _postern TXT \"v=postern1; host={hostname}; key={}; mode=enforce\"\n",
            key()
        );
        zones.push(Zone { name: domain.to_owned(), records, signed: Signed::Nsec });
        Self { postfix, _scratch: scratch }
    }
}

#[test]
fn enforced_mail_for_a_silent_door_goes_to_the_postfix_that_dane_proves_and_to_no_other() {
    let started = World::start_with(5, |peers, network, zones| {
        let proven = Enforced::start(peers, network, zones, (4, "gamma.example"), true);
        let other = Enforced::start(peers, network, zones, (5, "delta.example"), false);
        (proven, other)
    });
    let Some((mut world, (proven, other))) = started else { return };
    let message = message_of("ann@alpha.example", "dane");
    for to in ["eve@gamma.example", "eve@delta.example"] {
        world.send(&world.alpha, "ann@alpha.example", to, &message);
    }
    wait_within(LONG, "both to wait", || (world.alpha.outbound("waits") > 1).then_some(()));
    assert_eq!(world.alpha.outbound("by_mx"), 0);
    world.alpha.restart_later(&world.network, Duration::from_secs(15 * 60));
    world.alpha.retry_all();
    let arrived = wait_within(LONG, "gamma's mail", || maildir::messages(&proven.postfix.mailbox("eve")).pop());
    maildir::assert_same(&arrived, &message);
    wait_within(LONG, "delta's server to prove nothing", || (world.alpha.outbound("unproven") > 0).then_some(()));
    wait_for("the sender to know", || (world.alpha.outbound("by_mx") == 1).then_some(()));
    assert!(maildir::messages(&other.postfix.mailbox("eve")).is_empty());
    assert!(!other.postfix.log().contains("from=<ann@alpha.example>"), "{}", other.postfix.log());
    assert!(proven.postfix.log().contains("TLS connection established"), "{}", proven.postfix.log());
}
