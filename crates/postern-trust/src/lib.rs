//! Who is let in first: evidence, the trust book, classes, pressure, admission, modes. Pure: bytes,
//! integers and `now` come in, decisions go out; no I/O, no clock.

mod book;
mod class;
mod evidence;
mod explain;
mod snapshot;

pub use book::{Book, BookOptions, Pins, Writer};
pub use class::{CLASSES, Class};
pub use evidence::{Authority, Evidence, EvidenceReceiver, EvidenceSender, channel};
pub use explain::Explanation;
pub use snapshot::SnapshotError;
