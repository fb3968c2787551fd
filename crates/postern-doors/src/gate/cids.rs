//! Connection ids for quinn: ours, so that the gate knows every packet that may pass.

use std::sync::PoisonError;

use postern_proto::door::limits::CID_BYTES;
use quinn::{ConnectionId, ConnectionIdGenerator};

use super::machine::SharedGate;

/// Makes ids under the gate's key of the hour. The gate has the five last: a connection lives four hours at most.
pub struct CidGenerator(SharedGate);

/// For `quinn::EndpointConfig::cid_generator`.
pub fn cid_generator(gate: SharedGate) -> CidGenerator {
    CidGenerator(gate)
}

impl ConnectionIdGenerator for CidGenerator {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.0.lock().unwrap_or_else(PoisonError::into_inner).new_cid())
    }

    fn cid_len(&self) -> usize {
        CID_BYTES
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}
