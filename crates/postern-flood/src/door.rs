//! Floods of the authenticated door: hostile datagrams from spoofed addresses against its UDP port.
//!
//! [`DoorFlood::run`] plays a bounded plan and counts what was sent and what the kernel dropped. As everywhere in this
//! crate the target must be this machine ([`crate::target`]), and nothing here knows what stands behind the port.

mod flood;
mod kernel;
pub mod packets;
mod send;

pub use flood::{DoorFlood, DoorPlan, DoorReport};
pub use kernel::Drops;
pub use packets::{Attack, Packets};
