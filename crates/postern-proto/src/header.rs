//! Watches the header section go by: its size, and how many Received fields it holds.
//!
//! It never parses a field and never looks into the body; the door does not know MIME. The body
//! readers call it with what they keep; a bomb is noticed before anybody behind us parses it.

use crate::limits::{HEADER_BYTES_MAX, HOPS_MAX};

const RECEIVED: &[u8] = b"received:";

/// What is wrong with a header section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    TooLarge,
    TooManyHops,
}

/// State over the header of one message.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeaderWatch {
    over: bool,
    bytes: usize,
    hops: u32,
    /// Octets seen of the current line, CRLF left out.
    line_bytes: usize,
    /// How much of `received:` the line's beginning has matched; `None` once it cannot.
    matched: Option<usize>,
}

impl HeaderWatch {
    pub(crate) fn new() -> Self {
        Self { matched: Some(0), ..Self::default() }
    }

    /// Whether the blank line was seen; nothing needs to be fed any more.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// The next octets of the message as stored.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), HeaderFault> {
        for byte in bytes.iter().copied() {
            if self.over {
                return Ok(());
            }
            self.step(byte)?;
        }
        Ok(())
    }

    fn step(&mut self, byte: u8) -> Result<(), HeaderFault> {
        self.bytes += 1;
        if self.bytes > HEADER_BYTES_MAX {
            return Err(HeaderFault::TooLarge);
        }
        match byte {
            b'\r' => {}
            b'\n' => {
                self.over = self.line_bytes == 0;
                self.line_bytes = 0;
                self.matched = Some(0);
            }
            _ => {
                self.line_bytes += 1;
                self.match_received(byte);
                if self.matched == Some(RECEIVED.len()) {
                    self.matched = None;
                    self.hops += 1;
                    if self.hops > HOPS_MAX {
                        return Err(HeaderFault::TooManyHops);
                    }
                }
            }
        }
        Ok(())
    }

    fn match_received(&mut self, byte: u8) {
        let next = self.matched.filter(|at| RECEIVED[*at] == byte.to_ascii_lowercase());
        self.matched = next.map(|at| at + 1);
    }
}
