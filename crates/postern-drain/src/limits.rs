//! Every number of the drain that is not an option, with its reason.

use std::time::Duration;

/// Items leased from one lane at a time: enough to spread one round trip to the spool's thread
/// over many items, few enough that the lanes take turns.
pub(crate) const LEASE_BATCH_MAX: usize = 16;

/// Deliveries under way over all destinations: each may hold one inline body (128 KiB by default)
/// and one connection with its buffers, so 256 of them are some 40 MiB at worst.
pub(crate) const DELIVERIES_MAX: usize = 256;

/// How long one delivery may take. RFC 5321 section 4.5.3.2 wants 10 minutes of patience for the
/// reply after the final dot alone; a hop that needs more than this in all is taken for dead.
pub(crate) const DELIVERY_MAX: Duration = Duration::from_secs(15 * 60);

/// How long an item is leased: longer than [`DELIVERY_MAX`], or a slow delivery would be repeated
/// beside itself.
pub(crate) const LEASE: Duration = Duration::from_secs(20 * 60);
const _: () = assert!(LEASE.as_secs() > DELIVERY_MAX.as_secs() + JUDGING_MAX.as_secs() + 60);

/// How long all filters together may take over one message, whatever their own limits are.
pub(crate) const JUDGING_MAX: Duration = Duration::from_secs(3 * 60);

/// How long a message that was judged waits for a place at its destination, before its sender is answered
/// at the receipt.
pub(crate) const PLACE_WAIT: Duration = Duration::from_secs(5);

/// Header changes of filters kept with a message, and their bytes: they are metadata, which the spool
/// writes with every retry. Real filters make some ten of 2 KiB; further ones are left out.
pub(crate) const HEADER_CHANGES_MAX: usize = 200;
/// See [`HEADER_CHANGES_MAX`].
pub(crate) const HEADER_CHANGE_BYTES_MAX: usize = 64 * 1024;

/// Recipients that filters may add to one message: RFC 5321 section 4.5.3.1.8 has 100 as what every server takes.
pub(crate) const ADDED_RECIPIENTS_MAX: usize = 100;

/// Bytes of messages with a filter's new body that one parting may write, all copies together: each is inline in one
/// record of the spool, whose segments have 16 MiB. Text that was disarmed is far smaller; what is larger is judged again
/// for those who get it, and kept aside for the others.
pub(crate) const KEPT_BODIES_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Of so many messages that leave, one is of a lower class when there is any: a flood of the better
/// ones slows the others to a sixteenth, but never stops them.
pub(crate) const FLOOR_EVERY: u32 = 16;

/// Lanes of lower classes that are tried for that one message.
pub(crate) const FLOOR_LANES_MAX: usize = 8;

/// Lanes that are looked at to find those: with very many lanes a look at all of them is not to come with
/// every sixteenth message. The next turn goes on from the next one.
pub(crate) const FLOOR_LOOKS_MAX: usize = 1024;

/// While a filter is away, so many items of a lane are looked at in one go, and how often that is: mail that
/// needs no judgement leaves from between what waits for one. Each that does wait costs a record.
pub(crate) const UNJUDGED_BATCH_MAX: usize = 16;
/// See [`UNJUDGED_BATCH_MAX`].
pub(crate) const UNJUDGED_PAUSE_MS: u64 = 1000;

/// Messages dropped from the quarantine in one go, and named in one line of the log.
pub(crate) const QUARANTINE_BATCH_MAX: usize = 64;

/// How long [`crate::DrainHandle::stop`] waits for deliveries under way. The program promises to
/// be gone within 10 s of SIGTERM.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(8);

/// Idle connections kept per destination; more would only take slots from the next hop.
pub(crate) const IDLE_CONNECTIONS_MAX: usize = 4;

/// Idle connections kept in all: with `mx` each far domain is a destination. One more is closed at once.
pub(crate) const IDLE_CONNECTIONS_ALL_MAX: usize = 256;

/// Far domains with a courier: each has a link of its own, 30 KiB with small windows, so 16 MiB. Full: couriers at rest
/// are dropped; when none is, the next domain's mail goes by port 25, or waits where that must not be.
pub(crate) const COURIERS_MAX: usize = 512;

/// A courier that carried nothing for so long is dropped, and its link with it.
pub(crate) const COURIER_IDLE: Duration = Duration::from_secs(60);

/// Idle connections are closed after this: Postfix keeps its side open for 300 s, Exim 300 s, and
/// a hop under stress as little as 10 s; a stale one costs a failed write and a new connection.
pub(crate) const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// Messages sent over one connection before it is closed, so that a hop behind a balancer gets
/// its share of new ones.
pub(crate) const MESSAGES_PER_CONNECTION_MAX: u32 = 100;

/// Threads for Maildir file work, each waiting for a sync most of its time.
pub(crate) const FILE_THREADS_MAX: usize = 32;

/// Destinations remembered with back-off and counters. Destinations come from the configuration,
/// never from the network; beyond this the idle ones are forgotten.
pub(crate) const DESTINATIONS_MAX: usize = 4096;

/// Releases (`drain` commands) in force at once, one per domain and one for all.
pub(crate) const RELEASES_MAX: usize = 1024;

/// Items whose retry time one `drain` brings forward: each costs a record in the spool. The rest
/// leave when they are due.
pub(crate) const RELEASE_RETRIES_MAX: usize = 10_000;

/// The class of items that a `drain` let go and that must be tried again: they leave whatever the
/// mode of their domain, so that an item which is once on its way is not caught by `hold` again.
pub const RELEASED_CLASS: u8 = 254;

/// The class of items that a filter wants kept aside. The drain delivers none of them: they wait for the
/// operator, or for the end of [`crate::DrainOptions::quarantine_keep`].
pub const QUARANTINE_CLASS: u8 = 253;

/// Bytes of a next hop's words kept in metadata, statistics and reports.
pub(crate) const REASON_BYTES_MAX: usize = 512;

/// Header bytes of the original quoted in a report (RFC 6522 section 4 allows a part of them).
pub(crate) const REPORT_HEADER_BYTES_MAX: usize = 32 * 1024;

/// A whole message is quoted in a report (`RET=FULL`) up to this size only: a report is an inline
/// item and must not be a way to fill the spool twice.
pub(crate) const REPORT_FULL_BYTES_MAX: u64 = 64 * 1024;

/// Recipients described in one report; the rest are counted.
pub(crate) const REPORT_RECIPIENTS_MAX: usize = 1000;

/// A mailbox directory name: most file systems stop at 255 bytes; the rest is room for a suffix.
pub(crate) const MAILBOX_NAME_BYTES_MAX: usize = 200;

/// How long an item waits whose route is `none` though its lane may leave (a relayed message for
/// a domain that is also received), before it is looked at again.
pub(crate) const NO_ROUTE_WAIT_MS: u64 = 5 * 60 * 1000;

/// How long an item without a route, or without a filter, is left alone whose sender was just told not to wait: its
/// door commits it meanwhile. Much longer would be a delay when there is one again.
pub(crate) const COMMIT_WAIT_MS: u64 = 1000;

/// How long an item waits whose metadata this build cannot read (written by a later release).
pub(crate) const UNREADABLE_WAIT_MS: u64 = 3600 * 1000;

/// Waiting senders answered in one go while their destination backs off: cheap, nothing is sent.
pub(crate) const TENTATIVE_BATCH_MAX: usize = 64;

/// The lanes are looked at this often even when nothing woke the drain: a net under everything.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// How long a next hop may take to say what it offers.
pub(crate) const ASK_MAX: Duration = Duration::from_secs(10);

/// Next hops asked at the same time.
pub(crate) const ASKED_AT_ONCE_MAX: usize = 16;

/// Items of a lane looked at in one go while their destination is away, and how often that is: each
/// one that has not expired costs a record in the spool, which notes since when it could have left.
pub(crate) const EXPIRE_BATCH_MAX: usize = 64;
/// See [`EXPIRE_BATCH_MAX`]; 180,000 items a day, the lanes by turns.
pub(crate) const EXPIRE_PAUSE_MS: u64 = 30 * 1000;

/// Nothing is looked at so in the first hour after it came: most outages end before, and cost no record.
pub(crate) const EXPIRE_LOOK_MS: u64 = 3600 * 1000;

/// The drain rests a millisecond for so many lanes between two looks at them: a look costs about
/// half of that, so that no more than a third of its thread is spent on looking.
pub(crate) const LANES_PER_MS: u64 = 1000;

/// Dead letters leased at a time while one of them is looked for: each new lease holds its message
/// in memory, until it turns out to be another.
pub(crate) const REVIVE_PAGE: usize = 16;
