//! A client whose packets say something else than quinn wrote into them: the handshake is honest, and between quinn and the
//! encryption of what follows stands the test. So an insider can send any frames, well-formed or not, in any number.

use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use quinn_proto::crypto::{
    ClientConfig, CryptoError, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, Session,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectError, ConnectionId, Side, TransportError};

/// Fills the payload of one packet, which is zeros: PADDING.
pub(crate) type Author = Box<dyn FnMut(&mut [u8]) + Send>;

/// What the packets of a connection say; of all connections that were made with it.
#[derive(Clone, Default)]
pub(crate) struct Script(Arc<Mutex<Option<Author>>>);

impl Script {
    /// From now on every packet is written by `author`: no frame of quinn's is sent, not even ACK.
    pub(crate) fn write(&self, author: impl FnMut(&mut [u8]) + Send + 'static) {
        *self.0.lock().unwrap() = Some(Box::new(author));
    }

    fn rewrite(&self, payload: &mut [u8]) {
        if let Some(author) = self.0.lock().unwrap().as_mut() {
            payload.fill(0);
            author(payload);
        }
    }
}

/// A client's TLS with a script.
pub(crate) struct Tampered {
    pub(crate) honest: Arc<dyn ClientConfig>,
    pub(crate) script: Script,
}

impl ClientConfig for Tampered {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let honest = Arc::clone(&self.honest).start_session(version, server_name, params)?;
        Ok(Box::new(TamperedSession { honest, script: self.script.clone(), keys_made: 0 }))
    }
}

struct TamperedSession {
    honest: Box<dyn Session>,
    script: Script,
    keys_made: u8,
}

impl Session for TamperedSession {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.honest.initial_keys(dst_cid, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn std::any::Any>> {
        self.honest.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn std::any::Any>> {
        self.honest.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.honest.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.honest.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.honest.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.honest.read_handshake(buf)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.honest.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let mut keys = self.honest.write_handshake(buf)?;
        self.keys_made += 1;
        // The first are those of the handshake, the second those of everything after it.
        if self.keys_made == 2 {
            keys.packet.local = Box::new(TamperedKey { honest: keys.packet.local, script: self.script.clone() });
        }
        Some(keys)
    }

    /// Those after 2^23 packets: no test sends so many.
    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.honest.next_1rtt_keys()
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.honest.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.honest.export_keying_material(output, label, context)
    }
}

struct TamperedKey {
    honest: Box<dyn PacketKey>,
    script: Script,
}

impl PacketKey for TamperedKey {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        let end = buf.len() - self.honest.tag_len();
        self.script.rewrite(&mut buf[header_len..end]);
        self.honest.encrypt(packet, buf, header_len);
    }

    fn decrypt(&self, packet: u64, header: &[u8], payload: &mut BytesMut) -> Result<(), CryptoError> {
        self.honest.decrypt(packet, header, payload)
    }

    fn tag_len(&self) -> usize {
        self.honest.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.honest.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.honest.integrity_limit()
    }
}
