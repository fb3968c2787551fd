//! Our own keys where a running server uses them: the key in TLS at both ends, and the gate's secrets.
//!
//! Owns nothing but the way from the files to their users. `postern identity rotate` changes the files and has them read
//! again here, by the control socket; SIGHUP does the same, for files that were copied to another node. No connection ends
//! for it. What cannot be read leaves what is in use.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use postern_doors::gate::SharedGate;
use postern_net::door::{DoorClient, KeyPair, PublicKey, ServerProfile};
use serde_json::{Value, json};

use super::keys::KeyFiles;
use super::masters::Masters;
use super::trust::now_s;
use crate::exit::Failure;

/// Clones are the same.
#[derive(Clone)]
pub(crate) struct OwnKeys {
    inner: Arc<Inner>,
}

struct Inner {
    data: PathBuf,
    /// The one in use.
    key: Mutex<KeyPair>,
    profile: ServerProfile,
    clients: Mutex<Vec<DoorClient>>,
    gate: OnceLock<SharedGate>,
}

impl OwnKeys {
    /// Those of a data directory; made when there are none.
    ///
    /// # Errors
    /// As [`KeyFiles::load`].
    pub(super) fn load(data: PathBuf) -> Result<Self, Failure> {
        let key = KeyFiles::of(&data).load()?;
        let profile = ServerProfile::new(&key);
        let (clients, gate) = (Mutex::default(), OnceLock::new());
        Ok(Self { inner: Arc::new(Inner { data, key: Mutex::new(key), profile, clients, gate }) })
    }

    /// The key in use.
    pub(super) fn key(&self) -> KeyPair {
        self.inner.key.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For the door; it follows.
    pub(super) fn profile(&self) -> ServerProfile {
        self.inner.profile.clone()
    }

    /// Who shows the key at the doors of others.
    pub(super) fn attach_client(&self, client: DoorClient) {
        self.inner.clients().push(client);
    }

    /// Who checks tickets by the secrets.
    pub(super) fn attach_gate(&self, gate: SharedGate) {
        let _is_the_first = self.inner.gate.set(gate);
    }

    /// Reads the files again; says which key is in use now.
    ///
    /// # Errors
    /// They cannot be read; what is in use stays.
    pub(crate) fn reload(&self) -> Result<Value, Failure> {
        let inner = &self.inner;
        let (next, masters) = (KeyFiles::of(&inner.data).load()?, Masters::load(&inner.data, now_s())?);
        let mut key = inner.key.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = key.public() != next.public();
        if changed {
            inner.profile.show(&next);
            inner.clients().iter().for_each(|client| client.set_key(next.clone()));
            tracing::info!(key = %next.public(), "the next key is in use");
        }
        if let Some(gate) = inner.gate.get() {
            gate.lock().unwrap_or_else(PoisonError::into_inner).set_keys(masters.keyring(now_s()));
        }
        let public: PublicKey = next.public().clone();
        *key = next;
        Ok(json!({ "public": public.to_string(), "changed": changed }))
    }
}

impl Inner {
    fn clients(&self) -> MutexGuard<'_, Vec<DoorClient>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
