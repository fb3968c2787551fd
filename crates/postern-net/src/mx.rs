//! Where the mail of a domain goes on port 25: its MX records, and a connection to one of the servers.
//!
//! Owns RFC 5321 section 5.1 (preferences, the implicit MX, our own place in the list) and RFC 7505 (the null MX),
//! within bounds. It asks names through [`Names`], sends no mail and remembers nothing; when and how often a
//! domain is tried is the drain's.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use postern_proto::reply::{Enhanced, Reply};

use crate::client::{Connection, Connector, Failure, TlsWanted};
use crate::dns::{DnsError, Mx};

mod names;
mod proof;

pub use names::{Names, Pending};
pub use proof::{Policies, proven_by};

/// Servers of a domain that are looked at. The largest lists have a dozen, and who cannot be reached at eight is
/// away. Beyond: those of the lowest preference are left out.
const HOSTS_MAX: usize = 8;
/// Addresses of one server that are tried: one of each family, and one more of each.
const ADDRESSES_EACH_MAX: usize = 4;
/// Connections tried in one attempt. With the connector's 30 s each this bounds an attempt to four minutes.
const CONNECTS_MAX: usize = 8;

/// How mail servers are found.
#[derive(Clone, Debug)]
pub struct MxFinder {
    /// Who answers.
    pub names: Arc<dyn Names>,
    /// 25.
    pub port: u16,
    /// Our own names, lower case: in a list they and what is not preferred to them are left out, or mail
    /// would go in a circle.
    pub own_names: Vec<String>,
    /// Our own addresses, for the same.
    pub own_addresses: Vec<IpAddr>,
    /// Loopback addresses are servers like others. Only for tests and for networks inside of one machine: anybody may
    /// publish an MX that points at 127.0.0.1, and there we are ourselves.
    pub loopback: bool,
}

/// A server of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name, or an address literal.
    pub host: String,
    /// The lowest is tried first.
    pub preference: u16,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MxFault {
    /// The domain takes no mail, or not from us: for good.
    Refused(Reply),
    /// Not now.
    Failed(Failure),
}

impl MxFinder {
    /// The port of mail, no names of our own.
    pub fn new(names: Arc<dyn Names>) -> Self {
        Self { names, port: PORT, own_names: Vec::new(), own_addresses: Vec::new(), loopback: false }
    }

    /// Connects to one of the domain's servers, the preferred first, and waits for orders. `random` orders servers of
    /// the same preference.
    ///
    /// # Errors
    /// [`MxFault`]; of several servers the last one's failure.
    pub async fn connect(
        &self,
        connector: &Connector,
        domain: &str,
        tls: &TlsWanted,
        random: u64,
    ) -> Result<Connection, MxFault> {
        let mut failure = None;
        for (host, address) in self.servers(domain, random).await? {
            match connector.connect_to(&host, SocketAddr::new(address, self.port), tls).await {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    tracing::debug!(domain, host, %address, %error, "a mail server could not be reached");
                    failure = Some(error);
                }
            }
        }
        Err(MxFault::Failed(failure.unwrap_or_else(|| Failure::Connect(format!("{domain}: no server to try")))))
    }

    /// Addresses to try, in order, each with the name of its server.
    ///
    /// # Errors
    /// [`MxFault`].
    pub async fn servers(&self, domain: &str, random: u64) -> Result<Vec<(String, IpAddr)>, MxFault> {
        if let Some(literal) = literal(domain) {
            let own = self.is_own(literal);
            return if own { Err(loops(domain)) } else { Ok(vec![(domain.to_owned(), literal)]) };
        }
        let failed = |error: DnsError| MxFault::Failed(Failure::Connect(error.to_string()));
        let records = self.names.mx(domain).await.map_err(failed)?.value;
        let implicit = records.is_empty();
        let servers = order(records, domain, &self.own_names, random)?;
        let mut resolved = Vec::new();
        let mut failure = None;
        for answer in self.resolve(&servers).await {
            match answer {
                (server, Ok(addresses)) => resolved.push((server, addresses)),
                (_, Err(error)) => failure = Some(error),
            }
        }
        let ours = |addresses: &[IpAddr]| addresses.iter().any(|address| self.is_own(*address));
        let own_place = resolved.iter().filter(|(_, all)| ours(all)).map(|(server, _)| server.preference).min();
        if let Some(own_place) = own_place {
            resolved.retain(|(server, _)| server.preference < own_place);
            if resolved.is_empty() {
                return Err(loops(domain));
            }
        }
        let some = |(server, addresses): (Server, Vec<IpAddr>)| {
            addresses.into_iter().take(ADDRESSES_EACH_MAX).map(move |address| (server.host.clone(), address))
        };
        let all: Vec<_> = resolved.into_iter().flat_map(some).take(CONNECTS_MAX).collect();
        match failure {
            _ if !all.is_empty() => Ok(all),
            Some(error) => Err(failed(error)),
            // RFC 5321 section 5.1: "If MX records are present, but none of them are usable … this situation MUST be
            // reported as an error". A name with neither MX nor address is none that mail can be sent to (RFC 3463: X.1.2).
            None if implicit => Err(refused(Enhanced(5, 1, 2), domain, "has neither mail servers nor an address")),
            None => Err(refused(Enhanced(5, 4, 4), domain, "has mail servers without any address")),
        }
    }

    async fn resolve(&self, servers: &[Server]) -> Vec<(Server, Result<Vec<IpAddr>, DnsError>)> {
        let mut asked = tokio::task::JoinSet::new();
        for (at, server) in servers.iter().cloned().enumerate() {
            let names = self.names.clone();
            asked.spawn(async move {
                let addresses = names.addresses(&server.host).await;
                (at, server, addresses)
            });
        }
        let mut answers = asked.join_all().await;
        answers.sort_by_key(|(at, ..)| *at);
        answers.into_iter().map(|(_, server, addresses)| (server, addresses)).collect()
    }

    fn is_own(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let at_home = address.is_loopback() || address.is_unspecified();
        (at_home && !self.loopback) || self.own_addresses.iter().any(|own| own.to_canonical() == address)
    }
}

/// The servers of a domain in the order in which they are tried, from its MX records.
///
/// # Errors
/// [`MxFault::Refused`]: the domain takes no mail (RFC 7505), or we are its best server ourselves.
pub fn order(records: Vec<Mx>, domain: &str, own_names: &[String], random: u64) -> Result<Vec<Server>, MxFault> {
    if records.is_empty() {
        // RFC 5321 section 5.1: "treated as if it was associated with an implicit MX RR with a preference of 0".
        return servers_but_ours(vec![Server { host: domain.to_owned(), preference: 0 }], domain, own_names);
    }
    // RFC 7505 section 3: "a single MX RR"; beside others it is a mistake and no name.
    let named = |mx: &Mx| !mx.host.is_empty();
    if !records.iter().any(named) {
        return Err(MxFault::Refused(
            Reply::new(556, Enhanced(5, 1, 10), "").with_text(format!("{domain} takes no mail (null MX)")),
        ));
    }
    let mut dice = random;
    let mut servers: Vec<(u64, Server)> = records
        .into_iter()
        .filter(named)
        .map(|Mx { host, preference }| (roll(&mut dice), Server { host, preference }))
        .collect();
    servers.sort_by_key(|(dice, server)| (server.preference, *dice));
    servers_but_ours(servers.into_iter().map(|(_, server)| server).collect(), domain, own_names)
}

fn servers_but_ours(mut servers: Vec<Server>, domain: &str, own_names: &[String]) -> Result<Vec<Server>, MxFault> {
    let ours = |server: &&Server| own_names.iter().any(|own| own.eq_ignore_ascii_case(&server.host));
    if let Some(own_place) = servers.iter().filter(ours).map(|server| server.preference).min() {
        servers.retain(|server| server.preference < own_place);
    }
    servers.truncate(HOSTS_MAX);
    if servers.is_empty() { Err(loops(domain)) } else { Ok(servers) }
}

/// `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 section 4.1.3).
fn literal(domain: &str) -> Option<IpAddr> {
    let inner = domain.strip_prefix('[')?.strip_suffix(']')?;
    match inner.split_at_checked(5) {
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6:") => address.parse().ok().map(IpAddr::V6),
        _ => inner.parse().ok().map(IpAddr::V4),
    }
}

fn loops(domain: &str) -> MxFault {
    refused(Enhanced(5, 4, 6), domain, "has this server as its mail server, and this server does not take its mail")
}

fn refused(enhanced: Enhanced, domain: &str, why: &str) -> MxFault {
    MxFault::Refused(Reply::new(550, enhanced, "").with_text(format!("{domain} {why}")))
}

/// splitmix64.
fn roll(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

const PORT: u16 = 25;

#[cfg(test)]
mod tests;
