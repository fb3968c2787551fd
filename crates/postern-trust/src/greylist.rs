//! Two small keyed sketches of fixed size, shared by all doors: who came again ([`Greylist`]) and who
//! asks for unknown recipients ([`BadRecipients`]).
//!
//! Both are tables of 64-bit cells in buckets of four, written with plain atomic stores: a lost race
//! costs one sender one retry. The key makes collisions unpredictable from outside. They hold no
//! addresses and no names, only hashes; what falls out of them costs quality, never mail.

use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use siphasher::sip::SipHasher13;

use crate::class::Class;
use crate::pressure::Level;

/// What a message is known by when it comes again.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The domain that SPF has authorised the address for, where there is one: large senders retry
    /// from another address of theirs. Else the address's /24 or /48 stands for it.
    pub authorised_domain: Option<&'a str>,
    /// The client.
    pub ip: IpAddr,
    /// Envelope sender; empty for the null sender.
    pub sender: &'a str,
    /// One recipient.
    pub recipient: &'a str,
}

/// Whether the greylist is to be asked at all: for the suspect, under pressure, and never for who is
/// listed as good. In the calm a delay would cost real mail and save nothing.
#[must_use]
pub fn is_wanted(class: Class, level: Level, listed_good: bool) -> bool {
    class == Class::Suspect && level > Level::Calm && !listed_good
}

/// Earliest retry that counts. Real servers wait at least a minute (RFC 5321 4.5.4.1 asks for 30);
/// bots that retry at all do so within seconds.
pub const RETRY_FROM_S: u64 = 60;
/// Latest retry that counts: most senders give up sooner or have come back by then.
pub const RETRY_UNTIL_S: u64 = 2 * 86_400;
/// How long somebody who came again is remembered, from the last time: a monthly letter passes.
pub const PASSED_S: u64 = 36 * 86_400;

/// Who came again.
#[derive(Debug)]
pub struct Greylist {
    table: Table,
}

/// A greylist cell: 31 bits of hash, one for "came again", 32 of seconds.
#[derive(Clone, Copy)]
struct Seen {
    mark: u32,
    passed: bool,
    at_s: u64,
}

impl Seen {
    fn unpack(cell: u64) -> Option<Self> {
        (cell != 0).then(|| Self {
            mark: (cell >> 33) as u32,
            passed: cell >> 32 & 1 == 1,
            at_s: u64::from(cell as u32),
        })
    }

    fn pack(self) -> u64 {
        u64::from(self.mark) << 33 | u64::from(self.passed) << 32 | (self.at_s & u64::from(u32::MAX))
    }

    fn is_expired(self, now_s: u64) -> bool {
        now_s.saturating_sub(self.at_s) > if self.passed { PASSED_S } else { RETRY_UNTIL_S }
    }
}

impl Greylist {
    /// A table of 2^`bits` cells of 8 octets. The default of the program, 2^18, is 2 MiB: at 100 new
    /// suspect triples a second they are kept for 44 minutes, longer than a first retry takes.
    #[must_use]
    pub fn new(bits: u32, key: [u8; 16]) -> Self {
        Self { table: Table::new(bits, key) }
    }

    /// Whether this attempt has to come again. Remembers it.
    pub fn is_deferred(&self, attempt: &Attempt<'_>, now_s: u64) -> bool {
        let now_s = now_s & u64::from(u32::MAX);
        let hash = self.hash(attempt);
        // Never 0, so that no cell in use looks empty.
        let mark = (hash >> 33) as u32 | 1;
        let bucket = self.table.bucket(hash);
        for cell in bucket {
            if let Some(seen) = Seen::unpack(cell.load(Relaxed)).filter(|seen| seen.mark == mark) {
                return again(cell, seen, now_s);
            }
        }
        let place = bucket.iter().min_by_key(|cell| worth(cell.load(Relaxed), now_s));
        if let Some(place) = place {
            place.store(Seen { mark, passed: false, at_s: now_s }.pack(), Relaxed);
        }
        true
    }

    fn hash(&self, attempt: &Attempt<'_>) -> u64 {
        let mut hasher = self.table.hasher();
        match attempt.authorised_domain {
            Some(domain) => write_text(&mut hasher, domain),
            None => hasher.write(&prefix(attempt.ip)),
        }
        write_text(&mut hasher, attempt.sender);
        write_text(&mut hasher, attempt.recipient);
        hasher.finish()
    }
}

/// An attempt that was seen before.
fn again(cell: &AtomicU64, seen: Seen, now_s: u64) -> bool {
    // A clock that went back: as if it had been seen for the first time now, or had passed now.
    let age = now_s.saturating_sub(seen.at_s);
    let back = seen.at_s > now_s;
    let (passed, at_s) = if seen.passed {
        (!seen.is_expired(now_s), now_s)
    } else if age > RETRY_UNTIL_S || back {
        (false, now_s)
    } else if age >= RETRY_FROM_S {
        (true, now_s)
    } else {
        // Too early; the wait is not begun anew, or an eager sender would never get in.
        (false, seen.at_s)
    };
    cell.store(Seen { passed, at_s, ..seen }.pack(), Relaxed);
    !passed
}

/// What a newcomer replaces first: the empty, the expired, who has not come again, who has; among
/// these the oldest.
fn worth(cell: u64, now_s: u64) -> (u8, u64) {
    match Seen::unpack(cell) {
        None => (0, 0),
        Some(seen) if seen.is_expired(now_s) => (1, seen.at_s),
        Some(seen) => (2 + u8::from(seen.passed), seen.at_s),
    }
}

/// Unknown recipients that an address (a /64) may ask for at once; a list with some dead names in it
/// stays under this, a dictionary does not.
pub const BAD_RECIPIENTS_BUDGET: u64 = 20;
/// In how many seconds one of them is forgiven.
pub const BAD_RECIPIENT_FORGIVEN_S: u64 = 60;
/// What is remembered at most, in seconds of forgiving: the budget, and ten minutes more.
const DEBT_MAX_S: u64 = BUDGET_S + 600;
/// The budget in seconds of forgiving.
const BUDGET_S: u64 = BAD_RECIPIENTS_BUDGET * BAD_RECIPIENT_FORGIVEN_S;
const _: () = assert!(DEBT_MAX_S < 1 << 12, "a cell has 12 bits for it");
/// A /24 or /48 has the budget of this many addresses.
const PREFIX_ADDRESSES: u64 = 10;
/// An IPv6 /32 is a whole provider: it gets the budget of this many /48.
const WIDE_PREFIXES: u64 = 16;

/// Unknown recipients by address (/64), and by prefix (/24, /48, and /32 of IPv6, of which 65,536 /48
/// are sold as one).
///
/// The address comes first: who asks for twenty names that nobody has is looking for names. The
/// prefix is for those who spread the dictionary over their addresses. It counts only against
/// who is suspect, or under pressure who asked for such names himself; else one bad neighbour at a
/// hoster could close his /24 to all honest newcomers for the price of one guess a minute.
#[derive(Debug)]
pub struct BadRecipients {
    table: Table,
}

/// A cell: 20 bits of hash, 12 of debt, 32 of seconds. The debt is in seconds until it is forgiven.
#[derive(Clone, Copy)]
struct Debt {
    mark: u64,
    debt_s: u64,
    at_s: u64,
}

impl Debt {
    fn unpack(cell: u64, now_s: u64) -> Self {
        let at_s = u64::from(cell as u32);
        // In the future: the clock went back; nothing is forgiven for that time, nothing added.
        let forgiven = now_s.saturating_sub(at_s);
        Self { mark: cell >> 44, debt_s: (cell >> 32 & 0xFFF).saturating_sub(forgiven), at_s: now_s }
    }

    fn pack(self) -> u64 {
        self.mark << 44 | self.debt_s.min(DEBT_MAX_S) << 32 | self.at_s
    }
}

impl BadRecipients {
    /// A table of 2^`bits` cells of 8 octets; the default of the program, 2^16, is 512 KiB.
    #[must_use]
    pub fn new(bits: u32, key: [u8; 16]) -> Self {
        Self { table: Table::new(bits, key) }
    }

    /// `n` unknown recipients were asked for.
    pub fn record(&self, ip: IpAddr, n: u32, now_s: u64) {
        let debt = u64::from(n) * BAD_RECIPIENT_FORGIVEN_S;
        self.add(&host(ip), debt, now_s);
        // In whole seconds: a /32 gets 1,200 for itself rather than 3,200 when they come one by one.
        self.add(&prefix(ip), (debt / PREFIX_ADDRESSES).max(1), now_s);
        if let Some(wide) = wide_prefix(ip) {
            self.add(&wide, (debt / (PREFIX_ADDRESSES * WIDE_PREFIXES)).max(1), now_s);
        }
    }

    /// As [`Self::is_over_at`] in the calm.
    #[must_use]
    pub fn is_over(&self, class: Class, ip: IpAddr, now_s: u64) -> bool {
        self.is_over_at(class, Level::Calm, ip, now_s)
    }

    /// Whether the budget is spent. The known are exempt: their users mistype, and a forwarder's dead
    /// recipients are no dictionary.
    #[must_use]
    pub fn is_over_at(&self, class: Class, level: Level, ip: IpAddr, now_s: u64) -> bool {
        if class < Class::New {
            return false;
        }
        let own = self.debt(&host(ip), now_s);
        if own >= BUDGET_S {
            return true;
        }
        let over = |prefix: &[u8]| self.debt(prefix, now_s) >= BUDGET_S;
        let answers_for_neighbours = class == Class::Suspect || (level > Level::Calm && own > 0);
        answers_for_neighbours && (over(&prefix(ip)) || wide_prefix(ip).is_some_and(|wide| over(&wide)))
    }

    fn debt(&self, prefix: &[u8], now_s: u64) -> u64 {
        let now_s = now_s & u64::from(u32::MAX);
        let (bucket, mark) = self.place(prefix);
        let debts = bucket.iter().map(|cell| Debt::unpack(cell.load(Relaxed), now_s));
        debts.filter(|debt| debt.mark == mark).map(|debt| debt.debt_s).max().unwrap_or(0)
    }

    fn add(&self, prefix: &[u8], debt_s: u64, now_s: u64) {
        let now_s = now_s & u64::from(u32::MAX);
        let (bucket, mark) = self.place(prefix);
        let read = |cell: &AtomicU64| Debt::unpack(cell.load(Relaxed), now_s);
        // Its own cell, else the one with the least debt: one error each from 10^7 prefixes pushes
        // out one another, not those who have nearly spent their budget.
        let own = bucket.iter().find(|cell| read(cell).mark == mark);
        let Some(cell) = own.or_else(|| bucket.iter().min_by_key(|cell| read(cell).debt_s)) else { return };
        let before = read(cell);
        let kept = if before.mark == mark { before.debt_s } else { 0 };
        cell.store(Debt { mark, debt_s: kept.saturating_add(debt_s), at_s: now_s }.pack(), Relaxed);
    }

    fn place(&self, prefix: &[u8]) -> (&[AtomicU64], u64) {
        let mut hasher = self.table.hasher();
        hasher.write(prefix);
        let hash = hasher.finish();
        (self.table.bucket(hash), hash >> 44 | 1)
    }
}

/// Cells in buckets of four, found by a keyed hash.
#[derive(Debug)]
struct Table {
    cells: Box<[AtomicU64]>,
    key: [u8; 16],
}

impl Table {
    fn new(bits: u32, key: [u8; 16]) -> Self {
        let count = 1_usize << bits.clamp(2, BITS_MAX);
        Self { cells: (0..count).map(|_| AtomicU64::new(0)).collect(), key }
    }

    fn hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.key)
    }

    fn bucket(&self, hash: u64) -> &[AtomicU64] {
        let buckets = self.cells.len() / WAYS;
        // The number of buckets is a power of two.
        let first = (hash as usize & (buckets - 1)) * WAYS;
        &self.cells[first..first + WAYS]
    }
}

const WAYS: usize = 4;
/// 2^26 cells are 512 MiB: more is a typing error.
const BITS_MAX: u32 = 26;

/// Case aside, and with its length, so that two texts never run into one another.
fn write_text(hasher: &mut SipHasher13, text: &str) {
    hasher.write(&(text.len() as u64).to_le_bytes());
    for octet in text.bytes() {
        hasher.write_u8(octet.to_ascii_lowercase());
    }
}

/// The family, and the address or /64; longer than a prefix, so that no two mean the same.
fn host(ip: IpAddr) -> [u8; 9] {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            [4, a, b, c, d, 0, 0, 0, 0]
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, g, h, ..] = ip.octets();
            [6, a, b, c, d, e, f, g, h]
        }
    }
}

/// The family, and the /24 or /48.
fn prefix(ip: IpAddr) -> [u8; 7] {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            [4, a, b, c, 0, 0, 0]
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, ..] = ip.octets();
            [6, a, b, c, d, e, f]
        }
    }
}

/// The /32 of IPv6.
fn wide_prefix(ip: IpAddr) -> Option<[u8; 5]> {
    match ip.to_canonical() {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.octets();
            Some([6, a, b, c, d])
        }
    }
}

#[cfg(test)]
mod tests;
