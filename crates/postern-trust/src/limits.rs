//! Every number of the trust book: what it bounds, its default, why, what it costs, and what happens when it is full. Nothing is
//! computed here. The numbers of pressure and admission stand with their own tables.
//!
//! Memory of a book by default (all of it taken at the start, none later):
//!
//! | table | entries | bytes each | MiB |
//! |---|---|---|---|
//! | credits (good addresses, domains, mailboxes) | 131,072 | 16 | 2 |
//! | marks (bad addresses, domains, tenants) | 1,048,576 | 8 | 8 |
//! | prefixes (/24, /48, /32) | 131,072 | 8 | 1 |
//! | links (address is authorised for domain) | 262,144 | 8 | 2 |
//! | hot addresses, providers, pins | 4,096 / 64 / as configured | ≤ 48 | 0.2 |
//!
//! 13.2 MiB together; a snapshot is at most 13.5 MiB and a few kilobytes when the book is empty of strangers.

/// Records of good senders. A site with 10,000 correspondents uses a tenth. Full: a newcomer replaces the coldest of its bucket
/// of 8, and only when that one is colder *and* of no higher standing; else the newcomer is not remembered (and counted).
pub(crate) const GOOD_ENTRIES: usize = 1 << 17;

/// Records of bad addresses, domains and tenants. Full: a newcomer replaces the coldest of its bucket of 8 with probability
/// own weight / (own weight + weight of the coldest), so that one-time bots cannot wash out the worst. What is lost is
/// forgotten; nobody is ever accused by it, as a counting sketch would when 10^7 bots have filled it.
pub(crate) const BAD_ENTRIES: usize = 1 << 20;

/// Bad prefixes and authorised pairs come in these fractions of [`BAD_ENTRIES`].
pub(crate) const PREFIX_PART: usize = 8;
/// See [`PREFIX_PART`].
pub(crate) const LINK_PART: usize = 4;

/// Known addresses that are remembered exactly, for steering before accept(): the kernel's program holds some hundred, so 4,096
/// are candidates enough. 48 bytes each. Full: the coldest goes.
pub(crate) const HOT_ENTRIES: usize = 4_096;

/// What one sight of an address is worth there; halved each midnight. 64 last a week: who writes weekly is still there at the
/// next letter, also after a quiet weekend.
pub(crate) const HOT_SIGHT: u32 = 64;

/// Smallest and largest size of any table, whatever the options say: 2^10 to 2^26 entries.
pub(crate) const ENTRIES_MIN: usize = 1 << 10;
/// See [`ENTRIES_MIN`].
pub(crate) const ENTRIES_MAX: usize = 1 << 26;

/// How many senders (domains and addresses together) become known by history alone in a day. A busy site meets some tens of
/// new lasting senders a day; whoever warms up 1,000 domains for three weeks gets 50 in on the first day and has shown
/// himself by the fourth. Full: they stay new and try again with their next good mail, after midnight of the book's clock.
pub(crate) const PROMOTIONS_A_DAY: u32 = 50;

/// Of those, this many from one /24 (or /48): sybils live close together, honest senders do not.
pub(crate) const PROMOTIONS_A_PREFIX: u8 = 2;

/// Addresses to which one proven domain may lend its credit in a day. A mail operator has a handful; `v=spf1 +all` would lend
/// it to the whole world. Full: the address stays as it is until tomorrow.
pub(crate) const LENT_A_DAY: u8 = 32;

/// An address that speaks for this many proven or unproven domains is shared: class provider, judged inside by domain.
pub(crate) const SHARED_DOMAINS: u8 = 8;

/// Of what such an address passes on, and one in the pool of a shared provider whose networks are not known yet, this part of
/// the blame sticks: it answers for whom it takes in.
pub(crate) const SHARED_BLAME: u16 = 4;

/// Good credit is counted in 1/64 of a good day (a day with at least one good message: volume buys nothing).
pub(crate) const GOOD_DAY: u16 = 64;
/// Its half-life in days: a monthly correspondent stays known from one letter to the next, a rented name is worthless in a
/// season.
pub(crate) const GOOD_HALF_LIFE_D: u16 = 30;
/// 2^(-1/30) in 2^-32, the daily decay.
pub(crate) const GOOD_DECAY: u64 = 4_196_870_107;
/// At most 60 good days are held: the greatest friend of all is forgotten after half a year of silence.
pub(crate) const CREDIT_MAX: u16 = 60 * GOOD_DAY;
/// What a letter of ours adds, once a day: three half-lives until it is worth one day.
pub(crate) const WROTE_CREDIT: u16 = 8 * GOOD_DAY;
/// What an address gets from a proven domain: 60 days of silence until it is worth one day.
pub(crate) const LENT_CREDIT: u16 = 4 * GOOD_DAY;
/// A correspondent or a lent address is known down to this.
pub(crate) const TRUST_LOW: u16 = GOOD_DAY;
/// History makes known from six (decayed) good days on: a daily sender after three weeks, a weekly one after 14.
pub(crate) const HISTORY_HIGH: u16 = 6 * GOOD_DAY;
/// And keeps it down to two.
pub(crate) const HISTORY_LOW: u16 = 2 * GOOD_DAY;
/// And only from this age on, in days: the patience of a spammer costs rent.
pub(crate) const HISTORY_AGE_D: u16 = 21;
/// Good mail from a trusted address that nobody looked up, and delivered mail that nobody judged, holds the credit up to this
/// and adds no more: nobody grows by what is not proven his. A sender of every fortnight is held.
pub(crate) const HOLD_MAX: u16 = HISTORY_HIGH;
/// One spam verdict takes this off a history (not off a correspondence: there the marks speak).
pub(crate) const SPAM_COSTS: u16 = 3 * GOOD_DAY;
/// Below a quarter of a day a record is as good as empty: it starts anew.
pub(crate) const CREDIT_EMPTY: u16 = GOOD_DAY / 4;

/// Half-life of marks, in hours: bots change addresses within days, and the next owner of an address is innocent.
pub(crate) const BAD_HALF_LIFE_H: u64 = 24;
/// Half-life of authorised pairs, in hours (14 days): a monthly letter brings its own check again.
pub(crate) const LINK_HALF_LIFE_H: u64 = 14 * 24;
/// 2^(-1/8) in 2^-32: marks decay in eighths of a half-life (3 hours for bad ones).
pub(crate) const BAD_DECAY: u64 = 3_938_502_376;

/// From this suspicion on a stranger is suspect. Every single event below is worth less than this: none is a verdict alone.
pub(crate) const SUSPECT: u32 = 100;
/// From this on a known one is suspect; between the two it is treated as new. A hacked friend is worth two more looks.
pub(crate) const SUSPECT_KNOWN: u32 = 300;
/// A talker before the greeting: no real server does, but a broken appliance may.
pub(crate) const EARLY_TALKER: u16 = 60;
/// Protocol abuse.
pub(crate) const ABUSE: u16 = 60;
/// An impossible HELO: many a small office has one, so it takes four a day.
pub(crate) const BAD_HELO: u16 = 30;
/// A recipient that does not exist; at most six count of one report (a session).
pub(crate) const BAD_RECIPIENT: u16 = 10;
/// See [`BAD_RECIPIENT`].
pub(crate) const BAD_RECIPIENTS_MAX: u16 = 6;
/// A spam verdict: three make a stranger suspect. At most two count of one report.
pub(crate) const SPAM: u16 = 40;
/// See [`SPAM`].
pub(crate) const SPAM_MAX: u16 = 2;
/// A good verdict takes this off: 1 spam in 20 messages is in balance, as filters err.
pub(crate) const HAM: u16 = 2;
/// A listing, per unit of its weight. A listing is a state and not an event: the same list asked again adds nothing.
pub(crate) const LISTING: i16 = 15;
/// At most so many, either way.
pub(crate) const LISTING_MAX: i16 = 60;
/// A quarter of every bad event goes to the /24 or /48, a sixteenth to the /32 of IPv6.
pub(crate) const PREFIX_SHARE: u16 = 4;
/// See [`PREFIX_SHARE`].
pub(crate) const WIDE_SHARE: u16 = 16;
/// An eighth of what a prefix holds weighs on each stranger inside,
pub(crate) const PREFIX_WEIGHT: u32 = 8;
/// but at most half a verdict: a bad neighbourhood shortens the patience and never is the verdict.
pub(crate) const PREFIX_MAX: u32 = 50;
/// Nobody with more marks than this is promoted.
pub(crate) const PROMOTABLE: u32 = 25;

/// Providers with networks of their own.
pub(crate) const PROVIDERS_MAX: usize = 64;
/// Networks of one provider, and of all. Full: the rest of that provider's, or a provider that is not declared, is left out.
pub(crate) const PROVIDER_NETWORKS_EACH: usize = 128;
/// See [`PROVIDER_NETWORKS_EACH`].
pub(crate) const PROVIDER_NETWORKS_MAX: usize = 2_048;
/// The shortest IPv4 and IPv6 prefix taken from the SPF record of a declared provider (the largest mail provider names /14 and /32).
pub(crate) const PROVIDER_PREFIX_MIN: (u8, u8) = (14, 32);
/// And of a domain that we only know.
pub(crate) const KNOWN_PREFIX_MIN: (u8, u8) = (20, 44);
/// A provider loses its class from this share of spam (per mille) on,
pub(crate) const PROVIDER_SPAM_PER_MILLE: u64 = 200;
/// of at least so many judged messages (they decay by a tenth a day, a half-life of a week).
pub(crate) const PROVIDER_JUDGED_MIN: u64 = 200;

/// The book's clock takes at most this from one step of the wall clock, in seconds: a jump forward costs six hours of decay.
pub(crate) const CLOCK_STEP_MAX_S: u32 = 6 * 3_600;
/// And at most 60 days across a restart: two half-lives of good credit, whatever a wrong clock says at boot.
pub(crate) const CLOCK_AWAY_MAX_S: u32 = 60 * 86_400;

/// Buckets of each table that one tick looks at, to clear what has decayed to nothing: at ten ticks a second the whole book in
/// about four minutes.
pub(crate) const SWEEP_BUCKETS: usize = 64;

/// A name longer than this is no domain (RFC 1035 section 2.3.4) and no address that we keep: it is not looked up.
pub(crate) const NAME_BYTES_MAX: usize = 255;
