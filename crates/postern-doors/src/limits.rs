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

/// Handshakes of the postern under way at once: 36 KiB each until the deadline of their class, 9 MiB in all. Others
/// wait, and who waits beyond [`HANDSHAKES_WAITING`] is ignored: his client tries again by itself.
pub const HANDSHAKES_UNDER_WAY: u32 = 256;
/// Parts of a hundred of handshakes, of their places and of the time for them: stranger, proven, vouched, known.
pub const HANDSHAKE_SHARES: [u32; 4] = [15, 20, 15, 50];
/// Attempts that wait for their handshake: stranger, proven, vouched, known. In all less than the 128 that QUIC keeps
/// for the listener (1.5 KiB each), so that it is the listener who chooses.
pub const HANDSHAKES_WAITING: [usize; 4] = [24, 24, 16, 48];
/// Handshakes begun in a row before the connections get their turn: 4 of 0.3 ms.
pub const HANDSHAKES_BEFORE_YIELD: u32 = 4;

/// Peers of the postern whose key is being looked up, by class at the gate: stranger, proven, vouched, known. Each waits
/// for DNS at most [`PROOF_TIMEOUT`] and holds 27 KiB. Full: PARK.
pub const PROOFS_UNDER_WAY: [u32; 4] = [64, 128, 64, 256];
/// For the answer about a key. Later: PARK.
pub const PROOF_TIMEOUT: Duration = Duration::from_secs(8);
/// What PARK tells a peer: one round of DNS timeouts and caches.
pub const PARK_S: u32 = 60;

/// Connections of the postern that were let in: 27 KiB each and their windows. Of these the classes may fill the parts
/// of a hundred in [`HEADROOM`]. Full: PARK.
pub const PEERS_MAX_DEFAULT: usize = 2_048;
/// Receive windows granted to all connections of the postern together. A class whose part is used up gets the window of
/// a stranger, 64 KiB, which is slower and loses nothing.
pub const WINDOW_BYTES_MAX_DEFAULT: u64 = 256 * 1024 * 1024;
/// How full a table may be, in parts of a hundred, for one more of a class: stranger, proven, vouched, known. What is
/// left is kept for those who are better.
pub const HEADROOM: [u32; 4] = [40, 60, 80, 100];
/// Mail streams over all connections of the postern, 1 KiB each while idle. More: 421 4.3.2 on that stream, which is
/// not read; the others of its connection go on. [`PeerLimits`](postern_proto::door::PeerLimits) has those of one connection.
pub const STREAMS_MAX_DEFAULT: usize = 8_192;

/// What a message on a stream may be behind the floor of its class (RFC 9000 has no such thing): the floor is an
/// average over this time. Later: the connection is closed as too slow.
pub const FLOOR_WINDOW: Duration = Duration::from_secs(10);
/// From one command on a stream to the next. Idle streams are cheap to open again; in a transaction, where all is sent
/// in one flight, it is slowness.
pub const STREAM_COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// Octets on the control stream behind IDENT, over a connection's life. More: protocol error.
pub const CONTROL_BYTES_MAX: usize = 256 * 1024;
/// Tickets told to a peer that came without one, and to one that came with one: its purse holds eight.
pub const TICKETS_TO_NEWCOMER: u16 = 4;
/// See [`TICKETS_TO_NEWCOMER`]: one for the one that is used up, and one for the next beside it.
pub const TICKETS_TO_HOLDER: u16 = 2;
/// How long a message under way may take when a connection has lived as long as it may.
pub const LIFETIME_GRACE: Duration = Duration::from_secs(30);
/// The last replies of a connection get this long to reach the peer before it is closed: QUIC throws away what was not
/// acknowledged.
pub const LINGER: Duration = Duration::from_millis(300);
/// A listener that panics is built again at once; but when it has done so within this time, after a pause.
pub const REBUILT_LATELY: Duration = Duration::from_secs(1);
/// See [`REBUILT_LATELY`]. A clients' handshake is repeated after 1 s at the earliest: nobody notices.
pub const REBUILD_PAUSE: Duration = Duration::from_millis(100);

const _: () = assert!(HANDSHAKE_SHARES[0] + HANDSHAKE_SHARES[1] + HANDSHAKE_SHARES[2] + HANDSHAKE_SHARES[3] == 100);
const _: () = assert!(
    HANDSHAKES_WAITING[0] + HANDSHAKES_WAITING[1] + HANDSHAKES_WAITING[2] + HANDSHAKES_WAITING[3] < 128,
    "QUIC must never choose"
);
