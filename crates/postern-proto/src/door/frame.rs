//! Control frames: what the two sides say to each other beside the mail.
//!
//! On the first bidirectional stream, each `length as u16 ‖ [type, {key: value}]` in CBOR (`docs/spec/door.cddl`). Owns
//! the format both ways and its bounds; the reader holds one frame at most and never makes room by announcement. It
//! never decides which frame may come when: the door and the door client do.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::cbor::{self, NotCbor, Reader};
use super::class::PeerClass;
use super::limits::{FRAME_BYTES_MAX, TICKET_BYTES, VOUCH_BYTES_MAX, VOUCHES_MAX};
use super::name;

/// One control frame.
#[derive(Clone, PartialEq, Eq)]
pub enum Frame {
    /// The client says who it is; its first frame, and the only one of its kind.
    Ident {
        /// The organisational or mail domain that it speaks for.
        domain: String,
        /// The DNS name its key is published at, when that is not the usual one.
        owner: Option<String>,
        /// Statements of others about it; opaque here.
        vouches: Vec<Vec<u8>>,
    },
    /// The server takes it in: mail streams may be opened, and stand where a greeting would have come.
    Accept {
        /// The class of the client.
        class: PeerClass,
        /// Unix seconds.
        server_time: u64,
        /// Mail streams at a time.
        streams: u32,
        /// Octets of a message, as SIZE says them; 0 is no fixed limit.
        message_bytes: u64,
        /// The server's name, as a greeting would give it.
        hostname: String,
    },
    /// Not now; the server closes behind it.
    Park {
        /// Seconds.
        retry_after_s: u32,
    },
    /// A ticket for the client's purse.
    Ticket {
        /// To be shown.
        ticket: [u8; TICKET_BYTES],
        /// To prove possession with; never shown.
        key: [u8; 16],
        /// Unix seconds after which it is of no use.
        expires_s: u64,
    },
    /// A ticket that the client may hand to somebody whom it introduces.
    IntroGrant {
        /// To be shown.
        ticket: [u8; TICKET_BYTES],
        /// To prove possession with.
        key: [u8; 16],
        /// Unix seconds after which it is of no use.
        expires_s: u64,
    },
    /// The client asks to be introduced.
    IntroAsk {
        /// To whom.
        domain: String,
    },
    /// The server introduces the client, with a ticket that it was granted there.
    Intro {
        /// To whom.
        domain: String,
        /// To be shown.
        ticket: [u8; TICKET_BYTES],
        /// To prove possession with.
        key: [u8; 16],
        /// Unix seconds after which it is of no use.
        expires_s: u64,
    },
    /// A second door of the same domain that is not published.
    AltDoor {
        /// Its host.
        host: String,
        /// Its UDP port.
        port: u16,
    },
    /// A frame of a later version, read over.
    Unknown(u64),
}

/// Why a stream of frames ends here: [`super::CloseCode::Protocol`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A length of zero.
    Empty,
    /// A length above [`FRAME_BYTES_MAX`].
    TooLong,
    /// Not one item of CBOR as the specification has it.
    NotCbor,
    /// Not `[type, {key: value}]`, a value of the wrong kind, or out of its bounds.
    Malformed,
    /// A value that the frame must have is missing.
    Incomplete,
    /// Octets behind the item.
    Trailing,
    /// More was pushed than anybody reads at once: `next` was not called.
    Overfull,
}

impl From<NotCbor> for FrameError {
    fn from(_: NotCbor) -> Self {
        Self::NotCbor
    }
}

/// Without keys: what is logged is not secret.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ident { domain, .. } => write!(f, "IDENT {domain}"),
            Self::Accept { class, hostname, .. } => write!(f, "ACCEPT {} by {hostname}", class.as_str()),
            Self::Park { retry_after_s } => write!(f, "PARK {retry_after_s} s"),
            Self::Ticket { .. } => f.write_str("TICKET"),
            Self::IntroGrant { .. } => f.write_str("INTRO_GRANT"),
            Self::IntroAsk { domain } => write!(f, "INTRO_ASK {domain}"),
            Self::Intro { domain, .. } => write!(f, "INTRO {domain}"),
            Self::AltDoor { .. } => f.write_str("ALT_DOOR"),
            Self::Unknown(number) => write!(f, "frame {number}"),
        }
    }
}

impl Frame {
    /// Appends the frame with its length. Vouches above their bounds are left out.
    ///
    /// # Panics
    /// When a name is so long that the frame would be above [`FRAME_BYTES_MAX`]: no such name is read from anywhere.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0, 0]);
        cbor::write_head(out, cbor::ARRAY, 2);
        cbor::write_head(out, cbor::UINT, self.number());
        let mut fields = Fields(out);
        match self {
            Self::Ident { domain, owner, vouches } => {
                let good = || vouches.iter().filter(|vouch| vouch.len() <= VOUCH_BYTES_MAX).take(VOUCHES_MAX);
                let count = good().count();
                fields.begin(1 + u64::from(owner.is_some()) + u64::from(count > 0));
                fields.text(1, domain);
                owner.iter().for_each(|owner| fields.text(2, owner));
                if count > 0 {
                    cbor::write_head(fields.0, cbor::UINT, 3);
                    cbor::write_head(fields.0, cbor::ARRAY, count as u64);
                    good().for_each(|vouch| cbor::write_bytes(fields.0, vouch));
                }
            }
            Self::Accept { class, server_time, streams, message_bytes, hostname } => {
                fields.begin(5);
                fields.uint(1, *class as u64);
                fields.uint(2, *server_time);
                fields.uint(3, (*streams).into());
                fields.uint(4, *message_bytes);
                fields.text(5, hostname);
            }
            Self::Park { retry_after_s } => {
                fields.begin(1);
                fields.uint(1, (*retry_after_s).into());
            }
            Self::Ticket { ticket, key, expires_s } | Self::IntroGrant { ticket, key, expires_s } => {
                fields.begin(3);
                fields.grant(1, ticket, key, *expires_s);
            }
            Self::IntroAsk { domain } => {
                fields.begin(1);
                fields.text(1, domain);
            }
            Self::Intro { domain, ticket, key, expires_s } => {
                fields.begin(4);
                fields.text(1, domain);
                fields.grant(2, ticket, key, *expires_s);
            }
            Self::AltDoor { host, port } => {
                fields.begin(2);
                fields.text(1, host);
                fields.uint(2, (*port).into());
            }
            Self::Unknown(_) => fields.begin(0),
        }
        let length = out.len() - start - 2;
        assert!(length <= FRAME_BYTES_MAX, "a frame of {length} octets");
        out[start..start + 2].copy_from_slice(&(length as u16).to_be_bytes());
    }

    /// Reads one item, without its length.
    pub fn decode(item: &[u8]) -> Result<Self, FrameError> {
        let mut reader = Reader(item);
        if reader.array()? != 2 {
            return Err(FrameError::Malformed);
        }
        let number = reader.uint()?;
        let values = Values::read(&mut reader)?;
        if !reader.0.is_empty() {
            return Err(FrameError::Trailing);
        }
        Ok(match number {
            1 => Self::Ident { domain: values.name(1)?, owner: values.optional_name(2)?, vouches: values.vouches(3)? },
            2 => Self::Accept {
                class: u8::try_from(values.uint(1)?).ok().and_then(PeerClass::from_u8).ok_or(FrameError::Malformed)?,
                server_time: values.uint(2)?,
                streams: values.small(3)?,
                message_bytes: values.uint(4)?,
                hostname: values.name(5)?,
            },
            3 => Self::Park { retry_after_s: values.small(1)? },
            4 => Self::Ticket { ticket: values.array(1)?, key: values.array(2)?, expires_s: values.uint(3)? },
            5 => Self::IntroGrant { ticket: values.array(1)?, key: values.array(2)?, expires_s: values.uint(3)? },
            6 => Self::IntroAsk { domain: values.name(1)? },
            7 => Self::Intro {
                domain: values.name(1)?,
                ticket: values.array(2)?,
                key: values.array(3)?,
                expires_s: values.uint(4)?,
            },
            8 => Self::AltDoor {
                host: values.name(1)?,
                port: values.small(2).ok().filter(|port| *port != 0).ok_or(FrameError::Malformed)?,
            },
            number => Self::Unknown(number),
        })
    }

    fn number(&self) -> u64 {
        match self {
            Self::Ident { .. } => 1,
            Self::Accept { .. } => 2,
            Self::Park { .. } => 3,
            Self::Ticket { .. } => 4,
            Self::IntroGrant { .. } => 5,
            Self::IntroAsk { .. } => 6,
            Self::Intro { .. } => 7,
            Self::AltDoor { .. } => 8,
            Self::Unknown(number) => *number,
        }
    }
}

/// Writes the map of a frame.
struct Fields<'a>(&'a mut Vec<u8>);

impl Fields<'_> {
    fn begin(&mut self, pairs: u64) {
        cbor::write_head(self.0, cbor::MAP, pairs);
    }

    fn uint(&mut self, key: u64, value: u64) {
        cbor::write_head(self.0, cbor::UINT, key);
        cbor::write_head(self.0, cbor::UINT, value);
    }

    fn text(&mut self, key: u64, value: &str) {
        cbor::write_head(self.0, cbor::UINT, key);
        cbor::write_text(self.0, value);
    }

    fn grant(&mut self, key: u64, ticket: &[u8], proof_key: &[u8], expires_s: u64) {
        cbor::write_head(self.0, cbor::UINT, key);
        cbor::write_bytes(self.0, ticket);
        cbor::write_head(self.0, cbor::UINT, key + 1);
        cbor::write_bytes(self.0, proof_key);
        self.uint(key + 2, expires_s);
    }
}

/// The values of a frame's map under the keys that any frame knows, still encoded.
struct Values<'a>([Option<&'a [u8]>; 6]);

impl<'a> Values<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, FrameError> {
        let mut values = [None; 6];
        let mut last = None;
        for _ in 0..reader.map()? {
            let key = reader.uint()?;
            // Ascending: a second value for a key cannot be.
            if last.is_some_and(|last| key <= last) {
                return Err(FrameError::NotCbor);
            }
            last = Some(key);
            let from = reader.0;
            reader.skip()?;
            if let Some(value) = usize::try_from(key).ok().and_then(|key| values.get_mut(key)) {
                *value = Some(&from[..from.len() - reader.0.len()]);
            }
        }
        Ok(Self(values))
    }

    fn get(&self, key: usize) -> Result<Reader<'a>, FrameError> {
        self.0[key].map(Reader).ok_or(FrameError::Incomplete)
    }

    fn uint(&self, key: usize) -> Result<u64, FrameError> {
        self.get(key)?.uint().map_err(|_| FrameError::Malformed)
    }

    fn small<T: TryFrom<u64>>(&self, key: usize) -> Result<T, FrameError> {
        T::try_from(self.uint(key)?).map_err(|_| FrameError::Malformed)
    }

    fn array<const N: usize>(&self, key: usize) -> Result<[u8; N], FrameError> {
        let bytes = self.get(key)?.bytes().map_err(|_| FrameError::Malformed)?;
        bytes.try_into().map_err(|_| FrameError::Malformed)
    }

    fn name(&self, key: usize) -> Result<String, FrameError> {
        let text = self.get(key)?.text().map_err(|_| FrameError::Malformed)?;
        name::canonical(text).ok_or(FrameError::Malformed)
    }

    fn optional_name(&self, key: usize) -> Result<Option<String>, FrameError> {
        self.0[key].map(|_| self.name(key)).transpose()
    }

    fn vouches(&self, key: usize) -> Result<Vec<Vec<u8>>, FrameError> {
        let Some(mut list) = self.0[key].map(Reader) else { return Ok(Vec::new()) };
        let count = list.array().map_err(|_| FrameError::Malformed)?;
        if count > VOUCHES_MAX as u64 {
            return Err(FrameError::Malformed);
        }
        let mut vouches = Vec::new();
        for _ in 0..count {
            let vouch = list.bytes().map_err(|_| FrameError::Malformed)?;
            if vouch.len() > VOUCH_BYTES_MAX {
                return Err(FrameError::Malformed);
            }
            vouches.push(vouch.to_vec());
        }
        Ok(vouches)
    }
}

/// Takes frames out of a stream of octets. After an error it says the same for ever.
#[derive(Debug, Default)]
pub struct FrameReader {
    octets: Vec<u8>,
    /// Up to here they have been read.
    read: usize,
    fault: Option<FrameError>,
}

/// What may wait to be read: a frame that is not whole yet and what one look at the stream may bring.
const WAITING_BYTES_MAX: usize = 8 * FRAME_BYTES_MAX;

impl FrameReader {
    /// Nothing read yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds octets of the stream. Call [`Self::next`] until it says `None` before pushing more, and push no more than
    /// 64 KiB at once.
    pub fn push(&mut self, octets: &[u8]) {
        self.octets.drain(..self.read);
        self.read = 0;
        if self.octets.len() + octets.len() > WAITING_BYTES_MAX {
            self.fault.get_or_insert(FrameError::Overfull);
        }
        if self.fault.is_none() {
            self.octets.extend_from_slice(octets);
        }
    }

    /// The next frame; `None` when more octets are needed for it.
    #[expect(clippy::should_implement_trait, reason = "`None` is not the end, and an error is")]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let next = self.try_next();
        if let Err(fault) = next {
            self.fault = Some(fault);
            self.octets = Vec::new();
            self.read = 0;
        }
        next
    }

    /// Whether the stream may end here: no frame has begun.
    pub fn is_between_frames(&self) -> bool {
        self.fault.is_none() && self.read == self.octets.len()
    }

    fn try_next(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((length, rest)) = self.octets[self.read..].split_first_chunk::<2>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes(*length));
        match length {
            0 => return Err(FrameError::Empty),
            1..=FRAME_BYTES_MAX => {}
            _ => return Err(FrameError::TooLong),
        }
        let Some(item) = rest.get(..length) else { return Ok(None) };
        let frame = Frame::decode(item)?;
        self.read += 2 + length;
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests;
