//! What `record` promises.
