//! Outbound sockets, and what both sides of Postern share about sockets: TLS, listeners, DNS.
//!
//! Owns the tokio pump that drives `postern_proto::client`, certificates, the resolver and socket
//! options. Knows neither doors nor drain, and no rule of mail: those are in `postern-proto`.

// Not `forbid`: one file, `steering/kernel.rs`, makes two system calls that no library wraps.
#![deny(unsafe_code)]

pub mod callout;
pub mod client;
pub mod dns;
pub mod door;
pub mod filter;
pub mod published;
pub mod socket;
pub mod steering;
pub mod sts;
pub mod tls;

#[cfg(test)]
mod hop;
