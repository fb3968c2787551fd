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

/// Pause after an accept that failed for want of memory or buffers; the queue is the kernel's.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long sessions with a message under way get when the door stops. The program promises ten
/// seconds in all.
pub const STOP_GRACE_DEFAULT: Duration = Duration::from_secs(8);

/// Callouts under way at once, per runtime: a next hop that drowns is not helped by more. Beyond:
/// 450 4.4.3.
pub const CALLOUTS_MAX: usize = 32;
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
