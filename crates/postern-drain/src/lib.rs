//! What leaves the spool: schedule, routes, delivery and reports.
//!
//! The drain runs on a thread of its own. It leases items from the spool, finds their route in
//! today's table, delivers them (Maildir, LMTP, SMTP) and settles each with the spool: done, to be
//! tried again, to be reported, or a dead letter. It never talks to a door: what a waiting sender
//! is to hear travels back through the spool as a fate.
//!
//! Entry points: [`Drain::start`], [`Route::parse`], [`RouteTable`], [`DrainHandle`]. Inside, the
//! decisions are pure (`route`, `schedule`, `order`, `gates`, `ruling`, `settle`, `release`, `carries`,
//! `marks`, `report`); `look` asks them, `judge` and `delivery` do what they say.

#![forbid(unsafe_code)]

mod carries;
mod dead;
mod delivery;
mod drain;
mod filters;
mod gates;
mod health;
mod hints;
mod judge;
mod limits;
mod look;
mod maildir;
mod marks;
mod order;
mod outbound;
mod outward;
mod parting;
mod quarantine;
mod release;
mod remote;
mod report;
mod revive;
mod route;
mod ruling;
mod schedule;
mod settle;
mod stats;
#[cfg(test)]
mod testing;
mod turns;
mod worker;

pub use carries::Carries;
pub use drain::{Drain, DrainHandle, DrainOptions, Released};
pub use filters::{FilterOptions, FilterTable, OnSpam};
pub use health::{Away, Health};
pub use limits::{QUARANTINE_CLASS, RELEASED_CLASS};
pub use outbound::Closed;
pub use outward::{Doors, Opener, OutboundOptions, PinnedDoor, Speaker};
pub use quarantine::{ReleaseAs, release_quarantined};
pub use revive::revive;
pub use route::{Route, RouteError, RouteTable};
pub use stats::{ClassStats, DestinationState, DestinationStats, DrainStats, FilterStats, OutboundStats};

/// The pure decisions of the drain: for the simulator.
#[doc(hidden)]
pub mod machine {
    pub use crate::gates::{Gates, Sign};
    pub use crate::order::{Floor, same_class, sort};
    pub use crate::outbound::{Facts, Source, Step, UseMx, Why, after, first, source};
    pub use crate::ruling::{Hearing, Judged, Ruling};
    pub use crate::schedule::{Gate, Retry};
    pub use crate::settle::{Action, Attempt, Handover, Letter, Outcome, Settlement, Told, Verdict, settle};
}
