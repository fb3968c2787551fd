//! Initials with a real ClientHello, made in a few microseconds each: what a botnet with a prepared handshake sends.
//!
//! The ClientHellos are rustls's own, made once; for every connection id and token they are sealed anew (RFC 9001 section
//! 5), because both go into the protection. A server must take each for the beginning of an honest handshake. No
//! handshake ever goes on from here.

use std::sync::Arc;

use postern_proto::door::limits::HELLO_BYTES_MIN;
use quinn::rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use quinn::rustls::pki_types::ServerName;
use quinn::rustls::quic::{ClientConnection, Suite, Version};
use quinn::rustls::{ClientConfig, Side};

use super::tls::NO_NAME;

/// Octets of an Initial: the least a server takes.
pub(super) const INITIAL_BYTES: usize = HELLO_BYTES_MIN;

/// Octets of a token that fits: quinn's Retry tokens are below 100.
pub(super) const TOKEN_BYTES_MAX: usize = 256;

/// Octets of the source connection id, which the transport parameters repeat.
const SOURCE_BYTES: usize = 8;

/// Packet number and tag.
const NUMBER_BYTES: usize = 4;
const TAG_BYTES: usize = 16;

/// ClientHellos, ready to be sealed.
pub(super) struct Initials {
    suite: Suite,
    hellos: Vec<([u8; SOURCE_BYTES], Vec<u8>)>,
}

impl Initials {
    /// So many different ones. `None` when TLS refuses its own configuration.
    pub(super) fn new(tls: &Arc<ClientConfig>, count: usize) -> Option<Self> {
        let suite = TLS13_AES_128_GCM_SHA256.tls13()?;
        let suite = Suite { suite, quic: suite.quic? };
        let name = ServerName::try_from(NO_NAME).ok()?;
        let mut hellos = Vec::new();
        for _ in 0..count {
            let mut source = [0; SOURCE_BYTES];
            fastrand::fill(&mut source);
            let parameters = parameters(&source);
            let mut tls = ClientConnection::new(Arc::clone(tls), Version::V1, name.clone(), parameters).ok()?;
            let mut hello = Vec::new();
            tls.write_hs(&mut hello);
            hellos.push((source, hello));
        }
        Some(Self { suite, hellos })
    }

    /// Writes ClientHello number `n` into an Initial for this connection id (20 octets at most) with this token.
    /// `None` when the token is longer than [`TOKEN_BYTES_MAX`].
    pub(super) fn seal(&self, n: usize, dcid: &[u8], token: &[u8], out: &mut [u8; INITIAL_BYTES]) -> Option<()> {
        let (source, hello) = self.hellos.get(n % self.hellos.len().max(1))?;
        if token.len() > TOKEN_BYTES_MAX || dcid.len() > 20 {
            return None;
        }
        let mut at = 0;
        let mut put = |octets: &[u8]| {
            out[at..at + octets.len()].copy_from_slice(octets);
            at += octets.len();
        };
        // Initial, packet number of four octets.
        put(&[0xc0 | (NUMBER_BYTES as u8 - 1), 0, 0, 0, 1, dcid.len() as u8]);
        put(dcid);
        put(&[SOURCE_BYTES as u8]);
        put(source);
        match token.len() {
            0..64 => put(&[token.len() as u8]),
            length => put(&two_octets(length)),
        }
        put(token);
        let number_at = at + 2;
        out[at..number_at].copy_from_slice(&two_octets(INITIAL_BYTES - number_at));
        let body_at = number_at + NUMBER_BYTES;
        out[number_at..body_at].fill(0);
        // A CRYPTO frame from offset 0, then PADDING.
        let (header, rest) = out.split_at_mut(body_at);
        let body_bytes = rest.len() - TAG_BYTES;
        let (body, tag) = rest.split_at_mut(body_bytes);
        body.fill(0);
        let frame = [0x06, 0, two_octets(hello.len())[0], two_octets(hello.len())[1]];
        body.get_mut(..4)?.copy_from_slice(&frame);
        body.get_mut(4..4 + hello.len())?.copy_from_slice(hello);
        let keys = self.suite.keys(dcid, Side::Client, Version::V1);
        let sealed = keys.local.packet.encrypt_in_place(0, header, body).ok()?;
        tag.copy_from_slice(sealed.as_ref());
        // The sample lies four octets behind the start of the packet number, whatever its length.
        let (first, number) = header.split_at_mut(number_at);
        let sample = body.get(..keys.local.header.sample_len())?;
        keys.local.header.encrypt_in_place(sample, &mut first[0], number).ok()
    }
}

/// A variable-length integer of two octets.
fn two_octets(number: usize) -> [u8; 2] {
    [0x40 | (number >> 8) as u8, number as u8]
}

/// Transport parameters (RFC 9000 section 18.2) as a modest client has them.
fn parameters(source: &[u8; SOURCE_BYTES]) -> Vec<u8> {
    let mut list = vec![
        // max_idle_timeout 30 s
        0x01,
        4,
        0x80,
        0,
        0x75,
        0x30, //
        // initial_max_data, initial_max_stream_data_bidi_local, _remote, _uni: 64 KiB
        0x04,
        4,
        0x80,
        1,
        0,
        0,
        0x05,
        4,
        0x80,
        1,
        0,
        0,
        0x06,
        4,
        0x80,
        1,
        0,
        0,
        0x07,
        4,
        0x80,
        1,
        0,
        0,
        // initial_source_connection_id
        0x0f,
        SOURCE_BYTES as u8,
    ];
    list.extend_from_slice(source);
    list
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use postern_proto::door::{Shape, Token, shape};

    use super::*;
    use crate::door::tls::Identity;

    #[test]
    fn an_initial_has_its_token_and_its_id_in_the_clear() {
        let initials = Initials::new(&Identity::unknown().unwrap().client(None), 2).unwrap();
        let mut out = [0; INITIAL_BYTES];
        let mut token = [1; 38];
        token[1] = 9;
        initials.seal(1, &[7; 16], &token, &mut out).unwrap();
        assert_eq!(shape(&out), Shape::Initial { dcid: &[7; 16], token: Token::Cookie(&token) });
        initials.seal(0, &[7; 16], &[], &mut out).unwrap();
        assert_eq!(shape(&out), Shape::Initial { dcid: &[7; 16], token: Token::None });
        assert!(initials.seal(0, &[7; 16], &[0; TOKEN_BYTES_MAX + 1], &mut out).is_none());
    }

    #[test]
    fn sealing_costs_so_little_that_one_core_outruns_every_handshake_pool() {
        let initials = Initials::new(&Identity::unknown().unwrap().client(None), 8).unwrap();
        let mut out = [0; INITIAL_BYTES];
        let began = Instant::now();
        let (mut made, count) = (0, 2_000);
        for n in 0..count {
            let dcid = [n as u8; 16];
            made += usize::from(initials.seal(n, &dcid, &[1; 38], &mut out).is_some());
        }
        eprintln!("{:.1} us an Initial", began.elapsed().as_secs_f64() * 1e6 / count as f64);
        assert_eq!(made, count);
    }
}
