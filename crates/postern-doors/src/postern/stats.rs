//! Counters of the postern: who came, who was turned away and why. Written by its thread, read by
//! `status`.

use crate::stats::counters;

counters! {
    PosternStats, PosternStatsSnapshot:
    /// Attempts that the gate let through.
    attempts,
    /// ... of which the gate knew nothing any more: ignored.
    unknown_attempts,
    /// Attempts for which no room was left in their class: ignored.
    crowded_out,
    /// Attempts that waited beyond their deadline: ignored.
    waited_too_long,
    /// Attempts that wait now.
    waiting,
    /// Handshakes under way now, up to IDENT.
    shaking,
    /// Handshakes begun.
    begun,
    /// Handshakes broken off by the peer, or that went wrong.
    failed,
    /// Handshakes, or IDENTs, that did not come within the deadline of their class.
    expired,
    /// Connections that were let in: ACCEPT.
    accepted,
    /// ... of pinned and known peers.
    accepted_known,
    /// ... of vouched peers.
    accepted_vouched,
    /// ... of proven peers.
    accepted_proven,
    /// Connections let in and open now.
    open,
    /// Mail streams open now.
    streams,
    /// Receive windows granted now, in octets.
    window_bytes,
    /// Connections that got a stranger's window because the others' part was used up.
    narrowed,
    /// Connections told to come later: DNS did not answer, or there was no room.
    parked,
    /// Closed: the peer broke the protocol.
    protocol_errors,
    /// Closed: nothing proves that the key is the domain's.
    unproven,
    /// Closed: the pin that proved the key is gone, or the domain was pinned to others.
    revoked,
    /// Closed: the ticket was another domain's.
    foreign_tickets,
    /// Closed: too many connections of the domain.
    too_many,
    /// Closed: a message came too slowly.
    too_slow,
    /// Closed: the connection had lived as long as it may.
    lifetimes_over,
    /// Tickets told to peers.
    tickets,
    /// Streams refused for want of room: 421 4.3.2.
    streams_refused,
    /// The listener panicked and was built again.
    rebuilt,
}
