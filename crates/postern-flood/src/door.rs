//! Floods of the authenticated door: hostile datagrams from spoofed addresses against its UDP port.
//!
//! [`DoorFlood::run`] plays a bounded plan and counts what was sent and what the kernel dropped. As everywhere in this
//! crate the target must be this machine ([`crate::target`]), and nothing here knows what stands behind the port.

mod attempt;
mod flood;
pub mod friends;
mod kernel;
pub mod packets;
mod send;
pub mod stock;

pub use flood::{DoorFlood, DoorPlan, DoorReport};
pub use friends::{DoorFriends, Friends, FriendsFigures, Goodput};
pub use kernel::Drops;
pub use packets::{Attack, Packets};
pub use stock::Stock;
