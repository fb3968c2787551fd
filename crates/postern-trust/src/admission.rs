//! Admission: what a class gets at this pressure, as pure functions from facts to a decision.
//!
//! Doors call them: [`connection`] at accept, [`patience`] when a session begins, [`message`] before
//! a message is taken, [`allot`] for whatever has a share and cannot be taken back. Nothing here
//! knows an address: who somebody is comes in as a [`Class`].
//!
//! The rule, once: a class under its floor gets what it asks for, taken back from the worst class
//! that is above its own. A class at or above its floor takes what is free; when nothing is, it takes
//! from the worst class that is worse than itself and above its floor; when there is none, from
//! itself: the longest idle of its own goes, so that among strangers the slots circulate and a
//! friend never seen before gets a slice of time, however many bots hold on.

use crate::class::{CLASSES, Class};
use crate::pressure::Level;
use crate::shares::{ClassShares, Shares};

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// There is room.
    Admit,
    /// One of this class goes (421 4.3.2), the longest idle; then there is room.
    Evict(Class),
    /// 421 4.3.2.
    Refuse,
}

/// Whether a connection of `class` gets in; `open` counts it not yet.
#[must_use]
pub fn connection(class: Class, open: &[u32; CLASSES], max: u32, shares: &Shares) -> Entry {
    let total: u64 = open.iter().map(|count| u64::from(*count)).sum();
    let at_ceiling = u64::from(open[class as usize]) >= shares.connections.ceiling(class, u64::from(max));
    if total < u64::from(max) && !at_ceiling {
        return Entry::Admit;
    }
    victims(class, open, max, shares).next().map_or(Entry::Refuse, Entry::Evict)
}

/// Whose place a connection of `class` may take, the first choice first: when a class has nobody who
/// can go just now (all between their final dot and our reply), the caller tries the next one.
pub fn victims<'a>(
    class: Class,
    open: &'a [u32; CLASSES],
    max: u32,
    shares: &'a Shares,
) -> impl Iterator<Item = Class> + 'a {
    let max = u64::from(max);
    let count = |of: Class| u64::from(open[of as usize]);
    let limits = &shares.connections;
    let under_floor = count(class) < limits.floor(class, max);
    // At its ceiling a class can only change its own.
    let at_ceiling = count(class) >= limits.ceiling(class, max);
    let others = Class::ALL.into_iter().rev().filter(move |other| {
        let may_lose = count(*other) > limits.floor(*other, max);
        !at_ceiling && may_lose && *other != class && (under_floor || *other > class)
    });
    others.chain((count(class) > 0).then_some(class))
}

/// Whether `class` may take `amount` more of what cannot be taken back once given (memory,
/// handshakes, look-ups), beside what is `used`. The floors of classes with `demand` are kept free
/// for them; without it others may use them, and get them back as soon as something is returned.
#[must_use]
pub fn allot(
    class: Class,
    amount: u64,
    used: &[u64; CLASSES],
    max: u64,
    demand: &[bool; CLASSES],
    shares: &ClassShares,
) -> bool {
    let after = used[class as usize].saturating_add(amount);
    let total = used.iter().fold(amount, |sum, used| sum.saturating_add(*used));
    if total > max || after > shares.ceiling(class, max) {
        return false;
    }
    if after <= shares.floor(class, max) {
        return true;
    }
    let kept: u64 = Class::ALL
        .into_iter()
        .filter(|other| *other != class && demand[*other as usize])
        .map(|other| shares.floor(other, max).saturating_sub(used[other as usize]))
        .sum();
    total.saturating_add(kept) <= max
}

/// What is known when a message is about to be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageFacts {
    /// The pressure's level.
    pub level: Level,
    /// Octets of the message that are to be taken now: what was announced, or one piece.
    pub bytes: u64,
    /// Octets of messages in memory, by class.
    pub bytes_in_flight: [u64; CLASSES],
    /// As many as there may be.
    pub bytes_max: u64,
    /// The domain collects: it is answered at the receipt, and the promise bounds what is taken.
    pub collecting: bool,
    /// Messages that the promise still has room for, by class.
    pub room: [u64; CLASSES],
    /// How full the spool is; see [`crate::pressure::Readings::spool_used_per_mille`].
    pub spool_used_per_mille: u64,
    /// The greylist's verdict; asked only where [`crate::greylist::is_wanted`] says so.
    pub greylisted: bool,
    /// The client's prefix has spent its budget of unknown recipients.
    pub bad_recipients: bool,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// It is taken.
    Yes,
    /// 451 or 452: come again.
    Defer(Why),
    /// 421: come again, and the connection ends; it would cost a slot and change nothing.
    Refuse(Why),
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The spool is too full for this class: 452 4.3.1.
    Disk,
    /// Memory for messages is given out: 451 4.3.2.
    Memory,
    /// More than the drain can deliver within the promised delay: 451 4.3.2.
    Promise,
    /// Too many unknown recipients from there: 450 4.7.1, the same for known and unknown ones.
    BadRecipients,
    /// Suspect, under pressure, and not seen to come again yet: 451 4.7.1.
    Greylisted,
}

impl Why {
    /// For logs, counters and `why`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "the spool is too full for its class",
            Self::Memory => "message memory is used up",
            Self::Promise => "more than can be delivered within the promised delay",
            Self::BadRecipients => "too many unknown recipients",
            Self::Greylisted => "greylisted",
        }
    }
}

/// Whether a message is taken. What concerns everybody's mail comes first, what concerns this client
/// alone last, so that the reason given is the one whose cure helps.
#[must_use]
pub fn message(class: Class, facts: &MessageFacts, shares: &Shares) -> Take {
    if facts.spool_used_per_mille >= u64::from(shares.disk.of(class).ceiling) {
        return Take::Defer(Why::Disk);
    }
    // A maximum of 0 means that nobody counts it.
    let everybody = [true; CLASSES];
    if facts.bytes_max > 0
        && !allot(class, facts.bytes, &facts.bytes_in_flight, facts.bytes_max, &everybody, &shares.memory)
    {
        // A suspect in the red would only hold its slot until it may try again.
        let ends = class == Class::Suspect && facts.level == Level::Red;
        return if ends { Take::Refuse(Why::Memory) } else { Take::Defer(Why::Memory) };
    }
    if facts.collecting && facts.room[class as usize] == 0 {
        return Take::Defer(Why::Promise);
    }
    if facts.bad_recipients && class >= Class::New {
        let ends = class == Class::Suspect && facts.level > Level::Calm;
        return if ends { Take::Refuse(Why::BadRecipients) } else { Take::Defer(Why::BadRecipients) };
    }
    if facts.greylisted && class == Class::Suspect && facts.level > Level::Calm {
        return Take::Defer(Why::Greylisted);
    }
    Take::Yes
}

/// How long a session may take, and how much of the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Silence after which it is sent away.
    pub idle_ms: u64,
    /// How long the greeting is held back to hear who talks first; a client that speaks before it
    /// does not listen.
    pub greet_wait_ms: u64,
    /// Octets a second, over any 10 seconds of a body, under which it is sent away.
    pub min_bytes_per_s: u64,
}

/// The table. In the calm RFC 5321 4.5.3.2 holds for everybody: five minutes for a command.
///
/// Below it: an idle slot costs nothing while slots are free, so in the calm nobody is hurried. Under
/// pressure a slot that says nothing is taken from somebody who would. The known are never hurried
/// below what a slow but honest server needs (2 minutes); a stranger's real server answers within
/// seconds, and 15 is ten round trips of the slowest satellite link; a suspect gets one retransmission.
///
/// In the calm only suspects wait for their greeting: a second for every stranger would be a second
/// for every honest one, for nothing. Under pressure strangers wait: bots talk first, real servers
/// wait five minutes.
/// In the red the wait shrinks, because a slot is worth less time than that: 10,000 slots at 20,000
/// connects a second circulate in half a second.
///
/// The rate: a body at 64 octets a second takes five days for 25 MiB, and a modem gave 1,000; so
/// in the calm only what drips on purpose is stopped. The session's own 500 octets a second, where
/// they are more, hold as well.
#[must_use]
pub fn patience(class: Class, level: Level) -> Patience {
    let [idle_s, greet_wait_ms, min_bytes_per_s] = match (level, class) {
        (Level::Calm, Class::Pinned | Class::Known | Class::Provider) => [300, 0, 64],
        (Level::Calm, Class::New) => [300, 0, 128],
        (Level::Calm, Class::Suspect) => [300, 3000, 256],
        (Level::Busy, Class::Pinned | Class::Known) => [300, 0, 64],
        (Level::Busy, Class::Provider) => [120, 0, 256],
        (Level::Busy, Class::New) => [60, 500, 1024],
        (Level::Busy, Class::Suspect) => [20, 2000, 2048],
        (Level::Red, Class::Pinned) => [300, 0, 64],
        (Level::Red, Class::Known) => [120, 0, 256],
        (Level::Red, Class::Provider) => [60, 0, 1024],
        (Level::Red, Class::New) => [15, 100, 2048],
        (Level::Red, Class::Suspect) => [5, 300, 4096],
    };
    Patience { idle_ms: idle_s * 1000, greet_wait_ms, min_bytes_per_s }
}

#[cfg(test)]
mod tests;
