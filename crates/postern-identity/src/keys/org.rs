//! The organisation that a domain belongs to, by a walk up the DNS tree (RFC 9989, DMARCbis section 4.10), and for which
//! of the domains above it may speak. Pure: says which name to ask about next, and is told what stands there.
//!
//! Stricter than there: a top-level domain is never an organisation, whatever it publishes, and nobody speaks for a domain
//! that looks like a place where others register.
//!
//! **Who speaks for a domain above.** A key of `shop.bank.example` is to `From: x@bank.example` what a DKIM signature of
//! `d=shop.bank.example` would be: aligned when the record that applies to bank.example says so (`adkim=r`, the default),
//! and not aligned when it is strict. The record that applies is the domain's own, else the organisation's, else that of
//! the public suffix. Siblings are left out altogether: their own records are not on the way up, and below a name without
//! `psd=y` they may belong to somebody else.

use crate::gate;

/// What `psd=` says in a DMARC record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Psd {
    /// Others register below this name.
    Yes,
    /// This is the organisation.
    No,
    /// Not said.
    Unknown,
}

/// What a DMARC record says that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    psd: Psd,
    /// `adkim=s`: only the very domain is aligned.
    strict: bool,
}

/// Where the walk ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Org {
    /// The organisational domain.
    Domain(Box<str>),
    /// The domain itself is one below which others register.
    PublicSuffix,
}

/// A walk under way.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    start: &'a str,
    /// Not asked about yet.
    next: Option<&'a str>,
    /// Asked about, from the bottom up; eight at most.
    seen: Vec<(&'a str, Option<Record>)>,
    /// The shortest name with a record so far.
    shortest: Option<&'a str>,
    end: Option<Org>,
}

impl<'a> Walk<'a> {
    /// From `domain`: lower case, no final dot.
    pub(super) fn new(domain: &'a str) -> Self {
        Self { start: domain, next: Some(domain), seen: Vec::new(), shortest: None, end: None }
    }

    /// The name whose `_dmarc` is to be looked at; `None` at the end. Eight at most.
    pub(super) fn next(&self) -> Option<&'a str> {
        if self.end.is_some() { None } else { self.next }
    }

    /// What stands at `_dmarc` of that name: the one record, or none.
    pub(super) fn told(&mut self, record: Option<Record>) {
        let Some(at) = self.next else { return };
        self.seen.push((at, record));
        match record.map(|record| record.psd) {
            Some(Psd::No) if at.contains('.') => self.end = Some(Org::Domain(at.into())),
            Some(Psd::Yes) if at == self.start => self.end = Some(Org::PublicSuffix),
            Some(Psd::Yes) => self.end = Some(Org::Domain(one_below(self.start, at).into())),
            Some(Psd::Unknown) if at.contains('.') => self.shortest = Some(at),
            Some(Psd::Unknown | Psd::No) | None => {}
        }
        self.next = above(at);
    }

    /// The organisation, and the domains above the first, up to the organisation, for which it speaks too.
    pub(super) fn end(self) -> (Org, Vec<Box<str>>) {
        let Self { start, seen, shortest, end, .. } = self;
        let org = end.unwrap_or_else(|| Org::Domain(shortest.unwrap_or(start).into()));
        let Org::Domain(name) = &org else { return (org, Vec::new()) };
        let own = |wanted: &str| seen.iter().find(|(name, _)| *name == wanted).and_then(|(_, record)| *record);
        let suffix = || seen.iter().find_map(|(_, record)| record.filter(|record| record.psd == Psd::Yes));
        let general = own(name).or_else(suffix);
        let of_org = |at: &str| is_at_or_below(at, name) && !gate::suffix_like(at);
        let aligned = |record: Option<Record>| record.or(general).is_some_and(|record| !record.strict);
        let above = seen.iter().filter(|(at, record)| *at != start && of_org(at) && aligned(*record));
        let above = above.map(|(at, _)| Box::from(*at)).collect();
        (org, above)
    }
}

fn is_at_or_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// What the texts at a `_dmarc` name say. More than one record counts as none (section 4.10, step 2).
pub(super) fn record<'t>(texts: impl Iterator<Item = &'t [u8]>) -> Option<Record> {
    let mut records = texts.filter_map(read);
    let first = records.next();
    if records.next().is_some() { None } else { first }
}

fn read(text: &[u8]) -> Option<Record> {
    let text = std::str::from_utf8(text).ok()?;
    let mut tags = text.split(';').filter_map(|tag| tag.split_once('=')).map(|(tag, value)| (tag.trim(), value.trim()));
    if tags.next()? != ("v", "DMARC1") {
        return None;
    }
    let mut record = Record { psd: Psd::Unknown, strict: false };
    for (tag, value) in tags {
        match () {
            () if tag.eq_ignore_ascii_case("psd") && record.psd == Psd::Unknown => {
                record.psd = match value {
                    "y" | "Y" => Psd::Yes,
                    "n" | "N" => Psd::No,
                    _ => Psd::Unknown,
                };
            }
            () if tag.eq_ignore_ascii_case("adkim") => record.strict |= value.eq_ignore_ascii_case("s"),
            () => {}
        }
    }
    Some(record)
}

/// The next name: one label shorter, and of long names the last seven labels.
fn above(name: &str) -> Option<&str> {
    let labels = name.split('.').count();
    let mut dots = name.match_indices('.').map(|(dot, _)| dot);
    let skip = if labels > LABELS_AFTER_THE_FIRST { labels - LABELS_AFTER_THE_FIRST } else { 1 };
    let dot = dots.nth(skip - 1)?;
    Some(&name[dot + 1..])
}

/// The ancestor of `name` that is one label longer than its ancestor `suffix`.
fn one_below<'a>(name: &'a str, suffix: &str) -> &'a str {
    let rest = name.strip_suffix(suffix).and_then(|rest| rest.strip_suffix('.')).unwrap_or_default();
    let start = rest.rfind('.').map_or(0, |dot| dot + 1);
    &name[start..]
}

/// Section 4.10, step 4.
const LABELS_AFTER_THE_FIRST: usize = 7;

#[cfg(test)]
mod tests;
