//! Would the filters judge, and are the lists lists? Each filter is shown a harmless message; each
//! list is asked for the two test points of RFC 5782 section 5.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use postern_net::dns::Resolver;
use postern_net::filter::{Content, Subject, judge};
use postern_proto::address::Address;
use postern_proto::checks::Checks;
use postern_proto::envelope::{Arrival, DsnRequest, Meta, Notify, Recipient, Via};

use super::Findings;
use crate::config::Config;
use crate::serve::now_unix_ms;

/// Each filter judges one message. What it finds does not matter.
pub(super) async fn check_filters(config: &Config, findings: &mut Findings) {
    for one in &config.filters {
        let (filter, meta) = (&one.filter, message(config));
        let received = format!("Received: by {} (postern check)\r\n", config.hostname);
        let subject =
            Subject { meta: &meta, id: "0000000000000", received: received.as_bytes(), body: Content::Bytes(BODY) };
        match judge(filter, &config.hostname, &subject).await {
            Ok(_) => findings.good(format!("filter {}: {} judges", filter.name, filter.kind)),
            Err(error) => findings.wrong(
                format!("filter {}: {}: {error}", filter.name, filter.kind),
                "while it is away mail is collected unjudged, and then refused for now: start it, or take it out",
            ),
        }
    }
    for domain in
        config.settings.domain.iter().filter(|(_, setting)| setting.filter.is_some()).map(|(domain, _)| domain)
    {
        if config.filters.is_empty() {
            findings.note(format!("[domain.\"{domain}\"] filter is set, but there is no [filter.NAME]"), "");
        }
    }
}

/// 127.0.0.2 must be listed and 127.0.0.1 must not; 127.255.255.x is an error of the asker.
pub(super) async fn check_lists(config: &Config, findings: &mut Findings) {
    if config.settings.dnsbl.is_empty() {
        return;
    }
    if !config.settings.dns.identity {
        findings.note("[dnsbl] has lists, but dns.identity = false: none is asked", "");
    }
    let resolver = match Resolver::new(config.settings.dns.resolver, QUESTION_WAIT) {
        Ok(resolver) => resolver,
        Err(error) => return findings.wrong(format!("[dnsbl]: {error}"), ""),
    };
    for zone in config.settings.dnsbl.keys() {
        let listed = resolver.ipv4(&format!("2.0.0.127.{zone}")).await;
        let unlisted = resolver.ipv4(&format!("1.0.0.127.{zone}")).await;
        let (listed, unlisted) = match (listed, unlisted) {
            (Ok(listed), Ok(unlisted)) => (listed, unlisted),
            (Err(error), _) | (_, Err(error)) => {
                findings
                    .wrong(format!("list {zone}: {error}"), "a list that does not answer costs look-ups for nothing");
                continue;
            }
        };
        if listed.iter().chain(&unlisted).any(|answer| answer.octets()[..3] == [127, 255, 255]) {
            let cure = "lists do not answer public resolvers: ask your own, [dns] resolver = \"127.0.0.1:53\"";
            findings.wrong(format!("list {zone} refuses to answer this resolver"), cure);
        } else if !unlisted.is_empty() {
            let cure = "it would call every client a bad one (or a good one): take it out";
            findings.wrong(format!("list {zone} lists 127.0.0.1, so it lists everybody"), cure);
        } else if !listed.iter().any(Ipv4Addr::is_loopback) {
            let cure = "RFC 5782 section 5 asks for that entry: is this the zone's right name?";
            findings.wrong(format!("list {zone} does not list its test address 127.0.0.2"), cure);
        } else {
            findings.good(format!("list {zone} answers as RFC 5782 says"));
        }
    }
}

/// From a documentation address, so that no filter has an opinion about the client.
fn message(config: &Config) -> Meta {
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 25));
    let domain = config.recipients.keys().next().map_or("localhost", String::as_str);
    let address = |local: &str, domain: &str| Address { local: local.into(), domain: domain.into() };
    Meta {
        arrival: Arrival {
            at_unix_ms: now_unix_ms(),
            peer: SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 25)),
            peer_name: None,
            local,
            by: config.hostname.clone(),
            helo: config.hostname.clone(),
            esmtp: true,
            tls: None,
            via: Via::Public,
        },
        sender: Some(address("postmaster", &config.hostname)),
        recipients: vec![Recipient {
            address: address("postmaster", domain),
            original: None,
            notify: Notify::default(),
        }],
        eight_bit: false,
        smtputf8: false,
        dsn: DsnRequest::default(),
        size: BODY.len() as u64,
        judged: false,
        attempts: 0,
        tried_since_unix_ms: None,
        last_error: None,
        note: None,
        checks: Checks::default(),
        judgement: None,
    }
}

const BODY: &[u8] = b"Subject: postern check\r\n\r\nIs anybody there?\r\n";
/// For one question; a person waits.
const QUESTION_WAIT: Duration = Duration::from_secs(4);
