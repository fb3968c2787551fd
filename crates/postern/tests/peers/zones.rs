//! Keys published in a DNS that is signed, and in one that is not: asked of NSD and through unbound.

use std::net::SocketAddr;
use std::time::Duration;

use postern_identity::keys::{KeyDesk, KeyOptions, KeyProof, KeyQuestion, NotNow, ProvenBy, Unproven};
use postern_net::dns::{Binding, DnsTrust, Resolver, ResolverOptions, TlsaChoice, tlsa_choice};
use postern_net::door::{KeyPair, PublicKey};
use postern_proto::door::PeerClass;

use crate::harness::zones::{KEYGEN, NSD, SIGN, Signed, UNBOUND, Zone, Zones};
use crate::harness::{Guard, Peers, free_port};

/// A loaded machine must not change what is found.
const PATIENCE: Duration = Duration::from_secs(50);

fn key() -> PublicKey {
    KeyPair::from_pkcs8(&KeyPair::generate().expect("randomness")).expect("a key").public().clone()
}

fn zone(name: &str, signed: Signed, txt: &PublicKey, tlsa: &PublicKey) -> Zone {
    let records = format!(
        "_postern TXT \"v=postern1; host=mx.{name}; key={txt}\"\n\
         _postern SVCB 1 bound.{name}. alpn=postern-smtp/1 port=4000\n\
         _smtp-client TLSA {tlsa}\n\
         _2526._quic.mx TLSA {tlsa}\n\
         mx A 192.0.2.1\n\
         mx AAAA 2001:db8::1\n\
         _postern.alias CNAME _postern.nsec3.example.\n\
         _postern.lured CNAME _postern.plain.example.\n\
         _dmarc TXT \"v=DMARC1; p=reject\"\n",
        tlsa = tlsa.tlsa(),
    );
    Zone { name: name.to_owned(), records, signed }
}

/// The tree, its servers, and what to ask: NSD itself, a resolver that validates, one that does not.
struct Dns {
    zones: Zones,
    asked: Vec<SocketAddr>,
    _servers: Vec<Guard>,
}

fn start(peers: &Peers, txt: &PublicKey, tlsa: &PublicKey) -> Dns {
    let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let nsd = local(free_port());
    let domains = [
        zone("nsec.example", Signed::Nsec, txt, tlsa),
        zone("nsec3.example", Signed::Nsec3, txt, tlsa),
        zone("plain.example", Signed::No, txt, tlsa),
        zone("forged.example", Signed::Forged, txt, tlsa),
    ];
    let zones = Zones::write(peers, nsd, &domains);
    let mut asked = vec![nsd];
    let mut servers = vec![zones.start_nsd(peers, nsd)];
    for validates in [true, false] {
        let resolver = local(free_port());
        servers.push(zones.start_unbound(peers, resolver, nsd, validates));
        asked.push(resolver);
    }
    Dns { zones, asked, _servers: servers }
}

#[tokio::test]
async fn a_signed_domain_is_secure_an_unsigned_one_is_not_and_a_forged_one_fails() {
    let Some(peers) = Peers::need(&[NSD, UNBOUND, KEYGEN, SIGN]) else { return };
    let (txt, tlsa) = (key(), key());
    let dns = start(&peers, &txt, &tlsa);
    for server in &dns.asked {
        let trust = DnsTrust::Anchor(dns.zones.anchor());
        let options = ResolverOptions { server: Some(*server), trust, ..ResolverOptions::new(PATIENCE) };
        let resolver = Resolver::with_options(&options).expect("a resolver");
        let secure = async |domain: &str| {
            let published = resolver.door_record(domain).await.expect("an answer").expect("a record");
            assert_eq!(published.record.keys, [txt.spki()], "{domain} at {server}");
            published.secure
        };
        assert!(secure("nsec.example").await, "{server}");
        assert!(secure("nsec3.example").await, "{server}");
        assert!(!secure("plain.example").await, "{server}");
        let forged = resolver.door_record("forged.example").await;
        assert!(forged.is_err(), "{forged:?} at {server}");
        // Aliases: every link of the chain counts.
        assert!(secure("alias.nsec.example").await, "{server}");
        assert!(secure("alias.nsec3.example").await, "{server}");
        assert!(!secure("alias.plain.example").await, "a signed record behind an unsigned alias, at {server}");
        assert!(!secure("lured.nsec.example").await, "an unsigned record behind a signed alias, at {server}");
        for nowhere in ["nowhere.nsec.example", "nowhere.nsec3.example", "nowhere.plain.example", "nowhere.example"] {
            assert_eq!(resolver.door_record(nowhere).await, Ok(None), "{nowhere} at {server}");
        }
        for (domain, expected) in [("nsec", TlsaChoice::Match), ("plain", TlsaChoice::Unusable)] {
            let records = resolver.door_tlsa(&format!("mx.{domain}.example"), 2526).await.expect("an answer");
            assert_eq!(tlsa_choice(&records, tlsa.spki()), expected, "{domain} at {server}");
        }
        for (domain, secure) in [("nsec.example", true), ("nsec3.example", true), ("plain.example", false)] {
            let told = resolver.door_binding(domain).await.expect("an answer");
            let bound = Binding { host: format!("bound.{domain}"), port: 4000 };
            assert_eq!((told.value, told.secure), (Some(bound), secure), "{domain} at {server}");
        }
        assert_eq!(resolver.door_binding("nowhere.nsec.example").await.expect("an answer").value, None, "{server}");
        let addresses = resolver.addresses("mx.nsec.example").await.expect("an answer");
        assert_eq!((addresses.value.len(), addresses.secure), (2, true));
        assert!(!resolver.addresses("mx.plain.example").await.expect("an answer").secure);
    }
    // Without an anchor, or with another, nothing is secure.
    let plain = Resolver::new(Some(dns.asked[0]), PATIENCE).expect("a resolver");
    assert!(!plain.door_record("nsec.example").await.expect("an answer").expect("a record").secure);
    let other =
        ResolverOptions { server: Some(dns.asked[0]), trust: DnsTrust::BuiltIn, ..ResolverOptions::new(PATIENCE) };
    let other = Resolver::with_options(&other).expect("a resolver");
    assert!(other.door_record("nsec.example").await.is_err());
}

#[tokio::test]
async fn a_tlsa_record_proves_a_client_in_a_signed_domain_only() {
    let Some(peers) = Peers::need(&[NSD, UNBOUND, KEYGEN, SIGN]) else { return };
    let (txt, tlsa) = (key(), key());
    let dns = start(&peers, &txt, &tlsa);
    for server in &dns.asked {
        let desk = KeyDesk::start(KeyOptions {
            resolver: Some(*server),
            trust: DnsTrust::Anchor(dns.zones.anchor()),
            question: PATIENCE,
            lookup: PATIENCE / 2,
            ..KeyOptions::default()
        })
        .expect("the desk starts");
        let prove = async |domain: &str, key: &PublicKey| {
            let class = PeerClass::Stranger;
            desk.prove(KeyQuestion { domain: domain.into(), owner: None, spki: key.spki().into(), class }).await
        };
        let proven = |org: &str, by, secure| KeyProof::Proven { org: org.into(), above: Vec::new(), by, secure };
        assert_eq!(prove("nsec.example", &tlsa).await, proven("nsec.example", ProvenBy::Tlsa, true), "{server}");
        assert_eq!(prove("nsec3.example", &tlsa).await, proven("nsec3.example", ProvenBy::Tlsa, true), "{server}");
        assert_eq!(prove("nsec.example", &txt).await, proven("nsec.example", ProvenBy::Txt, true), "{server}");
        assert_eq!(prove("plain.example", &txt).await, proven("plain.example", ProvenBy::Txt, false), "{server}");
        assert_eq!(prove("plain.example", &tlsa).await, KeyProof::Unproven(Unproven::OtherKey), "{server}");
        let above = vec!["nsec.example".into()];
        let alias = KeyProof::Proven { org: "nsec.example".into(), above, by: ProvenBy::Txt, secure: true };
        assert_eq!(prove("alias.nsec.example", &txt).await, alias, "{server}");
        assert_eq!(prove("forged.example", &txt).await, KeyProof::NotNow(NotNow::Dns), "{server}");
        assert_eq!(prove("nowhere.nsec3.example", &txt).await, KeyProof::Unproven(Unproven::NoKey), "{server}");
    }
}
