//! When the sender of a message is answered: the one thing that the weather changes.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// The mode of a recipient domain. See `docs/flow.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Calm: answered at the outcome (30 s at most, then at the receipt); leaves at once.
    Through,
    /// Storm: answered at the receipt; leaves later, at a rate.
    Collect,
    /// The 2007 buffer: answered at the receipt; leaves only by `drain` or a change of mode.
    Hold,
}

impl Mode {
    /// The word used on the command line, in the configuration and in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Through => "through",
            Self::Collect => "collect",
            Self::Hold => "hold",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(word: &str) -> Result<Self, UnknownMode> {
        match word {
            "through" => Ok(Self::Through),
            "collect" => Ok(Self::Collect),
            "hold" => Ok(Self::Hold),
            _ => Err(UnknownMode),
        }
    }
}

/// The word is not a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownMode;

impl fmt::Display for UnknownMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mode is one of through, collect, hold")
    }
}

impl core::error::Error for UnknownMode {}

/// The mode of every domain, as published by the one task that owns it. Doors and drain read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modes {
    /// Of each domain not named below.
    pub default: Mode,
    /// Set by command, by domain (lower case).
    pub domains: BTreeMap<String, Mode>,
}

impl Modes {
    /// The mode in which mail for `domain` (lower case) is answered and drained.
    pub fn of(&self, domain: &str) -> Mode {
        self.domains.get(domain).copied().unwrap_or(self.default)
    }
}

impl Default for Modes {
    fn default() -> Self {
        Self { default: Mode::Through, domains: BTreeMap::new() }
    }
}
