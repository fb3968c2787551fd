//! A postern's place by a service binding (SVCB, RFC 9460) at `_postern.DOMAIN`.
//!
//! Owns the choice among records: the place of one, or none. Never decides whether it counts beside the domain's TXT record.

use hickory_resolver::proto::rr::rdata::SVCB;
use hickory_resolver::proto::rr::rdata::svcb::{SvcParamKey, SvcParamValue};
use hickory_resolver::proto::rr::{RData, RecordType};
use postern_proto::door::limits::{ALPN, PORT_DEFAULT};

use super::{DnsError, Resolver, Told};

/// Where a service binding says that the postern is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// A name, lower case.
    pub host: String,
    /// Its UDP port.
    pub port: u16,
}

impl Resolver {
    /// The place that service bindings at `_postern.DOMAIN` name; `None` when no record counts.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn door_binding(&self, domain: &str) -> Result<Told<Option<Binding>>, DnsError> {
        let owner = format!("_postern.{domain}");
        let records = self.told(&owner, RecordType::SVCB).await?;
        let ours = |data| if let RData::SVCB(svcb) = data { Some(svcb) } else { None };
        Ok(records.map(|all| choose(&owner, all.into_iter().filter_map(ours).collect())))
    }
}

/// The record with the lowest priority that we can follow; of several the first by name and port. An alias form beside others
/// takes them all away (RFC 9460 section 2.4.1), and is not followed itself: a CNAME says the same of the TXT record too.
fn choose(owner: &str, records: Vec<SVCB>) -> Option<Binding> {
    if records.iter().any(|record| record.svc_priority == 0) {
        return None;
    }
    let place = |record: SVCB| {
        let port = port(&record.svc_params)?;
        let target = record.target_name.to_lowercase().to_ascii();
        // Section 2.5.2: "." is the owner itself.
        let host = match target.trim_end_matches('.') {
            "" => owner.to_lowercase(),
            host => host.to_owned(),
        };
        Some((record.svc_priority, host, port))
    };
    let (_, host, port) = records.into_iter().filter_map(place).min()?;
    Some(Binding { host, port })
}

/// The port; `None` when the record asks for what we do not know (section 8), or is of another protocol. Hints of addresses are
/// not used: the host has addresses of its own.
fn port(params: &[(SvcParamKey, SvcParamValue)]) -> Option<u16> {
    let mut port = PORT_DEFAULT;
    for (_, value) in params {
        match value {
            SvcParamValue::Port(0) => return None,
            SvcParamValue::Port(own) => port = *own,
            SvcParamValue::Alpn(alpn) if !alpn.0.iter().any(|name| name.as_bytes() == ALPN) => return None,
            SvcParamValue::Mandatory(mandatory) => {
                let known = |key: &SvcParamKey| matches!(key, SvcParamKey::Port | SvcParamKey::Alpn);
                if !mandatory.0.iter().all(known) {
                    return None;
                }
            }
            _ => {}
        }
    }
    Some(port)
}

#[cfg(test)]
mod tests;
