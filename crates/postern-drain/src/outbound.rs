//! The postern or port 25: what is done with mail for another domain. Pure.
//!
//! From what is known of the domain's door (pinned, published, remembered), of the message's author and of
//! earlier attempts, to one [`Step`]; and from what a step showed to the next. The rule of the downgrade
//! stands here once: a silent door is taken for an attack on it, but waiting is what the attacker wants. So all waiting
//! for a door counts together, whatever it waits for, and ends. `outward` carries the steps out.

use std::collections::HashMap;

use postern_proto::author::Author;
use postern_proto::door::{CloseCode, Mode};
use postern_proto::reply::Reply;

/// From the first wait for a door: for so long mail waits for it, then port 25 is used. Longer would let whoever
/// silences a door hold up mail; shorter would let a restart or a lost route decide. A door that is there and puts mail off
/// (an appointment, PARK, a link that carries nothing) gets as long: mail that port 25 would deliver must not wait for it until
/// it bounces.
pub(crate) const SILENCE_S: u64 = 15 * 60;
/// How often a silent door is tried while mail waits for it.
pub(crate) const RETRY_S: u64 = 60;
/// How often it is tried after that: each try costs a message the deadline of a connect.
pub(crate) const PROBE_S: u64 = 5 * 60;
/// A silence that nobody looked at for so long says nothing of today: the next one begins anew. Without this,
/// one old silence would take the wait away that stands before each downgrade.
pub(crate) const STALE_S: u64 = 24 * 3600;
/// How soon a door is tried again that said it would be back: a restart takes seconds.
pub(crate) const BACK_SOON_S: u64 = 10;
/// An appointment within this is kept. Later than that a stranger is better served by port 25.
pub(crate) const APPOINTMENT_S: u64 = 120;
/// For so long a domain's word "by port 25" is remembered.
pub(crate) const USE_MX_S: u64 = 3600;
/// Words of that kind remembered, 100 octets each. Full: a further one is not, and costs its author a refusal per message.
pub(crate) const USE_MX_MAX: usize = 4_096;

/// Where what is known of a door comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The operator.
    Pinned,
    /// DNS, validated or not.
    Published {
        /// By DNSSEC.
        secure: bool,
    },
    /// An earlier mail's look.
    Remembered {
        /// What it was learnt from could not be forged.
        secure: bool,
    },
}

impl Source {
    /// Whether it may bind us: an unsigned answer is worth its TTL, and `prefer` at most.
    pub fn is_secure(self) -> bool {
        match self {
            Self::Pinned => true,
            Self::Published { secure } | Self::Remembered { secure } => secure,
        }
    }
}

/// Which of what is known of a door counts.
///
/// The operator's word first. A memory that cannot be forged stands until it is too old, whatever an answer says that
/// could be: taking the record away is the first thing that an attacker would do. Any memory that still holds serves where DNS fails.
pub fn source(pinned: bool, published: Result<Option<bool>, ()>, remembered: Option<bool>) -> Option<Source> {
    let binding = remembered == Some(true);
    match published {
        _ if pinned => Some(Source::Pinned),
        Ok(Some(true)) => Some(Source::Published { secure: true }),
        _ if binding => Some(Source::Remembered { secure: true }),
        Ok(Some(false)) => Some(Source::Published { secure: false }),
        Ok(None) => None,
        Err(()) => remembered.map(|secure| Source::Remembered { secure }),
    }
}

/// Everything the first step depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// There is a door.
    pub door: Option<Source>,
    /// What the domain asks of who cannot reach it.
    pub mode: Mode,
    /// The author is of our own organisation: others the door would send away.
    pub own_author: bool,
    /// It sent this author away lately.
    pub use_mx: bool,
    /// There is room for a link.
    pub room: bool,
    /// Unix seconds of the first silence, or other wait for it, since it last answered for a message.
    pub silent_since_s: Option<u64>,
    /// Seconds since it was last tried in vain, when that is known.
    pub tried_ago_s: Option<u64>,
    /// Unix seconds.
    pub now_s: u64,
}

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Through the door.
    Door,
    /// By port 25.
    Mx {
        /// Only to a server that proves to be the domain's.
        proven: bool,
        /// Why, for the log and the counters.
        why: Why,
    },
    /// The message waits for so many seconds, and so does all mail for the domain.
    Wait(u64),
}

/// Why port 25.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The domain has no door.
    NoDoor,
    /// The door takes our own authors' mail only.
    Author,
    /// The door said so.
    UseMx,
    /// The door is silent, or has put mail off for as long as it may: the downgrade.
    Silent,
    /// The door has no time for us soon.
    Later,
    /// The door does not want us.
    Refused,
    /// We have links to too many domains.
    Full,
}

/// How an attempt to open the door ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Nobody answered, at the second door neither; or somebody with another key did, or it broke off.
    Silent,
    /// Come at this time, Unix seconds. Whoever sits on the way can say so too.
    Appointment(u64),
    /// Come in so many seconds; said by the door itself.
    Parked(u64),
    /// The door itself said no.
    Refused(CloseCode),
}

impl Facts {
    /// `enforce`, and said where it counts.
    fn enforces(&self) -> bool {
        self.mode == Mode::Enforce && self.door.is_some_and(Source::is_secure)
    }

    /// Since when it is silent, unless that was too long ago.
    fn silent_since_s(&self) -> Option<u64> {
        let forgotten = self.tried_ago_s.is_none_or(|ago| ago >= STALE_S);
        let old = |since: &u64| self.now_s.saturating_sub(*since) >= STALE_S;
        self.silent_since_s.filter(|since| !(forgotten && old(since)))
    }

    fn silent_for_s(&self) -> Option<u64> {
        self.silent_since_s().map(|since| self.now_s.saturating_sub(since))
    }

    /// Waits, while waiting has not had its time.
    fn wait(&self, seconds: u64) -> Step {
        match self.silent_for_s().unwrap_or(0) {
            silent if silent < SILENCE_S => Step::Wait(seconds.clamp(1, SILENCE_S - silent)),
            _ => Step::Mx { proven: self.enforces(), why: Why::Silent },
        }
    }

    /// What to keep as the beginning of a silence that was just met.
    pub fn silence_begins_s(&self) -> u64 {
        self.silent_since_s().unwrap_or(self.now_s)
    }
}

/// The first step.
pub fn first(facts: &Facts) -> Step {
    let mx = |why| Step::Mx { proven: false, why };
    if facts.door.is_none() {
        return mx(Why::NoDoor);
    }
    // What the door would say, or has said, to whom it knows: no attacker can bring it about.
    if !facts.own_author {
        return mx(Why::Author);
    }
    if facts.use_mx {
        return mx(Why::UseMx);
    }
    if !facts.room {
        return if facts.enforces() { Step::Wait(RETRY_S) } else { mx(Why::Full) };
    }
    match (facts.silent_for_s(), facts.tried_ago_s) {
        (Some(silent), Some(ago)) if silent < SILENCE_S && ago < RETRY_S => {
            Step::Wait((RETRY_S - ago).min(SILENCE_S - silent))
        }
        (Some(silent), Some(ago)) if silent >= SILENCE_S && ago < PROBE_S => {
            Step::Mx { proven: facts.enforces(), why: Why::Silent }
        }
        _ => Step::Door,
    }
}

/// The step after the door did not open. A wait begins a silence, or goes on with it.
pub fn after(facts: &Facts, closed: Closed) -> Step {
    // Nobody signed an appointment; and that a door has no time for us is no word about port 25.
    let later = Step::Mx { proven: facts.enforces(), why: Why::Later };
    match closed {
        Closed::Silent => facts.wait(RETRY_S),
        Closed::Appointment(at_s) => match at_s.saturating_sub(facts.now_s) {
            wait @ ..=APPOINTMENT_S => facts.wait(wait),
            _ => later,
        },
        Closed::Parked(wait @ ..=APPOINTMENT_S) => facts.wait(wait),
        Closed::Parked(_) => later,
        // It will be back in a moment, or has only had enough of this link.
        Closed::Refused(CloseCode::ShuttingDown | CloseCode::LifetimeOver | CloseCode::Done) => facts.wait(BACK_SOON_S),
        Closed::Refused(CloseCode::TooMany | CloseCode::TooSlow | CloseCode::Internal) => later,
        Closed::Refused(_) => Step::Mx { proven: false, why: Why::Refused },
    }
}

/// The step after the door let us in, and the stream ended without an answer; that begins a silence too. `None`: the message
/// is tried again as after any attempt. `tried_for_s`: for how long it has been, where it may be this message alone
/// that ends streams; the door's answers to others would then keep it here for ever.
pub(crate) fn broke(facts: &Facts, tried_for_s: Option<u64>) -> Option<Step> {
    match facts.silent_for_s().max(tried_for_s).unwrap_or(0) {
        waited if waited < SILENCE_S => None,
        _ => Some(Step::Mx { proven: facts.enforces(), why: Why::Silent }),
    }
}

/// Whether a door that refused us so will do it again for the next message.
pub(crate) fn is_lasting(code: CloseCode) -> bool {
    code == CloseCode::NoProof
}

/// Whether the author is of our organisation, as the door on the other side will judge.
pub(crate) fn is_own(author: &Author, domain: &str, org: &str) -> bool {
    *author.domain == *domain || is_below(&author.domain, org)
}

/// Whether a name is this domain's, or below it.
pub(crate) fn is_below(name: &str, domain: &str) -> bool {
    let rest = name.strip_suffix(domain).filter(|_| !domain.is_empty());
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether a refusal says "by port 25".
pub(crate) fn says_use_mx(reply: &Reply) -> bool {
    !reply.is_positive() && reply.text.starts_with("USE-MX")
}

/// Which authors a domain's door sent to port 25 lately.
#[derive(Debug, Default)]
pub struct UseMx {
    until_s: HashMap<(Box<str>, Box<str>), u64>,
}

impl UseMx {
    /// It did, now.
    pub fn remember(&mut self, domain: &str, author: &str, now_s: u64) {
        if self.until_s.len() >= USE_MX_MAX {
            self.until_s.retain(|_, until| *until > now_s);
        }
        if self.until_s.len() < USE_MX_MAX {
            self.until_s.insert((domain.into(), author.into()), now_s.saturating_add(USE_MX_S));
        }
    }

    /// Whether it did.
    pub fn holds(&self, domain: &str, author: &str, now_s: u64) -> bool {
        let until = self.until_s.get(&(domain.into(), author.into()));
        // A clock that was set back must not make an hour a year.
        until.is_some_and(|until| now_s < *until && until - now_s <= USE_MX_S)
    }
}

#[cfg(test)]
mod tests;
