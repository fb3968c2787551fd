//! The PROXY protocol, versions 1 and 2: how a load balancer tells a server the real client.
//!
//! Owns reading (strict, bounded, one byte at a time if need be) and writing. It never decides who
//! may speak it: the doors ask it only about peers that the configuration names, because any other
//! client could claim any address. Specification: HAProxy's `proxy-protocol.txt`, version 2.

use alloc::format;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str::FromStr;

/// A header that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// `LOCAL` (version 2), or a family that is not TCP over IP (`UNKNOWN` in version 1): the
    /// connection's own addresses stand.
    Local,
    /// The real ends of the connection.
    Proxied {
        /// The client.
        source: SocketAddr,
        /// What the client connected to.
        destination: SocketAddr,
    },
}

/// Reads a header from the first octets of a connection.
///
/// `Ok(None)` means that more octets are needed; at most [`HEADER_BYTES_MAX`] ever are. Otherwise the
/// number says how many octets the header took: what follows belongs to SMTP.
///
/// # Errors
/// [`ProxyError`]: close without a reply; the peer is a misconfigured balancer, not a mail client.
pub fn parse(input: &[u8]) -> Result<Option<(usize, Header)>, ProxyError> {
    if input.is_empty() {
        return Ok(None);
    }
    if starts_alike(input, SIGNATURE_V2) {
        return parse_v2(input);
    }
    if starts_alike(input, b"PROXY ") {
        return parse_v1(input);
    }
    Err(ProxyError::NotProxy)
}

/// Longest header read: version 2 with its TLVs. HAProxy's own buffer is 536 octets plus TLVs, cloud
/// balancers stay under 512; a client may not make us hold more.
pub const HEADER_BYTES_MAX: usize = 2048;

/// Why the octets are no PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// Neither signature.
    NotProxy,
    /// The right start, but the rest breaks the specification.
    Malformed,
    /// Longer than [`HEADER_BYTES_MAX`], or than 107 octets in version 1.
    TooLong,
    /// Version 2 has no such version or command.
    UnknownVersion,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotProxy => "the connection does not start with a PROXY header",
            Self::Malformed => "the PROXY header is malformed",
            Self::TooLong => "the PROXY header is too long",
            Self::UnknownVersion => "the PROXY header has an unknown version or command",
        })
    }
}

impl core::error::Error for ProxyError {}

/// Appends a version 2 header, without TLVs. Ends of different families are written as IPv6, the
/// IPv4 one mapped.
pub fn write_v2(source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE_V2);
    out.push(VERSION_2 | COMMAND_PROXY);
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.push(TCP_OVER_V4);
            out.extend_from_slice(&12_u16.to_be_bytes());
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        (from, to) => {
            out.push(TCP_OVER_V6);
            out.extend_from_slice(&36_u16.to_be_bytes());
            out.extend_from_slice(&as_v6(from).octets());
            out.extend_from_slice(&as_v6(to).octets());
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

/// Appends a version 2 header that says `LOCAL`: the connection is the proxy's own.
pub fn write_v2_local(out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE_V2);
    out.extend_from_slice(&[VERSION_2, 0, 0, 0]);
}

/// Appends a version 1 header: `PROXY TCP4 192.0.2.1 198.51.100.2 1234 25`.
pub fn write_v1(source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    let line = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            format!("PROXY TCP4 {from} {to} {} {}\r\n", source.port(), destination.port())
        }
        (from, to) => {
            format!("PROXY TCP6 {} {} {} {}\r\n", as_v6(from), as_v6(to), source.port(), destination.port())
        }
    };
    out.extend_from_slice(line.as_bytes());
}

fn as_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// Whether `input` is `start`, continues it, or is a beginning of it.
fn starts_alike(input: &[u8], start: &[u8]) -> bool {
    let n = input.len().min(start.len());
    input[..n] == start[..n]
}

fn parse_v1(input: &[u8]) -> Result<Option<(usize, Header)>, ProxyError> {
    let window = &input[..input.len().min(V1_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\n', window) else {
        return if input.len() < V1_BYTES_MAX { Ok(None) } else { Err(ProxyError::TooLong) };
    };
    let line = window[..end].strip_suffix(b"\r").ok_or(ProxyError::Malformed)?;
    let line = core::str::from_utf8(line).map_err(|_| ProxyError::Malformed)?;
    let mut words = line.split(' ').skip(1);
    let mut word = || words.next().ok_or(ProxyError::Malformed);
    let header = match word()? {
        // "the receiver must ignore anything presented before the CRLF"
        "UNKNOWN" => return Ok(Some((end + 1, Header::Local))),
        "TCP4" => {
            let (from, to) = (v1_ip::<Ipv4Addr>(word()?)?, v1_ip::<Ipv4Addr>(word()?)?);
            proxied(from.into(), to.into(), v1_port(word()?)?, v1_port(word()?)?)
        }
        "TCP6" => {
            let (from, to) = (v1_ip::<Ipv6Addr>(word()?)?, v1_ip::<Ipv6Addr>(word()?)?);
            proxied(from.into(), to.into(), v1_port(word()?)?, v1_port(word()?)?)
        }
        _ => return Err(ProxyError::Malformed),
    };
    if word().is_ok() { Err(ProxyError::Malformed) } else { Ok(Some((end + 1, header))) }
}

fn v1_ip<T: FromStr>(word: &str) -> Result<T, ProxyError> {
    word.parse().map_err(|_| ProxyError::Malformed)
}

/// Decimal without leading zeroes or sign.
fn v1_port(word: &str) -> Result<u16, ProxyError> {
    let port = word.parse().map_err(|_| ProxyError::Malformed)?;
    let canonical = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    if canonical { Ok(port) } else { Err(ProxyError::Malformed) }
}

fn parse_v2(input: &[u8]) -> Result<Option<(usize, Header)>, ProxyError> {
    let Some((fixed, rest)) = input.split_at_checked(V2_FIXED_BYTES) else { return Ok(None) };
    let (version, command) = (fixed[12] & 0xf0, fixed[12] & 0x0f);
    if version != VERSION_2 || command > COMMAND_PROXY {
        return Err(ProxyError::UnknownVersion);
    }
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if V2_FIXED_BYTES + length > HEADER_BYTES_MAX {
        return Err(ProxyError::TooLong);
    }
    let Some(addresses) = rest.get(..length) else { return Ok(None) };
    let header = match fixed[13] {
        _ if command != COMMAND_PROXY => Header::Local,
        TCP_OVER_V4 => {
            let block: &[u8; 12] = addresses.first_chunk().ok_or(ProxyError::Malformed)?;
            let ip = |at: usize| IpAddr::from([block[at], block[at + 1], block[at + 2], block[at + 3]]);
            proxied(ip(0), ip(4), port(block[8], block[9]), port(block[10], block[11]))
        }
        TCP_OVER_V6 => {
            let block: &[u8; 36] = addresses.first_chunk().ok_or(ProxyError::Malformed)?;
            let (from, rest) = block.split_first_chunk::<16>().ok_or(ProxyError::Malformed)?;
            let (to, ports) = rest.split_first_chunk::<16>().ok_or(ProxyError::Malformed)?;
            proxied((*from).into(), (*to).into(), port(ports[0], ports[1]), port(ports[2], ports[3]))
        }
        // Families and transports that cannot carry mail: "must … accept … and use the real
        // connection endpoints"; values the specification does not assign are refused.
        other if other >> 4 <= 3 && other & 0x0f <= 2 => Header::Local,
        _ => return Err(ProxyError::Malformed),
    };
    Ok(Some((V2_FIXED_BYTES + length, header)))
}

fn port(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high, low])
}

/// An IPv4 client behind an IPv6 balancer arrives mapped; it is the IPv4 address that lists know.
fn proxied(from: IpAddr, to: IpAddr, from_port: u16, to_port: u16) -> Header {
    Header::Proxied {
        source: SocketAddr::new(from.to_canonical(), from_port),
        destination: SocketAddr::new(to.to_canonical(), to_port),
    }
}

const SIGNATURE_V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED_BYTES: usize = 16;
const VERSION_2: u8 = 0x20;
const COMMAND_PROXY: u8 = 1;
const TCP_OVER_V4: u8 = 0x11;
const TCP_OVER_V6: u8 = 0x21;
/// "The maximum line lengths the receiver must support including the CRLF": 107.
const V1_BYTES_MAX: usize = 107;

#[cfg(test)]
mod tests;
