//! What `cbor` promises.
