//! The classes of senders: what a slot, a queue place and a byte of memory are given by. This file owns the names, their order
//! and their numbers. The decision is [`judge`], a pure function from facts. Everybody uses it: doors, drain, steering, the spool's lanes.

pub(crate) mod judge;

use core::fmt;

/// How many classes there are; a table by class has this length.
pub const CLASSES: usize = 5;

/// Who a sender is to this site, best first. The number is also the lane in the spool and the byte in stored checks: it never changes.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Class {
    /// The operator said so.
    Pinned = 0,
    /// This site wrote to it and was answered, or it has a long good history; and the address is authorised.
    Known = 1,
    /// A shared provider with many tenants: judged inside by the author's domain.
    Provider = 2,
    /// Nothing is known, or what is known cancels out.
    New = 3,
    /// Several signs of abuse.
    Suspect = 4,
}

impl Class {
    /// All, best first.
    pub const ALL: [Self; CLASSES] = [Self::Pinned, Self::Known, Self::Provider, Self::New, Self::Suspect];

    /// The word for logs, metrics and the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Known => "known",
            Self::Provider => "provider",
            Self::New => "new",
            Self::Suspect => "suspect",
        }
    }

    /// The class of a stored number.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Pinned),
            1 => Some(Self::Known),
            2 => Some(Self::Provider),
            3 => Some(Self::New),
            4 => Some(Self::Suspect),
            _ => None,
        }
    }

    /// Its place in a table by class.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
