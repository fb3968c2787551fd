//! Every limit of the doors: number, reason, answer when reached. The wire's own limits are in
//! [`postern_proto::limits`].

use std::time::Duration;

/// Open connections of one door, over all its runtimes. 20,000 descriptors a process is what a
/// plain system grants; a thousand are left for segments, bodies, next hops and the program.
/// More: 421 4.3.2 at once, and the connection is closed.
pub const CONNECTIONS_MAX_DEFAULT: usize = 19_000;

/// Read at once from a connection, into one buffer per runtime: an idle connection owns none.
/// A step of a session is bounded by it.
pub const READ_BYTES: usize = 64 * 1024;

/// How often the deadlines of a runtime's connections are looked at. All are multiples of
/// seconds, so a quarter of one is exact enough; the look costs about 5 ns a connection.
pub const TICK: Duration = Duration::from_millis(250);

/// A client that takes no reply for this long is gone. Replies are tiny: they fit the kernel's
/// buffer unless the client pipelines and never reads.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// A session yields to the others after this many steps in a row (64 KiB or a batch of commands
/// each), so that one endless pipeliner is one of many and not the only one.
pub const STEPS_BEFORE_YIELD: u32 = 4;

/// Reads of input that nobody wants any more, before a socket is closed: what is on its way in a
/// connection's buffers, and not what an enemy may go on sending.
pub const CLOSING_READS_MAX: u32 = 8;

/// Connections taken from the kernel's queue in a row before the sessions get their turn.
pub const ACCEPTS_BEFORE_YIELD: u32 = 16;

/// Strangers taken from the kernel's queue in a row. Few, because each may cost the whole of what
/// admission costs before the next look at the queue of the known: 4 of 100 µs are 0.4 ms.
pub const STRANGERS_BEFORE_YIELD: u32 = 4;

/// Connections that were told to go and are not gone yet: how far a door may stand above its limit
/// for a moment. Beyond: strangers get 421, the known are let in. Well within the thousand
/// descriptors that are left beside the connections.
pub const LEAVING_MAX: u32 = 256;
/// Sent away together when the descriptors are used up before the limit of connections is reached.
pub const EVICTED_AT_ONCE: usize = 8;
/// Sent away for idleness, of each class, at one tick: no more than 4,000 a second, so that a change
/// of the weather does not throw out ten thousand at once and call them all back.
pub const IDLED_PER_TICK: u32 = 1_000;

/// Time that strangers' sessions may use in one turn of a thread. A friend waits for one such
/// quantum and one step (64 KiB, or one handshake of 0.2 ms) at most.
pub const STRANGERS_QUANTUM: Duration = Duration::from_millis(1);
/// Strangers called in one turn: at 30 to 60 µs a step about what the quantum holds.
pub const STRANGERS_CALLED: usize = 32;
/// Of these for each class that waits, however many better ones there are.
pub const STRANGERS_CALLED_LEAST: usize = 4;

/// Octets of messages on their way in, over all connections of a door, when the operator says
/// nothing: 2,000 messages of 128 KiB. Beyond a class's share its clients are not read from until
/// there is room, and new messages get 452.
pub const HELD_BYTES_MAX_DEFAULT: u64 = 256 * 1024 * 1024;

/// TLS handshakes under way at once, on one thread, shared out by class: each costs 0.2 ms and 9 KiB.
/// Others wait for their place, which begins with the client's first octet.
pub const HANDSHAKES_MAX: u64 = 128;
/// A handshake that is not done by then gives its place to another and goes on without one: several
/// round trips of the slowest link, and 64 silent clients no longer stop everybody for half a minute.
pub const HANDSHAKE_PLACE: Duration = Duration::from_secs(2);

/// Receive buffer of a stranger's socket while there is pressure: 32 KiB hold a fast sender to
/// 320 KiB/s over 100 ms, and 10,000 of them to 320 MiB of kernel memory at the very worst.
pub const STRANGERS_BUFFER_BYTES: usize = 32 * 1024;

/// An address of somebody we know is noted as connected once in so long by each thread: steering
/// wants to know who comes, not how often.
pub const CONNECTED_EVERY_S: u64 = 60;
/// Places of the table that remembers it, 16 octets each; a collision costs one note more.
pub const CONNECTED_KEPT: usize = 1_024;

/// Times that the queue of the known looks for a descriptor again, after somebody was told to go for
/// it, before it turns a client away.
pub const DESCRIPTOR_RETRIES: u32 = 5;

/// Answers about strangers that wait to be picked up by a thread; each belongs to an open question.
pub const FINDINGS_MAX: usize = 4_096;

/// Answers about strangers kept by a thread, about 200 octets each; and for how long. A minute covers a
/// burst of messages, and is less than any record's life in DNS.
pub const FINDINGS_KEPT: usize = 1_024;
/// See [`FINDINGS_KEPT`].
pub const FINDINGS_FRESH: Duration = Duration::from_secs(60);

/// Pause after an accept that failed for want of memory or buffers; the queue is the kernel's.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long sessions with a message under way get when the door stops. The program promises ten
/// seconds in all.
pub const STOP_GRACE_DEFAULT: Duration = Duration::from_secs(8);

/// Callouts under way at once, per runtime: a next hop that drowns is not helped by more. Beyond:
/// 450 4.4.3.
pub const CALLOUTS_MAX: usize = 32;
/// Of these for strangers, whose guesses may each take the whole time of a callout: the known always
/// find a place.
pub const STRANGERS_CALLOUTS_MAX: usize = 24;
/// A callout, from connect to answer. Before the session gives up (20 s), so that what was found
/// out in time is used, and so that a drowned next hop's places come back.
pub const CALLOUT_TIMEOUT: Duration = Duration::from_secs(15);
/// Recipients remembered from callouts, about 100 bytes each on disk. Full: the oldest go.
pub const CALLOUT_ENTRIES_MAX: u64 = 100_000;
/// A recipient that existed is taken to exist this long without asking.
pub const CALLOUT_FRESH: Duration = Duration::from_secs(24 * 3600);
/// ... and this long when the next hop cannot be asked: mail for real users goes on.
pub const CALLOUT_STALE: Duration = Duration::from_secs(31 * 24 * 3600);
/// One that did not exist is asked about again after this: mailboxes get made.
pub const CALLOUT_NEGATIVE: Duration = Duration::from_secs(3600);

const _: () = assert!(TICK.as_millis() >= 50, "looking more often costs more than it brings");
const _: () = assert!(CALLOUT_TIMEOUT.as_secs() < postern_proto::limits::RECIPIENT_TIMEOUT.as_secs());
const _: () = assert!(CALLOUT_FRESH.as_secs() < CALLOUT_STALE.as_secs());
