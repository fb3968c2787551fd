//! The record by which a domain publishes its postern in DNS: one TXT at `_postern.DOMAIN`.
//!
//! `v=postern1; host=mx.example; port=2526; key=BASE64; mode=prefer; max_age=86400`, in the syntax of DKIM's tag lists
//! (RFC 6376 section 3.2). Owns parsing and printing. It never says how far a record is trusted: that depends on how it
//! came (DNSSEC or not), which the identity proof knows.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::limits::{
    PORT_DEFAULT, RECORD_AGE_S_DEFAULT, RECORD_AGE_S_MAX, RECORD_BYTES_MAX, RECORD_KEYS_MAX, RECORD_TAGS_MAX,
};
use super::name;

/// What a domain says about its postern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorRecord {
    /// Where it is; `None`: at the domain's own name.
    pub host: Option<String>,
    /// UDP port.
    pub port: u16,
    /// Keys of the domain, as client and as server: SubjectPublicKeyInfo in DER, Ed25519 or P-256. One at least; two
    /// during a roll-over.
    pub keys: Vec<Vec<u8>>,
    /// What a sender does when the door is silent.
    pub mode: Mode,
    /// Seconds for which the record may be held on to.
    pub max_age_s: u64,
}

/// What a sender does when the door is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Port 25 as usual.
    #[default]
    Prefer,
    /// Port 25 only with authenticated TLS.
    Enforce,
}

/// Why a text is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFault {
    /// It does not begin with `v=postern1`: another record, or another version.
    Version,
    /// Longer than [`RECORD_BYTES_MAX`] or more tags than [`RECORD_TAGS_MAX`].
    TooLong,
    /// Not a list of `tag=value`.
    Syntax,
    /// A tag other than `key` twice.
    Repeated,
    /// `host` is no host name.
    Host,
    /// `port` is not 1 to 65535.
    Port,
    /// A key that is not base64 (RFC 4648 section 4, padded).
    Key,
    /// No key of an algorithm that is known here.
    NoKey,
    /// More keys than [`RECORD_KEYS_MAX`].
    TooManyKeys,
    /// `mode` is neither `prefer` nor `enforce`.
    Mode,
    /// `max_age` is no number up to [`RECORD_AGE_S_MAX`].
    MaxAge,
}

impl DoorRecord {
    /// Reads the text of a record: all its strings put together without anything between them.
    pub fn parse(text: &str) -> Result<Self, RecordFault> {
        let mut tags = text.split(';').map(trim);
        if tags.next().and_then(split) != Some(("v", "postern1")) {
            return Err(RecordFault::Version);
        }
        if text.len() > RECORD_BYTES_MAX {
            return Err(RecordFault::TooLong);
        }
        let mut record = Self {
            host: None,
            port: PORT_DEFAULT,
            keys: Vec::new(),
            mode: Mode::Prefer,
            max_age_s: RECORD_AGE_S_DEFAULT,
        };
        let mut seen = Vec::from(["v"]);
        let mut tags = tags.peekable();
        while let Some(tag) = tags.next() {
            // A semicolon may end the list.
            if tag.is_empty() && tags.peek().is_none() {
                break;
            }
            let (tag, value) = split(tag).ok_or(RecordFault::Syntax)?;
            if tag != "key" && seen.contains(&tag) {
                return Err(RecordFault::Repeated);
            }
            if seen.len() == RECORD_TAGS_MAX {
                return Err(RecordFault::TooLong);
            }
            seen.push(tag);
            match tag {
                "host" => record.host = Some(name::canonical(value).ok_or(RecordFault::Host)?),
                "port" => {
                    let port = number(value).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
                    record.port = port.ok_or(RecordFault::Port)?;
                }
                "key" => record.add(value)?,
                "mode" => {
                    record.mode = match value {
                        "prefer" => Mode::Prefer,
                        "enforce" => Mode::Enforce,
                        _ => return Err(RecordFault::Mode),
                    }
                }
                "max_age" => {
                    let age = number(value).filter(|age| *age <= RECORD_AGE_S_MAX);
                    record.max_age_s = age.ok_or(RecordFault::MaxAge)?;
                }
                // A tag of a later version.
                _ => {}
            }
        }
        if record.keys.is_empty() { Err(RecordFault::NoKey) } else { Ok(record) }
    }

    fn add(&mut self, value: &str) -> Result<(), RecordFault> {
        let key = STANDARD.decode(value).map_err(|_| RecordFault::Key)?;
        // A domain may publish a key of an algorithm that comes later beside one that everybody knows.
        if !is_known_key(&key) {
            return Ok(());
        }
        if self.keys.len() == RECORD_KEYS_MAX {
            return Err(RecordFault::TooManyKeys);
        }
        self.keys.push(key);
        Ok(())
    }
}

impl fmt::Display for DoorRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("v=postern1")?;
        if let Some(host) = &self.host {
            write!(f, "; host={host}")?;
        }
        write!(f, "; port={}", self.port)?;
        for key in &self.keys {
            write!(f, "; key={}", STANDARD.encode(key))?;
        }
        write!(f, "; mode={}; max_age={}", self.mode.as_str(), self.max_age_s)
    }
}

impl Mode {
    /// As it is written in a record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prefer => "prefer",
            Self::Enforce => "enforce",
        }
    }
}

/// Whether octets are a public key that door/1 knows: SubjectPublicKeyInfo of Ed25519 (RFC 8410) or of an uncompressed
/// point on P-256 (RFC 5480). The point itself is not looked at.
pub fn is_known_key(spki: &[u8]) -> bool {
    (spki.len() == 44 && spki.starts_with(&ED25519)) || (spki.len() == 91 && spki.starts_with(&P256))
}

const ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const P256: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// `tag=value`, with white space around either.
fn split(tag: &str) -> Option<(&str, &str)> {
    let (tag, value) = tag.split_once('=')?;
    let (tag, value) = (trim(tag), trim(value));
    let named = tag.starts_with(|first: char| first.is_ascii_lowercase())
        && tag.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'_');
    let printable = value.bytes().all(|octet| (b'!'..=b'~').contains(&octet));
    (named && printable && !value.is_empty()).then_some((tag, value))
}

/// Digits only, ten at most.
fn number(value: &str) -> Option<u64> {
    let digits = (1..=10).contains(&value.len()) && value.bytes().all(|octet| octet.is_ascii_digit());
    if digits { value.parse().ok() } else { None }
}

#[cfg(test)]
mod tests;
