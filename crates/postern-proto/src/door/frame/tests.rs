//! What `frame` promises.
