//! The gate: what stands between the network and QUIC, and holds nothing for anybody who has not proven an address.
//!
//! [`Gate`] decides about each datagram with one or two keyed hashes and a few look-ups in tables of fixed size; it has
//! no socket, no clock and no type of the QUIC library, so that it can move to a thread of its own or into the kernel.
//! [`DoorSockets`] are the four UDP sockets that the kernel sorts datagrams into, [`GateSocket`] drains them through
//! the gate for quinn. Called by [`crate::postern`]; why and at what cost: `docs/design/gate.md`.
//!
//! The order is that of the cost: a look at the shape (3 ns), one hash for an id (14 ns), one or two for a cookie or ticket
//! (40 ns), and only then a table is written.

mod admissions;
mod answers;
mod appointments;
mod bindings;
mod budget;
mod caller;
mod cids;
mod grants;
mod level;
mod load;
mod machine;
mod marks;
mod now;
mod quic_socket;
mod refusals;
mod seen;
mod sketch;
mod sockets;
mod stats;
mod strangers;
mod tally;
mod tickets;
mod verdict;
mod young;

pub use admissions::{Admission, AdmittedBy};
pub use cids::{CidGenerator, cid_generator};
pub use level::Level;
pub use load::{KernelDrops, Load};
pub use machine::{Gate, GateOptions, SharedGate};
pub use now::Now;
pub use quic_socket::{Busy, GateSocket};
pub use sockets::DoorSockets;
pub use stats::GateStats;
pub use verdict::{DropReason, Verdict};
