//! Connection ids of the server: known as its own without a table.
//!
//! `epoch, worker, 6 random octets, SipHash-2-4-64(K_cid, those eight)`. Random octets come in as an argument. Called by
//! the connection id generator of the doors, and by the gate for each packet that is not an Initial.

use super::keys::Keyring;
use super::limits::CID_BYTES;
use super::sip;

/// Makes a connection id; the random octets must be unpredictable, or an outsider could tell what is in use.
pub fn make_cid(keys: &Keyring, worker: u8, random: [u8; 6]) -> [u8; CID_BYTES] {
    let (id, key) = keys.cid_now();
    let mut cid = [0; CID_BYTES];
    cid[..2].copy_from_slice(&[id, worker]);
    cid[2..8].copy_from_slice(&random);
    let mac = sip::sip64(key, &cid[..8]);
    cid[8..].copy_from_slice(&mac.to_le_bytes());
    cid
}

/// Whether this server made a connection id, in the last hours.
#[inline]
pub fn check_cid(keys: &Keyring, cid: &[u8; CID_BYTES]) -> bool {
    let Some((named, mac)) = cid.split_first_chunk::<8>() else { return false };
    let (Some(key), Some(mac)) = (keys.cid(named[0]), mac.first_chunk::<8>()) else { return false };
    sip::same64(sip::sip64(key, named), mac)
}

#[cfg(test)]
mod tests;
