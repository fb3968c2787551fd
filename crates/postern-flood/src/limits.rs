//! Every bound of the generator, with its reason. It makes load, so each of them keeps it from harming the machine it
//! runs on: count, time and descriptors all end.

/// Connections of all crowds together. Bounded by the descriptor limit as well; a crowd beyond it is refused before
/// the first connect, because a flood that quietly shrinks proves nothing.
pub const CONNECTIONS_MAX: u32 = 100_000;

/// Descriptors that stay free for the epoll instances, standard streams, ledger and the namespace check.
pub const DESCRIPTORS_RESERVED: u32 = 32;

/// How long a plan may offer mail: one hour. Longer belongs to the simulator, which needs minutes for a day.
pub const OFFER_MS_MAX: u64 = 3_600_000;

/// Simulated round trip: beyond 250 ms SMTP's own timeouts begin to matter more than the server.
pub const RTT_MS_MAX: u32 = 250;

/// Friends' messages in one plan: 4 B per sample and three samples a message are kept to give true percentiles
/// (24 MB at most), instead of a histogram's estimate.
pub const MESSAGES_MAX: u64 = 2_000_000;

/// A message's octets: what most servers take at all.
pub const MESSAGE_BYTES_MAX: u32 = 52_428_800;

/// Events and new connections handled between two looks at the friends. At about 10 µs each a friend's reply waits
/// less than a millisecond behind the crowd in our own loop, and is not blamed on the server.
pub const BATCH: usize = 64;

/// A bot that expects a reply gives up after this, and comes back. RFC 5321 gives five minutes; a bot has no time.
pub const BOT_PATIENCE_MS: u32 = 60_000;

/// Octets of one write of an endless stream (header bomb, line bomb, pipeline).
pub const STREAM_CHUNK_BYTES: usize = 16_384;

/// What a header bomb, a line bomb or a BDAT announcer would send in all before it starts over.
pub const BOMB_BYTES: u64 = 100_000_000;

/// Partial reply line that is kept: RFC 5321 allows 512 octets; a server beyond eight times that is cut.
pub const REPLY_LINE_BYTES_MAX: usize = 4_096;

/// Above this share of one core the generator says that its figures are a lower bound.
pub const BUSY_PERCENT_MAX: f64 = 90.0;

/// Packets of one attack on a door: an hour at half a million a second is less.
pub const DOOR_PACKETS_MAX: u64 = 2_000_000_000;

/// QUIC connections of our own at once, each with a socket and about 40 KiB: 160 MiB.
pub const DOOR_CONNECTIONS_MAX: u32 = 4_000;
