//! What becomes of an item after an attempt: done, tried again, split, reported, or a dead letter.
//!
//! Pure: from the metadata and one outcome per recipient to a [`Settlement`] that the worker
//! carries out with a single `postpone` or `finish`, so that nothing of it can be half done after
//! a crash. Never talks to the spool and never builds a report's text.

use std::collections::BTreeMap;

use postern_proto::envelope::{Meta, Recipient};
use postern_proto::reply::{Enhanced, Reply};

use crate::limits::REASON_BYTES_MAX;
use crate::schedule::Retry;

/// How one recipient fared in this attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Somebody else is responsible now. `reports` says that they know of `NOTIFY=` and will
    /// report success themselves (RFC 3461 section 5.2.2), or that it was final delivery.
    Delivered(Handover),
    /// 5yz, in the words of the next hop.
    Refused(Reply),
    /// 4yz, in the words of the next hop or of our disk.
    Deferred(Reply),
    /// No verdict: no connection, time ran out, nonsense was said.
    Unreached(String),
    /// Nobody asked.
    NotTried {
        /// When to look again.
        due_unix_ms: u64,
        /// Its destination is busy or backing off; otherwise the domain is held or has no route, and
        /// the message does not age.
        may_leave: bool,
    },
}

impl Outcome {
    /// It was tried, or would have been.
    fn may_leave(&self) -> bool {
        !matches!(self, Self::NotTried { may_leave: false, .. })
    }
}

/// Who took the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// A mailbox of ours, or LMTP: final delivery.
    Final,
    /// A hop that understood `NOTIFY=`.
    WithNotify,
    /// A hop that was not told of `NOTIFY=`.
    WithoutNotify,
}

/// Everything a settlement depends on.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// As leased.
    pub meta: &'a Meta,
    /// One per recipient, in their order.
    pub outcomes: &'a [Outcome],
    /// Recipient domain of the lane the item lies in.
    pub lane_key: &'a str,
    /// A sender is waiting and nothing is durable yet.
    pub tentative: bool,
    /// Wall clock.
    pub now_unix_ms: u64,
    /// When to try again.
    pub retry: &'a Retry,
    /// For the jitter.
    pub random: u64,
}

impl Attempt<'_> {
    /// From when expiry counts. A message that was kept back for longer than that may still fail at its
    /// first attempt for a passing reason: it has all its days from here.
    fn tried_since_unix_ms(&self) -> u64 {
        self.meta.tried_since_unix_ms.unwrap_or(self.now_unix_ms)
    }
}

/// What to do with the item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// It stays, with this metadata.
    Postpone(Box<Letter>),
    /// It goes, and these come in its place, atomically.
    Finish {
        /// What a waiting session hears.
        verdict: Verdict,
        /// Recipients that remain, by domain.
        rest: Vec<Letter>,
        /// Recipients that failed for good with nobody to tell, by domain.
        dead: Vec<Letter>,
        /// Recipients whose sender is to be told.
        report: Vec<Told>,
    },
}

/// What a waiting session is to hear; means nothing once the item was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has arrived.
    Delivered,
    /// 5yz.
    Refused(Reply),
    /// 4yz.
    Deferred(Reply),
}

/// The same bytes for fewer recipients, all in one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Of all its recipients.
    pub domain: String,
    /// With those recipients only.
    pub meta: Meta,
    /// When it may leave.
    pub due_unix_ms: u64,
}

/// One recipient in a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Who.
    pub recipient: Recipient,
    /// What became of it.
    pub what: Action,
}

/// `Action:` of RFC 3464 section 2.3.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// For good.
    Failed(Reply),
    /// Final delivery, asked for by `NOTIFY=SUCCESS`.
    Delivered,
    /// Handed to a hop that will not report, asked for by `NOTIFY=SUCCESS`.
    Relayed,
}

/// Decides. Of a tentative item that nobody took, what the sender hears is the first explicit
/// word of a next hop: a 4yz before a 5yz, because a refusal for some must not end the message for
/// all. Without any explicit word it is postponed, and the door answers at the receipt.
pub fn settle(attempt: &Attempt<'_>) -> Settlement {
    debug_assert_eq!(attempt.meta.recipients.len(), attempt.outcomes.len());
    if attempt.tentative && !attempt.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Delivered(_))) {
        return settle_waiting(attempt);
    }
    let sorted = Sorted::new(attempt);
    if sorted.told.is_empty() && sorted.dead.is_empty() && !attempt.tentative {
        let here = sorted.rest.len() == 1 && sorted.rest.contains_key(attempt.lane_key);
        if here {
            let rest = sorted.rest.into_iter().map(|(domain, rest)| remaining(attempt, domain, rest)).next();
            return rest.map_or_else(delivered, |letter| Settlement::Postpone(Box::new(letter)));
        }
    }
    Settlement::Finish {
        verdict: Verdict::Delivered,
        rest: sorted.rest.into_iter().map(|(domain, rest)| remaining(attempt, domain, rest)).collect(),
        dead: sorted.dead.into_iter().map(|(domain, dead)| dead_letter(attempt, domain, dead)).collect(),
        report: sorted.told,
    }
}

fn delivered() -> Settlement {
    Settlement::Finish { verdict: Verdict::Delivered, rest: Vec::new(), dead: Vec::new(), report: Vec::new() }
}

/// A sender waits and no recipient was delivered.
fn settle_waiting(attempt: &Attempt<'_>) -> Settlement {
    let ends = |verdict| Settlement::Finish { verdict, rest: Vec::new(), dead: Vec::new(), report: Vec::new() };
    let deferred = attempt.outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Deferred(reply) => Some(clean(reply)),
        _ => None,
    });
    if let Some(reply) = deferred {
        return ends(Verdict::Deferred(reply));
    }
    let refused: Vec<&Reply> = attempt
        .outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Refused(reply) => Some(reply),
            _ => None,
        })
        .collect();
    match refused.first() {
        Some(reply) if refused.len() == attempt.outcomes.len() => ends(Verdict::Refused(clean(reply))),
        _ => {
            let rest = attempt.meta.recipients.iter().cloned().zip(attempt.outcomes).collect();
            Settlement::Postpone(Box::new(remaining(attempt, attempt.lane_key.to_owned(), rest)))
        }
    }
}

type Tried<'a> = Vec<(Recipient, &'a Outcome)>;

/// Recipients by what becomes of them; those done are in none.
#[derive(Default)]
struct Sorted<'a> {
    rest: BTreeMap<String, Tried<'a>>,
    dead: BTreeMap<String, Vec<(Recipient, Reply)>>,
    told: Vec<Told>,
}

impl<'a> Sorted<'a> {
    fn new(attempt: &Attempt<'a>) -> Self {
        let mut sorted = Self::default();
        let expired = attempt.retry.is_expired(attempt.tried_since_unix_ms(), attempt.now_unix_ms);
        for (recipient, outcome) in attempt.meta.recipients.iter().zip(attempt.outcomes) {
            let failure = match outcome {
                Outcome::Delivered(handover) => {
                    sorted.tell_success(attempt.meta, recipient, *handover);
                    continue;
                }
                Outcome::Refused(reply) => Some(clean(reply)),
                Outcome::Deferred(reply) if expired => Some(gave_up(&reply.to_string())),
                Outcome::Unreached(why) if expired => Some(gave_up(why)),
                Outcome::Deferred(_) | Outcome::Unreached(_) | Outcome::NotTried { .. } => None,
            };
            let domain = recipient.address.domain.to_string();
            match failure {
                None => sorted.rest.entry(domain).or_default().push((recipient.clone(), outcome)),
                Some(reply) if is_to_be_told(attempt.meta, recipient) => {
                    sorted.told.push(Told { recipient: recipient.clone(), what: Action::Failed(reply) });
                }
                Some(reply) => sorted.dead.entry(domain).or_default().push((recipient.clone(), reply)),
            }
        }
        sorted
    }

    /// RFC 3461 sections 5.2.2 and 5.2.3: success is reported by who delivers, or by who hands on
    /// to a hop that does not know how. Only mail that proved who sent it may ask.
    fn tell_success(&mut self, meta: &Meta, recipient: &Recipient, handover: Handover) {
        let what = match handover {
            Handover::WithNotify => return,
            Handover::Final => Action::Delivered,
            Handover::WithoutNotify => Action::Relayed,
        };
        if recipient.notify.given
            && recipient.notify.success
            && meta.arrival.via.is_reportable()
            && meta.sender.is_some()
        {
            self.told.push(Told { recipient: recipient.clone(), what });
        }
    }
}

/// Whether a failure is reported: only mail from the relay listener and from the postern proved who sent it, a report
/// never answers a report (null sender, RFC 5321 section 4.5.5), and `NOTIFY=NEVER` is obeyed
/// (the operator then sees a dead letter).
fn is_to_be_told(meta: &Meta, recipient: &Recipient) -> bool {
    let wanted = recipient.notify.failure || !recipient.notify.given;
    meta.arrival.via.is_reportable() && meta.sender.is_some() && wanted
}

fn remaining(attempt: &Attempt<'_>, domain: String, rest: Tried<'_>) -> Letter {
    let mut meta = Meta { recipients: Vec::with_capacity(rest.len()), ..attempt.meta.clone() };
    let since = attempt.tried_since_unix_ms();
    meta.tried_since_unix_ms = rest.iter().any(|(_, outcome)| outcome.may_leave()).then_some(since);
    let (mut error, mut due) = (None, None);
    for (recipient, outcome) in rest {
        meta.recipients.push(recipient);
        match outcome {
            Outcome::Deferred(reply) | Outcome::Refused(reply) => error = error.or(Some(bounded(&reply.to_string()))),
            Outcome::Unreached(why) => error = error.or(Some(bounded(why))),
            Outcome::NotTried { due_unix_ms, .. } => due = due.max(Some(*due_unix_ms)),
            Outcome::Delivered(_) => {}
        }
    }
    if let Some(error) = error {
        meta.attempts = meta.attempts.saturating_add(1);
        meta.last_error = Some(error);
        due = Some(attempt.retry.next_unix_ms(since, meta.attempts, attempt.now_unix_ms, attempt.random));
    }
    Letter { domain, meta, due_unix_ms: due.unwrap_or(0).max(attempt.now_unix_ms) }
}

fn dead_letter(attempt: &Attempt<'_>, domain: String, dead: Vec<(Recipient, Reply)>) -> Letter {
    let reason = dead.first().map(|(_, reply)| bounded(&reply.to_string()));
    let meta = Meta {
        recipients: dead.into_iter().map(|(recipient, _)| recipient).collect(),
        attempts: attempt.meta.attempts.saturating_add(1),
        last_error: reason.clone(),
        note: reason,
        ..attempt.meta.clone()
    };
    Letter { domain, meta, due_unix_ms: attempt.now_unix_ms }
}

/// RFC 3463: x.4.7, delivery time expired.
fn gave_up(last: &str) -> Reply {
    Reply::new(554, Enhanced(5, 4, 7), "")
        .with_text(bounded(&format!("delivery time expired; the last attempt said: {last}")))
}

/// A reply of a next hop as we may repeat it: printable ASCII, bounded in length and lines.
pub(crate) fn clean(reply: &Reply) -> Reply {
    let text: Vec<String> = reply.text.split('\n').take(8).map(printable).collect();
    Reply { text: bounded(&text.join("\n")).into(), ..reply.clone() }
}

fn printable(line: &str) -> String {
    line.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}

/// Cut to [`REASON_BYTES_MAX`] at a character's edge.
pub(crate) fn bounded(text: &str) -> String {
    let mut end = text.len().min(REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests;
