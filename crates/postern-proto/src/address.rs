//! Mail addresses as the envelope carries them (RFC 5321 section 4.1.2, RFC 6531 section 3.3).

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::{DOMAIN_BYTES_MAX, LOCAL_PART_BYTES_MAX, PATH_BYTES_MAX};

/// A mailbox. The local part is unquoted and keeps its case; the domain is lower case.
///
/// An empty domain is only found with the local part `postmaster` (RFC 5321 section 4.5.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Address {
    /// Without quotes; may then hold spaces, `@` or `/`: never use it as a file name.
    pub local: Box<str>,
    /// Lower case; an address literal keeps its brackets.
    pub domain: Box<str>,
}

/// Why a mailbox was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// Not `local-part "@" domain`.
    Syntax,
    /// A part or the whole exceeds RFC 5321 section 4.5.3.1.
    TooLong,
    /// Octets above 127 without SMTPUTF8, or not UTF-8.
    NotAscii,
}

impl Address {
    /// Parses a mailbox as it stands between `<` and `>`; a source route is skipped
    /// (RFC 5321 appendix C). `utf8` says whether RFC 6531 is in force.
    ///
    /// # Errors
    /// [`AddressError`] names what is wrong.
    pub fn parse(text: &[u8], utf8: bool) -> Result<Self, AddressError> {
        let text = core::str::from_utf8(text).map_err(|_| AddressError::NotAscii)?;
        if !utf8 && !text.is_ascii() {
            return Err(AddressError::NotAscii);
        }
        if text.len() + 2 > PATH_BYTES_MAX {
            return Err(AddressError::TooLong);
        }
        let text = skip_source_route(text)?;
        let (local, domain) = if text.starts_with('"') { quoted_local(text)? } else { dot_string(text)? };
        if local.len() > LOCAL_PART_BYTES_MAX || domain.len() > DOMAIN_BYTES_MAX {
            return Err(AddressError::TooLong);
        }
        if !is_domain_or_literal(domain) {
            return Err(AddressError::Syntax);
        }
        Ok(Self { local: local.into_boxed_str(), domain: lower(domain) })
    }

    /// The local part without its detail (RFC 5233): `ann+lists` with `+` gives `ann`.
    pub fn local_without_detail(&self, separator: Option<char>) -> &str {
        match separator.and_then(|separator| self.local.split_once(separator)) {
            Some((base, _)) if !base.is_empty() => base,
            _ => &self.local,
        }
    }

    /// The local part as RFC 5321 wants it on the wire, quoted when it must be.
    fn needs_quotes(&self) -> bool {
        self.local.is_empty() || !self.local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
    }
}

impl fmt::Display for Address {
    /// The wire form without angle brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.needs_quotes() {
            f.write_str("\"")?;
            for c in self.local.chars() {
                if matches!(c, '"' | '\\') {
                    f.write_str("\\")?;
                }
                write!(f, "{c}")?;
            }
            f.write_str("\"")?;
        } else {
            f.write_str(&self.local)?;
        }
        if self.domain.is_empty() { Ok(()) } else { write!(f, "@{}", self.domain) }
    }
}

/// Whether `text` may stand behind `@` or EHLO: a host name (underscores tolerated, as the net
/// does) or an address literal (RFC 5321 section 4.1.3).
pub fn is_domain_or_literal(text: &str) -> bool {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match inner.get(..5) {
            Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => inner[5..].parse::<core::net::Ipv6Addr>().is_ok(),
            _ => inner.parse::<core::net::Ipv4Addr>().is_ok(),
        };
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    !name.is_empty()
        && text.len() <= DOMAIN_BYTES_MAX
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || !c.is_ascii() && !c.is_control())
        })
}

fn skip_source_route(text: &str) -> Result<&str, AddressError> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    let (_, mailbox) = text.split_once(':').ok_or(AddressError::Syntax)?;
    Ok(mailbox)
}

fn dot_string(text: &str) -> Result<(String, &str), AddressError> {
    let (local, domain) = text.rsplit_once('@').ok_or(AddressError::Syntax)?;
    // Dots in front, behind or in a row are no Dot-string, and yet mailboxes of large providers
    // have them; on the wire they are quoted.
    let sound = !local.is_empty() && local.chars().all(|c| c == '.' || is_atext(c));
    if sound { Ok((local.to_owned(), domain)) } else { Err(AddressError::Syntax) }
}

/// Quoted-string: `"` *(qtext / `\` quoted-pair) `"`, RFC 5321 section 4.1.2.
fn quoted_local(text: &str) -> Result<(String, &str), AddressError> {
    let mut local = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let domain = text[at + 1..].strip_prefix('@').ok_or(AddressError::Syntax)?;
                return Ok((local, domain));
            }
            '\\' => match chars.next() {
                Some((_, escaped)) if !escaped.is_control() => local.push(escaped),
                _ => return Err(AddressError::Syntax),
            },
            c if c.is_control() => return Err(AddressError::Syntax),
            c => local.push(c),
        }
    }
    Err(AddressError::Syntax)
}

fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || !c.is_ascii() || "!#$%&'*+-/=?^_`{|}~".contains(c)
}

fn lower(domain: &str) -> Box<str> {
    let name = if domain.starts_with('[') { domain } else { domain.strip_suffix('.').unwrap_or(domain) };
    name.to_lowercase().into_boxed_str()
}

#[cfg(test)]
mod tests;
