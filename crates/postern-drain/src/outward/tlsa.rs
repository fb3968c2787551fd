//! What TLSA records at a door's place add to the keys of its domain's record.
//!
//! A signed TLSA record binds a key to a host; that the host is the domain's says the record at `_postern.DOMAIN` alone. So its
//! keys are worth what that record is worth, and never more: they are held on to with a signed one, and from an unsigned one
//! neither bind nor enforce anything. Owns the choice of keys, and which places gave no answer lately. Called by `known`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use postern_net::door::{DoorMemory, PublicKey};
use postern_net::mx::Names;
use tokio::time::Instant;

use super::Place;

/// SHA-256 of a SubjectPublicKeyInfo.
pub(super) type Digest = [u8; 32];

/// The keys that a door may show: those of the record, and those of validated TLSA records.
///
/// With a signed record both count. An unsigned record's key alone is not enough where a signed TLSA record names others:
/// whoever can forge the one cannot forge the other.
pub(super) fn accepted(
    record_secure: bool,
    keys: Vec<PublicKey>,
    digests: Vec<Digest>,
) -> (Vec<PublicKey>, Vec<Digest>) {
    if record_secure || digests.is_empty() { (keys, digests) } else { (Vec::new(), digests) }
}

/// What a memory still has of the keys at this place, for when DNS says nothing.
pub(super) fn remembered(memory: Option<&DoorMemory>, place: &Place) -> Vec<Digest> {
    let same = |memory: &&DoorMemory| {
        memory.place.as_ref().is_some_and(|known| known.host == place.host && known.port == place.port)
    };
    memory.filter(same).map_or_else(Vec::new, |memory| memory.digests.clone())
}

/// Places whose TLSA question failed lately. There are name servers that never answer this kind of question (RFC 7672 section
/// 2.1 knows them), and then each message would wait for the resolver to give up.
#[derive(Debug, Default)]
pub(crate) struct Unanswered {
    until: RefCell<HashMap<(Box<str>, u16), Instant>>,
}

impl Unanswered {
    /// The keys, and for how many seconds the answer may be kept. `None`: there is no answer.
    pub(super) async fn ask(&self, names: &dyn Names, place: &Place) -> Option<(Vec<Digest>, u64)> {
        if self.holds(place) {
            return None;
        }
        match names.door_keys(&place.host, place.port).await {
            Ok(told) => Some((told.value, told.ttl.map_or(0, |ttl| ttl.as_secs()))),
            Err(error) => {
                tracing::debug!(host = place.host, port = place.port, %error, "TLSA records of a postern cannot be asked for");
                self.remember(place);
                None
            }
        }
    }

    fn holds(&self, place: &Place) -> bool {
        let until = self.until.borrow();
        until.get(&(place.host.as_str().into(), place.port)).is_some_and(|until| Instant::now() < *until)
    }

    fn remember(&self, place: &Place) {
        let (mut all, now) = (self.until.borrow_mut(), Instant::now());
        if all.len() >= UNANSWERED_MAX {
            all.retain(|_, until| now < *until);
        }
        if all.len() < UNANSWERED_MAX {
            all.insert((place.host.as_str().into(), place.port), now + UNANSWERED);
        }
    }
}

/// For so long such a place is not asked about again: a message in a minute waits, the others do not.
const UNANSWERED: Duration = Duration::from_secs(60);
/// As many as doors are remembered, 300 octets each at most. Full: a further one is asked about each time.
const UNANSWERED_MAX: usize = 1_024;

#[cfg(test)]
mod tests;
