//! The world in a seed, for tests only. Three worlds: the spool's engine over a disk that tears, forgets, fails and fills up
//! ([`SpoolWorld`]); the whole server's machines before a crowd, friendly and hostile ([`FloodWorld`]); a day of mail by
//! message ([`Day`]). They drive the pure machines, never a thread or a clock; a failure prints its seed, and the same seed
//! fails the same way.

mod day;
mod disk;
mod flood_world;
mod rng;
mod spool_world;

pub use day::{Day, DayProfile, DayReport, Delays};
pub use disk::{Faults, FaultyDisk};
pub use flood_world::{FloodProfile, FloodReport, FloodWorld, Mistake};
pub use rng::Rng;
pub use spool_world::{Profile, SpoolWorld};
