//! The resolver against a server of this machine.

use std::net::IpAddr;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::Record;
use hickory_resolver::proto::rr::rdata::tlsa::{CertUsage, Matching, Selector};
use hickory_resolver::proto::rr::rdata::{MX, TLSA, TXT};
use tokio::net::UdpSocket;

use super::*;

/// Answers every question from `zone`: nothing for names that it does not have, no word at all about
/// `silent.`, SERVFAIL about `broken.`.
async fn resolver(zone: Vec<(&'static str, RData)>, time_max: Duration) -> Resolver {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let server = socket.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((n, peer)) = socket.recv_from(&mut buffer).await {
            let query = Message::from_vec(&buffer[..n]).expect("a question");
            let question = query.queries[0].clone();
            let name = question.name().to_string();
            if name.ends_with("silent.") {
                continue;
            }
            let code = match zone.iter().any(|(owner, _)| *owner == name) {
                _ if name.ends_with("broken.") => ResponseCode::ServFail,
                true => ResponseCode::NoError,
                false => ResponseCode::NXDomain,
            };
            let mut answer = Message::error_msg(query.metadata.id, query.metadata.op_code, code);
            for (_, data) in zone.iter().filter(|(owner, _)| *owner == name) {
                answer.add_answer(Record::from_rdata(question.name().clone(), 60, data.clone()));
            }
            answer.add_query(question);
            socket.send_to(&answer.to_vec().expect("an answer"), peer).await.expect("sent");
        }
    });
    Resolver::new(Some(server), time_max).expect("a resolver")
}

const KEY: &str = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";

/// More than a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(20);

fn text(text: &str) -> RData {
    RData::TXT(TXT::new(vec![text.to_owned()]))
}

#[tokio::test]
async fn published_records_are_read() {
    let name = |name: &str| Name::from_ascii(name).expect("a name");
    let tlsa = TLSA::new(CertUsage::DaneEe, Selector::Spki, Matching::Sha256, vec![7; 32]);
    let zone = vec![
        ("_25._tcp.mx.example.org.", RData::TLSA(tlsa)),
        ("example.org.", RData::MX(MX::new(20, name("b.example.org.")))),
        ("example.org.", RData::MX(MX::new(10, name("MX.example.org.")))),
        ("_mta-sts.example.org.", text("v=STSv1; id=20260101;")),
        ("_mta-sts.twice.example.", text("v=STSv1; id=1")),
        ("_mta-sts.twice.example.", text("v=STSv1; id=2")),
        ("_mta-sts.other.example.", text("v=spf1 -all")),
    ];
    let resolver = resolver(zone, PATIENCE).await;
    let expected = Tlsa { usage: 3, selector: 1, matching: 1, data: vec![7; 32] };
    assert_eq!(resolver.tlsa("mx.example.org", 25).await, Ok(vec![expected]));
    let servers = resolver.mx("example.org").await.expect("servers").value;
    assert_eq!(servers[0], Mx { preference: 10, host: "mx.example.org".to_owned() });
    assert_eq!(servers.len(), 2);
    assert_eq!(resolver.mta_sts_id("example.org").await, Ok(Some("20260101".to_owned())));
    assert_eq!(resolver.mta_sts_id("twice.example").await, Ok(None));
    assert_eq!(resolver.mta_sts_id("other.example").await, Ok(None));
}

#[tokio::test]
async fn nothing_published_is_an_empty_answer_and_failure_is_none() {
    let hasty = resolver(Vec::new(), Duration::from_millis(50)).await;
    let resolver = resolver(Vec::new(), PATIENCE).await;
    assert_eq!(resolver.tlsa("mx.example.org", 25).await, Ok(Vec::new()));
    assert_eq!(resolver.mta_sts_id("example.org").await, Ok(None));
    assert!(matches!(resolver.mx("broken").await, Err(DnsError::Failed { .. })));
    let silent = hasty.mx("silent").await;
    assert!(matches!(silent, Err(DnsError::Timeout(_) | DnsError::Failed { .. })), "{silent:?}");
    assert!(matches!(resolver.mx(&"x".repeat(64)).await, Err(DnsError::Name(_))));
}

#[tokio::test]
async fn addresses_of_both_families_are_found_and_none_of_this_is_secure_without_an_anchor() {
    let tlsa = TLSA::new(CertUsage::DaneEe, Selector::Spki, Matching::Sha256, vec![7; 32]);
    let zone = vec![
        ("mx.example.org.", RData::A("192.0.2.1".parse().expect("an address"))),
        ("_2526._quic.mx.example.org.", RData::TLSA(tlsa)),
        ("_postern.example.org.", text("v=postern1; port=1")),
        ("_postern.far.example.", text(&format!("v=postern1; key={KEY}; mode=enforce; max_age=31557600"))),
    ];
    let resolver = resolver(zone, PATIENCE).await;
    let found = resolver.addresses("mx.example.org").await.expect("an answer");
    assert_eq!((found.value, found.secure), (vec![IpAddr::from([192, 0, 2, 1])], false));
    assert!(resolver.addresses("nowhere.example.org").await.expect("an answer").value.is_empty());
    assert!(resolver.addresses("broken").await.is_err());
    let records = resolver.door_tlsa("mx.example.org", 2526).await.expect("an answer");
    assert_eq!((records.value.len(), records.secure), (1, false));
    assert_eq!(resolver.door_record("example.org").await, Ok(None), "it has no key");
    let published = resolver.door_record("far.example").await.expect("an answer").expect("a record");
    assert!(!published.secure && (1..=60).contains(&published.ttl_s), "{published:?}");
}

#[tokio::test]
async fn what_has_no_signatures_below_a_signed_root_is_a_failure() {
    let plain = resolver(vec![("_postern.example.org.", text("v=postern1"))], PATIENCE).await;
    let options = ResolverOptions { trust: DnsTrust::BuiltIn, ..plain.options().clone() };
    let validating = Resolver::with_options(&options).expect("a resolver");
    assert!(matches!(validating.texts("_postern.example.org").await, Err(DnsError::Failed { .. })));
    assert!(matches!(validating.texts("_postern.nowhere.org").await, Err(DnsError::Failed { .. })));
}
