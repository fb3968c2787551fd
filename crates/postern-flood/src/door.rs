//! Hostile and friendly crowds against a postern's door (UDP), and stock servers to compare it with.
//!
//! [`DoorFlood::run`] plays a [`DoorPlan`] and returns a [`DoorReport`]. Attackers have a thread each, behind the friends'
//! thread in the scheduler, so that a friend's delay is the door's and not ours. It knows the wire formats of
//! `postern_proto::door` and no server's inside. Nothing is sent to, or claims to come from, an address that others could
//! be behind.

mod attack;
mod botnet;
mod flood;
mod friends;
mod handshakes;
mod hooked;
mod initials;
mod insider;
mod kernel;
mod link;
mod mmsg;
mod origins;
mod packets;
pub mod plan;
pub mod report;
mod slow;
mod spray;
pub mod stock;
mod tally;
mod tap;
mod tickets;
mod tls;

pub use attack::{Attack, Means};
pub use flood::{DoorFlood, DoorProgress};
pub use plan::{Assault, DoorFriends, DoorPlan, Entry, Peer};
pub use report::{AttackReport, DoorReport, KernelReport};
pub use stock::{StockKind, StockOptions};

use std::time::SystemTime;

/// Unix time; 0 before 1970.
fn unix_s() -> u32 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32)
}

#[cfg(test)]
mod gated;
#[cfg(test)]
mod tests;
