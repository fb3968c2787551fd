//! Every number that bounds the work of this crate and cannot be configured: what it protects from, and
//! what happens when it is reached. What can be configured is in `options.rs`.

use std::time::Duration;

/// Questions that wait for the desk, per class: a flood of strangers fills its own line only. At most
/// 700 octets each, 0.9 MB for all five. Full: `ask` says no.
pub(crate) const QUEUE_MAX: usize = 256;

/// Questions the desk works on at once; each is a task and one more per list, 20 KB with sixteen lists: 10 MB.
/// Full: the line waits, best class first.
pub(crate) const OPEN_MAX: usize = 512;

/// Those who wait for the answer to one equal question. More than the queue holds would be a loop.
pub(crate) const EQUAL_MAX: usize = 64;

/// RFC 5321 section 4.5.3.1.2. A longer EHLO is not looked at.
pub(crate) const HELO_OCTETS_MAX: usize = 255;

/// RFC 5321 section 4.5.3.1.3, both parts. A longer reverse-path is not looked at.
pub(crate) const MAIL_FROM_OCTETS_MAX: usize = 320;

/// Records of one answer that are used. RFC 7208 section 4.6.4 allows ten addresses of ten servers; the
/// rest of a longer answer is cut off.
pub(crate) const RECORDS_MAX: usize = 64;

/// Octets of one answer that are kept; RFC 7208 section 3.4 hopes for 450. A longer answer counts as a
/// failure of the server that gave it.
pub(crate) const ANSWER_OCTETS_MAX: usize = 4096;

/// Entries in the cache; at most 4.3 KB each, in practice 200 octets: 18 MB at the very worst. Full: of
/// the eight places a name can have, the one that expires first is taken.
pub(crate) const CACHE_ENTRIES_MAX: usize = 4096;

/// Below this a slow evaluation would ask twice, and an owner of a domain could make each mail cost a query.
pub(crate) const TTL_MIN: Duration = Duration::from_secs(60);

/// Authority that was withdrawn must end some day, whatever the TTL says.
pub(crate) const TTL_MAX: Duration = Duration::from_secs(6 * 3600);

/// For "there is nothing" without an SOA; RFC 2308 section 5 leaves it to us.
pub(crate) const TTL_VOID: Duration = Duration::from_secs(300);

/// RFC 2308 section 5 allows hours; who has just published a record should not wait for them.
pub(crate) const TTL_VOID_MAX: Duration = Duration::from_secs(1800);

/// A failure is remembered, so that the next mail does not wait for it again (RFC 2308 section 7 allows
/// five minutes).
pub(crate) const TTL_FAILED: Duration = Duration::from_secs(30);

/// RFC 7208 section 4.6.4: more look-ups without an answer than these are a permanent error.
pub(crate) const VOIDS_MAX: usize = 2;

/// Look-ups that one SPF evaluation may cause. Ten terms are allowed, each `mx` may need ten more; honest
/// records need three to eight. Beyond: no result, because RFC 7208 would have gone on.
pub(crate) const SPF_LOOKUPS_MAX: usize = 30;

/// Names of a client that are confirmed. Reverse zones with hundreds of names exist (RFC 7208 section 5.5
/// takes ten). Beyond: not confirmed.
pub(crate) const NAMES_MAX: usize = 3;

/// Networks of a shared provider that are kept, and records read for them. Beyond: the rest is left out.
pub(crate) const NETWORKS_MAX: usize = 512;
/// See [`NETWORKS_MAX`]. The largest providers use three to seven.
pub(crate) const INCLUDES_MAX: usize = 10;

/// A provider's network that is wider than this is a mistake or bait: 16 million addresses.
pub(crate) const NETWORK_V4_BITS_MIN: u8 = 8;
/// As above: what a regional registry hands to a large provider.
pub(crate) const NETWORK_V6_BITS_MIN: u8 = 19;

/// How often the networks of providers are read again, whatever the TTL.
pub(crate) const NETWORKS_REFRESH: Duration = Duration::from_secs(3600);
/// After a failure, or when the weather did not allow it.
pub(crate) const NETWORKS_RETRY: Duration = Duration::from_secs(300);

/// Domains whose look-ups are counted. Only busy and shut ones have an entry. Full: no look-up.
pub(crate) const DOMAINS_MAX: usize = 1024;

/// Failures in a row after which a domain is left alone, and for how long.
pub(crate) const STRIKES_MAX: u32 = 3;
/// See [`STRIKES_MAX`].
pub(crate) const SHUT: Duration = Duration::from_secs(30);

/// A list that said no to us is not asked again for so long: asking on is what it complains about.
pub(crate) const REFUSED: Duration = Duration::from_secs(3600);
/// A list that was silent [`STRIKES_MAX`] times in a row.
pub(crate) const SILENT: Duration = Duration::from_secs(300);
/// A list's sanity (RFC 5782 section 5) is checked so often.
pub(crate) const SANITY: Duration = Duration::from_secs(3600);

/// Questions about keys that wait: of strangers, proven, vouched, known (classes at the gate); as many as the postern has open of
/// each. At most 700 octets each, 360 KB. Full: those whose asker has left go, then "not now", the peer is parked.
pub(crate) const KEY_QUEUE_MAX: [usize; 4] = [64, 128, 64, 256];
/// Questions about keys worked on at once, 16 KB each. Full: the line waits, best class first.
pub(crate) const KEY_OPEN_MAX: usize = 128;
/// Of these a class's own, by the same order: half of what it has of handshakes (15, 20, 15, 50 of a hundred).
pub(crate) const KEY_OPEN_OWN: [usize; 4] = [9, 12, 9, 32];
/// How full the others may be for one more of a class, in parts of a hundred: what is left is kept for those who are better.
pub(crate) const KEY_OPEN_HEADROOM: [usize; 4] = [40, 60, 80, 100];
/// Answers kept for proofs of keys; at most 4.3 KB each, in practice 300 octets: 9 MB at the very worst.
pub(crate) const KEY_CACHE_ENTRIES_MAX: usize = 2048;
/// Keys that were proven, each some 700 octets at the very most: 3 MB.
pub(crate) const PROOFS_MAX: usize = 4096;
/// A key that was withdrawn must end within a day, whatever the TTL says.
pub(crate) const TTL_KEY_MAX: Duration = Duration::from_secs(86_400);
/// Who has just published a record should not wait for it.
pub(crate) const TTL_NO_KEY_MAX: Duration = Duration::from_secs(300);
/// For so long after its proof a key stays proven while DNS fails. A day: outages end sooner, and who has stolen a
/// withdrawn key and can silence DNS for us has no more than that.
pub(crate) const PROOF_STALE_MAX: Duration = Duration::from_secs(86_400);
