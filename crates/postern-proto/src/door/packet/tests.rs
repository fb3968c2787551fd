//! What `packet` promises.
