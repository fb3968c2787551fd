//! The author of a message, read in one way only.
//!
//! The postern lets a peer bring mail of its own domain's authors and of nobody else's (the domain
//! of From, RFC 9989). That rests on everybody behind us reading the same author as we do, so
//! this is no lenient parser: whatever two readers could read differently is a fault, and a fault
//! means that the message has to come by port 25, where nothing rests on it. It is fed the octets
//! of a message as they pass and keeps the From field only. It never decodes for display and never
//! repairs. The session feeds it; the doors compare what it found with the peer.

mod encoded;
mod mailbox;

use alloc::boxed::Box;
use alloc::vec::Vec;

pub use mailbox::in_dns;

/// The header section that is looked at. Mail has a few KiB of it, mail that went through lists and
/// filters 30; beyond: [`AuthorFault::Overlong`].
pub const HEADER_BYTES_MAX: usize = 64 * 1024;
/// The From field that is kept, folds and all: eighty mailboxes. Beyond: [`AuthorFault::Overlong`].
pub const FROM_BYTES_MAX: usize = 8 * 1024;

/// Who wrote a message, as far as the door cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The domain of all mailboxes in From: A-labels (RFC 5890), lower-case, without a dot at its end.
    pub domain: Box<str>,
}

/// Why no single author can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorFault {
    /// No From field (RFC 5322 section 3.6 wants one).
    Missing,
    /// More than one From field (RFC 5322 section 3.6 forbids it, and readers differ in which they show).
    Several,
    /// Mailboxes in more than one domain.
    SeveralDomains,
    /// A header section or a From field beyond what is looked at.
    Overlong,
    /// The message begins with white space: a fold of nothing.
    LeadingSpace,
    /// A line of the header that is no field: some readers take it for the end of the header.
    NoField,
    /// White space before the colon: some readers know the field all the same, others do not.
    SpaceBeforeColon,
    /// A fold of white space only: some readers take it for the end of the header.
    BlankFold,
    /// A control octet.
    Control,
    /// CR without LF, LF without CR, or a field without either at the end of the message.
    BareLineEnd,
    /// Octets above 127 in From that are not UTF-8, or whose transaction said no SMTPUTF8.
    NotAscii,
    /// From does not follow the part of RFC 5322 section 3.4 that everybody reads alike.
    Syntax,
    /// A display name that holds an address, or that cannot be told from one.
    AddressInName,
    /// An encoded word (RFC 2047) that is malformed, or hides what would be read as syntax.
    EncodedWord,
    /// The domain is an address literal, no name of a host, or one in other scripts that has more than one reading.
    Domain,
}

impl AuthorFault {
    /// For the log, and behind `USE-MX`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "no From field",
            Self::Several => "several From fields",
            Self::SeveralDomains => "authors of several domains",
            Self::Overlong => "header too long",
            Self::LeadingSpace => "header begins with white space",
            Self::NoField => "a header line that is no field",
            Self::SpaceBeforeColon => "white space before a colon",
            Self::BlankFold => "a blank folded line in the header",
            Self::Control => "control octets in the header",
            Self::BareLineEnd => "bare CR or LF in the header",
            Self::NotAscii => "From is not ASCII",
            Self::Syntax => "From is ambiguous",
            Self::AddressInName => "an address in a display name",
            Self::EncodedWord => "an ambiguous encoded word in From",
            Self::Domain => "no domain in From",
        }
    }
}

/// Reads the header of one message as it passes.
#[derive(Clone, Debug)]
pub struct AuthorScanner {
    at: At,
    smtputf8: bool,
    bytes: usize,
    /// The From field behind its colon, folds included.
    from: Option<Vec<u8>>,
    fault: Option<AuthorFault>,
}

/// Where the next octet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// At the very beginning.
    Start,
    /// Behind the CRLF of a field's line.
    LineStart,
    /// In a field's name; so many octets of it were read, and that many of `from` matched.
    Name { read: usize, matches: bool },
    /// In a field's value, or in a fold of it that has held something besides white space.
    Value { from: bool },
    /// In a fold that has held white space only.
    Fold { from: bool },
    /// Behind a CR that ends a line.
    Cr { from: bool },
    /// Behind a CR at the beginning of a line: the header ends here.
    LastCr,
    /// The blank line was seen, or a fault.
    Over,
}

const FROM: &[u8] = b"from";

impl AuthorScanner {
    /// For a message of a transaction that did or did not say SMTPUTF8 (RFC 6531).
    pub fn new(smtputf8: bool) -> Self {
        Self { at: At::Start, smtputf8, bytes: 0, from: None, fault: None }
    }

    /// Whether nothing needs to be fed any more.
    pub fn is_over(&self) -> bool {
        self.at == At::Over
    }

    /// The next octets of the message, as they are stored.
    pub fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().copied() {
            if self.at == At::Over {
                return;
            }
            self.bytes += 1;
            if self.bytes > HEADER_BYTES_MAX {
                return self.fail(AuthorFault::Overlong);
            }
            match self.step(byte) {
                Ok(next) => self.at = next,
                Err(fault) => return self.fail(fault),
            }
        }
    }

    /// The message is whole.
    ///
    /// # Errors
    /// The first thing found that keeps the author from being named.
    pub fn finish(self) -> Result<Author, AuthorFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        match self.at {
            At::Name { .. } => return Err(AuthorFault::NoField),
            At::Value { .. } | At::Cr { .. } | At::LastCr => return Err(AuthorFault::BareLineEnd),
            At::Fold { .. } => return Err(AuthorFault::BlankFold),
            At::Start | At::LineStart | At::Over => {}
        }
        let from = self.from.ok_or(AuthorFault::Missing)?;
        let unfolded: Vec<u8> = from.into_iter().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
        if !self.smtputf8 && !unfolded.is_ascii() {
            return Err(AuthorFault::NotAscii);
        }
        let text = core::str::from_utf8(&unfolded).map_err(|_| AuthorFault::NotAscii)?;
        Ok(Author { domain: mailbox::domain_of_all(text)? })
    }

    fn step(&mut self, byte: u8) -> Result<At, AuthorFault> {
        match (self.at, byte) {
            (At::Cr { from }, b'\n') => {
                self.keep(from, byte)?;
                Ok(At::LineStart)
            }
            (At::LastCr, b'\n') => Ok(At::Over),
            (At::Cr { .. } | At::LastCr, _) | (_, b'\n') => Err(AuthorFault::BareLineEnd),
            (At::Start | At::LineStart, b'\r') => Ok(At::LastCr),
            (At::Name { .. }, b'\r') => Err(AuthorFault::NoField),
            (At::Fold { .. }, b'\r') => Err(AuthorFault::BlankFold),
            (At::Value { from }, b'\r') => {
                self.keep(from, byte)?;
                Ok(At::Cr { from })
            }
            (_, 0..=8 | 10..=31 | 127) => Err(AuthorFault::Control),
            (At::Start, b' ' | b'\t') => Err(AuthorFault::LeadingSpace),
            (At::LineStart, b' ' | b'\t') => {
                // What is kept ends in CRLF just when the line before belongs to From.
                let from = self.from.as_ref().is_some_and(|kept| kept.ends_with(b"\n"));
                self.keep(from, byte)?;
                Ok(At::Fold { from })
            }
            (At::Fold { from } | At::Value { from }, _) => {
                self.keep(from, byte)?;
                let blank = matches!(self.at, At::Fold { .. }) && matches!(byte, b' ' | b'\t');
                Ok(if blank { At::Fold { from } } else { At::Value { from } })
            }
            (At::Start | At::LineStart, _) => {
                self.close_from();
                self.name(byte, 0, true)
            }
            (At::Name { read, matches }, _) => self.name(byte, read, matches),
            (At::Over, _) => Ok(At::Over),
        }
    }

    fn name(&mut self, byte: u8, read: usize, matches: bool) -> Result<At, AuthorFault> {
        match byte {
            b':' if read == 0 => Err(AuthorFault::NoField),
            b':' => {
                let from = matches && read == FROM.len();
                if from && self.from.replace(Vec::new()).is_some() {
                    return Err(AuthorFault::Several);
                }
                Ok(At::Value { from })
            }
            b' ' | b'\t' if read > 0 => Err(AuthorFault::SpaceBeforeColon),
            33..=126 => {
                let matches = matches && FROM.get(read) == Some(&byte.to_ascii_lowercase());
                Ok(At::Name { read: read + 1, matches })
            }
            _ => Err(AuthorFault::NoField),
        }
    }

    fn keep(&mut self, from: bool, byte: u8) -> Result<(), AuthorFault> {
        if let Some(kept) = self.from.as_mut().filter(|_| from) {
            if kept.len() >= FROM_BYTES_MAX {
                return Err(AuthorFault::Overlong);
            }
            kept.push(byte);
        }
        Ok(())
    }

    /// Another field begins: what is kept of From gets no more folds.
    fn close_from(&mut self) {
        if let Some(kept) = &mut self.from
            && kept.ends_with(b"\r\n")
        {
            kept.truncate(kept.len() - 2);
        }
    }

    fn fail(&mut self, fault: AuthorFault) {
        self.fault = Some(fault);
        self.from = None;
        self.at = At::Over;
    }
}

#[cfg(test)]
mod tests;
