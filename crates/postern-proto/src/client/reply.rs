//! Replies of the next hop, read piece by piece within bounds (RFC 5321 section 4.2).
//!
//! Called by the client machine only. A reply is data from another program: it is bounded, cleaned
//! of control characters and never trusted to be text.

use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt;

use crate::reply::{Enhanced, Reply};

/// One line with its CRLF. RFC 5321 section 4.5.3.1.5 says 512; some hops write whole URLs.
pub const REPLY_LINE_BYTES_MAX: usize = 2048;
/// Lines of one reply: the largest EHLO answers seen have about 25.
pub const REPLY_LINES_MAX: usize = 128;

/// Why what came is not a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// Not `digit digit digit (SP / "-" / end)`, or a code outside 200..=599.
    NotAReply,
    /// Lines of one reply carry different codes.
    CodeChanges,
    /// Longer than [`REPLY_LINE_BYTES_MAX`].
    LineTooLong,
    /// More than [`REPLY_LINES_MAX`].
    TooManyLines,
    /// A reply to nothing, or one that the command cannot have.
    Unexpected(u16),
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAReply => f.write_str("what came is not an SMTP reply"),
            Self::CodeChanges => f.write_str("the lines of one reply carry different codes"),
            Self::LineTooLong => write!(f, "a reply line is longer than {REPLY_LINE_BYTES_MAX} octets"),
            Self::TooManyLines => write!(f, "a reply has more than {REPLY_LINES_MAX} lines"),
            Self::Unexpected(code) => write!(f, "a reply {code} that does not fit"),
        }
    }
}

impl core::error::Error for ReplyError {}

/// Collects the lines of one reply.
#[derive(Debug, Default)]
pub(super) struct ReplyReader {
    code: u16,
    enhanced: Option<Enhanced>,
    text: String,
    lines: usize,
}

impl ReplyReader {
    /// Reads from `input`; the number says how many octets were used up. Lines stay in `input`
    /// until they are whole, so the caller keeps what is not used up and comes back with more.
    pub(super) fn read(&mut self, input: &[u8]) -> Result<(usize, Option<Reply>), ReplyError> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            let window = &rest[..rest.len().min(REPLY_LINE_BYTES_MAX)];
            let Some(end) = memchr::memchr(b'\n', window) else {
                return if rest.len() < REPLY_LINE_BYTES_MAX { Ok((used, None)) } else { Err(ReplyError::LineTooLong) };
            };
            let line = &rest[..end];
            used += end + 1;
            if self.take_line(line.strip_suffix(b"\r").unwrap_or(line))? {
                return Ok((used, Some(self.finish())));
            }
        }
    }

    fn take_line(&mut self, line: &[u8]) -> Result<bool, ReplyError> {
        let (digits, rest) = line.split_at_checked(3).ok_or(ReplyError::NotAReply)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(ReplyError::NotAReply);
        }
        let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
        let (last, text) = match rest.split_first() {
            None => (true, rest),
            Some((b' ', text)) => (true, text),
            Some((b'-', text)) => (false, text),
            Some(_) => return Err(ReplyError::NotAReply),
        };
        if !(200..600).contains(&code) {
            return Err(ReplyError::NotAReply);
        }
        if self.lines > 0 && code != self.code {
            return Err(ReplyError::CodeChanges);
        }
        if self.lines == REPLY_LINES_MAX {
            return Err(ReplyError::TooManyLines);
        }
        let (enhanced, text) = split_enhanced(code, text);
        if self.lines == 0 {
            self.code = code;
            self.enhanced = enhanced;
        } else {
            self.text.push('\n');
        }
        self.lines += 1;
        self.text.extend(String::from_utf8_lossy(text).chars().map(|c| if c.is_control() { ' ' } else { c }));
        Ok(last)
    }

    fn finish(&mut self) -> Reply {
        let read = core::mem::take(self);
        Reply { code: read.code, enhanced: read.enhanced, text: Cow::Owned(read.text) }
    }
}

/// Splits `5.1.1 text`. The class must be that of the reply (RFC 2034 section 4), else it is text.
fn split_enhanced(code: u16, text: &[u8]) -> (Option<Enhanced>, &[u8]) {
    let end = text.iter().position(|&byte| byte == b' ').unwrap_or(text.len());
    let mut numbers = text[..end].split(|&byte| byte == b'.').map(number);
    match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
        (Some(Some(class)), Some(Some(subject)), Some(Some(detail)), None)
            if class == code / 100 && matches!(class, 2 | 4 | 5) =>
        {
            let rest = text.get(end + 1..).unwrap_or_default();
            (Some(Enhanced(u8::try_from(class).unwrap_or(5), subject, detail)), rest)
        }
        _ => (None, text),
    }
}

/// One to three digits (RFC 3463 section 2).
fn number(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0')))
}
