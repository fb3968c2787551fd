//! What a name behind EHLO is worth. Pure. Evidence only: RFC 5321 section 4.1.4 forbids to refuse mail
//! merely because the name does not lead to the client, so nothing here asks DNS, and what honest but
//! badly kept machines say (an underscore, another's host name) is plausible.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why a name cannot be the client's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeloFault {
    /// Nothing behind EHLO (RFC 5321 section 4.1.1.1 asks for one).
    Empty,
    /// Longer than RFC 5321 section 4.5.3.1.2 allows.
    TooLong,
    /// Octets that no name has: spaces, controls, brackets in the middle, shell words.
    Characters,
    /// It says that it is we.
    OurName,
    /// `localhost`: not a name of anybody else.
    Localhost,
    /// A single word; RFC 5321 section 2.3.5 asks for a fully-qualified name.
    NoDot,
    /// An address without brackets (RFC 5321 section 4.1.3).
    BareAddress,
    /// An address in brackets that is not one.
    BadLiteral,
    /// An address in brackets, but not the client's.
    OtherAddress,
}

impl HeloFault {
    /// For logs and `postern why`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLong => "too long",
            Self::Characters => "octets that no name has",
            Self::OurName => "our own name",
            Self::Localhost => "localhost",
            Self::NoDot => "not fully qualified",
            Self::BareAddress => "an address without brackets",
            Self::BadLiteral => "not an address in its brackets",
            Self::OtherAddress => "another address in its brackets",
        }
    }
}

/// Whether a client at `ip` could truly be called so.
pub fn helo_is_plausible(helo: &str, ip: IpAddr, our_names: &[&str]) -> bool {
    helo_fault(helo, ip, our_names).is_none()
}

/// What is wrong with the name, the worst first.
pub fn helo_fault(helo: &str, ip: IpAddr, our_names: &[&str]) -> Option<HeloFault> {
    let ip = ip.to_canonical();
    let name = helo.strip_suffix('.').unwrap_or(helo);
    if name.is_empty() {
        return Some(HeloFault::Empty);
    }
    if helo.len() > crate::limits::HELO_OCTETS_MAX {
        return Some(HeloFault::TooLong);
    }
    if our_names.iter().any(|ours| ours.trim_end_matches('.').eq_ignore_ascii_case(name)) {
        // A machine that talks to itself is not a stranger with our name.
        return (!ip.is_loopback()).then_some(HeloFault::OurName);
    }
    if let Some(rest) = name.strip_prefix('[') {
        return match rest.strip_suffix(']').and_then(literal) {
            None => Some(HeloFault::BadLiteral),
            // Behind a NAT a client knows its private address only (RFC 5321 section 4.1.3 has no better).
            Some(said) if said != ip && !is_private(said) => Some(HeloFault::OtherAddress),
            Some(_) => None,
        };
    }
    if name.parse::<IpAddr>().is_ok() {
        return Some(HeloFault::BareAddress);
    }
    // Underscores are wrong and common; octets above 127 are names of RFC 6531.
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || !c.is_ascii();
    if !name.chars().all(|c| allowed(c) && !c.is_control()) || name.split('.').any(str::is_empty) {
        return Some(HeloFault::Characters);
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    if name.eq_ignore_ascii_case("localhost")
        || name.eq_ignore_ascii_case("localhost.localdomain")
        || last.eq_ignore_ascii_case("localhost")
    {
        return (!ip.is_loopback()).then_some(HeloFault::Localhost);
    }
    if !name.contains('.') {
        return Some(HeloFault::NoDot);
    }
    None
}

/// RFC 5321 section 4.1.3, without the brackets.
fn literal(text: &str) -> Option<IpAddr> {
    let tag = text.get(..5).filter(|tag| tag.eq_ignore_ascii_case("IPv6:"));
    match tag {
        Some(_) => text[5..].parse::<Ipv6Addr>().ok().map(|ip| IpAddr::V6(ip).to_canonical()),
        None => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests;
