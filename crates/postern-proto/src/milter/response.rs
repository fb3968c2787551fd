//! What a filter answers: one packet each, read strictly.
//!
//! A filter is another program on this machine or another; its packets are bounded before they come
//! here ([`super::take_packet`]), and nothing in them is taken for text before it is.

use alloc::vec::Vec;

use super::packet::{begin, finish, push_string};
use super::{Fault, VERSION, VERSION_MIN, actions, steps};

/// An answer, with what is behind its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    /// To the offer.
    Negotiated(Negotiated),
    /// Go on.
    Continue,
    /// This message is good, and nothing more needs to be told.
    Accept,
    /// 5yz.
    Reject,
    /// 4yz.
    Tempfail,
    /// Say 250 and throw it away.
    Discard,
    /// No more of the body.
    Skip,
    /// Still at it.
    Progress,
    /// End the client's connection.
    ConnectionFailed,
    /// 421, and end the client's connection.
    Shutdown,
    /// A whole SMTP reply, 4yz or 5yz.
    ReplyCode(&'a [u8]),
    /// A field at the end of the header: name and value.
    AddHeader(&'a [u8], &'a [u8]),
    /// A field at this place: name and value.
    InsertHeader(u32, &'a [u8], &'a [u8]),
    /// Another value for the field with this number among those of its name; none deletes it.
    ChangeHeader(u32, &'a [u8], &'a [u8]),
    /// A further piece of a new body.
    ReplaceBody(&'a [u8]),
    /// Keep it aside, and why.
    Quarantine(&'a [u8]),
    /// Another reverse-path.
    ChangeFrom(&'a [u8]),
    /// A further recipient.
    AddRecipient(&'a [u8]),
    /// A further recipient that had parameters.
    AddRecipientWith(&'a [u8]),
    /// A recipient less.
    DeleteRecipient(&'a [u8]),
}

/// What both sides will keep to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Negotiated {
    /// The filter's version.
    pub version: u32,
    /// [`super::actions`] that it may take.
    pub actions: u32,
    /// [`super::steps`] that are left out.
    pub steps: u32,
    /// Which macros it wants at which stage (0 connect, 1 helo, 2 mail, 3 rcpt, 4 data, 5 end of body, 6 end of
    /// header), parted by blanks. A stage that is not named gets what is usual.
    pub symbols: Vec<(u32, Vec<u8>)>,
}

impl<'a> Response<'a> {
    /// Reads what [`super::take_packet`] found.
    ///
    /// # Errors
    /// [`Fault`] when it is none of these.
    pub fn decode(code: u8, data: &'a [u8]) -> Result<Self, Fault> {
        let malformed = Fault::Malformed(code);
        let response = match code {
            b'O' => Self::Negotiated(negotiated(data)?),
            b'c' => Self::Continue,
            b'a' => Self::Accept,
            b'r' => Self::Reject,
            b't' => Self::Tempfail,
            b'd' => Self::Discard,
            b's' => Self::Skip,
            b'p' => Self::Progress,
            b'f' => Self::ConnectionFailed,
            b'4' => Self::Shutdown,
            b'y' => Self::ReplyCode(last_string(data).ok_or(malformed)?),
            b'h' => {
                let (name, value) = name_and_value(data).ok_or(malformed)?;
                Self::AddHeader(name, value)
            }
            b'i' | b'm' => {
                let (number, rest) = data.split_first_chunk().ok_or(malformed)?;
                let (name, value) = name_and_value(rest).ok_or(malformed)?;
                let number = u32::from_be_bytes(*number);
                if code == b'i' {
                    Self::InsertHeader(number, name, value)
                } else {
                    Self::ChangeHeader(number, name, value)
                }
            }
            b'b' => Self::ReplaceBody(data),
            b'q' => Self::Quarantine(last_string(data).ok_or(malformed)?),
            b'e' => Self::ChangeFrom(first_string(data).ok_or(malformed)?.0),
            b'+' => Self::AddRecipient(last_string(data).ok_or(malformed)?),
            b'2' => Self::AddRecipientWith(first_string(data).ok_or(malformed)?.0),
            b'-' => Self::DeleteRecipient(last_string(data).ok_or(malformed)?),
            other => return Err(Fault::UnknownCode(other)),
        };
        Ok(response)
    }

    /// Its code on the wire.
    pub fn code(&self) -> u8 {
        match self {
            Self::Negotiated(_) => b'O',
            Self::Continue => b'c',
            Self::Accept => b'a',
            Self::Reject => b'r',
            Self::Tempfail => b't',
            Self::Discard => b'd',
            Self::Skip => b's',
            Self::Progress => b'p',
            Self::ConnectionFailed => b'f',
            Self::Shutdown => b'4',
            Self::ReplyCode(_) => b'y',
            Self::AddHeader(..) => b'h',
            Self::InsertHeader(..) => b'i',
            Self::ChangeHeader(..) => b'm',
            Self::ReplaceBody(_) => b'b',
            Self::Quarantine(_) => b'q',
            Self::ChangeFrom(_) => b'e',
            Self::AddRecipient(_) => b'+',
            Self::AddRecipientWith(_) => b'2',
            Self::DeleteRecipient(_) => b'-',
        }
    }

    /// Appends the packet: for filters in simulations and tests.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let start = begin(self.code(), out);
        match self {
            Self::Negotiated(agreed) => {
                for number in [agreed.version, agreed.actions, agreed.steps] {
                    out.extend_from_slice(&number.to_be_bytes());
                }
                for (stage, names) in &agreed.symbols {
                    out.extend_from_slice(&stage.to_be_bytes());
                    push_string(names, out);
                }
            }
            Self::ReplyCode(text)
            | Self::Quarantine(text)
            | Self::ChangeFrom(text)
            | Self::AddRecipient(text)
            | Self::AddRecipientWith(text)
            | Self::DeleteRecipient(text) => push_string(text, out),
            Self::AddHeader(name, value) => {
                push_string(name, out);
                push_string(value, out);
            }
            Self::InsertHeader(number, name, value) | Self::ChangeHeader(number, name, value) => {
                out.extend_from_slice(&number.to_be_bytes());
                push_string(name, out);
                push_string(value, out);
            }
            Self::ReplaceBody(piece) => out.extend_from_slice(piece),
            Self::Continue
            | Self::Accept
            | Self::Reject
            | Self::Tempfail
            | Self::Discard
            | Self::Skip
            | Self::Progress
            | Self::ConnectionFailed
            | Self::Shutdown => {}
        }
        finish(start, out);
    }
}

fn negotiated(data: &[u8]) -> Result<Negotiated, Fault> {
    let malformed = Fault::Malformed(b'O');
    let (version, rest) = number(data).ok_or(malformed)?;
    let (actions, rest) = number(rest).ok_or(malformed)?;
    let (steps, mut rest) = number(rest).ok_or(malformed)?;
    if !(VERSION_MIN..=VERSION).contains(&version) {
        return Err(Fault::Version(version));
    }
    if actions & !actions::ALL != 0 || steps & !steps::ALL != 0 {
        return Err(Fault::NotOffered);
    }
    let mut symbols = Vec::new();
    while !rest.is_empty() {
        let (stage, behind) = number(rest).ok_or(malformed)?;
        let (names, behind) = first_string(behind).ok_or(malformed)?;
        if symbols.len() == STAGES_MAX {
            return Err(malformed);
        }
        symbols.push((stage, names.to_vec()));
        rest = behind;
    }
    Ok(Negotiated { version, actions, steps, symbols })
}

fn number(data: &[u8]) -> Option<(u32, &[u8])> {
    data.split_first_chunk().map(|(octets, rest)| (u32::from_be_bytes(*octets), rest))
}

/// Up to the first NUL, and what is behind it.
fn first_string(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, data)?;
    Some((&data[..end], &data[end + 1..]))
}

/// A string that is all there is. Some filters forget its NUL, and the packet's length says as much.
fn last_string(data: &[u8]) -> Option<&[u8]> {
    let text = data.strip_suffix(b"\0").unwrap_or(data);
    (!text.contains(&0)).then_some(text)
}

fn name_and_value(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = first_string(data)?;
    Some((name, last_string(rest)?))
}

/// Lists of macros in one answer: libmilter knows seven stages.
const STAGES_MAX: usize = 16;
