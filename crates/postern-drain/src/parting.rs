//! The items that come in place of one that was judged: what is kept aside, and what a filter wants for some recipients
//! only.
//!
//! Called by `judge`, which carries out the one `finish`. Decides lanes and bytes, never an action; but what a filter
//! disarmed is never handed on as it came, so a new body that is too large to be kept is either asked for again or
//! waits for the operator.

use postern_proto::envelope::{Meta, Recipient};
use postern_proto::header_edit::BEGINNING_BYTES_MAX;
use postern_proto::judgement::Action;
use postern_proto::milter::split_message;
use postern_spool::{BodySource, Child, ChildBody, Lane};

use crate::delivery::beginning;
use crate::filters::FilterTable;
use crate::limits::{KEPT_BODIES_BYTES_MAX, QUARANTINE_CLASS, RELEASED_CLASS};
use crate::worker::now_unix_ms;

/// What filters left of a message.
pub(crate) struct Parting {
    pub(crate) meta: Meta,
    /// For recipients that were refused by themselves.
    pub(crate) apart: Option<Meta>,
    /// All behind the blank line.
    pub(crate) new_body: Option<Vec<u8>>,
    /// A `drain` command let it go from hold.
    pub(crate) released: bool,
}

impl Parting {
    /// An item for each part and recipient domain.
    pub(crate) async fn children(
        self,
        lane: &Lane,
        body: &BodySource,
        filters: &FilterTable,
    ) -> std::io::Result<Vec<Child>> {
        let Self { meta, apart, new_body, released } = self;
        let mut letters = by_domain(lane, meta, filters, true);
        letters.extend(apart.into_iter().flat_map(|apart| by_domain(lane, apart, filters, false)));
        let bytes = match new_body {
            Some(new) => Some(with_new_body(&beginning(body, BEGINNING_BYTES_MAX as u64).await?, &new)),
            None => None,
        };
        let copies = letters.iter().filter(|letter| letter.meta.judged).count();
        let fits = |bytes: &Vec<u8>| bytes.len().saturating_mul(copies) <= KEPT_BODIES_BYTES_MAX;
        let kept = bytes.as_ref().filter(|bytes| fits(bytes));
        let lost = bytes.is_some() && kept.is_none();
        Ok(letters.into_iter().map(|letter| letter.into_child(lane, kept, lost, released)).collect())
    }
}

struct Letter {
    domain: String,
    meta: Meta,
    /// The filters took these recipients.
    taken: bool,
}

impl Letter {
    fn into_child(mut self, of: &Lane, kept: Option<&Vec<u8>>, lost: bool, released: bool) -> Child {
        let judged = self.meta.judged;
        if lost && judged {
            match self.meta.judgement.as_mut() {
                // Without the recipients that were refused it is delivered as soon as it was judged again.
                Some(judgement) if self.taken && judgement.action != Action::Quarantine => self.meta.judged = false,
                Some(judgement) => judgement.action = Action::Quarantine,
                None => {}
            }
        }
        let body = match kept {
            Some(bytes) if judged => {
                self.meta.size = bytes.len() as u64;
                self.meta.eight_bit |= !bytes.is_ascii();
                ChildBody::New(bytes.clone())
            }
            _ => ChildBody::Parent,
        };
        let own = *self.domain == *of.key;
        let class = match of.class {
            _ if action_of(&self.meta) == Action::Quarantine => QUARANTINE_CLASS,
            _ if released && own => RELEASED_CLASS,
            RELEASED_CLASS if !own => self.meta.checks.class,
            class => class,
        };
        Child { lane: Lane::new(self.domain, class), meta: self.meta.to_bytes(), due_unix_ms: now_unix_ms(), body }
    }
}

fn by_domain(lane: &Lane, meta: Meta, filters: &FilterTable, taken: bool) -> Vec<Letter> {
    let mut domains: Vec<&str> = meta.recipients.iter().map(|to| &*to.address.domain).collect();
    domains.sort_unstable();
    domains.dedup();
    let letter = |domain: &str| {
        let of = |to: &&Recipient| *to.address.domain == *domain;
        let mut meta = Meta { recipients: meta.recipients.iter().filter(of).cloned().collect(), ..meta.clone() };
        if *domain != *lane.key && filters.spares(domain) {
            // Judged for others on the same list; this domain wants none of it.
            (meta.judged, meta.judgement) = (false, None);
        }
        Letter { domain: domain.to_owned(), meta, taken }
    };
    domains.into_iter().map(letter).collect()
}

pub(crate) fn action_of(meta: &Meta) -> Action {
    meta.judgement.as_ref().map_or(Action::Accept, |judgement| judgement.action)
}

/// A message with the header that it has.
fn with_new_body(beginning: &[u8], new: &[u8]) -> Vec<u8> {
    let mut bytes = header_as_filters_see_it(beginning);
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(new);
    bytes
}

/// All in front of what a filter replaces with a new body, in whole lines: BDAT brings messages that end within one.
pub(crate) fn header_as_filters_see_it(beginning: &[u8]) -> Vec<u8> {
    let mut header = beginning[..split_message(beginning).0].to_vec();
    if !header.is_empty() && !header.ends_with(b"\n") {
        header.extend_from_slice(b"\r\n");
    }
    header
}

#[cfg(test)]
mod tests;
