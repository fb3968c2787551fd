//! The mailboxes of From (RFC 5322 section 3.4), as far as everybody reads them alike.
//!
//! Left out on purpose: groups, routes, address literals, quoted local parts, white space or
//! comments inside an address, nested comments, empty list members. Each is legal somewhere, and each is
//! a place where parsers are known to differ. It sees an unfolded value and yields one domain.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

use super::{AuthorFault, encoded};
use crate::limits::DOMAIN_BYTES_MAX;

/// A label of a name in the DNS (RFC 1035 section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// The domain in which all mailboxes of a From value lie, in A-labels.
pub(super) fn domain_of_all(value: &str) -> Result<Box<str>, AuthorFault> {
    let mut rest = value;
    let mut common: Option<Box<str>> = None;
    loop {
        let domain;
        (domain, rest) = mailbox(rest)?;
        if common.as_ref().is_some_and(|first| *first != domain) {
            return Err(AuthorFault::SeveralDomains);
        }
        common = Some(domain);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => break,
        }
    }
    common.filter(|_| rest.is_empty()).ok_or(AuthorFault::Syntax)
}

/// What stands before an address in angle brackets.
#[derive(Default)]
struct Name<'a> {
    /// A quoted string with an at-sign in it: the same address must follow.
    quoted_address: Option<&'a str>,
    /// Something was there.
    any: bool,
}

/// One mailbox: its domain, and what follows it (nothing, or a comma first).
fn mailbox(text: &str) -> Result<(Box<str>, &str), AuthorFault> {
    let mut rest = skip_space(text);
    let mut name = Name::default();
    loop {
        match rest.as_bytes().first() {
            Some(b'"') => rest = quoted(rest, &mut name)?,
            Some(b'(') if name.any => rest = comment(rest)?,
            Some(b'<') => {
                let (address, behind) = rest[1..].split_once('>').ok_or(AuthorFault::Syntax)?;
                let domain = domain_of(address)?;
                if name.quoted_address.is_some_and(|said| !said.eq_ignore_ascii_case(address)) {
                    return Err(AuthorFault::AddressInName);
                }
                return Ok((domain, tail(behind)?));
            }
            _ => {
                let end = rest.find(|c: char| !is_atext(c) && c != '.' && c != '@').unwrap_or(rest.len());
                let (word, behind) = rest.split_at(end);
                match word {
                    "" => return Err(AuthorFault::Syntax),
                    address if address.contains('@') && !name.any => {
                        return Ok((domain_of(address)?, tail(behind)?));
                    }
                    word if word.contains('@') => return Err(AuthorFault::AddressInName),
                    word => encoded::look_into(word)?,
                }
                name.any = true;
                rest = behind;
            }
        }
        rest = skip_space(rest);
    }
}

/// Behind an address: white space, and one comment at most, up to the end or a comma.
fn tail(text: &str) -> Result<&str, AuthorFault> {
    let mut rest = skip_space(text);
    if rest.starts_with('(') {
        rest = skip_space(comment(rest)?);
    }
    if rest.is_empty() || rest.starts_with(',') { Ok(rest) } else { Err(AuthorFault::Syntax) }
}

/// A quoted string (RFC 5322 section 3.2.4). A comma may stand in it, as everybody writes names so; brackets may not,
/// and an at-sign only where the whole is the address that follows, which mail programs put there themselves.
fn quoted<'a>(text: &'a str, name: &mut Name<'a>) -> Result<&'a str, AuthorFault> {
    let inner = &text[1..];
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let content = &inner[..at];
                encoded::look_into(content)?;
                if content.contains('@') {
                    let bare = content.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap_or(content);
                    if name.any {
                        return Err(AuthorFault::AddressInName);
                    }
                    name.quoted_address = Some(bare);
                }
                name.any = true;
                return Ok(&inner[at + 1..]);
            }
            '\\' => match chars.next() {
                Some((_, '"' | '\\')) => {}
                _ => return Err(AuthorFault::Syntax),
            },
            '<' | '>' => return Err(AuthorFault::AddressInName),
            _ => {}
        }
    }
    Err(AuthorFault::Syntax)
}

/// A comment that holds nothing which could be taken for syntax.
fn comment(text: &str) -> Result<&str, AuthorFault> {
    let (content, behind) = text[1..].split_once(')').ok_or(AuthorFault::Syntax)?;
    if content.contains(['(', '<', '>', '@', ',', ';', ':', '\\', '"', '[', ']']) {
        return Err(AuthorFault::Syntax);
    }
    encoded::look_into(content)?;
    Ok(behind)
}

fn domain_of(address: &str) -> Result<Box<str>, AuthorFault> {
    let (local, domain) = address.split_once('@').ok_or(AuthorFault::Syntax)?;
    let is_plain = !local.is_empty() && local.chars().all(|c| is_atext(c) || c == '.');
    if !is_plain || address.contains("=?") {
        return Err(AuthorFault::Syntax);
    }
    let lower: String = domain.chars().map(|c| c.to_ascii_lowercase()).collect();
    let name = is_domain(&lower).then(|| in_dns(&lower)).flatten();
    name.map(|name| name.into_owned().into()).ok_or(AuthorFault::Domain)
}

/// A lower-case name as the DNS has it (A-labels, RFC 5890); none where that changes more than its spelling, or where
/// readers change it differently: what a mapping (UTS 46) makes of another name, and letters that IDNA 2003 mapped and
/// IDNA 2008 keeps.
pub fn in_dns(name: &str) -> Option<Cow<'_, str>> {
    if name.is_ascii() {
        return Some(Cow::Borrowed(name));
    }
    if name.contains(['ß', 'ς']) {
        return None;
    }
    let (uts46, deny, hyphens) = (Uts46::new(), AsciiDenyList::STD3, Hyphens::CheckFirstLast);
    let ascii = uts46.to_ascii(name.as_bytes(), deny, hyphens, DnsLength::Verify).ok()?;
    let (back, valid) = uts46.to_unicode(ascii.as_bytes(), deny, hyphens);
    (valid.is_ok() && back == name).then(|| Cow::Owned(ascii.into_owned()))
}

/// A name of a host: letters, digits and hyphens; in other scripts lower-case letters and digits only, and never
/// beside an A-label (RFC 5890), because then two spellings of a name stand in one.
fn is_domain(domain: &str) -> bool {
    let a_labels = domain.split('.').any(|label| label.starts_with("xn--"));
    let is_label = |label: &str| {
        let fits = !label.is_empty() && label.len() <= LABEL_BYTES_MAX;
        fits && !label.starts_with('-') && !label.ends_with('-') && label.chars().all(is_domain_char)
    };
    let top = domain.rsplit('.').next().unwrap_or("");
    domain.len() <= DOMAIN_BYTES_MAX
        && domain.split('.').all(is_label)
        && !top.bytes().all(|byte| byte.is_ascii_digit())
        && (domain.is_ascii() || !a_labels)
}

fn is_domain_char(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '-';
    }
    // Nothing that a mapping would change (UTS 46): full-width forms, upper case, ideographic dots.
    let is_wide = ('\u{ff00}'..='\u{ffef}').contains(&c);
    c.is_alphanumeric() && !is_wide && c.to_lowercase().eq([c])
}

/// RFC 5322 section 3.2.3, and RFC 6532 for what is not ASCII. Of that no white space and no format
/// characters, behind which readers hide things.
fn is_atext(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    }
    !c.is_whitespace() && !c.is_control() && !is_format(c)
}

/// Zero-width and direction characters.
fn is_format(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn skip_space(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}
