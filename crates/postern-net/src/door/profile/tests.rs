//! The profile between two real endpoints on the loopback.
