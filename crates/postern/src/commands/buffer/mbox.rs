//! Messages as text files have them: LF line ends, and the mbox form "mboxrd", in which every line
//! that begins with any number of `>` and `From ` gets one more `>`. Both are undone exactly.
//!
//! Pure: bytes in, bytes out.

use std::io::{self, BufRead};

/// What is needed to undo [`Text::of`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    /// With LF line ends when `crlf`, else as it was.
    pub(super) text: Vec<u8>,
    /// Every line ended with CRLF, and no CR or LF stood alone.
    pub(super) crlf: bool,
    /// The last line had an end, or there was none.
    pub(super) final_newline: bool,
}

impl Text {
    /// The text of a message.
    pub(super) fn of(message: &[u8]) -> Self {
        let newline_without_cr = (0..message.len()).any(|i| message[i] == b'\n' && (i == 0 || message[i - 1] != b'\r'));
        let cr_without_newline = (0..message.len()).any(|i| message[i] == b'\r' && message.get(i + 1) != Some(&b'\n'));
        let crlf = !newline_without_cr && !cr_without_newline;
        let text =
            if crlf { message.iter().copied().filter(|byte| *byte != b'\r').collect() } else { message.to_vec() };
        let final_newline = text.last().is_none_or(|byte| *byte == b'\n');
        Self { text, crlf, final_newline }
    }
}

/// The message again, whatever a tool has done to its lines.
pub(super) fn message_of(text: Vec<u8>, crlf: bool) -> Vec<u8> {
    if !crlf {
        return text;
    }
    let mut message = Vec::with_capacity(text.len() + text.len() / 32);
    for (i, byte) in text.iter().enumerate() {
        if *byte == b'\n' && (i == 0 || text[i - 1] != b'\r') {
            message.push(b'\r');
        }
        message.push(*byte);
    }
    message
}

/// One entry of an mbox file: `From ` line, the id, the quoted text, an empty line.
pub(super) fn entry(from_line: &str, id: &str, text: &Text) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.text.len() + 128);
    out.extend_from_slice(format!("From {from_line}\n{ID_FIELD} {id}\n").as_bytes());
    for line in text.text.split_inclusive(|byte| *byte == b'\n') {
        if is_from(line) {
            out.push(b'>');
        }
        out.extend_from_slice(line);
    }
    if !text.final_newline {
        out.push(b'\n');
    }
    out.push(b'\n');
    out
}

/// Reads the entries of an mbox file one by one.
pub(super) struct Entries<R> {
    read: R,
    line: Vec<u8>,
    /// The `From ` line of the next entry has been read.
    begun: bool,
}

impl<R: BufRead> Entries<R> {
    pub(super) fn new(read: R) -> Self {
        Self { read, line: Vec::new(), begun: false }
    }

    /// The quoted text of the next entry, without the `From ` line and the empty line behind it.
    /// What stands before the first `From ` line belongs to none.
    ///
    /// # Errors
    /// The file's, or an entry that is too large.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut entry = Vec::new();
        loop {
            self.line.clear();
            if self.read.read_until(b'\n', &mut self.line)? == 0 {
                let begun = std::mem::take(&mut self.begun);
                return Ok(begun.then(|| without_separator(entry)));
            }
            if self.line.starts_with(b"From ") {
                if std::mem::replace(&mut self.begun, true) {
                    return Ok(Some(without_separator(entry)));
                }
            } else if self.begun {
                entry.extend_from_slice(&self.line);
            }
            if entry.len() > ENTRY_BYTES_MAX {
                return Err(io::Error::other("an entry is larger than a message can be: is this an mbox file?"));
            }
        }
    }
}

/// The text of an entry: unquoted, without our field. `final_newline` as it was at the export.
pub(super) fn text_of(entry: &[u8], id_known: bool, final_newline: bool) -> Vec<u8> {
    let mut text = Vec::with_capacity(entry.len());
    let mut looking = id_known;
    for line in entry.split_inclusive(|byte| *byte == b'\n') {
        if looking && id_in(line).is_some() {
            looking = false;
            continue;
        }
        looking &= !is_empty(line);
        let quoted = line.first() == Some(&b'>') && is_from(line);
        text.extend_from_slice(if quoted { &line[1..] } else { line });
    }
    if !final_newline && text.last() == Some(&b'\n') {
        text.pop();
    }
    text
}

/// The id that the header of an entry carries: that of our field, the first of that name.
pub(super) fn id_of(entry: &[u8]) -> Option<String> {
    entry.split(|byte| *byte == b'\n').take_while(|line| !is_empty(line)).find_map(id_in)
}

fn id_in(line: &[u8]) -> Option<String> {
    let (name, value) = line.split_at_checked(ID_FIELD.len())?;
    let ours = name.eq_ignore_ascii_case(ID_FIELD.as_bytes());
    ours.then(|| String::from_utf8_lossy(value).trim().to_owned())
}

fn is_empty(line: &[u8]) -> bool {
    matches!(line, b"" | b"\n" | b"\r" | b"\r\n")
}

/// `>*From `.
fn is_from(line: &[u8]) -> bool {
    let quotes = line.iter().take_while(|byte| **byte == b'>').count();
    line[quotes..].starts_with(b"From ")
}

fn without_separator(mut entry: Vec<u8>) -> Vec<u8> {
    if entry.ends_with(b"\n\n") || entry == b"\n" {
        entry.pop();
    }
    entry
}

const ID_FIELD: &str = "X-Postern-Id:";
/// Above every size that the door takes by default, ten times.
const ENTRY_BYTES_MAX: usize = 256 << 20;

#[cfg(test)]
mod tests;
