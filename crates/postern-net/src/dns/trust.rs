//! Asking, and whether an answer was validated.
//!
//! Owns hickory's resolver with its DNSSEC validation. We validate ourselves, from a trust anchor of our
//! own, or not at all: the AD bit of somebody else's answer is never believed. What is bogus is a failure,
//! as RFC 4035 section 5.5 says, and so is an answer whose chain could not be fetched: whoever stands
//! between must not make a signed answer into an unsigned one by dropping its signatures.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Fault, NetError};
use hickory_resolver::proto::dnssec::{Proof, TrustAnchors};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::time::timeout;

use super::DnsError;

/// What makes an answer secure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DnsTrust {
    /// Nothing: no answer is secure, and TLSA records never count. Works with every name server.
    #[default]
    None,
    /// Signatures, from the root's keys of 2017 and 2024 as compiled in. The name server must hand on
    /// signatures (RFC 3225); one that does not makes every question about a signed domain fail.
    BuiltIn,
    /// Signatures, from the DNSKEY records in this file (zone file syntax, a line each), instead of the
    /// root's: for a root of one's own, or when the root's keys roll before this program does.
    Anchor(PathBuf),
}

/// How a resolver works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolverOptions {
    /// `None`: those of `/etc/resolv.conf`.
    pub server: Option<SocketAddr>,
    /// For one question, retries and all.
    pub time_max: Duration,
    /// Whether answers are validated.
    pub trust: DnsTrust,
    /// Answers that are kept, some 300 octets each, 64 KiB at the very worst. Zero for who keeps a cache himself.
    pub cache_entries: u64,
}

impl ResolverOptions {
    /// The system's servers, no validation, 1,024 answers kept.
    pub fn new(time_max: Duration) -> Self {
        Self { server: None, time_max, trust: DnsTrust::None, cache_entries: 1024 }
    }
}

/// What DNS said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told<T> {
    /// The answer; empty when there is nothing at the name.
    pub value: T,
    /// Validated, every record and alias of it. Never true of an empty answer.
    pub secure: bool,
    /// For how long it may be kept, unclamped. `None`: empty, and no SOA said for how long.
    pub ttl: Option<Duration>,
}

impl<T> Told<T> {
    /// The same about something made of it.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Told<U> {
        Told { value: f(self.value), secure: self.secure, ttl: self.ttl }
    }
}

/// hickory's resolver, made anew now and then. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    options: ResolverOptions,
    anchors: Option<Arc<TrustAnchors>>,
    current: Mutex<TokioResolver>,
    asked: AtomicU64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Engine {
    pub(super) fn new(options: &ResolverOptions) -> Result<Self, DnsError> {
        let anchors = match &options.trust {
            DnsTrust::None => None,
            DnsTrust::BuiltIn => Some(TrustAnchors::default()),
            DnsTrust::Anchor(file) => {
                let bad = |why: &dyn fmt::Display| DnsError::Setup(format!("{}: {why}", file.display()));
                let anchors = TrustAnchors::from_file(file).map_err(|error| bad(&error))?;
                if anchors.is_empty() {
                    return Err(bad(&"there is no DNSKEY of the root in it"));
                }
                Some(anchors)
            }
        };
        let anchors = anchors.map(Arc::new);
        let current = Mutex::new(build(options, anchors.as_ref())?);
        let shared = Shared { options: options.clone(), anchors, current, asked: AtomicU64::new(0) };
        Ok(Self { shared: Arc::new(shared) })
    }

    pub(super) fn options(&self) -> &ResolverOptions {
        &self.shared.options
    }

    pub(super) async fn ask(&self, name: &str, fqdn: Name, kind: RecordType) -> Result<Told<Vec<RData>>, DnsError> {
        let all = timeout(self.shared.options.time_max, self.follow(name, fqdn, kind)).await;
        all.unwrap_or_else(|_| Err(DnsError::Timeout(name.to_owned())))
    }

    /// One question; and where an alias makes it fail, the alias and then what is behind it.
    ///
    /// A resolver may add a proof of what does not exist (NSEC3) to an answer that runs through an alias, and hickory then
    /// takes the whole for forged. Each part by itself it validates.
    async fn follow(&self, name: &str, fqdn: Name, kind: RecordType) -> Result<Told<Vec<RData>>, DnsError> {
        let (mut at, mut secure, mut ttl) = (fqdn, true, Duration::MAX);
        for _ in 0..=ALIASES_APART_MAX {
            let (at_once, bogus) = match self.ask_once(name, at.clone(), kind).await {
                Err(Problem::Bogus(why)) => (None, why),
                Err(Problem::Other(error)) => return Err(error),
                Ok(told) => (Some(told), String::new()),
            };
            if let Some(told) = at_once {
                let left = told.ttl.map(|own| own.min(ttl));
                return Ok(Told { secure: secure && told.secure, ttl: left, ..told });
            }
            let alias = self.ask_once(name, at.clone(), RecordType::CNAME).await;
            let Ok(Told { value, secure: own, ttl: own_ttl }) = alias else {
                return Err(DnsError::Failed { name: name.to_owned(), why: bogus });
            };
            let Some(RData::CNAME(target)) = value.into_iter().next() else {
                return Err(DnsError::Failed { name: name.to_owned(), why: bogus });
            };
            (at, secure, ttl) = (target.0, secure && own, ttl.min(own_ttl.unwrap_or_default()));
        }
        Err(DnsError::Failed { name: name.to_owned(), why: "too many aliases".to_owned() })
    }

    async fn ask_once(&self, name: &str, fqdn: Name, kind: RecordType) -> Result<Told<Vec<RData>>, Problem> {
        let validates = self.shared.anchors.is_some();
        let lookup = match self.resolver().lookup(fqdn, kind).await {
            Ok(lookup) => lookup,
            Err(NetError::Dns(Fault::NoRecordsFound(none))) => {
                let ttl = none.negative_ttl.map(|s| Duration::from_secs(s.into()));
                return Ok(Told { value: Vec::new(), secure: false, ttl });
            }
            // A negative answer whose proof is not secure: of a zone that is unsigned all is well.
            Err(NetError::Dns(Fault::Nsec { response, proof: Proof::Insecure, .. }))
                if matches!(response.response_code, ResponseCode::NoError | ResponseCode::NXDomain) =>
            {
                return Ok(Told { value: Vec::new(), secure: false, ttl: None });
            }
            Err(error @ NetError::Dns(Fault::DnssecBogus | Fault::Nsec { .. })) => {
                return Err(Problem::Bogus(error.to_string()));
            }
            Err(error) => {
                return Err(Problem::Other(DnsError::Failed { name: name.to_owned(), why: error.to_string() }));
            }
        };
        let chain = Chain::of(lookup.query().name(), kind, lookup.answers());
        let is_safe = |record: &&Record| matches!(record.proof, Proof::Secure | Proof::Insecure);
        if validates && !chain.used.iter().all(is_safe) {
            return Err(Problem::Bogus("its signatures cannot be validated".to_owned()));
        }
        let secure =
            validates && !chain.found.is_empty() && chain.used.iter().all(|record| record.proof == Proof::Secure);
        let ttl = lookup.valid_until().saturating_duration_since(Instant::now());
        Ok(Told { value: chain.found, secure, ttl: Some(ttl) })
    }

    /// hickory remembers a million validations, 200 octets each, and offers no way to say fewer: a resolver that
    /// validates is made anew before hostile domains can have filled that. Questions under way end with the old one.
    fn resolver(&self) -> TokioResolver {
        let Shared { options, anchors, current, asked } = &*self.shared;
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        if anchors.is_some()
            && asked.fetch_add(1, Relaxed) % QUESTIONS_PER_RESOLVER == QUESTIONS_PER_RESOLVER - 1
            && let Ok(fresh) = build(options, anchors.as_ref())
        {
            *current = fresh;
        }
        current.clone()
    }
}

/// Why one question failed.
enum Problem {
    /// What came does not validate.
    Bogus(String),
    Other(DnsError),
}

/// The records that answer a question: those of the kind that was asked for, at the name or at the end of its aliases.
///
/// An answer section may hold anything. Records of other names, validly signed by whoever owns those, are no answer;
/// and a signed record behind an unsigned alias is not secure, because the alias could point anywhere.
struct Chain<'a> {
    found: Vec<RData>,
    /// Those and the aliases before them.
    used: Vec<&'a Record>,
}

impl<'a> Chain<'a> {
    fn of(name: &'a Name, kind: RecordType, answers: &'a [Record]) -> Self {
        let (mut at, mut used) = (name, Vec::new());
        for _ in 0..=ALIASES_MAX {
            let here = answers.iter().filter(|record| record.name == *at);
            let records: Vec<&Record> = here.clone().filter(|record| record.record_type() == kind).collect();
            if !records.is_empty() {
                let found = records.iter().map(|record| record.data.clone()).collect();
                used.extend(records);
                return Self { found, used };
            }
            let mut alias = here.filter_map(|record| match &record.data {
                RData::CNAME(target) => Some((record, &target.0)),
                _ => None,
            });
            let Some((record, target)) = alias.next() else { break };
            used.push(record);
            at = target;
        }
        Self { found: Vec::new(), used }
    }
}

fn build(options: &ResolverOptions, anchors: Option<&Arc<TrustAnchors>>) -> Result<TokioResolver, DnsError> {
    let setup = |error: &dyn fmt::Display| DnsError::Setup(error.to_string());
    let mut builder = match options.server {
        None => TokioResolver::builder_tokio().map_err(|error| setup(&error))?,
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
    let settings = builder.options_mut();
    // Two tries within the budget: one lost datagram must not be the end of it.
    settings.timeout = options.time_max / 2;
    settings.attempts = 2;
    settings.cache_size = options.cache_entries;
    settings.use_hosts_file = ResolveHosts::Never;
    // Otherwise the aliases before an answer are left out, and with them that they were unsigned.
    settings.preserve_intermediates = true;
    if let Some(anchors) = anchors {
        builder = builder.with_trust_anchor(Arc::clone(anchors));
    }
    builder.build().map_err(|error| setup(&error))
}

/// As many as hickory follows.
const ALIASES_MAX: usize = 8;

/// Aliases that are asked for one by one.
const ALIASES_APART_MAX: usize = 3;

/// 2,000 questions of ten validations: 4 MB.
const QUESTIONS_PER_RESOLVER: u64 = 2000;

#[cfg(test)]
mod tests;
