//! Sockets in: the public SMTP door and the relay listener.
//!
//! A door accepts, reads and answers; what it takes it hands to the spool, and that is all it
//! knows of what happens next. It never calls the drain or a filter: an outcome comes back
//! through the spool.
//!
//! Entry point: [`Doors::start`]. `conn` is a connection as a pure machine, `shell` its pump,
//! `runtime` what the connections of one thread share.

#![forbid(unsafe_code)]

pub mod admission;
pub mod callout;
pub mod conn;
mod crowd;
mod deadlines;
mod door;
pub mod gate;
pub mod limits;
pub mod policy;
pub mod postern;
mod ranks;
mod recent;
mod runtime;
mod shell;
mod stats;
mod turns;
mod wire;

pub use admission::Admission;
pub use callout::CalloutCache;
pub use crowd::{Crowd, CrowdSnapshot, Intake};
pub use door::{DoorListeners, DoorOptions, Doors, StartError};
pub use policy::{CalloutTarget, Policy, Recipients};
pub use stats::{DoorStats, DoorStatsSnapshot};

/// Who comes in and who must go, without sockets: for the simulator.
#[doc(hidden)]
pub mod machine {
    pub use crate::admission::{Applicant, Places, Usher};
}
