//! The world in a seed, for tests only: a disk that tears, forgets, fails and fills up, and a door, a drain and an
//! operator that work on the spool's engine over it while the power goes now and then. It drives the pure machines, never
//! a thread or a clock; a failure prints its seed, and the same seed fails the same way.

mod day;
mod disk;
mod flood_world;
mod rng;
mod spool_world;

pub use day::{Day, DayProfile, DayReport, Delays};
pub use disk::{Faults, FaultyDisk};
pub use flood_world::{FloodProfile, FloodReport, FloodWorld, Kind, Mistake};
pub use rng::Rng;
pub use spool_world::{Profile, SpoolWorld};
