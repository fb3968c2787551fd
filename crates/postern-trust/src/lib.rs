//! Who is let in first: evidence, the trust book, classes, pressure, admission, modes. Pure: bytes,
//! integers and `now` come in, decisions go out; no I/O, no clock.

pub mod admission;
mod book;
mod class;
mod evidence;
mod explain;
pub mod greylist;
mod limits;
pub mod pressure;
pub mod promise;
pub mod shares;
mod sketch;
mod snapshot;
pub mod weather;

pub use book::{Book, BookOptions, BookStats, Pins, Writer};
pub use class::{CLASSES, Class};
pub use evidence::{Authority, Evidence, EvidenceReceiver, EvidenceSender, channel};
pub use explain::Explanation;
pub use snapshot::SnapshotError;
