//! The postern: the authenticated door. Only proven servers, only authenticated mail.
//!
//! Behind the [gate](crate::gate), which has looked at each packet, stand a bounded pool of handshakes (`pool`), the control
//! stream on which a peer says who it is (`peer`) and, proven, is given its class and tickets (`guest`), and mail streams,
//! which are sessions like those of port 25 (`crate::shell`). One thread does all of it (`thread`); should it panic it is built
//! again on the same sockets, and the public door does not notice. Why: `docs/design/postern.md`.

pub(crate) mod authority;
mod control;
mod guest;
mod house;
mod listener;
mod options;
mod peer;
mod pool;
mod prove;
mod share;
mod stats;
mod thread;
mod threshold;

pub use options::PosternOptions;
pub use prove::{Answer, Claim, Proof, Prover, Standing};
pub use stats::{PosternStats, PosternStatsSnapshot};
pub use thread::Postern;
