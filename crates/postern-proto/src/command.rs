//! A command line, parsed once into a value (RFC 5321 section 4.1 and the extensions we offer).
//!
//! The parser knows syntax only; whether a command is in order, or a parameter was offered, is
//! the session's to say.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use crate::address::{Address, AddressError, is_domain_or_literal};
use crate::envelope::Notify;
use crate::xclient::xtext_decode;

/// A command as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// `HELO name`.
    Helo(&'a str),
    /// `EHLO name`.
    Ehlo(&'a str),
    /// `MAIL FROM:<path> params`.
    Mail(Box<Mail>),
    /// `RCPT TO:<path> params`.
    Rcpt(Box<Rcpt>),
    /// `DATA`.
    Data,
    /// `BDAT size [LAST]` (RFC 3030).
    Bdat {
        /// Octets that follow the line.
        size: u64,
        /// The message ends with this chunk.
        last: bool,
    },
    /// `RSET`.
    Rset,
    /// `NOOP [anything]`.
    Noop,
    /// `VRFY string`.
    Vrfy,
    /// `EXPN string`.
    Expn,
    /// `HELP [anything]`.
    Help,
    /// `QUIT`.
    Quit,
    /// `STARTTLS` (RFC 3207).
    StartTls,
    /// `XCLIENT attributes`, unparsed.
    Xclient(&'a [u8]),
    /// `AUTH …`: never offered here.
    Auth,
}

/// `MAIL FROM`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// `None` is `<>`.
    pub sender: Option<Address>,
    /// `SIZE=`, an announcement and nothing more (RFC 1870).
    pub size: Option<u64>,
    /// `BODY=`.
    pub body: Option<BodyType>,
    /// `SMTPUTF8`.
    pub smtputf8: bool,
    /// `RET=`: full body or headers.
    pub ret_full: Option<bool>,
    /// `ENVID=`, decoded.
    pub envelope_id: Option<String>,
}

/// `BODY=` values (RFC 6152; RFC 3030 for the last).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyType {
    /// `7BIT`.
    SevenBit,
    /// `8BITMIME`.
    EightBitMime,
    /// `BINARYMIME`: not offered, nothing behind us could take it.
    BinaryMime,
}

/// `RCPT TO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rcpt {
    /// The forward-path; an empty domain only with `postmaster`.
    pub address: Address,
    /// `NOTIFY=`.
    pub notify: Option<Notify>,
    /// `ORCPT=`, as received.
    pub original: Option<String>,
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// The verb is not known: 500 5.5.2.
    UnknownVerb,
    /// The verb is known, what follows is not right: 501 5.5.4.
    Arguments,
    /// The path is not a path: 501 5.1.7 (MAIL) or 5.1.3 (RCPT).
    Path {
        /// In MAIL rather than RCPT.
        sender: bool,
        /// What is wrong.
        error: AddressError,
    },
    /// A parameter that nobody offered: 555 5.5.4.
    UnknownParameter,
}

/// Parses one line without its CRLF.
///
/// `utf8` says whether SMTPUTF8 is offered; a path outside ASCII is taken only when the MAIL
/// command itself also carries the keyword, or (for RCPT) `transaction_utf8` is set.
///
/// # Errors
/// [`CommandError`], each of which has one reply.
pub fn parse(line: &[u8], utf8: bool, transaction_utf8: bool) -> Result<Command<'_>, CommandError> {
    let line = line.trim_ascii_end();
    let verb_len = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    let (verb, rest) = line.split_at(verb_len);
    let rest = rest.trim_ascii_start();
    let mut upper = [0u8; 8];
    let Some(upper) = upper.get_mut(..verb.len()) else { return Err(CommandError::UnknownVerb) };
    upper.copy_from_slice(verb);
    upper.make_ascii_uppercase();
    match &*upper {
        b"HELO" => greeting_name(rest).map(Command::Helo),
        b"EHLO" => greeting_name(rest).map(Command::Ehlo),
        b"MAIL" => mail(rest, utf8),
        b"RCPT" => rcpt(rest, transaction_utf8),
        b"DATA" => no_arguments(rest, Command::Data),
        b"BDAT" => bdat(rest),
        b"RSET" => no_arguments(rest, Command::Rset),
        b"QUIT" => no_arguments(rest, Command::Quit),
        b"STARTTLS" => no_arguments(rest, Command::StartTls),
        b"NOOP" => Ok(Command::Noop),
        b"HELP" => Ok(Command::Help),
        b"VRFY" if rest.is_empty() => Err(CommandError::Arguments),
        b"VRFY" => Ok(Command::Vrfy),
        b"EXPN" => Ok(Command::Expn),
        b"XCLIENT" => Ok(Command::Xclient(rest)),
        b"AUTH" => Ok(Command::Auth),
        _ => Err(CommandError::UnknownVerb),
    }
}

fn no_arguments<'a>(rest: &[u8], command: Command<'a>) -> Result<Command<'a>, CommandError> {
    if rest.is_empty() { Ok(command) } else { Err(CommandError::Arguments) }
}

/// The name behind HELO or EHLO. Real clients send names without dots and stray brackets; only
/// what could not stand in a Received field is refused (RFC 5321 section 4.1.4 forbids refusing
/// mail because the name does not verify).
fn greeting_name(rest: &[u8]) -> Result<&str, CommandError> {
    let name = core::str::from_utf8(rest).map_err(|_| CommandError::Arguments)?;
    if is_greeting_name(name) { Ok(name) } else { Err(CommandError::Arguments) }
}

pub(crate) fn is_greeting_name(name: &str) -> bool {
    let plain = !name.is_empty()
        && name.len() <= crate::limits::DOMAIN_BYTES_MAX
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'(' | b')' | b'<' | b'>' | b';' | b'\\' | b'"'));
    let international = !name.is_ascii() && is_domain_or_literal(name);
    plain || international
}

fn bdat<'a>(rest: &[u8]) -> Result<Command<'a>, CommandError> {
    let mut words = rest.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let size = words.next().and_then(number).ok_or(CommandError::Arguments)?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case(b"LAST") => true,
        Some(_) => return Err(CommandError::Arguments),
    };
    if words.next().is_some() { Err(CommandError::Arguments) } else { Ok(Command::Bdat { size, last }) }
}

fn mail<'a>(rest: &[u8], utf8: bool) -> Result<Command<'a>, CommandError> {
    let (path, parameters) = split_path(rest, b"FROM:")?;
    let mut mail = Mail::default();
    for (keyword, value) in parameters.iter().copied() {
        match (keyword, value) {
            (word, Some(value)) if word.eq_ignore_ascii_case(b"SIZE") => {
                set_once(&mut mail.size, number(value).ok_or(CommandError::Arguments)?)?;
            }
            (word, Some(value)) if word.eq_ignore_ascii_case(b"BODY") => {
                let body = if value.eq_ignore_ascii_case(b"7BIT") {
                    BodyType::SevenBit
                } else if value.eq_ignore_ascii_case(b"8BITMIME") {
                    BodyType::EightBitMime
                } else if value.eq_ignore_ascii_case(b"BINARYMIME") {
                    BodyType::BinaryMime
                } else {
                    return Err(CommandError::Arguments);
                };
                set_once(&mut mail.body, body)?;
            }
            (word, None) if word.eq_ignore_ascii_case(b"SMTPUTF8") && utf8 => mail.smtputf8 = true,
            (word, Some(value)) if word.eq_ignore_ascii_case(b"RET") => {
                let full = if value.eq_ignore_ascii_case(b"FULL") {
                    true
                } else if value.eq_ignore_ascii_case(b"HDRS") {
                    false
                } else {
                    return Err(CommandError::Arguments);
                };
                set_once(&mut mail.ret_full, full)?;
            }
            (word, Some(value)) if word.eq_ignore_ascii_case(b"ENVID") => {
                let id = decode_xtext(value).filter(|id| id.len() <= 100).ok_or(CommandError::Arguments)?;
                set_once(&mut mail.envelope_id, id)?;
            }
            _ => return Err(CommandError::UnknownParameter),
        }
    }
    if !path.is_empty() {
        let address =
            Address::parse(path, mail.smtputf8).map_err(|error| CommandError::Path { sender: true, error })?;
        mail.sender = Some(address);
    }
    Ok(Command::Mail(Box::new(mail)))
}

fn rcpt<'a>(rest: &[u8], utf8: bool) -> Result<Command<'a>, CommandError> {
    let (path, parameters) = split_path(rest, b"TO:")?;
    let address = if path.eq_ignore_ascii_case(b"postmaster") {
        Address { local: "postmaster".into(), domain: "".into() }
    } else {
        Address::parse(path, utf8).map_err(|error| CommandError::Path { sender: false, error })?
    };
    let mut rcpt = Rcpt { address, notify: None, original: None };
    for (keyword, value) in parameters.iter().copied() {
        match (keyword, value) {
            (word, Some(value)) if word.eq_ignore_ascii_case(b"NOTIFY") => {
                set_once(&mut rcpt.notify, notify(value).ok_or(CommandError::Arguments)?)?;
            }
            (word, Some(value)) if word.eq_ignore_ascii_case(b"ORCPT") => {
                let sound = value.len() <= 500 && value.contains(&b';') && decode_xtext(value).is_some();
                let text = core::str::from_utf8(value).ok().filter(|_| sound).ok_or(CommandError::Arguments)?;
                set_once(&mut rcpt.original, String::from(text))?;
            }
            _ => return Err(CommandError::UnknownParameter),
        }
    }
    Ok(Command::Rcpt(Box::new(rcpt)))
}

type Parameters<'a> = Vec<(&'a [u8], Option<&'a [u8]>)>;

/// Splits `FROM:<path> A=B C` into path and parameters. White space before `<` is tolerated: it
/// is a common slip and harmless; a path without brackets is not (it invites ambiguity).
fn split_path<'a>(rest: &'a [u8], prefix: &[u8]) -> Result<(&'a [u8], Parameters<'a>), CommandError> {
    let head = rest.get(..prefix.len()).filter(|head| head.eq_ignore_ascii_case(prefix));
    if head.is_none() {
        return Err(CommandError::Arguments);
    }
    let open = rest[prefix.len()..].trim_ascii_start().strip_prefix(b"<").ok_or(CommandError::Arguments)?;
    let close = closing_bracket(open).ok_or(CommandError::Arguments)?;
    let (path, after) = (&open[..close], &open[close + 1..]);
    if !after.is_empty() && after[0] != b' ' {
        return Err(CommandError::Arguments);
    }
    let parameters = after.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).map(|word| {
        match word.iter().position(|byte| *byte == b'=') {
            Some(at) => (&word[..at], Some(&word[at + 1..])),
            None => (word, None),
        }
    });
    Ok((path, parameters.collect()))
}

/// The `>` that ends the path; one inside a quoted local part does not.
fn closing_bracket(text: &[u8]) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.iter().copied().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

fn set_once<T>(slot: &mut Option<T>, value: T) -> Result<(), CommandError> {
    if slot.replace(value).is_some() { Err(CommandError::Arguments) } else { Ok(()) }
}

/// At most 20 digits (RFC 1870 section 3), no sign.
fn number(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.len() <= 20 && text.iter().all(u8::is_ascii_digit);
    core::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

/// `NEVER` alone, or a list without repetition (RFC 3461 section 4.1).
fn notify(value: &[u8]) -> Option<Notify> {
    let mut notify = Notify { success: false, failure: false, delay: false, given: true };
    if value.eq_ignore_ascii_case(b"NEVER") {
        return Some(notify);
    }
    for word in value.split(|byte| *byte == b',') {
        let flag = if word.eq_ignore_ascii_case(b"SUCCESS") {
            &mut notify.success
        } else if word.eq_ignore_ascii_case(b"FAILURE") {
            &mut notify.failure
        } else if word.eq_ignore_ascii_case(b"DELAY") {
            &mut notify.delay
        } else {
            return None;
        };
        if core::mem::replace(flag, true) {
            return None;
        }
    }
    Some(notify)
}

/// A value that may go into a report: xtext (RFC 3461 section 4) without control characters.
fn decode_xtext(text: &[u8]) -> Option<String> {
    xtext_decode(text).filter(|text| !text.chars().any(char::is_control))
}
