//! Where a door is, and the way there: names to addresses, the second door behind the first.
//!
//! Asked anew for each link, so that a courier follows its domain's record. Called by `outward`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use postern_net::dns::{Binding, Told};
use postern_net::door::courier::Dial;
use postern_net::door::{DoorAddress, PublicKey};
use postern_net::mx::Names;
use postern_proto::door::DoorRecord;

use super::{OutboundOptions, Speaker, known};
use crate::outbound::Closed;

/// Where a door is and whose keys it must show.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) keys: Vec<PublicKey>,
    /// SHA-256 of further keys, from validated TLSA records.
    pub(crate) digests: Vec<[u8; 32]>,
}

impl Place {
    /// Where a record says that the door is, or a service binding: that is preferred, if it is as hard to forge as the record.
    /// Otherwise one spoofed answer could name a host whose signed TLSA record then adds a key to a signed record.
    pub(super) fn of(domain: &str, record: &DoorRecord, secure: bool, binding: Option<&Told<Option<Binding>>>) -> Self {
        let counts = |told: &&Told<Option<Binding>>| told.secure || !secure;
        if let Some(Binding { host, port }) = binding.filter(counts).and_then(|told| told.value.as_ref()) {
            return Self { host: host.clone(), port: *port, ..Self::default() };
        }
        let host = record.host.clone().unwrap_or_else(|| domain.to_owned());
        Self { host, port: record.port, ..Self::default() }
    }
}

/// Opens the door of today's place, with the second one that is not published behind it.
pub(super) fn dial(
    speaker: &Speaker,
    options: &OutboundOptions,
    domain: &str,
    place: &Arc<Mutex<Place>>,
) -> Dial<Closed> {
    let (opener, purse, names) = (speaker.opener.clone(), speaker.purse.clone(), options.mx.names.clone());
    let (domain, place) = (domain.to_owned(), place.clone());
    Arc::new(move || {
        let (opener, purse, names) = (opener.clone(), purse.clone(), names.clone());
        let (domain, place) = (domain.clone(), lock(&place).clone());
        Box::pin(async move {
            let addresses = resolve(&*names, &place.host, place.port).await;
            let alternates = match known::alt(purse, domain.clone()).await {
                Some(alt) => resolve(&*names, &alt.host, alt.port).await,
                None => Vec::new(),
            };
            if addresses.is_empty() && alternates.is_empty() {
                return Err(Closed::Silent);
            }
            let Place { keys, digests, .. } = place;
            opener.open(DoorAddress { domain, addresses, keys, digests, alternates }).await
        })
    })
}

/// A name that cannot be looked up has no addresses: its door is silent.
async fn resolve(names: &dyn Names, host: &str, port: u16) -> Vec<SocketAddr> {
    let addresses = match host.parse() {
        Ok(address) => vec![address],
        Err(_) => names.addresses(host).await.unwrap_or_default(),
    };
    addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect()
}

pub(super) fn lock(place: &Mutex<Place>) -> std::sync::MutexGuard<'_, Place> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
