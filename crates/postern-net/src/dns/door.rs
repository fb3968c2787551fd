//! What a domain says about its postern, and where that is.
//!
//! Owns the choice among records: one that counts, or none. Never decides how far a record is trusted; it
//! says whether it was validated, and who asks decides.

use std::net::IpAddr;

use hickory_resolver::proto::rr::{RData, RecordType};
use postern_proto::door::record::{DoorRecord, RecordFault};
use ring::digest;

use super::{DnsError, DnsTrust, Resolver, Told, text, tlsa};
use crate::published::Tlsa;

/// A domain's postern, as published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The record at `_postern.DOMAIN`.
    pub record: DoorRecord,
    /// Validated by DNSSEC. Otherwise `enforce` counts as `prefer`, and the keys are good for this once.
    pub secure: bool,
    /// Seconds for which the answer may be kept. For longer, up to the record's own `max_age`, only when it is secure.
    pub ttl_s: u64,
}

/// What TLSA records say about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsaChoice {
    /// None can be used: unsigned (RFC 6698 section 4.1), or none that names a bare key.
    Unusable,
    /// One is of the key.
    Match,
    /// There are some, of other keys.
    Mismatch,
}

impl Resolver {
    /// The record of the domain's postern, at `_postern.DOMAIN`. `None`: it has none, or several, or none that can be
    /// read; the log has why.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn door_record(&self, domain: &str) -> Result<Option<Published>, DnsError> {
        let told = self.texts(&format!("_postern.{domain}")).await?;
        match choose(&told.value) {
            Ok(record) => {
                let ttl_s = told.ttl.map_or(0, |ttl| ttl.as_secs());
                Ok(record.map(|record| Published { record, secure: told.secure, ttl_s }))
            }
            Err(why) => {
                tracing::info!(%domain, %why, "the record of its postern does not count");
                Ok(None)
            }
        }
    }

    /// All addresses of a host, IPv6 first. Secure when both answers are, or the one that there is.
    ///
    /// # Errors
    /// [`DnsError`], when neither question was answered with addresses and one of them failed.
    pub async fn addresses(&self, host: &str) -> Result<Told<Vec<IpAddr>>, DnsError> {
        let (six, four) = tokio::join!(self.told(host, RecordType::AAAA), self.told(host, RecordType::A));
        let address = |data: &RData| match data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        };
        let (mut all, mut failed) = (Told { value: Vec::new(), secure: true, ttl: None }, None);
        for answer in [six, four] {
            match answer {
                Ok(told) if told.value.iter().any(|data| address(data).is_some()) => {
                    all.value.extend(told.value.iter().filter_map(address).take(ADDRESSES_MAX));
                    all.secure &= told.secure;
                    all.ttl = [all.ttl, told.ttl].into_iter().flatten().min();
                }
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        if all.value.is_empty() {
            all.secure = false;
            return failed.map_or(Ok(all), Err);
        }
        Ok(all)
    }

    /// TLSA records of a postern, at `_PORT._quic.HOST`. They count only when `secure`.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn door_tlsa(&self, host: &str, port: u16) -> Result<Told<Vec<Tlsa>>, DnsError> {
        self.tlsa_at(&format!("_{port}._quic.{host}")).await
    }

    /// SHA-256 of the keys that TLSA records give a postern; those that are validated and name a bare key. Nothing is asked
    /// where nothing validates.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn door_keys(&self, host: &str, port: u16) -> Result<Told<Vec<[u8; 32]>>, DnsError> {
        if self.options().trust == DnsTrust::None {
            return Ok(Told { value: Vec::new(), secure: false, ttl: None });
        }
        let records = self.door_tlsa(host, port).await?;
        let keys = tlsa_keys(&records);
        if keys.is_empty() && !records.value.is_empty() {
            let (count, secure) = (records.value.len(), records.secure);
            tracing::debug!(host, port, count, secure, "TLSA records of a postern do not count");
        }
        Ok(records.map(|_| keys))
    }

    /// TLSA records at a name.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn tlsa_at(&self, name: &str) -> Result<Told<Vec<Tlsa>>, DnsError> {
        Ok(self.told(name, RecordType::TLSA).await?.map(|all| all.into_iter().filter_map(tlsa).collect()))
    }

    /// TXT records at a name, the strings of each joined.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn texts(&self, name: &str) -> Result<Told<Vec<Box<[u8]>>>, DnsError> {
        Ok(self.told(name, RecordType::TXT).await?.map(|all| all.into_iter().filter_map(text).collect()))
    }
}

/// Why there is a record, or several, and none counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRecord {
    /// Which of them would be a guess.
    #[error("there are several")]
    Several,
    /// The only one is broken.
    #[error("it cannot be read: {0:?}")]
    Unreadable(RecordFault),
}

/// The record that counts among the texts at `_postern.DOMAIN`: the only one of this version.
///
/// # Errors
/// [`NoRecord`].
pub fn choose(texts: &[Box<[u8]>]) -> Result<Option<DoorRecord>, NoRecord> {
    let read = |text: &[u8]| match DoorRecord::parse(&String::from_utf8_lossy(text)) {
        Err(RecordFault::Version) => None,
        read => Some(read),
    };
    let mut ours = texts.iter().map(AsRef::as_ref).filter_map(read);
    match (ours.next(), ours.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(NoRecord::Several),
        (Some(read), None) => read.map(Some).map_err(NoRecord::Unreadable),
    }
}

/// What records say about a bare key, `spki` in DER. Usage 3 and selector 1 only (RFC 7250: there is no certificate),
/// and only when they were validated. An unsigned one is as none (RFC 6698 section 4.1).
pub fn tlsa_choice(records: &Told<Vec<Tlsa>>, spki: &[u8]) -> TlsaChoice {
    let shown = sha256(spki);
    usable(records).fold(TlsaChoice::Unusable, |choice, digest| match choice {
        TlsaChoice::Match => choice,
        _ if digest == shown => TlsaChoice::Match,
        _ => TlsaChoice::Mismatch,
    })
}

/// SHA-256 of the bare keys that records name, by the rule of [`tlsa_choice`]; sixteen at most.
pub fn tlsa_keys(records: &Told<Vec<Tlsa>>) -> Vec<[u8; 32]> {
    usable(records).take(KEYS_MAX).collect()
}

/// The digest of each key that counts; `3 1 0` has the key itself.
fn usable(records: &Told<Vec<Tlsa>>) -> impl Iterator<Item = [u8; 32]> + '_ {
    let bare = |record: &&Tlsa| records.secure && record.usage == 3 && record.selector == 1;
    records.value.iter().filter(bare).filter_map(|record| match record.matching {
        0 => Some(sha256(&record.data)),
        1 => record.data.as_slice().try_into().ok(),
        _ => None,
    })
}

fn sha256(octets: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, octets).as_ref().try_into().expect("SHA-256 gives 32 octets")
}

/// Of each family. A host that has more is a balancer's list, and two are enough to find one that lives.
const ADDRESSES_MAX: usize = 8;

/// Two keys of a roll-over on each of eight hosts behind one name. The purse takes no more.
const KEYS_MAX: usize = 16;

#[cfg(test)]
mod tests;
