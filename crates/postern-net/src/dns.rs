//! DNS with a budget: what a domain has published about its mail.
//!
//! Owns the resolver (hickory; its types stay in here) and the time a question may take. Answers are
//! values; an answer that says "nothing there" is an empty one, not an error.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::time::timeout;

use crate::published::Tlsa;

/// Why a question got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// The system's resolver configuration could not be used.
    #[error("DNS cannot be used: {0}; look at /etc/resolv.conf, or name a server in the configuration")]
    Setup(String),
    /// Not a name.
    #[error("{0} is not a domain name")]
    Name(String),
    /// No answer in time.
    #[error("DNS did not answer about {0} in time")]
    Timeout(String),
    /// The server or the way to it failed.
    #[error("DNS failed for {name}: {why}")]
    Failed {
        /// What was asked.
        name: String,
        /// The resolver's words.
        why: String,
    },
}

/// A mail server of a domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mx {
    /// The lowest is tried first.
    pub preference: u16,
    /// Lower case, without the final dot; empty is "takes no mail" (RFC 7505).
    pub host: String,
}

/// Asks DNS.
#[derive(Clone, Debug)]
pub struct Resolver {
    inner: TokioResolver,
    time_max: Duration,
}

impl Resolver {
    /// Uses `server`, or those of the system. `time_max` bounds each question, retries included.
    ///
    /// # Errors
    /// [`DnsError::Setup`].
    pub fn new(server: Option<SocketAddr>, time_max: Duration) -> Result<Self, DnsError> {
        let setup = |error: &dyn std::fmt::Display| DnsError::Setup(error.to_string());
        let mut builder = match server {
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
        let options = builder.options_mut();
        // Two tries within the budget: one lost datagram must not be the end of it.
        options.timeout = time_max / 2;
        options.attempts = 2;
        options.cache_size = CACHE_ENTRIES_MAX;
        options.use_hosts_file = ResolveHosts::Never;
        Ok(Self { inner: builder.build().map_err(|error| setup(&error))?, time_max })
    }

    /// TLSA records for a service (RFC 6698 section 3). Their signatures are not checked here.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn tlsa(&self, host: &str, port: u16) -> Result<Vec<Tlsa>, DnsError> {
        let answers = self.ask(&format!("_{port}._tcp.{host}"), RecordType::TLSA).await?;
        let tlsa = |data: RData| match data {
            RData::TLSA(tlsa) => Some(Tlsa {
                usage: tlsa.cert_usage.into(),
                selector: tlsa.selector.into(),
                matching: tlsa.matching.into(),
                data: tlsa.cert_data,
            }),
            _ => None,
        };
        Ok(answers.into_iter().filter_map(tlsa).collect())
    }

    /// The id of the domain's MTA-STS policy (RFC 8461 section 3.1); `None` when there is none. More
    /// than one record counts as none, as the section says.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn mta_sts_id(&self, domain: &str) -> Result<Option<String>, DnsError> {
        let answers = self.ask(&format!("_mta-sts.{domain}"), RecordType::TXT).await?;
        let text = |data: RData| match data {
            RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
            _ => None,
        };
        let mut ids = answers.into_iter().filter_map(text).filter_map(|text| sts_id(&text));
        let id = ids.next();
        Ok(if ids.next().is_some() { None } else { id })
    }

    /// The domain's mail servers, the preferred first.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn mx(&self, domain: &str) -> Result<Vec<Mx>, DnsError> {
        let mx = |data: RData| match data {
            RData::MX(mx) => {
                let host = mx.exchange.to_lowercase().to_ascii();
                Some(Mx { preference: mx.preference, host: host.trim_end_matches('.').to_owned() })
            }
            _ => None,
        };
        let mut servers: Vec<Mx> = self.ask(domain, RecordType::MX).await?.into_iter().filter_map(mx).collect();
        servers.sort();
        Ok(servers)
    }

    /// The IPv4 addresses of a name; of a DNS list, its answers (RFC 5782 section 2.1).
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn ipv4(&self, name: &str) -> Result<Vec<Ipv4Addr>, DnsError> {
        let address = |data: RData| if let RData::A(address) = data { Some(address.0) } else { None };
        Ok(self.ask(name, RecordType::A).await?.into_iter().filter_map(address).collect())
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, DnsError> {
        let mut fqdn = Name::from_utf8(name).map_err(|_| DnsError::Name(name.to_owned()))?;
        fqdn.set_fqdn(true);
        match timeout(self.time_max, self.inner.lookup(fqdn, kind)).await {
            Ok(Ok(lookup)) => Ok(lookup.answers().iter().map(|record| record.data.clone()).collect()),
            Ok(Err(error)) if error.is_no_records_found() => Ok(Vec::new()),
            Ok(Err(error)) => Err(DnsError::Failed { name: name.to_owned(), why: error.to_string() }),
            Err(_) => Err(DnsError::Timeout(name.to_owned())),
        }
    }
}

/// `v=STSv1; id=20160831085700Z;`
fn sts_id(text: &str) -> Option<String> {
    let mut fields = text.split(';').map(|field| field.trim().split_once('=').unwrap_or_default());
    if fields.next()? != ("v", "STSv1") {
        return None;
    }
    fields.find(|(key, _)| *key == "id").map(|(_, id)| id.to_owned())
}

/// Answers kept, some 300 octets each.
const CACHE_ENTRIES_MAX: u64 = 1024;

#[cfg(test)]
mod tests;
