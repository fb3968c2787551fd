//! Every limit of the wire in one place: number, reason, and what happens when it is reached.
//!
//! What an operator may want to change has its default here and travels in
//! [`crate::session::SessionOptions`]; the rest is fixed.

use crate::time::Duration;

/// Local part. RFC 5321 section 4.5.3.1.1 says 64 and asks servers to take more where they can:
/// VERP, BATV and nested SRS exceed it every day. Longer: 501 5.1.3.
pub const LOCAL_PART_BYTES_MAX: usize = 255;
/// Domain, RFC 5321 section 4.5.3.1.2. Longer: 501 5.1.3.
pub const DOMAIN_BYTES_MAX: usize = 255;
/// Path with its brackets: both parts at their longest. Longer: 501 5.1.3.
pub const PATH_BYTES_MAX: usize = 514;

/// A command line with its CRLF. RFC 5321 section 4.5.3.1.4 asks for 512, the extensions we offer
/// add at most 1,060 (DSN 500 + 500, SIZE 26, SMTPUTF8 10, BODY 17). Longer: 500 5.5.6, the line
/// is skipped. This is also all that an idle command costs in memory.
pub const COMMAND_LINE_BYTES_MAX: usize = 2_048;

/// A line of a message with its CRLF. RFC 5321 section 4.5.3.1.6 asks for 1,000; real mail has
/// HTML in one line of many kilobytes, and we store bytes as they are, so only the bomb is
/// stopped: 554 5.6.0.
pub const BODY_LINE_BYTES_MAX: usize = 128 * 1024;
/// The whole header section. Postfix allows 100 KiB for one field; a header of 256 KiB is an
/// attack on whoever parses it behind us: 554 5.6.0.
pub const HEADER_BYTES_MAX: usize = 256 * 1024;
/// Received fields before a message is taken to loop; RFC 5321 section 6.3 wants at least 100.
/// More: 554 5.4.6.
pub const HOPS_MAX: u32 = 100;

/// Default for the size of a message, offered as SIZE (RFC 1870): 25 MiB, what the big providers
/// let through after base64. Larger: 552 5.3.4.
pub const SIZE_MAX_DEFAULT: u64 = 25 * 1024 * 1024;
/// Recipients of one transaction; RFC 5321 section 4.5.3.1.8 wants at least 100. More: 452 4.5.3.
pub const RECIPIENTS_MAX_DEFAULT: usize = 100;

/// A body up to this size travels in memory and is stored inside the log; a larger one goes to a
/// file of its own, piece by piece. 128 KiB holds nine in ten messages.
pub const INLINE_BODY_BYTES_MAX: usize = 128 * 1024;
/// A piece of a larger body. One is under way at a time, so this bounds what a session holds.
pub const BODY_PIECE_BYTES: usize = 64 * 1024;

/// Protocol errors before 421 4.7.0: Postfix's hard limit; a client that needs more is no client.
pub const ERRORS_MAX: u32 = 20;
/// Refused recipients in one session before 421 4.7.0: bounds harvesting, lets lists live.
pub const REFUSED_RECIPIENTS_MAX: u32 = 100;
/// Commands that move nothing (NOOP, RSET, VRFY, HELP, EHLO) between messages before 421 4.7.0.
pub const IDLE_COMMANDS_MAX: u32 = 100;

/// Requests in one session that are taken and move nothing on, between two messages: a recipient
/// named twice, one too many, one for a transaction of its own, a message announced too big, an
/// empty chunk. Ten times the recipients of a list, and then 421 4.7.0.
pub const FUTILE_MAX: u32 = 1_000;
/// Replies gathered before the session wants them written: a client that pipelines and never reads
/// cannot make us hold more, and a step of the session is bounded by it (about 400 commands).
pub const REPLY_BYTES_MAX: usize = 16 * 1024;

/// From the last complete command to the next complete one (RFC 5321 section 4.5.3.2.7: five
/// minutes). The whole request counts, so that a byte a minute buys nothing. Then 421 4.4.2.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);
/// What a message may be behind the minimum rate before 421 4.4.2: RFC 5321 section 4.5.3.2.5
/// allows three minutes between blocks, and no more is ever granted ahead.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(180);
/// The minimum rate of a message: each octet buys 1/500 s. 500 octets/s is Postfix's figure under
/// stress and slower than any modem that still sends mail.
pub const BODY_BYTES_PER_SECOND_MIN: u64 = 500;
/// A session ends after this long, so that descriptors come back: 421 4.4.2. Not while an answer
/// is owed.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(4 * 3600);
/// How long `through` waits for the outcome before it commits and answers at the receipt; well
/// under the ten minutes that RFC 5321 section 4.5.3.2.6 gives us, so that no sender gives up.
pub const OUTCOME_TIMEOUT: Duration = Duration::from_secs(30);
/// For the disk: then 451 4.3.0, and the sender may bring the message twice.
pub const RECEIPT_TIMEOUT: Duration = Duration::from_secs(300);
/// For the answer about a recipient (a callout to the next hop): then 450 4.4.3.
pub const RECIPIENT_TIMEOUT: Duration = Duration::from_secs(20);
/// For a TLS handshake: then the connection is closed.
pub const TLS_TIMEOUT: Duration = Duration::from_secs(30);

const _: () = assert!(BODY_PIECE_BYTES <= INLINE_BODY_BYTES_MAX);
const _: () = assert!(PATH_BYTES_MAX + 1_060 + "MAIL FROM:\r\n".len() <= COMMAND_LINE_BYTES_MAX);
const _: () = assert!(OUTCOME_TIMEOUT.as_secs() < RECEIPT_TIMEOUT.as_secs());
