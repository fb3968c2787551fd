//! What `cookie` promises.
