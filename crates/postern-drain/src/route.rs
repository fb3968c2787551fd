//! Where mail for a recipient goes: the routes of the configuration and the table of them.
//!
//! Pure data. The worker resolves a route when it leases an item, so that a changed table applies
//! to everything that is still in the spool.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;

use postern_net::client::{ClientAddress, Target};
use postern_proto::envelope::Via;

/// Where mail goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// A directory with one Maildir per recipient; final delivery.
    Maildir(PathBuf),
    /// An LMTP server (RFC 2033): one verdict per recipient.
    Lmtp(Target),
    /// An SMTP server, the next hop.
    Smtp {
        /// Where it listens.
        target: Target,
        /// How it is told the real client's address.
        client_address: ClientAddress,
        /// Deliver even when it would see only our own address.
        trust_loopback: bool,
    },
    /// The recipient domain's own servers: its postern where it has one, else its MX on port 25.
    Mx,
    /// Mail stays in the spool until another route is configured.
    None,
}

/// Where one delivery goes: a route, and the recipient's domain where each has servers of its own. What is away,
/// busy or connected is so for a destination: a dead domain closes the way for no other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Destination {
    pub(crate) route: Route,
    pub(crate) domain: Option<Box<str>>,
}

impl Destination {
    /// A next hop of the configuration.
    pub(crate) fn hop(route: &Route) -> Self {
        Self { route: route.clone(), domain: None }
    }

    fn far(route: &Route, domain: &str) -> Self {
        Self { route: route.clone(), domain: Some(domain.into()) }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.domain {
            Some(domain) => write!(f, "{} to {domain}", self.route),
            None => self.route.fmt(f),
        }
    }
}

/// The routes of today.
#[derive(Clone, Debug)]
pub struct RouteTable {
    /// Of each local domain that is not in `domains`.
    pub default: Route,
    /// By recipient domain, lower case.
    pub domains: HashMap<String, Route>,
    /// Domains that the public door accepts (lower case); mail from the relay listener to any
    /// other goes to `relay`. Those in `domains` are local by that alone.
    pub local: HashSet<String>,
    /// Where mail from the relay listener and our own reports go when the domain is not local.
    pub relay: Option<Route>,
    /// What goes to `relay` is tried through the postern of the recipient's domain first, where that has one. `mx`
    /// does so anyhow. Needs [`crate::DrainOptions::outbound`] with doors; without, nothing changes.
    pub doors: bool,
    /// Separator of the detail in local parts (RFC 5233), stripped from Maildir names.
    pub detail: Option<char>,
    /// Mailboxes one Maildir directory may hold: 10,000 by default. A guessing sender would
    /// otherwise create a directory of four inodes for each guess. Mail for a mailbox beyond it is
    /// deferred with 452 4.3.1, not refused: the operator can raise the number, a refused letter
    /// is gone.
    pub mailboxes_max: usize,
}

/// A route that cannot be parsed; the text names the cure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RouteError(String);

impl Route {
    /// Parses `maildir:DIR`, `lmtp:HOST:PORT`, `lmtp:/PATH`, `smtp:HOST:PORT`, `mx` or `none`.
    ///
    /// An SMTP hop is told the client's address by XCLIENT unless the configuration says
    /// otherwise ([`Self::with_client_address`], [`Self::with_trust_loopback`]).
    ///
    /// # Errors
    /// [`RouteError`] says what is wrong and what to write instead.
    pub fn parse(text: &str) -> Result<Self, RouteError> {
        let error = |words: String| Err(RouteError(words));
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match (kind, rest) {
            ("none", "") => Ok(Self::None),
            ("mx", "") => Ok(Self::Mx),
            ("mx", _) => error(format!("`{text}`: `mx` takes nothing behind it; write `mx`, or `smtp:HOST:PORT`")),
            ("none", _) => error(format!("`{text}`: `none` takes nothing behind it; write `none`")),
            ("maildir", "") => error(format!("`{text}`: a directory is missing; write `maildir:/var/mail/postern`")),
            ("maildir", dir) => Ok(Self::Maildir(PathBuf::from(dir))),
            ("lmtp", "") => error(format!("`{text}`: write `lmtp:HOST:PORT` or `lmtp:/path/of/socket`")),
            ("lmtp", rest) if rest.contains('/') => Ok(Self::Lmtp(Target::Unix(PathBuf::from(rest)))),
            ("lmtp", rest) => Ok(Self::Lmtp(tcp(text, rest, "lmtp:127.0.0.1:24")?)),
            ("smtp", rest) if rest.contains('/') => {
                error(format!("`{text}`: SMTP goes over TCP only; write `smtp:HOST:PORT`, or `lmtp:PATH` for a socket"))
            }
            ("smtp", rest) => Ok(Self::Smtp {
                target: tcp(text, rest, "smtp:127.0.0.1:10025")?,
                client_address: ClientAddress::Xclient,
                trust_loopback: false,
            }),
            _ => error(format!(
                "`{text}`: unknown kind of route; write maildir:DIR, lmtp:HOST:PORT, lmtp:PATH, smtp:HOST:PORT, mx or none"
            )),
        }
    }

    /// The same SMTP route, telling the client's address in this way; other routes are unchanged.
    #[must_use]
    pub fn with_client_address(mut self, how: ClientAddress) -> Self {
        if let Self::Smtp { client_address, .. } = &mut self {
            *client_address = how;
        }
        self
    }

    /// The same SMTP route, delivering though the hop sees only us; other routes are unchanged.
    #[must_use]
    pub fn with_trust_loopback(mut self, trust: bool) -> Self {
        if let Self::Smtp { trust_loopback, .. } = &mut self {
            *trust_loopback = trust;
        }
        self
    }
}

impl fmt::Display for Route {
    /// As [`Route::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Maildir(dir) => write!(f, "maildir:{}", dir.display()),
            Self::Lmtp(target) => write!(f, "lmtp:{}", target),
            Self::Smtp { target, .. } => write!(f, "smtp:{}", target),
            Self::Mx => f.write_str("mx"),
            Self::None => f.write_str("none"),
        }
    }
}

impl RouteTable {
    /// A table with one route for every local domain and none for relaying.
    pub fn new(default: Route) -> Self {
        Self {
            default,
            domains: HashMap::new(),
            local: HashSet::new(),
            relay: None,
            doors: false,
            detail: None,
            mailboxes_max: 10_000,
        }
    }

    /// The route of a recipient in `domain` (lower case; empty for a bare `postmaster`) of mail
    /// that came in by `via`. `None`: there is no way to that domain.
    pub fn resolve(&self, via: Via, domain: &str) -> Option<&Route> {
        if let Some(route) = self.domains.get(domain) {
            return Some(route);
        }
        match via {
            Via::Public | Via::Postern => Some(&self.default),
            Via::Relay | Via::Local if self.is_local(domain) => Some(&self.default),
            Via::Relay | Via::Local => self.relay.as_ref(),
        }
    }

    /// Where mail for `domain` goes that came in by `via`.
    pub(crate) fn destination(&self, via: Via, domain: &str) -> Option<Destination> {
        let route = self.resolve(via, domain)?;
        let outward = self.doors && !via.is_inbound() && self.is_relayed(domain);
        Some(self.destination_on(route, domain, outward))
    }

    /// Where most mail in the lane of `domain` goes.
    pub(crate) fn destination_of_lane(&self, domain: &str) -> Destination {
        self.destination_on(self.route_of_lane(domain), domain, self.doors && self.is_relayed(domain))
    }

    fn destination_on(&self, route: &Route, domain: &str, outward: bool) -> Destination {
        match route {
            Route::Mx => Destination::far(route, domain),
            Route::Smtp { .. } if outward => Destination::far(route, domain),
            _ => Destination::hop(route),
        }
    }

    /// Whether mail for `domain` is ours to deliver, from whichever door it came.
    pub fn is_local(&self, domain: &str) -> bool {
        domain.is_empty() || self.local.contains(domain) || self.domains.contains_key(domain)
    }

    /// The route that most mail in the lane of `domain` takes; what the lane is scheduled by.
    pub(crate) fn route_of_lane(&self, domain: &str) -> &Route {
        match (self.domains.get(domain), &self.relay) {
            (Some(route), _) => route,
            (None, Some(relay)) if self.is_relayed(domain) => relay,
            (None, _) => &self.default,
        }
    }

    /// Whether mail in the lane of `domain` came from the relay listener, or was made here.
    pub(crate) fn is_relayed(&self, domain: &str) -> bool {
        self.relay.is_some() && !self.is_local(domain)
    }

    /// Every route in use, each once.
    pub(crate) fn all(&self) -> HashSet<&Route> {
        self.domains.values().chain([&self.default]).chain(&self.relay).collect()
    }
}

fn tcp(whole: &str, rest: &str, example: &str) -> Result<Target, RouteError> {
    let cure = |what: &str| RouteError(format!("`{whole}`: {what}; write for example `{example}`"));
    let (host, port) = rest.rsplit_once(':').ok_or_else(|| cure("a port is missing"))?;
    let port: u16 = port.parse().map_err(|_| cure("the port is not a number from 1 to 65535"))?;
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let host = match bare {
        Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
        Some(_) => return Err(cure("between brackets stands no IPv6 address")),
        None if host.contains(':') => return Err(cure("an IPv6 address needs brackets, `[::1]:25`")),
        None => host,
    };
    match (host, port) {
        ("", _) => Err(cure("a host is missing")),
        (_, 0) => Err(cure("the port is not a number from 1 to 65535")),
        (host, port) => Ok(Target::Tcp { host: host.to_owned(), port }),
    }
}

#[cfg(test)]
mod tests;
