//! What the filters decided about a message, as it is kept with it until the message has left.
//!
//! A rejection is never kept: in the session it is the reply, and after a 250 it has become
//! [`Action::Mark`] or [`Action::Quarantine`], because mail that was promised is neither bounced nor
//! dropped. Written by drain; rendered by whoever delivers.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// The filters have spoken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// What becomes of the message.
    pub action: Action,
    /// The score, in hundredths of the filter's own points, when it gave one.
    pub score_hundredths: Option<i32>,
    /// Names of the filters that decided, as configured.
    pub by: String,
    /// Their words, for the header and the log.
    pub reason: Option<String>,
    /// What they want changed in the header, in order.
    pub headers: Vec<HeaderChange>,
}

/// What becomes of a judged message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Delivered as it is.
    Accept,
    /// Delivered, and marked as spam.
    Mark,
    /// Kept aside, visible, for as long as the quarantine keeps mail.
    Quarantine,
}

/// A change to the header, as the milter protocol has them. `nth` counts from one among the fields
/// of that name; names are compared without case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeaderChange {
    /// At the end of the header.
    Add {
        /// Field name.
        name: String,
        /// Field body, without the line end.
        value: String,
    },
    /// Before the field with this index (0: at the top).
    Insert {
        /// Index among all fields.
        at: u32,
        /// Field name.
        name: String,
        /// Field body, without the line end.
        value: String,
    },
    /// The body of a field that is there; added when it is not.
    Change {
        /// Which of that name.
        nth: u32,
        /// Field name.
        name: String,
        /// Its new body.
        value: String,
    },
    /// A field that is there goes.
    Delete {
        /// Which of that name.
        nth: u32,
        /// Field name.
        name: String,
    },
}
