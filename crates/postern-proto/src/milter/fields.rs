//! The header of a stored message as fields, found the way mail servers find them.
//!
//! Nothing is interpreted: a field is a name, a colon and all up to the next line that is no
//! continuation. Whoever counts fields (a filter's "third Received") must count as this does.

use alloc::borrow::Cow;
use alloc::vec::Vec;

/// A field as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Before the colon, without blanks behind.
    pub name: &'a [u8],
    /// All behind the colon, without the last CRLF; the CRLF of folded lines are there.
    pub value: &'a [u8],
}

impl<'a> Field<'a> {
    /// The fields of a header, as far as [`split_message`] says it goes.
    pub fn all(header: &'a [u8]) -> Vec<Self> {
        let mut fields = Vec::new();
        let mut rest = header;
        while let Some((field, len)) = first(rest) {
            fields.push(field);
            rest = &rest[len..];
        }
        fields
    }

    /// Whether it has this name; case does not matter.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value as a filter is told: line ends are LF; the blank in front stays or goes.
    pub(super) fn told(&self, leading_space: bool) -> Cow<'a, [u8]> {
        let value = if leading_space { self.value } else { self.value.trim_ascii_start() };
        if !value.contains(&b'\r') {
            return Cow::Borrowed(value);
        }
        Cow::Owned(value.iter().copied().filter(|octet| *octet != b'\r').collect())
    }
}

/// Where the header ends (behind its last field's CRLF) and where the body begins (behind the empty line). A line
/// that is no field and no continuation ends the header too, and begins the body, as mail servers have it.
pub fn split_message(message: &[u8]) -> (usize, usize) {
    let mut at = 0;
    while let Some((_, len)) = first(&message[at..]) {
        at += len;
    }
    let empty = if message[at..].starts_with(b"\r\n") { 2 } else { 0 };
    (at, at + empty)
}

/// The field that `text` begins with, and how many octets it takes with its line end.
fn first(text: &[u8]) -> Option<(Field<'_>, usize)> {
    let colon = text.iter().position(|octet| *octet == b':' || *octet == b'\n')?;
    if text[colon] != b':' {
        return None;
    }
    // RFC 5322 section 4.5: obsolete fields have blanks before the colon.
    let name = text[..colon].trim_ascii_end();
    if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let mut end = colon;
    loop {
        end = memchr::memchr(b'\n', &text[end..]).map_or(text.len(), |at| end + at + 1);
        if !matches!(text.get(end), Some(b' ' | b'\t')) {
            break;
        }
    }
    let value = &text[colon + 1..end];
    let value = value.strip_suffix(b"\n").unwrap_or(value);
    Some((Field { name, value: value.strip_suffix(b"\r").unwrap_or(value) }, end))
}
