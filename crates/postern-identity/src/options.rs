//! What the operator can set: name server, lists, shared providers, and what may be spent.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::Ipv4Net;
use postern_trust::shares::{ClassShares, Shares};

/// How the desk works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityOptions {
    /// The name server; `None` takes those of `/etc/resolv.conf`. Lists answer the resolvers of big
    /// providers with 127.255.255.254: a resolver of one's own is the rule.
    pub resolver: Option<SocketAddr>,
    /// Our name, for the macro `%{r}` of RFC 7208.
    pub hostname: String,
    /// Lists to ask; none by default.
    pub zones: Vec<Zone>,
    /// Domains of shared providers, whose SPF networks become evidence.
    pub providers: Vec<String>,
    /// How long after the start these are asked for. 10 s in the program: a machine that boots has its own resolver by
    /// then, and a server that fails to start again and again asks nobody.
    pub networks_after: Duration,
    /// What may be spent.
    pub budgets: Budgets,
}

impl IdentityOptions {
    /// No lists, no providers, the system's resolver.
    pub fn new(hostname: &str) -> Self {
        Self {
            resolver: None,
            hostname: hostname.to_owned(),
            zones: Vec::new(),
            providers: Vec::new(),
            networks_after: Duration::ZERO,
            budgets: Budgets::default(),
        }
    }
}

/// A list of addresses in DNS (RFC 5782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// `zen.example.org`.
    pub name: String,
    /// What an entry weighs: below zero against the client, above for it. The sum over all lists becomes
    /// evidence; none is a verdict alone.
    pub weight: i8,
    /// Answers that count, all of 127.0.0.0/8 when empty. Whitelists say the degree of trust in the last
    /// octets. 127.255.255.0/24 never counts: it is an error, whatever is written here.
    pub codes: Vec<Ipv4Net>,
}

/// What may be spent on DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// For a whole question; what is not known then is not known. 5 s: a door waits 30 s at most for a
    /// fate, and a mail is seldom there faster than its sender's DNS.
    pub question: Duration,
    /// For one look-up, three datagrams at most. 2.5 s: resolvers give up on a dead server after 2 to 5 s.
    pub lookup: Duration,
    /// Look-ups in flight, 32 at least; 2 KB and up to three descriptors each. Full: not affordable.
    pub in_flight: u32,
    /// Look-ups a second, with as many in hand after a quiet second. A resolver on the same machine does
    /// 10,000, a list's free tier some 3 (300,000 a day): caches carry the rest.
    pub per_second: u32,
    /// Look-ups in flight below one domain. 4: one slow domain holds a sixteenth. A list has its own, four
    /// times as much.
    pub per_domain: u32,
    /// Who may have how much of what is in flight, and of a second.
    pub shares: ClassShares,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            question: Duration::from_millis(5000),
            lookup: Duration::from_millis(2500),
            in_flight: 64,
            per_second: 200,
            per_domain: 4,
            shares: Shares::default().lookups,
        }
    }
}
