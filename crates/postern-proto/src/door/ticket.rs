//! Tickets: how the known come in first, at two keyed hashes a packet.
//!
//! A ticket is minted inside an authenticated session, told to the client with its key, and shown with a proof that is
//! bound to one connection id and ten minutes. Owns minting, the check at the gate, opening (only for packets that
//! passed), and the client's token. It never knows which tickets were used: the gate's sketch does.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce, Tag};

use super::class::PeerClass;
use super::keys::Keyring;
use super::limits::{CID_BYTES, PROOF_SKEW_S, TICKET_BODY_BYTES, TICKET_BYTES, TICKET_TOKEN_BYTES};
use super::share::Share;
use super::sip;

/// What a ticket was given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// To a peer who is known.
    Known = 1,
    /// To a peer who is known, for somebody that he introduces.
    Introduction = 2,
    /// To a peer whose key was proven by DNS.
    Proven = 3,
}

impl Kind {
    /// First octet of a ticket of this kind.
    pub fn octet(self) -> u8 {
        0x80 | self as u8
    }

    /// The kind that a first octet says.
    #[inline]
    pub fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            0x81 => Some(Self::Known),
            0x82 => Some(Self::Introduction),
            0x83 => Some(Self::Proven),
            _ => None,
        }
    }
}

/// What the server wrote into a ticket for itself; the client cannot read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TicketBody {
    /// Of the domain that it was given to ([`Keyring::domain_tag`]).
    pub domain_tag: u64,
    /// Of the prefix that it was given to ([`Keyring::prefix_tag`]).
    pub prefix_tag: u64,
    /// Good until the end of this minute, counted since 1970.
    pub expiry_min: u32,
    /// The class of the peer when it was given.
    pub class: PeerClass,
    /// What the peer had a right to among its like when it was given.
    pub share: Share,
}

/// A ticket and the key to prove possession of it with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// What is shown.
    pub bytes: [u8; TICKET_BYTES],
    /// What is never shown.
    pub key: [u8; 16],
}

impl core::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}

/// Why a ticket does not admit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketFault {
    /// Made under a key that is no longer, or not yet, accepted.
    UnknownKey,
    /// The proof was made at another time than now.
    Stale,
    /// Not ours, or shown by somebody without its key, or for another connection id.
    Forged,
    /// Ours, and its life is over.
    Expired,
}

/// Makes a ticket under today's keys. The nonce must be random: two tickets of one nonce and day would share a key.
pub fn mint(keys: &Keyring, kind: Kind, nonce: [u8; 12], body: &TicketBody) -> Ticket {
    let (id, body_key) = keys.body_now();
    let mut bytes = [0; TICKET_BYTES];
    bytes[..2].copy_from_slice(&[kind.octet(), id]);
    bytes[2..14].copy_from_slice(&nonce);
    let mut sealed = encode(body);
    let tag = ChaCha20Poly1305::new(body_key.into())
        .encrypt_inout_detached(&Nonce::from(nonce), &[kind.octet(), id], sealed.as_mut_slice().into())
        .expect("24 octets are not too long for ChaCha20");
    bytes[14..38].copy_from_slice(&sealed);
    bytes[38..].copy_from_slice(&tag);
    let (_, gate_key) = keys.gate_now();
    Ticket { bytes, key: proof_key(gate_key, &bytes) }
}

/// Whether the proof in a token is right for this connection id and time: two SipHashes. The body stays sealed.
#[inline]
pub fn check_ticket(
    keys: &Keyring,
    token: &[u8; TICKET_TOKEN_BYTES],
    dcid: &[u8; CID_BYTES],
    now_s: u32,
) -> Result<(), TicketFault> {
    let (ticket, rest) = token.split_first_chunk::<TICKET_BYTES>().ok_or(TicketFault::Forged)?;
    let (time, proof) = rest.split_first_chunk::<4>().ok_or(TicketFault::Forged)?;
    let proof = proof.first_chunk::<8>().ok_or(TicketFault::Forged)?;
    let key = keys.gate(ticket[1]).ok_or(TicketFault::UnknownKey)?;
    if u32::from_be_bytes(*time).abs_diff(now_s) > PROOF_SKEW_S {
        return Err(TicketFault::Stale);
    }
    let right = sip::same64(prove(&proof_key(key, ticket), dcid, *time), proof);
    if right && Kind::from_octet(ticket[0]).is_some() { Ok(()) } else { Err(TicketFault::Forged) }
}

/// Opens the sealed body of a ticket and looks at its expiry. Thirty times as dear as [`check_ticket`]: only for
/// packets that passed that.
pub fn open_ticket(keys: &Keyring, ticket: &[u8; TICKET_BYTES], now_s: u32) -> Result<(Kind, TicketBody), TicketFault> {
    let key = keys.body(ticket[1]).ok_or(TicketFault::UnknownKey)?;
    let kind = Kind::from_octet(ticket[0]).ok_or(TicketFault::Forged)?;
    let nonce: &[u8; 12] = ticket[2..].first_chunk().ok_or(TicketFault::Forged)?;
    let mut body: [u8; TICKET_BODY_BYTES] = *ticket[14..].first_chunk().ok_or(TicketFault::Forged)?;
    let tag: &[u8; 16] = ticket.last_chunk().ok_or(TicketFault::Forged)?;
    ChaCha20Poly1305::new(key.into())
        .decrypt_inout_detached(&Nonce::from(*nonce), &ticket[..2], body.as_mut_slice().into(), &Tag::from(*tag))
        .map_err(|_| TicketFault::Forged)?;
    let body = decode(&body).ok_or(TicketFault::Forged)?;
    // The last second of the minute is still good.
    if u64::from(now_s) / 60 > u64::from(body.expiry_min) {
        return Err(TicketFault::Expired);
    }
    Ok((kind, body))
}

/// The client's token: the ticket, its estimate of the server's time, and the proof for this connection id.
pub fn token_of(
    ticket: &[u8; TICKET_BYTES],
    key: &[u8; 16],
    dcid: &[u8; CID_BYTES],
    time: u32,
) -> [u8; TICKET_TOKEN_BYTES] {
    let mut token = [0; TICKET_TOKEN_BYTES];
    token[..TICKET_BYTES].copy_from_slice(ticket);
    token[TICKET_BYTES..TICKET_BYTES + 4].copy_from_slice(&time.to_be_bytes());
    token[TICKET_BYTES + 4..].copy_from_slice(&prove(key, dcid, time.to_be_bytes()).to_le_bytes());
    token
}

/// `SipHash-2-4-128(K_gate, nonce ‖ first two octets of the ticket)`: two words with the length.
#[inline]
fn proof_key(gate_key: &[u8; 16], ticket: &[u8; TICKET_BYTES]) -> [u8; 16] {
    let mut message = [0; 14];
    message[..12].copy_from_slice(&ticket[2..14]);
    message[12..].copy_from_slice(&ticket[..2]);
    sip::sip128(gate_key, &message)
}

/// `SipHash-2-4-64(K_t, "pop1" ‖ time ‖ connection id)`: four words with the length.
#[inline]
fn prove(key: &[u8; 16], dcid: &[u8; CID_BYTES], time: [u8; 4]) -> u64 {
    let mut message = [0; 24];
    message[..4].copy_from_slice(b"pop1");
    message[4..8].copy_from_slice(&time);
    message[8..].copy_from_slice(dcid);
    sip::sip64(key, &message)
}

fn encode(body: &TicketBody) -> [u8; TICKET_BODY_BYTES] {
    let mut bytes = [0; TICKET_BODY_BYTES];
    bytes[..8].copy_from_slice(&body.domain_tag.to_be_bytes());
    bytes[8..16].copy_from_slice(&body.prefix_tag.to_be_bytes());
    bytes[16..20].copy_from_slice(&body.expiry_min.to_be_bytes());
    bytes[20] = body.class as u8;
    bytes[21..].copy_from_slice(&body.share.to_be_bytes());
    bytes
}

fn decode(bytes: &[u8; TICKET_BODY_BYTES]) -> Option<TicketBody> {
    Some(TicketBody {
        domain_tag: u64::from_be_bytes(*bytes.first_chunk()?),
        prefix_tag: u64::from_be_bytes(*bytes[8..].first_chunk()?),
        expiry_min: u32::from_be_bytes(*bytes[16..].first_chunk()?),
        class: PeerClass::from_u8(bytes[20])?,
        share: Share::from_be_bytes(*bytes.last_chunk()?),
    })
}

#[cfg(test)]
mod tests;
