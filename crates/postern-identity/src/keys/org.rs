//! The organisation that a domain belongs to, by a walk up the DNS tree (RFC 9989, DMARCbis section 4.10). Pure: says
//! which name to ask about next, and is told what stands there.
//!
//! One thing is stricter than there: a top-level domain is never an organisation, whatever it publishes.

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
    /// The shortest name with a record so far.
    shortest: Option<&'a str>,
    end: Option<Org>,
}

impl<'a> Walk<'a> {
    /// From `domain`: lower case, no final dot.
    pub(super) fn new(domain: &'a str) -> Self {
        Self { start: domain, next: Some(domain), shortest: None, end: None }
    }

    /// The name whose `_dmarc` is to be looked at; `None` at the end. Eight at most.
    pub(super) fn next(&self) -> Option<&'a str> {
        if self.end.is_some() { None } else { self.next }
    }

    /// What stands at `_dmarc` of that name: the one record, or none.
    pub(super) fn told(&mut self, record: Option<Psd>) {
        let Some(at) = self.next else { return };
        match record {
            Some(Psd::No) => self.end = Some(Org::Domain(at.into())),
            Some(Psd::Yes) if at == self.start => self.end = Some(Org::PublicSuffix),
            Some(Psd::Yes) => self.end = Some(Org::Domain(one_below(self.start, at).into())),
            Some(Psd::Unknown) if at.contains('.') => self.shortest = Some(at),
            Some(Psd::Unknown) | None => {}
        }
        self.next = above(at);
    }

    /// The organisation.
    pub(super) fn end(self) -> Org {
        self.end.unwrap_or_else(|| Org::Domain(self.shortest.unwrap_or(self.start).into()))
    }
}

/// What the texts at a `_dmarc` name say. More than one record counts as none (section 4.10, step 2).
pub(super) fn psd<'t>(texts: impl Iterator<Item = &'t [u8]>) -> Option<Psd> {
    let mut records = texts.filter_map(record);
    let first = records.next();
    if records.next().is_some() { None } else { first }
}

fn record(text: &[u8]) -> Option<Psd> {
    let text = std::str::from_utf8(text).ok()?;
    let mut tags = text.split(';').filter_map(|tag| tag.split_once('=')).map(|(tag, value)| (tag.trim(), value.trim()));
    if tags.next()? != ("v", "DMARC1") {
        return None;
    }
    let psd = tags.find(|(tag, _)| tag.eq_ignore_ascii_case("psd"));
    Some(match psd {
        Some((_, value)) if value.eq_ignore_ascii_case("y") => Psd::Yes,
        Some((_, value)) if value.eq_ignore_ascii_case("n") => Psd::No,
        _ => Psd::Unknown,
    })
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
