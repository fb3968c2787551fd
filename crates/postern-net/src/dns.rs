//! DNS with a budget: what a domain has published about its mail.
//!
//! Owns the resolver (hickory; its types stay in here) and the time a question may take. Answers are
//! values; an answer that says "nothing there" is an empty one, not an error. Whether an answer is
//! validated (DNSSEC) is in `dns/trust.rs`, what is asked for the postern in `dns/door.rs` and `dns/binding.rs`.

mod binding;
mod door;
mod trust;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::proto::rr::{Name, RData, RecordType};

pub use self::binding::Binding;
pub use self::door::{NoRecord, Published, TlsaChoice, choose, tlsa_choice, tlsa_keys};
use self::trust::Engine;
pub use self::trust::{DnsTrust, ResolverOptions, Told};
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
    engine: Engine,
}

impl Resolver {
    /// Uses `server`, or those of the system, and validates nothing. `time_max` bounds each question,
    /// retries included.
    ///
    /// # Errors
    /// [`DnsError::Setup`].
    pub fn new(server: Option<SocketAddr>, time_max: Duration) -> Result<Self, DnsError> {
        Self::with_options(&ResolverOptions { server, ..ResolverOptions::new(time_max) })
    }

    /// As the options say.
    ///
    /// # Errors
    /// [`DnsError::Setup`].
    pub fn with_options(options: &ResolverOptions) -> Result<Self, DnsError> {
        Ok(Self { engine: Engine::new(options)? })
    }

    /// As it was made.
    pub fn options(&self) -> &ResolverOptions {
        self.engine.options()
    }

    /// TLSA records for a service (RFC 6698 section 3). Their signatures are not checked here.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn tlsa(&self, host: &str, port: u16) -> Result<Vec<Tlsa>, DnsError> {
        let answers = self.ask(&format!("_{port}._tcp.{host}"), RecordType::TLSA).await?;
        Ok(answers.into_iter().filter_map(tlsa).collect())
    }

    /// The id of the domain's MTA-STS policy (RFC 8461 section 3.1); `None` when there is none. More
    /// than one record counts as none, as the section says.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn mta_sts_id(&self, domain: &str) -> Result<Option<String>, DnsError> {
        let answers = self.ask(&format!("_mta-sts.{domain}"), RecordType::TXT).await?;
        let mut ids = answers.into_iter().filter_map(text).filter_map(|text| sts_id(&String::from_utf8_lossy(&text)));
        let id = ids.next();
        Ok(if ids.next().is_some() { None } else { id })
    }

    /// The domain's mail servers, the preferred first.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn mx(&self, domain: &str) -> Result<Told<Vec<Mx>>, DnsError> {
        let mx = |data: RData| match data {
            RData::MX(mx) => {
                let host = mx.exchange.to_lowercase().to_ascii();
                Some(Mx { preference: mx.preference, host: host.trim_end_matches('.').to_owned() })
            }
            _ => None,
        };
        let sorted = |all: Vec<RData>| {
            let mut servers: Vec<Mx> = all.into_iter().filter_map(mx).collect();
            servers.sort();
            servers
        };
        Ok(self.told(domain, RecordType::MX).await?.map(sorted))
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
        Ok(self.told(name, kind).await?.value)
    }

    /// The records at `name`; empty when there are none.
    async fn told(&self, name: &str, kind: RecordType) -> Result<Told<Vec<RData>>, DnsError> {
        let mut fqdn = Name::from_utf8(name).map_err(|_| DnsError::Name(name.to_owned()))?;
        fqdn.set_fqdn(true);
        self.engine.ask(name, fqdn, kind).await
    }
}

/// The strings of a TXT record joined.
fn text(data: RData) -> Option<Box<[u8]>> {
    if let RData::TXT(txt) = data { Some(txt.txt_data.concat().into()) } else { None }
}

fn tlsa(data: RData) -> Option<Tlsa> {
    let RData::TLSA(tlsa) = data else { return None };
    Some(Tlsa {
        usage: tlsa.cert_usage.into(),
        selector: tlsa.selector.into(),
        matching: tlsa.matching.into(),
        data: tlsa.cert_data,
    })
}

/// `v=STSv1; id=20160831085700Z;`
fn sts_id(text: &str) -> Option<String> {
    let mut fields = text.split(';').map(|field| field.trim().split_once('=').unwrap_or_default());
    if fields.next()? != ("v", "STSv1") {
        return None;
    }
    fields.find(|(key, _)| *key == "id").map(|(_, id)| id.to_owned())
}

#[cfg(test)]
mod tests;
