//! What TLSA records at a door's place add to the keys of its domain's record.
//!
//! A signed TLSA record binds a key to a host; that the host is the domain's says the record at `_postern.DOMAIN` alone. So its
//! keys are worth what that record is worth, and never more: they are held on to with a signed one, and from an unsigned one
//! neither bind nor enforce anything. Pure. Called by `known`.

use postern_net::door::{DoorMemory, PublicKey};

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

#[cfg(test)]
mod tests;
