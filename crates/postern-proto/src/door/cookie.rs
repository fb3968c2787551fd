//! The prelude for strangers: HELLO, CHALLENGE, and the cookie that proves an address.
//!
//! A HELLO is answered without a word of memory: all that the server must know comes back in the cookie, authenticated
//! with the address it was sent to. Called by the gate (server) and the door client; never decides when an appointment
//! is.

use core::net::IpAddr;

use super::keys::Keyring;
use super::limits::{CHALLENGE_BYTES, COOKIE_TOKEN_BYTES, NONCE_BYTES, VERSION};
use super::packet::{CHALLENGE, COOKIE, HELLO};
use super::sip;

/// When a stranger may come; Unix seconds by the server's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Now.
    pub server_time: u32,
    /// The appointment; at most [`super::limits::APPOINTMENT_S_MAX`] from now.
    pub not_before: u32,
    /// Its end, [`super::limits::COOKIE_WINDOW_S`] later.
    pub not_after: u32,
    /// The level of defence (0 to 4), for the client's log.
    pub level: u8,
}

/// A cookie that was ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// The nonce of the HELLO; with the address it names the cookie.
    pub nonce: [u8; NONCE_BYTES],
    /// The appointment.
    pub not_before: u32,
    /// Its end.
    pub not_after: u32,
}

/// Why a cookie does not admit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieFault {
    /// Made under a key that is no longer, or not yet, accepted.
    UnknownKey,
    /// Not made by this server for this address.
    Forged,
    /// Ours, and too early.
    Early {
        /// The appointment.
        not_before: u32,
    },
    /// Ours, and too late.
    Late,
}

/// Writes a HELLO over all of `out`, which should have [`super::limits::HELLO_BYTES_MIN`] octets or more.
pub fn hello(nonce: [u8; NONCE_BYTES], out: &mut [u8]) {
    out.fill(0);
    if let Some((head, _)) = out.split_first_chunk_mut::<12>() {
        head[..2].copy_from_slice(&[HELLO, VERSION]);
        head[4..].copy_from_slice(&nonce);
    }
}

/// Writes the answer to a HELLO.
#[inline]
pub fn challenge(
    keys: &Keyring,
    source: IpAddr,
    nonce: [u8; NONCE_BYTES],
    terms: &Terms,
    out: &mut [u8; CHALLENGE_BYTES],
) {
    let (id, key) = keys.cookie_now();
    out[..4].copy_from_slice(&[CHALLENGE, VERSION, terms.level, id]);
    out[4..12].copy_from_slice(&nonce);
    out[12..16].copy_from_slice(&terms.server_time.to_be_bytes());
    out[16..20].copy_from_slice(&terms.not_before.to_be_bytes());
    out[20..24].copy_from_slice(&terms.not_after.to_be_bytes());
    let mut promised = [0; PROMISED_BYTES];
    promised.copy_from_slice(&out[4..24]);
    out[24..].copy_from_slice(&seal(key, source, &promised));
}

/// Whether a cookie is ours, was made for this address, and is good at `now_s`.
#[inline]
pub fn check_cookie(
    keys: &Keyring,
    source: IpAddr,
    token: &[u8; COOKIE_TOKEN_BYTES],
    now_s: u32,
) -> Result<Cookie, CookieFault> {
    let [kind, id, rest @ ..] = token;
    let key = keys.cookie(*id).ok_or(CookieFault::UnknownKey)?;
    let (promised, cookie) = rest.split_first_chunk::<PROMISED_BYTES>().ok_or(CookieFault::Forged)?;
    let cookie = cookie.first_chunk::<16>().ok_or(CookieFault::Forged)?;
    if !sip::same128(&seal(key, source, promised), cookie) || *kind != COOKIE {
        return Err(CookieFault::Forged);
    }
    let word = |at: usize| u32::from_be_bytes([promised[at], promised[at + 1], promised[at + 2], promised[at + 3]]);
    let mut nonce = [0; NONCE_BYTES];
    nonce.copy_from_slice(&promised[..NONCE_BYTES]);
    let (not_before, not_after) = (word(12), word(16));
    if now_s < not_before {
        return Err(CookieFault::Early { not_before });
    }
    if now_s > not_after {
        return Err(CookieFault::Late);
    }
    Ok(Cookie { nonce, not_before, not_after })
}

/// Nonce, server time, not before, not after: the same octets in CHALLENGE and cookie token.
const PROMISED_BYTES: usize = 20;

#[inline]
fn seal(key: &[u8; 16], source: IpAddr, promised: &[u8; PROMISED_BYTES]) -> [u8; 16] {
    let source = match source {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let mut message = [0; 1 + 16 + PROMISED_BYTES];
    message[0] = VERSION;
    message[1..17].copy_from_slice(&source.octets());
    message[17..].copy_from_slice(promised);
    sip::sip128(key, &message)
}

/// A CHALLENGE, as the client reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// When to come, and the level of defence.
    pub terms: Terms,
    key_id: u8,
    nonce: [u8; NONCE_BYTES],
    cookie: [u8; 16],
}

impl Challenge {
    /// Reads the answer to the HELLO with this nonce; `None` for anything else, which is to be ignored.
    pub fn parse(datagram: &[u8], nonce: [u8; NONCE_BYTES]) -> Option<Self> {
        let datagram: &[u8; CHALLENGE_BYTES] = datagram.try_into().ok()?;
        let word = |at: usize| u32::from_be_bytes([datagram[at], datagram[at + 1], datagram[at + 2], datagram[at + 3]]);
        let [CHALLENGE, VERSION, level, key_id, ..] = *datagram else { return None };
        let terms = Terms { server_time: word(12), not_before: word(16), not_after: word(20), level };
        if datagram[4..12] != nonce || terms.not_after < terms.not_before {
            return None;
        }
        Some(Self { terms, key_id, nonce, cookie: *datagram.last_chunk()? })
    }

    /// How many seconds after the CHALLENGE came the client may come.
    pub fn wait_s(&self) -> u32 {
        self.terms.not_before.saturating_sub(self.terms.server_time)
    }

    /// The token for the Initial.
    pub fn token(&self) -> [u8; COOKIE_TOKEN_BYTES] {
        let mut token = [0; COOKIE_TOKEN_BYTES];
        token[..2].copy_from_slice(&[COOKIE, self.key_id]);
        token[2..10].copy_from_slice(&self.nonce);
        token[10..14].copy_from_slice(&self.terms.server_time.to_be_bytes());
        token[14..18].copy_from_slice(&self.terms.not_before.to_be_bytes());
        token[18..22].copy_from_slice(&self.terms.not_after.to_be_bytes());
        token[22..].copy_from_slice(&self.cookie);
        token
    }
}

#[cfg(test)]
mod tests;
