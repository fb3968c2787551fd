//! Why a connection of the postern is closed: the application error codes of QUIC (RFC 9000 section 20.2).

/// An application close code. The peer that gets one may show it, and must not act on the words beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CloseCode {
    /// Nothing more to say.
    Done = 0,
    /// A frame that cannot be read, a stream that must not be, a first frame other than IDENT.
    Protocol = 1,
    /// Nothing proves that the key belongs to the domain. The sender takes port 25.
    NoProof = 2,
    /// The ticket was given to another domain. It is burnt.
    ForeignTicket = 3,
    /// As many connections of this domain as its class may have.
    TooMany = 4,
    /// Below the floor of its class.
    TooSlow = 5,
    /// The server goes down; come again.
    ShuttingDown = 6,
    /// The connection has lived as long as its class may; come again.
    LifetimeOver = 7,
    /// A fault of the server's own.
    Internal = 8,
}

impl CloseCode {
    /// All of them, by number.
    pub const ALL: [Self; 9] = [
        Self::Done,
        Self::Protocol,
        Self::NoProof,
        Self::ForeignTicket,
        Self::TooMany,
        Self::TooSlow,
        Self::ShuttingDown,
        Self::LifetimeOver,
        Self::Internal,
    ];

    /// The number on the wire.
    pub fn code(self) -> u32 {
        self as u32
    }

    /// The code with this number; `None` for one of a later version, which means "closed".
    pub fn from_code(code: u64) -> Option<Self> {
        usize::try_from(code).ok().and_then(|at| Self::ALL.get(at)).copied()
    }

    /// In words, for logs and the reason phrase.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Protocol => "protocol error",
            Self::NoProof => "no proof of identity",
            Self::ForeignTicket => "ticket of another domain",
            Self::TooMany => "too many connections",
            Self::TooSlow => "too slow",
            Self::ShuttingDown => "shutting down",
            Self::LifetimeOver => "lifetime over",
            Self::Internal => "internal error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::CloseCode;

    #[test]
    fn a_close_code_reads_back_from_its_number() {
        for close in CloseCode::ALL {
            assert_eq!(CloseCode::from_code(close.code().into()), Some(close));
        }
        assert_eq!(CloseCode::from_code(9), None);
        assert_eq!(CloseCode::from_code(u64::MAX), None);
    }
}
