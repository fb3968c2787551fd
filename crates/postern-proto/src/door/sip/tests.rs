//! What `sip` promises.
