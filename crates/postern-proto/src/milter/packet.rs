//! Packets: a length of four octets, a code, data; and the commands that we send in them.

use alloc::borrow::Cow;
use alloc::format;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use super::{DATA_BYTES_MAX, Fault, PACKET_BYTES_MAX, VERSION, actions, steps};

/// What we tell a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Everything is offered: [`actions::ALL`], [`steps::ALL`].
    Negotiate,
    /// Names and values for the command with this code, which follows.
    Macros(u8, Vec<(&'static str, Cow<'a, str>)>),
    /// A client came: its name or its address in brackets, and its address.
    Connect(Cow<'a, str>, SocketAddr),
    /// What it called itself.
    Helo(&'a str),
    /// The reverse-path in brackets, and its parameters.
    Mail(Vec<Cow<'a, str>>),
    /// A forward-path in brackets, and its parameters.
    Rcpt(Vec<Cow<'a, str>>),
    /// DATA.
    Data,
    /// A field: its name, and its value as it is to be seen.
    Header(&'a [u8], &'a [u8]),
    /// The empty line.
    EndOfHeader,
    /// A piece of the body, [`DATA_BYTES_MAX`] at most.
    Body(&'a [u8]),
    /// The end: now it may change things, and must judge.
    EndOfBody,
    /// Good-bye.
    Quit,
}

impl Command<'_> {
    /// Its code on the wire.
    pub fn code(&self) -> u8 {
        match self {
            Self::Negotiate => b'O',
            Self::Macros(..) => b'D',
            Self::Connect(..) => b'C',
            Self::Helo(_) => b'H',
            Self::Mail(_) => b'M',
            Self::Rcpt(_) => b'R',
            Self::Data => b'T',
            Self::Header(..) => b'L',
            Self::EndOfHeader => b'N',
            Self::Body(_) => b'B',
            Self::EndOfBody => b'E',
            Self::Quit => b'Q',
        }
    }

    /// Appends the packet.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let start = begin(self.code(), out);
        match self {
            Self::Negotiate => {
                for number in [VERSION, actions::ALL, steps::ALL] {
                    out.extend_from_slice(&number.to_be_bytes());
                }
            }
            Self::Macros(command, pairs) => {
                out.push(*command);
                for (name, value) in pairs {
                    push_string(name.as_bytes(), out);
                    push_string(value.as_bytes(), out);
                }
            }
            Self::Connect(name, address) => {
                push_string(name.as_bytes(), out);
                let ip = address.ip().to_canonical();
                out.push(if matches!(ip, IpAddr::V4(_)) { b'4' } else { b'6' });
                out.extend_from_slice(&address.port().to_be_bytes());
                push_string(format!("{ip}").as_bytes(), out);
            }
            Self::Helo(name) => push_string(name.as_bytes(), out),
            Self::Mail(words) | Self::Rcpt(words) => words.iter().for_each(|word| push_string(word.as_bytes(), out)),
            Self::Header(name, value) => {
                push_string(name, out);
                // A field may be as long as a header; libmilter hangs up on what it cannot hold.
                let room = DATA_BYTES_MAX.saturating_sub(out.len() - start + 1);
                push_string(&value[..value.len().min(room)], out);
            }
            Self::Body(piece) => out.extend_from_slice(&piece[..piece.len().min(DATA_BYTES_MAX)]),
            Self::Data | Self::EndOfHeader | Self::EndOfBody | Self::Quit => {}
        }
        finish(start, out);
    }
}

/// Begins a packet; the result is for [`finish`].
pub(super) fn begin(code: u8, out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    out.push(code);
    out.len()
}

/// Writes the length in front, which counts the code too.
pub(super) fn finish(start: usize, out: &mut [u8]) {
    let len = u32::try_from(out.len() - start + 1).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start - LENGTH_BYTES - 1..start - 1) {
        place.copy_from_slice(&len.to_be_bytes());
    }
}

/// A string ends at its first NUL; one inside would move what follows into another argument.
pub(super) fn push_string(text: &[u8], out: &mut Vec<u8>) {
    out.extend(text.iter().map(|octet| if *octet == 0 { b'?' } else { *octet }));
    out.push(0);
}

/// A packet as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What it is.
    pub code: u8,
    /// What is behind the code.
    pub data: &'a [u8],
}

/// The first packet of `input`, when it is whole, and how many octets it takes.
///
/// # Errors
/// [`Fault`] as soon as its length shows that it cannot be one.
pub fn take_packet(input: &[u8]) -> Result<Option<(Packet<'_>, usize)>, Fault> {
    let Some((length, rest)) = input.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let announced = u32::from_be_bytes(*length);
    let len = usize::try_from(announced).ok().filter(|len| *len <= PACKET_BYTES_MAX);
    let len = len.ok_or(Fault::PacketTooLong(announced))?;
    match rest.get(..len).map(<[u8]>::split_first) {
        Some(Some((code, data))) => Ok(Some((Packet { code: *code, data }, LENGTH_BYTES + len))),
        Some(None) => Err(Fault::EmptyPacket),
        None => Ok(None),
    }
}

const LENGTH_BYTES: usize = 4;
