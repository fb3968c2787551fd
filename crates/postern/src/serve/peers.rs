//! Peers of the postern whose keys the operator has pinned: `DATA/door/peers`.
//!
//! Owns the file and what is in force. `postern peer add DOMAIN KEY` writes here, through the running server when there
//! is one; whoever proves keys, and whoever sends, follows changes. It asks nobody: a pin needs no DNS.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postern_identity::keys::{PinnedPeer, PinnedPeers};
use postern_net::door::PublicKey;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::serve::files;
use crate::serve::trust::pins::Pin;

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PeerFile {
    version: u32,
    /// By domain, lower case.
    pub(crate) peers: BTreeMap<String, DoorPeer>,
}

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DoorPeer {
    /// SubjectPublicKeyInfo, base64, as `postern identity show` prints it; several while it rolls over.
    pub(crate) keys: Vec<String>,
    /// `host:port` of its postern; else DNS says where that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<String>,
    /// While its postern is silent, mail goes to a proven server only. The domain may ask for it too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) enforce: bool,
    /// Seconds since 1970.
    pub(crate) added_unix_s: u64,
}

/// What `peer add` and `peer rm` change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeerChange {
    /// Of whom.
    pub(crate) domain: String,
    /// The key. To remove: `None` takes all.
    pub(crate) key: Option<String>,
    /// `host:port`; `None` leaves it.
    pub(crate) at: Option<String>,
    /// Enforce from now on; `false` leaves it.
    pub(crate) enforce: bool,
    /// Add, or remove.
    pub(crate) add: bool,
}

impl PeerChange {
    /// The same in the spelling of the file.
    ///
    /// # Errors
    /// What would have been right.
    pub(crate) fn checked(self) -> Result<Self, String> {
        let domain = match Pin::parse(&self.domain)? {
            Pin::Domain(domain) if domain.contains('.') && !domain.starts_with('[') => domain,
            _ => return Err(format!("\"{}\" is no domain: only a domain has a key", self.domain)),
        };
        let wrong =
            |_| "the key is none: it is 60 letters of base64, as `postern identity show` prints it there".to_owned();
        let key = self.key.as_deref().map(str::parse::<PublicKey>).transpose().map_err(wrong)?;
        if self.add && key.is_none() {
            return Err("which key? `postern identity show` prints it there".to_owned());
        }
        if let Some(at) = &self.at {
            let port = at
                .rsplit_once(':')
                .filter(|(host, _)| !host.is_empty() && (!host.contains(':') || host.ends_with(']')));
            if !port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port != 0)) {
                return Err(format!("\"{at}\" is not HOST:PORT"));
            }
        }
        Ok(Self { domain, key: key.map(|key| key.to_string()), ..self })
    }
}

impl PeerFile {
    /// Where it is.
    pub(crate) fn path(data: &Path) -> PathBuf {
        data.join("door").join("peers")
    }

    /// Empty when there is none.
    ///
    /// # Errors
    /// It is there and cannot be read, or has a key that is none: without its pins a server would ask DNS about peers that
    /// the operator has taken out of DNS's hands.
    pub(crate) fn load(data: &Path) -> io::Result<Self> {
        let bytes = match std::fs::read(Self::path(data)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { version: FORMAT_VERSION, ..Self::default() });
            }
            Err(error) => return Err(error),
        };
        let file: Self = serde_json::from_slice(&bytes)?;
        if file.version != FORMAT_VERSION {
            return Err(io::Error::other(format!("version {} is from a later release", file.version)));
        }
        let keys = || file.peers.values().flat_map(|peer| &peer.keys);
        match keys().find(|key| key.parse::<PublicKey>().is_err()) {
            Some(bad) => Err(io::Error::other(format!("\"{bad}\" is no key"))),
            None => Ok(file),
        }
    }

    /// Durable when it returns.
    ///
    /// # Errors
    /// The system's; the old file is then in force.
    pub(crate) fn save(&self, data: &Path) -> io::Result<()> {
        make_door_dir(data)?;
        let bytes = serde_json::to_vec_pretty(&Self { version: FORMAT_VERSION, ..self.clone() })?;
        files::replace(&Self::path(data), &bytes)
    }

    /// Makes a checked change; false when it changes nothing.
    ///
    /// # Errors
    /// There are as many as may be.
    pub(crate) fn change(&mut self, change: &PeerChange, now_unix_s: u64) -> Result<bool, String> {
        let before = self.clone();
        if !change.add {
            match (&change.key, self.peers.get_mut(&change.domain)) {
                (Some(key), Some(peer)) => peer.keys.retain(|own| own != key),
                (None, Some(peer)) => peer.keys.clear(),
                (_, None) => {}
            }
            self.peers.retain(|_, peer| !peer.keys.is_empty());
            return Ok(*self != before);
        }
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&change.domain) {
            return Err(format!("{PEERS_MAX} peers have keys already: remove some"));
        }
        let Some(key) = &change.key else { return Ok(false) };
        let peer = self.peers.entry(change.domain.clone()).or_insert_with(|| DoorPeer {
            keys: Vec::new(),
            at: None,
            enforce: false,
            added_unix_s: now_unix_s,
        });
        if !peer.keys.contains(key) {
            if peer.keys.len() >= KEYS_MAX {
                let what = format!("{KEYS_MAX} keys of {} are pinned already", change.domain);
                return Err(format!("{what}: `postern peer rm {} KEY` removes an old one", change.domain));
            }
            peer.keys.push(key.clone());
        }
        if change.at.is_some() {
            peer.at.clone_from(&change.at);
        }
        peer.enforce |= change.enforce;
        Ok(*self != before)
    }

    /// For whoever proves keys.
    pub(crate) fn pins(&self) -> PinnedPeers {
        let mut pins = PinnedPeers::default();
        for (domain, peer) in &self.peers {
            let keys = peer.keys.iter().filter_map(|key| key.parse::<PublicKey>().ok());
            pins.insert(domain, PinnedPeer { keys: keys.map(|key| key.spki().into()).collect(), org: None });
        }
        pins
    }

    /// For `peer ls`.
    pub(crate) fn show(&self) -> Value {
        json!(self.peers)
    }
}

/// What is in force in a running server. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct DoorPeers {
    data: Arc<Path>,
    current: watch::Sender<Arc<PeerFile>>,
}

impl DoorPeers {
    /// Reads those of the last server.
    ///
    /// # Errors
    /// As [`PeerFile::load`].
    pub(crate) fn load(data: &Path) -> io::Result<Self> {
        let current = watch::Sender::new(Arc::new(PeerFile::load(data)?));
        Ok(Self { data: data.into(), current })
    }

    /// Those in force, and every change from now on.
    pub(crate) fn follow(&self) -> watch::Receiver<Arc<PeerFile>> {
        self.current.subscribe()
    }

    /// Those in force.
    pub(crate) fn now(&self) -> Arc<PeerFile> {
        Arc::clone(&self.current.borrow())
    }

    /// Changes, keeps and publishes; false when nothing changed. Called on one thread only: that of the control socket.
    ///
    /// # Errors
    /// Not a change that can be made, or it could not be kept; the old ones are then in force.
    pub(crate) fn change(&self, change: PeerChange, now_unix_s: u64) -> Result<bool, String> {
        let change = change.checked()?;
        let mut file = PeerFile::clone(&self.now());
        let changed = file.change(&change, now_unix_s)?;
        if changed {
            file.save(&self.data).map_err(|error| format!("{}: {error}", PeerFile::path(&self.data).display()))?;
            self.current.send_replace(Arc::new(file));
        }
        Ok(changed)
    }
}

/// `DATA/door`, mode 0700, of the owner of the data directory.
///
/// # Errors
/// The system's.
pub(crate) fn make_door_dir(data: &Path) -> io::Result<PathBuf> {
    let dir = data.join("door");
    match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
        Ok(()) => files::give_to_owner_of(data, &dir)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    Ok(dir)
}

const FORMAT_VERSION: u32 = 1;
/// As many as the trust book has pinned domains: 300 octets each.
const PEERS_MAX: usize = 1000;
/// A roll-over needs two; a cluster that rolls over has two for each of two nodes.
const KEYS_MAX: usize = 4;

#[cfg(test)]
mod tests;
