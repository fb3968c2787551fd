//! Applies what filters want changed to the header section of a stored message.
//!
//! Takes the first octets of the message and gives the new header; the body is neither read nor
//! copied, the caller goes on from [`Edited::body_at`]. Never parses a field's value. What a filter
//! says is no more trusted than what a sender says: no name or value can end a line, the header or
//! a string. Called by drain at each delivery, and pure, so that a repeated delivery gives the same
//! octets.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use crate::judgement::HeaderChange;
use crate::limits::HEADER_BYTES_MAX;

/// Octets of a message that [`edit`] needs to see: as many as a header may have at the doors.
pub const BEGINNING_BYTES_MAX: usize = HEADER_BYTES_MAX;

/// A header as it is to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// The fields, each with its line end; without the blank line.
    pub head: Vec<u8>,
    /// Where the rest of the message starts in the stored octets: at the blank line, if there is one.
    pub body_at: usize,
}

/// One piece of a header section: pieces follow each other without a gap.
struct Piece<'a> {
    /// `None`: no field, but something that stands between them (a line without a colon).
    name: Option<Cow<'a, [u8]>>,
    octets: Cow<'a, [u8]>,
}

impl Piece<'_> {
    fn is(&self, name: &str) -> bool {
        self.name.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(name.as_bytes()))
    }

    fn is_whole(&self) -> bool {
        self.octets.ends_with(b"\n")
    }
}

/// First all fields of the `stripped` names go, then `changes` are made one after the other, each to
/// what the last one left. Names are compared without case. `Delete` with an `nth` of 0 removes all
/// fields of that name; `Change` of a field that is not there adds it. A change whose name is no
/// field name (RFC 5322 section 3.6.8) is left out. Fields that are not named stay as they are, octet
/// by octet, and so does everything from [`Edited::body_at`] on.
pub fn edit(beginning: &[u8], stripped: &[&str], changes: &[HeaderChange]) -> Edited {
    let (mut pieces, body_at) = pieces(beginning);
    pieces.retain(|piece| !stripped.iter().any(|name| piece.is(name)));
    for change in changes {
        apply(&mut pieces, change);
    }
    let mut head = Vec::with_capacity(body_at + 256);
    for piece in &pieces {
        head.extend_from_slice(&piece.octets);
    }
    Edited { head, body_at }
}

/// Renders one field with its line end, folded where a line would be too long. `None` when `name` is
/// no field name.
pub fn field(name: &str, value: &str) -> Option<Vec<u8>> {
    let sound = |byte: u8| byte.is_ascii_graphic() && byte != b':';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(sound) {
        return None;
    }
    let mut out = Vec::with_capacity(name.len() + value.len() + 4);
    out.extend_from_slice(name.as_bytes());
    out.push(b':');
    let mut line_start = 0;
    for (i, line) in bounded(value).split(['\r', '\n']).enumerate() {
        // A line of blanks alone ends the header for some readers.
        if line.trim_matches(BLANKS).is_empty() {
            continue;
        }
        if i > 0 {
            out.extend_from_slice(b"\r\n");
            line_start = out.len();
        }
        match line.strip_prefix(BLANKS) {
            Some(_) if i > 0 => {}
            _ => out.push(if i > 0 { b'\t' } else { b' ' }),
        }
        let line = if i > 0 { line } else { line.trim_start_matches(BLANKS) };
        line_start = write_line(&mut out, line, line_start);
    }
    out.extend_from_slice(b"\r\n");
    Some(out)
}

/// Writes words without line ends; folds before a line gets longer than allowed, at a blank where
/// there is one. `line_start` is where the present line began; gives where the last one did.
fn write_line(out: &mut Vec<u8>, line: &str, mut line_start: usize) -> usize {
    for word in line.split_inclusive(BLANKS) {
        let text = word.trim_end_matches(BLANKS);
        let blank = out.len() - 1;
        let foldable = matches!(out[blank], b' ' | b'\t') && !out[line_start..blank].trim_ascii().is_empty();
        if out.len() - line_start + text.len() > LINE_BYTES_MAX && foldable {
            out.splice(blank..blank, *b"\r\n");
            line_start = blank + 2;
        }
        for c in word.chars() {
            let c = if c.is_control() && c != '\t' { '?' } else { c };
            if out.len() - line_start + c.len_utf8() > LINE_BYTES_MAX {
                if BLANKS.contains(&c) {
                    continue;
                }
                out.extend_from_slice(b"\r\n\t");
                line_start = out.len() - 1;
            }
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    line_start
}

fn bounded(value: &str) -> &str {
    let mut end = value.len().min(VALUE_BYTES_MAX);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

/// Takes the header section apart, up to the blank line.
fn pieces(beginning: &[u8]) -> (Vec<Piece<'_>>, usize) {
    let mut pieces: Vec<Piece<'_>> = Vec::new();
    let (mut at, mut start) = (0, 0);
    while at < beginning.len() {
        let end = beginning[at..].iter().position(|byte| *byte == b'\n').map_or(beginning.len(), |i| at + i + 1);
        let line = &beginning[at..end];
        if matches!(line, b"\n" | b"\r\n") {
            break;
        }
        let continues = matches!(line[0], b' ' | b'\t') && !pieces.is_empty();
        if !continues {
            start = at;
            pieces.push(Piece { name: name_of(line).map(Cow::Borrowed), octets: Cow::Borrowed(line) });
        } else if let Some(last) = pieces.last_mut() {
            last.octets = Cow::Borrowed(&beginning[start..end]);
        }
        at = end;
    }
    (pieces, at)
}

/// Blanks before the colon are allowed to the old (RFC 5322 section 4.5.8), so a forged field may
/// have them.
fn name_of(line: &[u8]) -> Option<&[u8]> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = line[..colon].trim_ascii_end();
    (!name.is_empty() && name.iter().all(|byte| byte.is_ascii_graphic())).then_some(name)
}

fn apply(pieces: &mut Vec<Piece<'_>>, change: &HeaderChange) {
    let rendered = |name: &str, value: &str| {
        let octets = field(name, value)?;
        Some(Piece { name: Some(Cow::Owned(name.as_bytes().to_vec())), octets: Cow::Owned(octets) })
    };
    let nth_of = |pieces: &[Piece<'_>], nth: u32, name: &str| {
        let nth = usize::try_from(nth.max(1) - 1).unwrap_or(usize::MAX);
        pieces.iter().enumerate().filter(|(_, piece)| piece.is(name)).nth(nth).map(|(at, _)| at)
    };
    match change {
        HeaderChange::Add { name, value } => {
            let at = end_of_fields(pieces);
            pieces.splice(at..at, rendered(name, value));
        }
        HeaderChange::Insert { at, name, value } => {
            let index = usize::try_from(*at).unwrap_or(usize::MAX);
            let field = pieces.iter().enumerate().filter(|(_, piece)| piece.name.is_some()).nth(index);
            let at = field.map_or_else(|| end_of_fields(pieces), |(at, _)| at).min(end_of_fields(pieces));
            pieces.splice(at..at, rendered(name, value));
        }
        HeaderChange::Change { nth, name, value } => match nth_of(pieces, *nth, name) {
            Some(at) => {
                if let Some(piece) = rendered(name, value) {
                    pieces[at] = piece;
                }
            }
            None => {
                let at = end_of_fields(pieces);
                pieces.splice(at..at, rendered(name, value));
            }
        },
        HeaderChange::Delete { nth: 0, name } => pieces.retain(|piece| !piece.is(name)),
        HeaderChange::Delete { nth, name } => {
            if let Some(at) = nth_of(pieces, *nth, name) {
                pieces.remove(at);
            }
        }
    }
}

/// Where a field is added: behind the last one, but before anything that is no field, because some
/// readers take that for the body; and before what is not a whole line. Two kinds of first lines stay in
/// front: the `From ` line of a mailbox file, and one that would continue whatever is put before it.
fn end_of_fields(pieces: &[Piece<'_>]) -> usize {
    let in_front = |piece: &Piece<'_>| {
        let starts = |with: &[u8]| piece.octets.starts_with(with);
        piece.name.is_none() && (starts(b"From ") || starts(b">From ") || starts(b" ") || starts(b"\t"))
    };
    let first = usize::from(pieces.first().is_some_and(|piece| in_front(piece) && piece.is_whole()));
    let ends = |piece: &Piece<'_>| piece.name.is_none() || !piece.is_whole();
    pieces.iter().skip(first).position(ends).map_or(pieces.len(), |at| first + at)
}

const BLANKS: [char; 2] = [' ', '\t'];

/// Octets of a line without its end: RFC 5322 section 2.1.1.
const LINE_BYTES_MAX: usize = 998;

/// Octets of a field name that a filter may add. No limit is in the RFCs; the longest registered is 38.
const NAME_BYTES_MAX: usize = 255;

/// Octets of a value that a filter may add: room for any signature or report; a longer one is cut,
/// so that a filter cannot make a header that the next hop refuses for its size.
const VALUE_BYTES_MAX: usize = 32 * 1024;

#[cfg(test)]
mod tests;
