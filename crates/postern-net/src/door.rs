//! The door's QUIC side: keys, the TLS and transport profile of both ends, the client and its purse.
//!
//! Formats and checks are in `postern_proto::door`; the gate and the listener are in the doors. This
//! module knows how a connection is made and kept, and no rule of mail. quinn's types leave it only
//! for the listener, which is the other end of the same profile.

pub mod courier;

mod attempt;
mod client;
mod clock;
mod error;
mod key;
mod link;
mod prelude;
mod profile;
mod pulse;
mod purse;
mod socket;

pub use client::{Deadlines, DoorAddress, DoorClient, DoorClientOptions};
pub use clock::WallClock;
pub use error::DoorError;
pub use key::{KeyError, KeyPair, PublicKey};
pub use link::{DoorStream, Link, LinkLimits};
pub use profile::{ServerProfile, endpoint_config, peer_key, raise, server_config, tls_facts};
pub use pulse::{Awaited, Pulse};
pub use purse::{AltDoor, DOMAINS_MAX, DoorMemory, Grant, Purse, PurseError};

#[cfg(test)]
mod rig;
