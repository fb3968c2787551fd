//! What becomes of a datagram, and why.

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Drop(DropReason),
    /// It is for QUIC.
    Pass,
    /// The CHALLENGE goes back to where it came from.
    Answer,
}

/// Why nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Of no shape that this door knows.
    Garbage,
    /// An id that we did not make.
    BadId,
    /// An id of ours from another address.
    IdElsewhere,
    /// An id of ours with too many packets.
    IdBudget,
    /// An Initial without a token that counts.
    NoToken,
    /// A ticket that is not ours, or whose proof is wrong or old.
    BadTicket,
    /// A cookie that is not ours, or not for this address.
    BadCookie,
    /// A ticket or cookie whose datagrams are used up, or a copy.
    Used,
    /// No more answers in this second.
    Unanswered,
    /// There is no room to remember it.
    Full,
}
