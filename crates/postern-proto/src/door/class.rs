//! The four classes of peers at the postern, and what each may take.
//!
//! Owns the table of section 8 of the specification. It never decides a class: the door does, by proof and by trust.

/// Who a peer is to this site. A stranger is only on the way to being proven: he delivers nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PeerClass {
    /// The key is not proven yet.
    Stranger = 0,
    /// The key belongs to the domain, by DNS.
    Proven = 1,
    /// Proven, and introduced by somebody who is known.
    Vouched = 2,
    /// Pinned, answered, or good for long.
    Known = 3,
}

/// What a class may take at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerLimits {
    /// Connections of one domain. More: closed with [`super::CloseCode::TooMany`].
    pub connections: u32,
    /// Mail streams of one connection, each a long session. More: the client cannot open them (flow control).
    pub streams: u32,
    /// Receive window of one connection, in octets. More: the client must wait (flow control).
    pub window_bytes: u64,
    /// Seconds from the first Initial to the end of the handshake. Later: dropped.
    pub handshake_s: u64,
    /// Octets a second, on average over 10 s, while a message is under way. Slower: closed with
    /// [`super::CloseCode::TooSlow`].
    pub floor_bytes_per_second: u64,
    /// Seconds that a connection lives. Longer: closed with [`super::CloseCode::LifetimeOver`] between messages.
    pub lifetime_s: u64,
}

impl PeerClass {
    /// From the least to the most.
    pub const ALL: [Self; 4] = [Self::Stranger, Self::Proven, Self::Vouched, Self::Known];

    /// The class with this number on the wire.
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// In words, for logs and counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stranger => "stranger",
            Self::Proven => "proven",
            Self::Vouched => "vouched",
            Self::Known => "known",
        }
    }

    /// What the class may take.
    pub const fn limits(self) -> PeerLimits {
        const KIB: u64 = 1024;
        let (connections, streams, window, handshake_s, floor, lifetime_s) = match self {
            Self::Stranger => (1, 1, 64, 3, 8, 60),
            Self::Proven => (2, 4, 256, 5, 4, 10 * 60),
            Self::Vouched => (4, 8, 1024, 8, 2, 30 * 60),
            Self::Known => (8, 32, 4096, 10, 1, 4 * 3600),
        };
        PeerLimits {
            connections,
            streams,
            window_bytes: window * KIB,
            handshake_s,
            floor_bytes_per_second: floor * KIB,
            lifetime_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PeerClass;

    #[test]
    fn a_class_reads_back_from_its_number() {
        for class in PeerClass::ALL {
            assert_eq!(PeerClass::from_u8(class as u8), Some(class));
        }
        assert_eq!(PeerClass::from_u8(4), None);
    }

    #[test]
    fn a_better_class_may_take_more_and_longer() {
        for pair in PeerClass::ALL.windows(2) {
            let (less, more) = (pair[0].limits(), pair[1].limits());
            assert!(less.connections < more.connections && less.streams < more.streams);
            assert!(less.window_bytes < more.window_bytes && less.handshake_s < more.handshake_s);
            assert!(less.floor_bytes_per_second > more.floor_bytes_per_second && less.lifetime_s < more.lifetime_s);
        }
    }
}
