//! What `ticket` promises.
