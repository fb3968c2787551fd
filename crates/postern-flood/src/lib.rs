//! Hostile and friendly crowds against an SMTP server on loopback or in a namespace of one's own.
//!
//! Two entry points. [`Flood::run`] plays a [`Plan`] (who comes, how many, from where, how they behave) and returns a
//! [`Report`]; it is what `postern flood`, `postern bench`, `postern demo` and the tests call. [`suite::run`] asks any
//! server the questions of the torture suite. Nothing here knows what Postern is: a peer is measured by the same code.
//! Nothing here ever loads an address that others could be behind ([`target`]).
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use postern_flood::{Behaviour, Crowd, Flood, Friends, Plan};
//!
//! let mut plan = Plan::new("127.0.0.1:2525".parse().unwrap());
//! plan.offer_ms = 10_000;
//! plan.crowds.push(Crowd::new(Behaviour::Hold, 18_000));
//! plan.friends.push(Friends::new("known", 50, 10.0));
//! let report = Flood::run(&plan, |_progress| ControlFlow::Continue(())).unwrap();
//! println!("{report}");
//! ```

pub mod door;
mod engine;
pub mod html;
mod ledger;
pub mod limits;
pub mod network;
pub mod plan;
pub mod report;
#[cfg(test)]
mod sink;
mod stats;
pub mod suite;
pub mod target;

pub use engine::Flood;
pub use network::Network;
pub use plan::{Behaviour, Crowd, FloodError, Friends, Plan};
pub use report::{CrowdReport, FriendsReport, GeneratorReport, Percentiles, Progress, Report, Second};
