//! Which filters judge which mail: the table of them, beside the table of routes.
//!
//! Pure data, replaced as a whole while the drain runs. Asking a filter is `judge`'s part, what its
//! answer means is `ruling`'s. The one rule that both keep stands in [`FilterTable::must_judge`]:
//! what a stranger sent does not leave to a domain with filters before they have spoken.

use std::collections::HashSet;

use postern_net::filter::Filter;
use postern_proto::envelope::Meta;

/// One filter and how it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterOptions {
    /// What is asked.
    pub filter: Filter,
    /// Judgements under way at the same time; at least one. The filter's own number of workers is a
    /// good choice: more only wait there, and their time runs.
    pub workers: usize,
    /// What becomes of spam that cannot be refused any more, because its sender was told 250.
    pub on_spam: OnSpam,
}

/// What becomes of spam after its 250: it is neither bounced nor thrown away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnSpam {
    /// It is delivered with `X-Spam-Flag: YES`.
    #[default]
    Mark,
    /// It is kept aside, visible, for as long as the quarantine keeps mail.
    Quarantine,
}

/// The filters of today, in the order in which they are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterTable {
    /// All of them judge each message; the first that refuses it ends the judging.
    pub filters: Vec<FilterOptions>,
    /// Recipient domains (lower case) whose mail is not judged.
    pub unjudged: HashSet<String>,
}

impl FilterTable {
    /// A table of filters that judge the mail of every domain.
    #[must_use]
    pub fn new(filters: Vec<FilterOptions>) -> Self {
        Self { filters, unjudged: HashSet::new() }
    }

    /// The same table, but mail for these domains (lower case) is not judged.
    #[must_use]
    pub fn without(mut self, domains: impl IntoIterator<Item = String>) -> Self {
        self.unjudged.extend(domains);
        self
    }

    /// Whether mail of strangers for `domain` (lower case) is judged.
    #[must_use]
    pub fn judges(&self, domain: &str) -> bool {
        !self.filters.is_empty() && !self.spares(domain)
    }

    /// Whether `domain` (lower case) wants no judging though there are filters.
    pub(crate) fn spares(&self, domain: &str) -> bool {
        self.unjudged.contains(domain)
    }

    /// Whether this message must not leave to `domain` as it is: it came from elsewhere and no
    /// filter has spoken. What the local MTA sends, and our own reports, are not judged.
    #[must_use]
    pub fn must_judge(&self, meta: &Meta, domain: &str) -> bool {
        meta.arrival.via.is_inbound() && !meta.judged && self.judges(domain)
    }
}

#[cfg(test)]
mod tests;
