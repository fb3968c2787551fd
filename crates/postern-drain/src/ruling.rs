//! From what the filters said about a message to what becomes of it. Pure.
//!
//! `judge` asks the filters and calls [`Hearing::hear`] for each answer; [`Hearing::rule`] decides, and
//! may be asked again when it turns out that the sender was told 250 meanwhile. After that nothing is
//! refused and nothing thrown away: spam is marked, or kept aside.

use postern_net::filter::{Finding, Kind, Verdict};
use postern_proto::address::Address;
use postern_proto::envelope::{Meta, Notify, Recipient};
use postern_proto::judgement::{Action, HeaderChange, Judgement};
use postern_proto::reply::{Enhanced, Reply};

use crate::filters::{FilterOptions, OnSpam};
use crate::limits::{ADDED_RECIPIENTS_MAX, HEADER_CHANGE_BYTES_MAX, HEADER_CHANGES_MAX};
use crate::settle::{bounded, clean};

/// What was said so far, in the order of the filters.
#[derive(Clone, Debug)]
pub struct Hearing {
    action: Action,
    score_hundredths: Option<i32>,
    /// Who decided: those with the present action.
    by: Vec<String>,
    reason: Option<String>,
    headers: Vec<HeaderChange>,
    header_bytes: usize,
    body: Option<Vec<u8>>,
    refused: Vec<(usize, Reply)>,
    added: Vec<Address>,
    removed: Vec<Address>,
    sender: Option<Option<Address>>,
    /// A filter ended the judging.
    end: Option<End>,
    /// What becomes of it when it is spam and may not be refused.
    on_spam: Action,
    spam: bool,
    /// Some filter has seen the message.
    seen: bool,
}

#[derive(Clone, Debug)]
enum End {
    Refuse(Reply),
    Defer(Reply),
}

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// 5yz in the session; never after a 250.
    Refuse(Reply),
    /// Not now.
    Defer(Reply),
    /// It leaves, or is kept aside.
    Judged(Box<Judged>),
}

/// A message that was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// With the judgement and the envelope that the filters want.
    pub meta: Meta,
    /// Their new body.
    pub body: Option<Vec<u8>>,
    /// The same message for recipients that a filter refused by themselves while it took others: they
    /// get it as spam.
    pub apart: Option<Meta>,
    /// Recipients that a filter wanted added and that are not: not ours, or too many.
    pub not_added: usize,
}

impl Hearing {
    /// Nothing was said yet.
    #[expect(clippy::new_without_default, reason = "a hearing begins, it is not a default")]
    pub fn new() -> Self {
        Self {
            action: Action::Accept,
            score_hundredths: None,
            by: Vec::new(),
            reason: None,
            headers: Vec::new(),
            header_bytes: 0,
            body: None,
            refused: Vec::new(),
            added: Vec::new(),
            removed: Vec::new(),
            sender: None,
            end: None,
            on_spam: Action::Mark,
            spam: false,
            seen: false,
        }
    }

    /// Takes in what one filter said. False when that ends the judging.
    pub fn hear(&mut self, options: &FilterOptions, finding: Finding) -> bool {
        let on_spam = match options.on_spam {
            OnSpam::Mark => Action::Mark,
            OnSpam::Quarantine => Action::Quarantine,
        };
        let action = match &finding.verdict {
            Verdict::Accept => Action::Accept,
            // spamd says "spam" and nothing more: what to do with it is all the operator's.
            Verdict::Mark if matches!(options.filter.kind, Kind::Spamd { .. }) => on_spam,
            Verdict::Mark => Action::Mark,
            Verdict::Quarantine => Action::Quarantine,
            Verdict::Reject(reply) => {
                self.end = Some(End::Refuse(clean(reply)));
                on_spam
            }
            Verdict::Tempfail(reply) => {
                self.end = Some(End::Defer(clean(reply)));
                Action::Accept
            }
            Verdict::Discard => on_spam,
        };
        if severity(on_spam) > severity(self.on_spam) {
            self.on_spam = on_spam;
        }
        let ended = matches!(finding.verdict, Verdict::Reject(_) | Verdict::Tempfail(_) | Verdict::Discard);
        let reason = match (&finding.verdict, finding.reason) {
            (Verdict::Reject(reply) | Verdict::Tempfail(reply), None) => Some(clean(reply).to_string()),
            (_, reason) => reason,
        };
        self.decide(&options.filter.name, action, finding.score_hundredths, reason);
        self.seen |= !finding.unasked;
        self.spam |= action != Action::Accept;
        for change in finding.headers {
            self.change_header(change);
        }
        self.body = finding.body.or_else(|| self.body.take());
        for (i, reply) in finding.refused_recipients {
            // By two filters: it is one recipient all the same.
            if self.refused.iter().all(|(at, _)| *at != i) {
                self.refused.push((i, clean(&reply)));
            }
        }
        self.added.extend(finding.add_recipients);
        self.removed.extend(finding.remove_recipients);
        self.sender = finding.sender.or_else(|| self.sender.take());
        !ended
    }

    /// The strongest action decides, and gives score and reason; equals stand together.
    fn decide(&mut self, name: &str, action: Action, score: Option<i32>, reason: Option<String>) {
        if severity(action) > severity(self.action) {
            self.action = action;
            self.by.clear();
            (self.score_hundredths, self.reason) = (score.or(self.score_hundredths), None);
        }
        if action == self.action {
            self.by.push(name.to_owned());
            self.score_hundredths = self.score_hundredths.or(score);
            self.reason = self.reason.take().or(reason.map(|words| bounded(&words)));
        }
    }

    fn change_header(&mut self, change: HeaderChange) {
        let bytes = match &change {
            HeaderChange::Add { name, value }
            | HeaderChange::Insert { name, value, .. }
            | HeaderChange::Change { name, value, .. } => name.len() + value.len(),
            HeaderChange::Delete { name, .. } => name.len(),
        };
        if self.headers.len() < HEADER_CHANGES_MAX && self.header_bytes + bytes <= HEADER_CHANGE_BYTES_MAX {
            self.header_bytes += bytes;
            self.headers.push(change);
        }
    }

    /// Some filter called it spam (or a refused recipient says so); `None` when none has decided. What was too big for all
    /// of them is not good mail by that: anybody can write 501 KiB.
    pub(crate) fn is_spam(&self) -> Option<bool> {
        match self.end {
            Some(End::Defer(_)) => None,
            _ if !self.seen => None,
            _ => Some(self.spam || !self.refused.is_empty()),
        }
    }

    /// Decides. `tentative`: the sender waits for the answer. `ours`: whether a domain's mail is delivered
    /// here, which bounds what filters may add: they must not make a relay of us.
    pub fn rule(&self, meta: &Meta, tentative: bool, ours: impl Fn(&str) -> bool) -> Ruling {
        let refused_all = (0..meta.recipients.len()).all(|i| self.refused.iter().any(|(at, _)| *at == i));
        match &self.end {
            Some(End::Defer(reply)) => return Ruling::Defer(reply.clone()),
            Some(End::Refuse(reply)) if tentative => return Ruling::Refuse(reply.clone()),
            _ if tentative && refused_all => return Ruling::Refuse(self.first_refusal()),
            _ => {}
        }
        let (recipients, not_added) = self.recipients(meta, ours);
        // Nobody is left: that is thrown away by another name, and not done.
        let nobody = recipients.is_empty();
        let action = if nobody { stronger(self.action, self.on_spam) } else { self.action };
        let recipients = if nobody { meta.recipients.clone() } else { recipients };
        let apart: Vec<Recipient> = match nobody {
            true => Vec::new(),
            false => self.refused.iter().filter_map(|(i, _)| meta.recipients.get(*i).cloned()).collect(),
        };
        Ruling::Judged(Box::new(Judged {
            apart: (!apart.is_empty()).then(|| self.judged(meta, stronger(self.action, self.on_spam), apart)),
            meta: self.judged(meta, action, recipients),
            body: self.body.clone(),
            not_added,
        }))
    }

    fn judged(&self, meta: &Meta, action: Action, recipients: Vec<Recipient>) -> Meta {
        let judgement = Judgement {
            action,
            score_hundredths: self.score_hundredths,
            by: self.by.join(","),
            reason: self.reason.clone(),
            headers: self.headers.clone(),
        };
        let sender = self.sender.clone().unwrap_or_else(|| meta.sender.clone());
        Meta { sender, recipients, judged: true, judgement: Some(judgement), ..meta.clone() }
    }

    /// Those that remain, and those that were added; and how many were not.
    fn recipients(&self, meta: &Meta, ours: impl Fn(&str) -> bool) -> (Vec<Recipient>, usize) {
        let refused = |i: &usize| self.refused.iter().any(|(at, _)| at == i);
        let kept =
            meta.recipients.iter().enumerate().filter(|(i, to)| !refused(i) && !self.removed.contains(&to.address));
        let mut recipients: Vec<Recipient> = kept.map(|(_, to)| to.clone()).collect();
        let (mut added, mut not_added) = (0, 0);
        // Those that it was judged to have before have had it, or are among the recipients.
        let asked_for = if meta.was_judged_before() { &[] } else { self.added.as_slice() };
        for address in asked_for {
            if recipients.iter().any(|to| to.address == *address) {
                continue;
            }
            if added < ADDED_RECIPIENTS_MAX && ours(&address.domain) {
                added += 1;
                recipients.push(Recipient { address: address.clone(), original: None, notify: Notify::default() });
            } else {
                not_added += 1;
            }
        }
        (recipients, not_added)
    }

    fn first_refusal(&self) -> Reply {
        let first = self.refused.iter().min_by_key(|(i, _)| *i);
        first.map_or_else(|| Reply::new(550, Enhanced(5, 7, 1), "Refused"), |(_, reply)| reply.clone())
    }
}

fn severity(action: Action) -> u8 {
    match action {
        Action::Accept => 0,
        Action::Mark => 1,
        Action::Quarantine => 2,
    }
}

fn stronger(one: Action, other: Action) -> Action {
    if severity(other) > severity(one) { other } else { one }
}

#[cfg(test)]
mod tests;
