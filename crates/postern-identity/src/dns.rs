//! One question to the name server, one answer. The only file that names hickory's types.
//!
//! Knows nothing of budgets and keeps nothing: hickory's cache is off, because ours (`cache.rs`) bounds
//! octets and failures too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::time::timeout;

use crate::limits;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    A,
    Aaaa,
    Mx,
    Ptr,
    Txt,
}

/// A question to DNS: lower case, no final dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) kind: Kind,
    pub(crate) name: Box<str>,
}

impl Key {
    pub(crate) fn new(kind: Kind, name: &str) -> Self {
        Self { kind, name: name.trim_end_matches('.').to_ascii_lowercase().into() }
    }
}

/// Records of the kind that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Records {
    V4(Vec<Ipv4Addr>),
    V6(Vec<Ipv6Addr>),
    /// The strings of each record joined (RFC 7208 section 3.3).
    Texts(Vec<Box<[u8]>>),
    /// Of PTR, or of MX with the preferred first.
    Hosts(Vec<Box<str>>),
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Found(Rc<Records>),
    /// There is no such name, or nothing of this kind at it.
    Void,
    /// Timeout, SERVFAIL, nonsense.
    Failed,
}

/// The name server.
pub(crate) struct Dns {
    resolver: TokioResolver,
    lookup: Duration,
}

impl Dns {
    /// Uses `server`, or those of the system; `lookup` bounds each question.
    pub(crate) fn new(server: Option<SocketAddr>, lookup: Duration) -> Result<Self, String> {
        let mut builder = match server {
            None => TokioResolver::builder_tokio().map_err(|error| error.to_string())?,
            Some(server) => {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = server.port();
                    connection
                });
                let server = NameServerConfig::new(server.ip(), true, connections.to_vec());
                let config = ResolverConfig::from_name_servers(vec![server]);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        let options = builder.options_mut();
        // hickory sends a datagram up to three times within one try: one that is lost is not the end of it.
        options.timeout = lookup;
        options.attempts = 0;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        // Two servers asked at once would double what the budgets count.
        options.num_concurrent_reqs = 1;
        // The gate counts what is in flight; a second, lower bound here would look like a broken server.
        options.max_active_requests = 4096;
        let resolver = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { resolver, lookup })
    }

    /// The answer and for how long it may be kept. Returns within the budget of one look-up.
    pub(crate) async fn ask(&self, key: &Key) -> (Answer, Duration) {
        // RFC 7208 section 4.8: what is no name does not match; nobody needs to be asked about it.
        let Some(name) = fqdn(&key.name) else { return (Answer::Void, limits::TTL_VOID) };
        let kind = match key.kind {
            Kind::A => RecordType::A,
            Kind::Aaaa => RecordType::AAAA,
            Kind::Mx => RecordType::MX,
            Kind::Ptr => RecordType::PTR,
            Kind::Txt => RecordType::TXT,
        };
        let failed = (Answer::Failed, limits::TTL_FAILED);
        match timeout(self.lookup, self.resolver.lookup(name, kind)).await {
            Ok(Ok(lookup)) => {
                let ttl = lookup.valid_until().saturating_duration_since(std::time::Instant::now());
                let ttl = ttl.clamp(limits::TTL_MIN, limits::TTL_MAX);
                match records(key.kind, lookup.answers().iter().map(|record| &record.data)) {
                    Some(Records::V4(found)) if found.is_empty() => (Answer::Void, limits::TTL_VOID),
                    Some(Records::V6(found)) if found.is_empty() => (Answer::Void, limits::TTL_VOID),
                    Some(Records::Texts(found)) if found.is_empty() => (Answer::Void, limits::TTL_VOID),
                    Some(Records::Hosts(found)) if found.is_empty() => (Answer::Void, limits::TTL_VOID),
                    Some(found) => (Answer::Found(Rc::new(found)), ttl),
                    None => failed,
                }
            }
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(none))))
                if matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain) =>
            {
                let ttl = none.negative_ttl.map_or(limits::TTL_VOID, |s| Duration::from_secs(s.into()));
                (Answer::Void, ttl.clamp(limits::TTL_MIN, limits::TTL_VOID_MAX))
            }
            Ok(Err(_)) | Err(_) => failed,
        }
    }
}

/// The records of one kind; `None` when they are more octets than anybody honest needs.
fn records<'a>(kind: Kind, all: impl Iterator<Item = &'a RData>) -> Option<Records> {
    let host = |name: &Name| name.to_lowercase().to_ascii().trim_end_matches('.').into();
    let all = all.take(2 * limits::RECORDS_MAX);
    let found = match kind {
        Kind::A => Records::V4(all.filter_map(|data| if let RData::A(a) = data { Some(a.0) } else { None }).collect()),
        Kind::Aaaa => {
            Records::V6(all.filter_map(|data| if let RData::AAAA(a) = data { Some(a.0) } else { None }).collect())
        }
        Kind::Txt => Records::Texts(
            all.filter_map(|data| if let RData::TXT(txt) = data { Some(txt.txt_data.concat().into()) } else { None })
                .collect(),
        ),
        Kind::Ptr => Records::Hosts(
            all.filter_map(|data| if let RData::PTR(name) = data { Some(host(name)) } else { None }).collect(),
        ),
        Kind::Mx => {
            let mut servers: Vec<(u16, Box<str>)> = all
                .filter_map(|data| match data {
                    RData::MX(mx) => Some((mx.preference, host(&mx.exchange))),
                    _ => None,
                })
                .collect();
            servers.sort();
            Records::Hosts(servers.into_iter().map(|(_, host)| host).filter(|host| !host.is_empty()).collect())
        }
    };
    (found.octets() <= limits::ANSWER_OCTETS_MAX).then(|| found.cut())
}

impl Records {
    fn octets(&self) -> usize {
        match self {
            Self::V4(found) => 4 * found.len(),
            Self::V6(found) => 16 * found.len(),
            Self::Texts(found) => found.iter().map(|text| text.len() + 16).sum(),
            Self::Hosts(found) => found.iter().map(|host| host.len() + 16).sum(),
        }
    }

    fn cut(mut self) -> Self {
        match &mut self {
            Self::V4(found) => found.truncate(limits::RECORDS_MAX),
            Self::V6(found) => found.truncate(limits::RECORDS_MAX),
            Self::Texts(found) => found.truncate(limits::RECORDS_MAX),
            Self::Hosts(found) => found.truncate(limits::RECORDS_MAX),
        }
        self
    }
}

/// A domain as it is compared and asked for: A-labels, lower case, no final dot, two labels at least.
pub(crate) fn domain(text: &str) -> Option<Box<str>> {
    let name = fqdn(text)?.to_lowercase().to_ascii();
    let name = name.trim_end_matches('.');
    let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let literal = name.parse::<IpAddr>().is_ok();
    (name.contains('.') && !literal && name.chars().all(fit)).then(|| name.into())
}

fn fqdn(text: &str) -> Option<Name> {
    let mut name = Name::from_utf8(text).ok()?;
    name.set_fqdn(true);
    (!name.is_root()).then_some(name)
}

/// The address turned round as in `in-addr.arpa` and in lists: octets of IPv4 (RFC 5782 section 2.1),
/// nibbles of IPv6 (section 2.4), each with a dot behind it.
pub(crate) fn reversed(ip: IpAddr) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    match ip {
        IpAddr::V4(ip) => ip.octets().iter().rev().for_each(|octet| {
            let _ = write!(text, "{octet}.");
        }),
        IpAddr::V6(ip) => ip.octets().iter().rev().for_each(|octet| {
            let _ = write!(text, "{:x}.{:x}.", octet & 15, octet >> 4);
        }),
    }
    text
}

/// Where the name of an address is asked for.
pub(crate) fn reverse_name(ip: IpAddr) -> String {
    reversed(ip) + if ip.is_ipv4() { "in-addr.arpa" } else { "ip6.arpa" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_turned_round_as_in_rfc_5782() {
        let check = |ip: &str, expected: &str| assert_eq!(reversed(ip.parse().expect("an address")), expected);
        check("192.0.2.99", "99.2.0.192.");
        check("2001:db8:1:2:3:4:567:89ab", "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.");
    }

    #[test]
    fn a_domain_has_one_spelling() {
        let check = |text: &str, expected: Option<&str>| assert_eq!(domain(text).as_deref(), expected, "{text:?}");
        check("Example.ORG.", Some("example.org"));
        check("bücher.example", Some("xn--bcher-kva.example"));
        check("_spf.example.org", Some("_spf.example.org"));
        for none in ["", ".", "localhost", "192.0.2.1", "[192.0.2.1]", "a b.example", "a..example", "a\\.b"] {
            check(none, None);
        }
        check(&format!("{}.example", "a".repeat(64)), None);
    }
}
