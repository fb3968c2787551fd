//! Every number of door/1 in one place: what it bounds, and the answer when it is reached.

/// Version octet of HELLO, CHALLENGE and cookies. Another version: the datagram is dropped.
pub const VERSION: u8 = 1;
/// UDP port when a record names none.
pub const PORT_DEFAULT: u16 = 2526;
/// The application protocol in TLS (RFC 7301). Another one: the handshake fails.
pub const ALPN: &[u8] = b"postern-smtp/1";

/// The least octets of a HELLO, as of a datagram with a QUIC Initial (RFC 9000 section 14.1): an answer of 40 octets
/// to it is no amplifier. Shorter: dropped.
pub const HELLO_BYTES_MIN: usize = 1200;
/// A CHALLENGE, 0.033 of the HELLO it answers.
pub const CHALLENGE_BYTES: usize = 40;
/// A cookie in the token field of an Initial.
pub const COOKIE_TOKEN_BYTES: usize = 38;
/// A ticket, as the server issues it.
pub const TICKET_BYTES: usize = 54;
/// A ticket with the time and the proof of possession, in the token field of an Initial.
pub const TICKET_TOKEN_BYTES: usize = 66;
/// The sealed part of a ticket before it is sealed.
pub const TICKET_BODY_BYTES: usize = 24;
/// Connection ids, the client's first one and all of the server's.
pub const CID_BYTES: usize = 16;
/// A connection id of the peer may be this long (RFC 9000 section 17.2). Longer: dropped.
pub const PEER_CID_BYTES_MAX: usize = 20;
/// Nonce of a HELLO, echoed in the CHALLENGE and the cookie.
pub const NONCE_BYTES: usize = 8;
/// A shorter packet with a short header cannot hold the sample for header protection (RFC 9001 section 5.4.2):
/// 1 + 16 octets of header, 4 + 16 of packet number and sample. Shorter: dropped.
pub const SHORT_PACKET_BYTES_MIN: usize = 37;
/// The same for a Handshake packet: version, two lengths, a connection id and a length more. Shorter: dropped.
pub const HANDSHAKE_PACKET_BYTES_MIN: usize = 44;

/// A cookie is good for this long from its `not_before`: three round trips and a retransmission at most. Later: a new
/// HELLO.
pub const COOKIE_WINDOW_S: u32 = 120;
/// An appointment lies at most this far ahead. Four epochs of the cookie key are accepted, so a cookie of the last
/// second of its epoch lives 2,700 s; the window must end before. Farther: the gate gives the farthest.
pub const APPOINTMENT_S_MAX: u32 = 3 * COOKIE_EPOCH_S as u32 - COOKIE_WINDOW_S;
/// The client's estimate of the server's time in a ticket token may be off by this much. More: the token is stale and
/// the client takes the way of the cookie, which tells it the time.
pub const PROOF_SKEW_S: u32 = 600;
/// A ticket lives this long. Later: the cookie.
pub const TICKET_LIFE_S: u64 = 30 * 86_400;
/// Tickets that a client keeps for one domain. More: the oldest goes.
pub const PURSE_MAX: usize = 8;
/// Introductions that a voucher gets a day, at most.
pub const INTRODUCTIONS_PER_DAY_MAX: u32 = 16;

/// How long a cookie key is the current one.
pub const COOKIE_EPOCH_S: u64 = 900;
/// How many cookie keys are accepted, the current one with them. Older: unknown key.
pub const COOKIE_EPOCHS: u64 = 4;
/// How long a gate key and a body key are the current ones.
pub const TICKET_EPOCH_S: u64 = 86_400;
/// How many gate and body keys are accepted: the life of a ticket, and five days for clocks that were off.
pub const TICKET_EPOCHS: u64 = 35;
/// How long a connection id key is the current one.
pub const CID_EPOCH_S: u64 = 3_600;
/// How many connection id keys are accepted: the longest life of a connection (4 h) and the hour it began in.
pub const CID_EPOCHS: u64 = 5;

/// A control frame without its length. An announcement above: protocol error.
pub const FRAME_BYTES_MAX: usize = 16_384;
/// Vouches in an IDENT. More: protocol error.
pub const VOUCHES_MAX: usize = 8;
/// Octets of one vouch. More: protocol error.
pub const VOUCH_BYTES_MAX: usize = 1_024;
/// A domain or host name in a frame or record. Longer: protocol error, or no record.
pub const NAME_BYTES_MAX: usize = 255;
/// Nesting of a value under a key that is not known, which is skipped. Deeper: protocol error.
pub const CBOR_DEPTH_MAX: u32 = 8;

/// A record as text. The largest that makes sense has four keys (P-256: 124 characters each) and a host name. Longer:
/// no record.
pub const RECORD_BYTES_MAX: usize = 2_048;
/// Tags in a record. More: no record.
pub const RECORD_TAGS_MAX: usize = 32;
/// Keys in a record that this version can use; two are needed for a roll-over. More: no record.
pub const RECORD_KEYS_MAX: usize = 4;
/// `max_age` at most: a year, as MTA-STS (RFC 8461 section 3.2). More: no record.
pub const RECORD_AGE_S_MAX: u64 = 31_557_600;
/// `max_age` when the record has none: a day.
pub const RECORD_AGE_S_DEFAULT: u64 = 86_400;
