//! Pins that `postern peer` keeps: `DATA/pins`, beside those of the configuration.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use postern_proto::address::is_domain_or_literal;
use serde::{Deserialize, Serialize};

use crate::config::values::Network;
use crate::serve::files;

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PinFile {
    version: u32,
    /// As they are shown: `192.0.2.7`, `2001:db8::/32`.
    pub(crate) networks: BTreeSet<String>,
    /// Lower case.
    pub(crate) domains: BTreeSet<String>,
}

/// What is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pin {
    /// An address or a prefix.
    Network(Network),
    /// A domain.
    Domain(String),
}

impl Pin {
    /// An address, a prefix or a domain.
    ///
    /// # Errors
    /// What would have been right.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(network) = text.parse() {
            return Ok(Self::Network(network));
        }
        let domain = text.trim_end_matches('.').to_lowercase();
        let numbers = text.bytes().all(|b| b.is_ascii_digit() || b"./:".contains(&b));
        if numbers || !is_domain_or_literal(&domain) {
            return Err(format!("\"{text}\" is no address, no prefix and no domain"));
        }
        Ok(Self::Domain(domain))
    }
}

impl PinFile {
    fn path(data: &Path) -> PathBuf {
        data.join("pins")
    }

    /// Empty when there is none.
    ///
    /// # Errors
    /// It is there and cannot be read: forgetting a pin in a flood is what pins are there against.
    pub(crate) fn load(data: &Path) -> io::Result<Self> {
        match std::fs::read(Self::path(data)) {
            Ok(bytes) => {
                let file: Self = serde_json::from_slice(&bytes)?;
                match file.version {
                    FORMAT_VERSION => Ok(file),
                    version => Err(io::Error::other(format!("version {version} is from a later release"))),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Durable when it returns.
    ///
    /// # Errors
    /// The system's; the old file is then in force.
    pub(crate) fn save(&self, data: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec_pretty(&Self { version: FORMAT_VERSION, ..self.clone() })?;
        files::replace(&Self::path(data), &bytes)
    }

    /// Adds (or removes) one; false when it was (or was not) there.
    ///
    /// # Errors
    /// There are as many as may be.
    pub(crate) fn change(&mut self, pin: Pin, add: bool) -> Result<bool, String> {
        let (set, text, max) = match pin {
            Pin::Network(network) => (&mut self.networks, network.to_string(), NETWORKS_MAX),
            Pin::Domain(domain) => (&mut self.domains, domain, DOMAINS_MAX),
        };
        if !add {
            return Ok(set.remove(&text));
        }
        if set.len() >= max && !set.contains(&text) {
            return Err(format!("{max} are pinned already: pin a wider network, or remove some"));
        }
        Ok(set.insert(text))
    }
}

const FORMAT_VERSION: u32 = 1;
/// All of them fit into the program that steers connections before accept(): 4,096 instructions, about 8 a network.
const NETWORKS_MAX: usize = 256;
/// Looked up one by one at each message.
const DOMAINS_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_an_address_a_prefix_or_a_domain() {
        let network = |text: &str| Ok(Pin::Network(text.parse().expect("network")));
        assert_eq!(Pin::parse("192.0.2.7"), network("192.0.2.7/32"));
        assert_eq!(Pin::parse("2001:db8::1/32"), network("2001:db8::/32"));
        assert_eq!(Pin::parse("Example.ORG."), Ok(Pin::Domain("example.org".into())));
        assert!(Pin::parse("192.0.2.300").is_err() && Pin::parse("a b").is_err());
    }

    #[test]
    fn pins_are_kept_over_a_restart_and_a_file_of_a_later_release_is_not_guessed_at() {
        let dir = tempfile::tempdir().expect("scratch");
        let mut pins = PinFile::load(dir.path()).expect("none yet");
        assert_eq!(pins.change(Pin::parse("192.0.2.7").expect("pin"), true), Ok(true));
        assert_eq!(pins.change(Pin::parse("192.0.2.7").expect("pin"), true), Ok(false));
        pins.save(dir.path()).expect("saved");
        let mut again = PinFile::load(dir.path()).expect("readable");
        assert_eq!(again.networks, pins.networks);
        assert_eq!(again.change(Pin::parse("192.0.2.7").expect("pin"), false), Ok(true));
        std::fs::write(dir.path().join("pins"), r#"{"version":9,"networks":[],"domains":[]}"#).expect("written");
        assert!(PinFile::load(dir.path()).is_err());
    }
}
