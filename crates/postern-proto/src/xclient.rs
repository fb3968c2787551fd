//! XCLIENT: how a proxy tells a mail server about the real client, and the xtext it is written in.
//!
//! Owns the attribute syntax, both ways (Postfix's XCLIENT_README; xtext is RFC 3461 section 4). It
//! never decides who may use it: the doors accept it from configured addresses only.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

use crate::address::is_domain_or_literal;

/// Attribute names, as offered behind `XCLIENT` in an EHLO answer.
pub const ATTRIBUTES: &str = "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT";

/// What a proxy may say about one attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told<T> {
    /// A value.
    Known(T),
    /// `[UNAVAILABLE]`: there is none, and asking again would not help.
    Unavailable,
    /// `[TEMPUNAVAIL]`: the proxy could not find out.
    TempUnavailable,
}

impl<T> Told<T> {
    /// The value, when there is one.
    pub fn known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unavailable | Self::TempUnavailable => None,
        }
    }
}

/// One XCLIENT command. Attributes that were not given stay as they were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Xclient {
    /// `NAME`: the client's name from DNS.
    pub name: Option<Told<String>>,
    /// `ADDR`: the client's address.
    pub addr: Option<Told<IpAddr>>,
    /// `PORT`: the client's port.
    pub port: Option<Told<u16>>,
    /// `PROTO`: `Some(true)` is `ESMTP`, `Some(false)` is `SMTP`.
    pub esmtp: Option<bool>,
    /// `HELO`: what the client called itself.
    pub helo: Option<Told<String>>,
    /// `LOGIN`: the SASL login name.
    pub login: Option<Told<String>>,
    /// `DESTADDR`: the address that the client connected to.
    pub dest_addr: Option<Told<IpAddr>>,
    /// `DESTPORT`: the port that the client connected to.
    pub dest_port: Option<Told<u16>>,
}

/// Why an XCLIENT command is refused (501 5.5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XclientError {
    /// Not `NAME=value` words, or none at all.
    Syntax,
    /// A name that is not in [`ATTRIBUTES`].
    UnknownAttribute,
    /// The same attribute twice: which one is true?
    Repeated,
    /// The value is not what the attribute holds.
    BadValue,
}

impl fmt::Display for XclientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "XCLIENT takes attribute=value pairs",
            Self::UnknownAttribute => "unknown XCLIENT attribute",
            Self::Repeated => "XCLIENT attribute given twice",
            Self::BadValue => "bad XCLIENT attribute value",
        })
    }
}

impl core::error::Error for XclientError {}

impl Xclient {
    /// Reads what stands behind `XCLIENT `, without the line end.
    ///
    /// # Errors
    /// [`XclientError`]; nothing of the command may then be applied.
    pub fn parse(arguments: &[u8]) -> Result<Self, XclientError> {
        let mut told = Self::default();
        let mut any = false;
        for word in arguments.split(|&byte| byte == b' ').filter(|word| !word.is_empty()) {
            let equals = word.iter().position(|&byte| byte == b'=').ok_or(XclientError::Syntax)?;
            let (name, value) = (&word[..equals], &word[equals + 1..]);
            told.set(&name.to_ascii_uppercase(), value)?;
            any = true;
        }
        if any { Ok(told) } else { Err(XclientError::Syntax) }
    }

    /// The command line with its CRLF, holding those attributes that `offered` names. `None` when
    /// nothing is left to tell. Attributes that would carry the line beyond 512 octets (RFC 5321
    /// section 4.5.3.1.4) are left out; the address comes first.
    pub fn render(&self, offered: &[String]) -> Option<Vec<u8>> {
        let mut line = Vec::with_capacity(128);
        line.extend_from_slice(b"XCLIENT");
        let values: [(&str, Option<String>); 8] = [
            ("ADDR", self.addr.as_ref().map(|addr| told_word(addr, address_word))),
            ("PORT", self.port.as_ref().map(|port| told_word(port, |port| format!("{port}")))),
            ("DESTADDR", self.dest_addr.as_ref().map(|addr| told_word(addr, address_word))),
            ("DESTPORT", self.dest_port.as_ref().map(|port| told_word(port, |port| format!("{port}")))),
            ("PROTO", self.esmtp.map(|esmtp| String::from(if esmtp { "ESMTP" } else { "SMTP" }))),
            ("NAME", self.name.as_ref().map(|name| told_word(name, |name| xtext_encode(name)))),
            ("HELO", self.helo.as_ref().map(|helo| told_word(helo, |helo| xtext_encode(helo)))),
            ("LOGIN", self.login.as_ref().map(|login| told_word(login, |login| xtext_encode(login)))),
        ];
        let mut any = false;
        for (name, value) in values {
            let Some(value) = value.filter(|_| offered.iter().any(|offer| offer.eq_ignore_ascii_case(name))) else {
                continue;
            };
            if line.len() + name.len() + value.len() + 4 <= LINE_BYTES_MAX {
                line.extend_from_slice(format!(" {name}={value}").as_bytes());
                any = true;
            }
        }
        line.extend_from_slice(b"\r\n");
        any.then_some(line)
    }

    /// What a next hop is to be told about a client at `peer` that connected to `local`.
    ///
    /// A name that nobody looked up is "temporarily unavailable": "unavailable" would claim that the
    /// client has none, and hops refuse for good on that. Left out, Postfix would keep our own name.
    pub fn of_client(peer: SocketAddr, local: SocketAddr, name: Option<&str>, helo: &str, esmtp: bool) -> Self {
        let text = |text: &str| if text.is_empty() { Told::Unavailable } else { Told::Known(String::from(text)) };
        Self {
            name: Some(name.map_or(Told::TempUnavailable, text)),
            addr: Some(Told::Known(peer.ip().to_canonical())),
            port: Some(Told::Known(peer.port())),
            esmtp: Some(esmtp),
            helo: Some(text(helo)),
            login: None,
            dest_addr: Some(Told::Known(local.ip().to_canonical())),
            dest_port: Some(Told::Known(local.port())),
        }
    }

    fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), XclientError> {
        match name {
            b"NAME" => once(&mut self.name, told(value, host)?),
            b"ADDR" => once(&mut self.addr, told(value, address)?),
            b"PORT" => once(&mut self.port, told(value, port)?),
            b"PROTO" => once(&mut self.esmtp, protocol(value)?),
            b"HELO" => once(&mut self.helo, told(value, text)?),
            b"LOGIN" => once(&mut self.login, told(value, text)?),
            b"DESTADDR" => once(&mut self.dest_addr, told(value, address)?),
            b"DESTPORT" => once(&mut self.dest_port, told(value, port)?),
            _ => Err(XclientError::UnknownAttribute),
        }
    }
}

/// Writes xtext: `+` followed by two upper-case hexadecimal digits for what may not stand as it is.
pub fn xtext_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b'!'..=b'~').contains(&byte) && byte != b'+' && byte != b'=' {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("+{byte:02X}"));
        }
    }
    out
}

/// Reads xtext; `None` when it is malformed, or what it says is not UTF-8.
pub fn xtext_decode(xtext: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(xtext.len());
    let mut rest = xtext;
    while let Some((&byte, tail)) = rest.split_first() {
        match byte {
            b'+' => {
                let ([high, low], tail) = tail.split_first_chunk::<2>()?;
                out.push(hex(*high)? << 4 | hex(*low)?);
                rest = tail;
            }
            b'!'..=b'~' if byte != b'=' => {
                out.push(byte);
                rest = tail;
            }
            _ => return None,
        }
    }
    String::from_utf8(out).ok()
}

/// RFC 3461 wants upper case; Postfix reads both, so do we.
fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), XclientError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(XclientError::Repeated),
    }
}

fn told<T>(value: &[u8], read: impl Fn(String) -> Option<T>) -> Result<Told<T>, XclientError> {
    if value.eq_ignore_ascii_case(b"[UNAVAILABLE]") {
        return Ok(Told::Unavailable);
    }
    if value.eq_ignore_ascii_case(b"[TEMPUNAVAIL]") {
        return Ok(Told::TempUnavailable);
    }
    let value = xtext_decode(value).ok_or(XclientError::BadValue)?;
    read(value).map(Told::Known).ok_or(XclientError::BadValue)
}

fn told_word<T>(told: &Told<T>, write: impl Fn(&T) -> String) -> String {
    match told {
        Told::Known(value) => write(value),
        Told::Unavailable => String::from("[UNAVAILABLE]"),
        Told::TempUnavailable => String::from("[TEMPUNAVAIL]"),
    }
}

/// A name from DNS, so no address literal.
fn host(value: String) -> Option<String> {
    (!value.starts_with('[') && is_domain_or_literal(&value)).then_some(value)
}

/// Free text that ends up in a Received field and in logs: no control characters, bounded.
fn text(value: String) -> Option<String> {
    (!value.is_empty() && value.len() <= TEXT_BYTES_MAX && !value.chars().any(char::is_control)).then_some(value)
}

fn address(value: String) -> Option<IpAddr> {
    match value.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPV6:") => value[5..].parse().map(IpAddr::V6).ok(),
        _ => value.parse().map(IpAddr::V4).ok(),
    }
    .map(|ip| ip.to_canonical())
}

fn address_word(ip: &IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{ip}"),
        IpAddr::V6(ip) => format!("IPV6:{ip}"),
    }
}

fn port(value: String) -> Option<u16> {
    if value.bytes().all(|byte| byte.is_ascii_digit()) { value.parse().ok() } else { None }
}

fn protocol(value: &[u8]) -> Result<bool, XclientError> {
    match value.to_ascii_uppercase().as_slice() {
        b"ESMTP" => Ok(true),
        b"SMTP" => Ok(false),
        _ => Err(XclientError::BadValue),
    }
}

/// A command line with its CRLF, RFC 5321 section 4.5.3.1.4.
const LINE_BYTES_MAX: usize = 512;
/// HELO and LOGIN: a domain is at most 255 octets.
const TEXT_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests;
