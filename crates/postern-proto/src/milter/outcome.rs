//! What a filter's words become: replies, addresses, changes to a header, all of them clean.
//!
//! What stands here reaches an SMTP reply or a header: no octet of a filter may begin a new line of
//! its own there.

use alloc::borrow::{Cow, ToOwned};
use alloc::string::String;

use super::response::Response;
use super::{REPLY_LINE_BYTES_MAX, REPLY_LINES_MAX};
use crate::address::Address;
use crate::judgement::HeaderChange;
use crate::reply::{Enhanced, Reply};

/// `554 5.7.1 words`, or lines `554-5.7.1 words`, as a reply. None when it is neither 4yz nor 5yz.
pub(super) fn reply_of(text: &[u8]) -> Option<Reply> {
    let text = String::from_utf8_lossy(text);
    let mut reply: Option<Reply> = None;
    let mut words = String::new();
    for line in text.split('\n').filter(|line| !line.trim().is_empty()).take(REPLY_LINES_MAX) {
        let (code, rest) = line.split_at_checked(3)?;
        let code: u16 = code.bytes().all(|digit| digit.is_ascii_digit()).then(|| code.parse().ok())??;
        let rest = rest.trim_end();
        let rest = rest.strip_prefix([' ', '-']).or_else(|| rest.is_empty().then_some(rest))?;
        let (enhanced, rest) = split_enhanced(rest, code);
        match &reply {
            None => {
                let enhanced = enhanced.or(Some(Enhanced(u8::try_from(code / 100).ok()?, 7, 1)));
                reply = Some(Reply { code, enhanced, text: Cow::Borrowed("") });
            }
            Some(first) if first.code != code => return None,
            Some(_) => words.push('\n'),
        }
        let line = clean(rest, REPLY_LINE_BYTES_MAX);
        // The protocol asks filters to double each percent sign.
        words.push_str(&line.replace("%%", "%"));
    }
    reply.filter(|reply| (400..600).contains(&reply.code)).map(|reply| reply.with_text(words))
}

/// An enhanced code in front, when it is of the class of `code`.
fn split_enhanced(text: &str, code: u16) -> (Option<Enhanced>, &str) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut numbers = word.split('.').map(|digits| {
        let sound = (1..=3).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
        sound.then(|| digits.parse::<u16>().ok()).flatten()
    });
    match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
        (Some(Some(class)), Some(Some(subject)), Some(Some(detail)), None) if class == code / 100 => {
            (u8::try_from(class).ok().map(|class| Enhanced(class, subject, detail)), rest)
        }
        _ => (None, text),
    }
}

/// One line of a filter's own words, for a log or a header.
pub(super) fn words(text: &[u8]) -> String {
    clean(&String::from_utf8_lossy(text), REPLY_LINE_BYTES_MAX)
}

fn clean(text: &str, bytes_max: usize) -> String {
    let mut line = String::new();
    for c in text.trim().chars() {
        if line.len() + c.len_utf8() > bytes_max {
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    line
}

/// A path, with brackets or without.
pub(super) fn address_of(path: &[u8]) -> Option<Address> {
    let path = path.trim_ascii();
    let bare = path.strip_prefix(b"<").and_then(|path| path.strip_suffix(b">")).unwrap_or(path);
    Address::parse(bare, true).ok()
}

/// An answer that changes the header, as a change. None when its name is no field name.
pub(super) fn changed_header(response: &Response<'_>, leading_space: bool) -> Option<HeaderChange> {
    let change = match *response {
        Response::AddHeader(name, value) => {
            HeaderChange::Add { name: name_of(name)?, value: value_of(value, leading_space) }
        }
        // The server's own Received field counts as the first, and the filter did not see it: 0 (above it) and 1
        // (below it) are both the top of what is stored.
        Response::InsertHeader(at, name, value) => HeaderChange::Insert {
            at: at.saturating_sub(1),
            name: name_of(name)?,
            value: value_of(value, leading_space),
        },
        Response::ChangeHeader(nth, name, b"") => HeaderChange::Delete { nth: nth.max(1), name: name_of(name)? },
        Response::ChangeHeader(nth, name, value) => {
            HeaderChange::Change { nth: nth.max(1), name: name_of(name)?, value: value_of(value, leading_space) }
        }
        _ => return None,
    };
    Some(change)
}

/// A field that a filter names and fills, fit for a header: a sound name, and a value that cannot end its field. None
/// when the name is none. For filters of other protocols.
pub fn clean_field(name: &str, value: &str) -> Option<(String, String)> {
    Some((name_of(name.as_bytes())?, value_of(value.as_bytes(), false)))
}

/// RFC 5322 section 3.6.8: printable, no colon.
fn name_of(name: &[u8]) -> Option<String> {
    let sound =
        !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.iter().all(|c| c.is_ascii_graphic() && *c != b':');
    sound.then(|| core::str::from_utf8(name).map(ToOwned::to_owned).ok()).flatten()
}

/// A value whose line ends are CRLF, each followed by a blank: it cannot end its field.
fn value_of(value: &[u8], leading_space: bool) -> String {
    let text = String::from_utf8_lossy(value);
    let text = if leading_space { text.strip_prefix(' ').unwrap_or(&text) } else { &text };
    let mut lines = text.split('\n').map(|line| line.replace(['\r', '\0'], ""));
    let mut clean = lines.next().unwrap_or_default();
    for line in lines.filter(|line| !line.trim().is_empty()) {
        clean.push_str("\r\n");
        if !line.starts_with([' ', '\t']) {
            clean.push('\t');
        }
        clean.push_str(&line);
    }
    clean
}

/// RFC 5322 section 2.1.1: a line has 998 characters at most, and the name must stand in one.
const NAME_BYTES_MAX: usize = 900;
