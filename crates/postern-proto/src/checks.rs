//! What was found out about a client while it was there, as far as that was affordable.
//!
//! Stored with the message, because mail that is judged hours later must be judged by what was true
//! when it came: a list that has the address since, or a domain whose SPF has changed, says nothing
//! about then. Filled in by doors from what trust and identity say; read by drain and its filters.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// Facts about the client. The default is "nothing was asked".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// The class of the client when its message came; 0 is the best. The numbers are those of
    /// `postern-trust`, which this crate does not know.
    pub class: u8,
    /// SPF (RFC 7208); `None` when it was not asked, or not answered in time.
    pub spf: Option<Spf>,
    /// The client's name, when the name's own addresses confirm it (RFC 8601 section 3: "iprev").
    pub name: Option<String>,
    /// What the lists said (RFC 5782); empty when none was asked or none has the address.
    pub listed: Vec<Listed>,
    /// It spoke before it was greeted (RFC 5321 section 4.3.1 forbids it).
    pub early_talker: bool,
    /// It gave a name behind EHLO that cannot be its own.
    pub bad_helo: bool,
}

impl Default for Checks {
    fn default() -> Self {
        Self { class: CLASS_NEW, spf: None, name: None, listed: Vec::new(), early_talker: false, bad_helo: false }
    }
}

/// The class of who has no history; [`Checks::class`] of mail stored before there were classes.
const CLASS_NEW: u8 = 3;

/// The outcome of an SPF check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spf {
    /// RFC 7208 section 2.6.
    pub result: SpfResult,
    /// The domain that was checked, lower case.
    pub domain: String,
    /// It was that of EHLO, because the reverse-path is empty (RFC 7208 section 2.4).
    pub of_helo: bool,
}

/// RFC 7208 section 2.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpfResult {
    /// The client is authorised.
    Pass,
    /// It is not.
    Fail,
    /// It probably is not.
    SoftFail,
    /// The domain says nothing.
    Neutral,
    /// There is no record.
    None,
    /// DNS failed.
    TempError,
    /// The record is wrong.
    PermError,
}

impl SpfResult {
    /// As in `Received-SPF` and `Authentication-Results`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::SoftFail => "softfail",
            Self::Neutral => "neutral",
            Self::None => "none",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

/// One list's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The list, as configured.
    pub zone: String,
    /// What the operator gives for it: above zero speaks for the client, below against it.
    pub weight: i8,
    /// The address that the list answered with; its meaning is the list's own.
    pub code: [u8; 4],
}
