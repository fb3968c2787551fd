//! Who is this really? What DNS says of a client, within budgets. It acts on nothing it finds.
//!
//! Owns the desk (a thread that asks DNS for all doors), its caches and its budgets; SPF (RFC 7208),
//! forward-confirmed names (RFC 8601 section 2.7.3), lists (RFC 5782), and what a name behind EHLO is
//! worth. Doors ask and do not wait; what could not be afforded is `None`, never a guess. Findings go to
//! whoever asked, and as evidence to the trust book. No type of mail-auth or hickory leaves this crate.
//!
//! DKIM joins at `spf.rs`: mail-auth verifies signatures through the same sheet of answers.

mod cache;
mod desk;
mod dns;
mod gate;
mod helo;
pub mod keys;
mod limits;
mod lists;
mod lookups;
mod names;
mod networks;
mod options;
mod question;
mod spf;
mod stats;
mod worker;

pub use desk::{IdentityDesk, IdentityError};
pub use gate::account;
pub use helo::{HeloFault, helo_fault, helo_is_plausible};
pub use options::{Budgets, IdentityOptions, Zone};
pub use question::{Findings, OnAnswer, OnNetworks, Question};
pub use stats::{IdentityStats, Unaffordable, ZoneStats};
