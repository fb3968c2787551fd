//! A message on its way out: line ends made safe and dots stuffed, piece by piece.
//!
//! Called by the client machine and by the flight only. Holds two bits between pieces, never octets.

use alloc::vec::Vec;

/// Where the last piece ended.
#[derive(Debug)]
pub(super) struct BodyEncoder {
    line_start: bool,
    after_cr: bool,
    /// Dots are stuffed: for DATA. A chunk of BDAT has a length instead of an end (RFC 3030 section 2).
    dots: bool,
}

impl BodyEncoder {
    pub(super) fn new() -> Self {
        Self { line_start: true, after_cr: false, dots: true }
    }

    /// For BDAT: line ends are made safe and dots left alone.
    pub(super) fn of_chunks() -> Self {
        Self { dots: false, ..Self::new() }
    }

    /// Appends `piece` with transparency (RFC 5321 section 4.5.2).
    ///
    /// A lone CR or LF becomes CRLF. "Clients … MUST NOT transmit" them (section 2.3.8), and a next
    /// hop that takes one for a line end would read `LF . CR LF` as the end of the message and what
    /// follows as commands: SMTP smuggling, with us as the carrier.
    pub(super) fn encode(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        out.reserve(piece.len() + piece.len() / 32);
        let mut rest = piece;
        while let Some(&first) = rest.first() {
            if self.after_cr {
                self.end_line(out);
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
                continue;
            }
            if self.line_start && self.dots && first == b'.' {
                out.push(b'.');
            }
            let end = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
            out.extend_from_slice(&rest[..end]);
            self.line_start &= end == 0;
            match rest.get(end) {
                Some(b'\r') => self.after_cr = true,
                Some(_) => self.end_line(out),
                None => return,
            }
            rest = &rest[end + 1..];
        }
    }

    /// Appends the end: a CRLF when the last line lacks it, then, of DATA, the dot.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        if self.after_cr || !self.line_start {
            self.end_line(out);
        }
        if self.dots {
            out.extend_from_slice(b".\r\n");
        }
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n");
        self.after_cr = false;
        self.line_start = true;
    }
}
