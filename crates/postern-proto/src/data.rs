//! Reads the octets of a message: behind DATA up to `CRLF.CRLF`, or in a chunk of BDAT.
//!
//! The rule that stops SMTP smuggling (CVE-2023-51764 and its family) stands here once: **only
//! CRLF.CRLF ends DATA**, and a message that holds a CR without LF or a LF without CR is refused
//! as a whole, in DATA and in BDAT alike. Refused and not repaired, because whoever reads the
//! message next may see a line end where we saw none. The reader stays in step with the client:
//! a message that is refused is read to its end and thrown away.

use alloc::vec::Vec;

use memchr::memchr2;

use crate::header::{HeaderFault, HeaderWatch};
use crate::limits::BODY_LINE_BYTES_MAX;

/// Why a message that is still coming in will be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// LF without CR before it (RFC 5321 section 2.3.8).
    BareLineFeed,
    /// CR without LF behind it.
    BareCarriageReturn,
    /// A line beyond [`BODY_LINE_BYTES_MAX`].
    LineTooLong,
    /// A header section beyond [`crate::limits::HEADER_BYTES_MAX`].
    HeaderTooLarge,
    /// More Received fields than [`crate::limits::HOPS_MAX`].
    TooManyHops,
    /// More octets than the SIZE we offered.
    TooBig,
}

/// Collects a message and judges its form. One lives from DATA or the first BDAT to the end.
#[derive(Clone, Debug)]
pub struct BodyReader {
    at: At,
    header: HeaderWatch,
    line_bytes: usize,
    size: u64,
    size_max: u64,
    fault: Option<BodyFault>,
}

/// Where in a line the next octet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Behind CRLF, or at the very beginning.
    LineStart,
    /// Behind a dot at line start (DATA only).
    Dot,
    /// Behind `.` CR at line start (DATA only).
    DotCr,
    /// Inside a line.
    Inside,
    /// Behind a CR inside a line.
    Cr,
}

/// What a call of [`BodyReader::read_data`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Octets of the input that were read.
    pub consumed: usize,
    /// The terminator was among them.
    pub ended: bool,
}

impl BodyReader {
    /// A reader for a message of at most `size_max` octets.
    pub fn new(size_max: u64) -> Self {
        Self { at: At::LineStart, header: HeaderWatch::new(), line_bytes: 0, size: 0, size_max, fault: None }
    }

    /// Octets kept so far, or seen since a fault.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The first thing found wrong.
    pub fn fault(&self) -> Option<BodyFault> {
        self.fault
    }

    /// Reads behind DATA: removes dot-stuffing (RFC 5321 section 4.5.2), appends to `body`, and
    /// stops right behind the terminator.
    pub fn read_data(&mut self, input: &[u8], body: &mut Vec<u8>) -> Progress {
        self.make_room(input, body);
        let mut at = 0;
        while at < input.len() {
            let byte = input[at];
            match self.at {
                At::LineStart if byte == b'.' => {
                    self.at = At::Dot;
                    at += 1;
                }
                At::Dot if byte == b'\r' => {
                    self.at = At::DotCr;
                    at += 1;
                }
                At::DotCr if byte == b'\n' => return Progress { consumed: at + 1, ended: true },
                At::DotCr => {
                    self.fail(BodyFault::BareCarriageReturn, body);
                    self.at = At::Inside;
                }
                // The dot was stuffing: it is dropped, and this octet belongs to the line.
                At::Dot => self.at = At::Inside,
                _ => at += self.read_line(&input[at..], body),
            }
        }
        Progress { consumed: input.len(), ended: false }
    }

    /// Reads a piece of a BDAT chunk: every octet counts, there is no terminator.
    pub fn read_chunk(&mut self, mut input: &[u8], body: &mut Vec<u8>) {
        self.make_room(input, body);
        while !input.is_empty() {
            let read = self.read_line(input, body);
            input = &input[read..];
        }
    }

    /// The chunk with LAST has ended: a CR may still be open.
    pub fn end_chunks(&mut self, body: &mut Vec<u8>) {
        if self.at == At::Cr {
            self.fail(BodyFault::BareCarriageReturn, body);
        }
    }

    /// Room for what has come, in one step rather than line by line; never for what is announced.
    fn make_room(&self, input: &[u8], body: &mut Vec<u8>) {
        if self.fault.is_none() {
            body.reserve(input.len());
        }
    }

    /// Reads up to and including the next CR or LF; returns how much.
    fn read_line(&mut self, input: &[u8], body: &mut Vec<u8>) -> usize {
        if self.at == At::Cr {
            if input[0] != b'\n' {
                self.fail(BodyFault::BareCarriageReturn, body);
                self.at = At::Inside;
                return 0;
            }
            self.at = At::LineStart;
            self.keep(&input[..1], body);
            self.line_bytes = 0;
            return 1;
        }
        let Some(end) = memchr2(b'\r', b'\n', input) else {
            self.at = At::Inside;
            self.keep(input, body);
            return input.len();
        };
        if input[end] == b'\n' {
            self.keep(&input[..=end], body);
            self.fail(BodyFault::BareLineFeed, body);
            self.at = At::Inside;
            return end + 1;
        }
        // The common case, in one go: the line's end is whole.
        if input.get(end + 1) == Some(&b'\n') {
            self.keep(&input[..end + 2], body);
            self.at = At::LineStart;
            self.line_bytes = 0;
            return end + 2;
        }
        self.at = At::Cr;
        self.keep(&input[..=end], body);
        end + 1
    }

    fn keep(&mut self, bytes: &[u8], body: &mut Vec<u8>) {
        self.size += bytes.len() as u64;
        self.line_bytes += bytes.len();
        if self.fault.is_some() {
            return;
        }
        if self.size > self.size_max {
            return self.fail(BodyFault::TooBig, body);
        }
        if self.line_bytes > BODY_LINE_BYTES_MAX {
            return self.fail(BodyFault::LineTooLong, body);
        }
        if !self.header.is_over()
            && let Err(fault) = self.header.feed(bytes)
        {
            let fault = match fault {
                HeaderFault::TooLarge => BodyFault::HeaderTooLarge,
                HeaderFault::TooManyHops => BodyFault::TooManyHops,
            };
            return self.fail(fault, body);
        }
        body.extend_from_slice(bytes);
    }

    /// Remembers the first fault and gives the memory back: nothing of this message will be kept.
    fn fail(&mut self, fault: BodyFault, body: &mut Vec<u8>) {
        if self.fault.is_none() {
            self.fault = Some(fault);
        }
        *body = Vec::new();
    }
}

#[cfg(test)]
mod tests;
