//! What `keys` promises.
