//! The Received field (RFC 5321 section 4.4), rendered at delivery from the metadata.
//!
//! It is truthful about TLS and protocol (RFC 3848, RFC 6531 section 3.7.3) because it is made
//! from what was stored at arrival, not from what holds when the message leaves.

use alloc::format;
use alloc::string::{String, ToString};
use core::net::{IpAddr, SocketAddr};

use jiff::{Timestamp, tz::TimeZone};

use crate::address::Address;
use crate::envelope::{Arrival, Meta, Via};

/// The field with its CRLF, folded. `id` is the name of the item; `recipient` is given when the
/// message is for one alone (RFC 5321 section 7.2: a list would tell blind recipients).
pub fn received_field(meta: &Meta, id: &str, recipient: Option<&Address>) -> String {
    let arrival = &meta.arrival;
    let mut field = match arrival.via {
        Via::Local => format!("Received: by {} (Postern)", arrival.by),
        Via::Public | Via::Relay | Via::Postern => format!(
            "Received: from {} ({})\r\n\tby {} (Postern) with {}",
            arrival.helo,
            tcp_info(arrival),
            arrival.by,
            protocol(meta)
        ),
    };
    if let Some(tls) = &arrival.tls {
        field.push_str(&format!("\r\n\t({} {})", tls.version, tls.cipher));
    }
    field.push_str(&format!("\r\n\tid {id}"));
    if let Some(address) = recipient {
        field.push_str(&format!("\r\n\tfor <{address}>"));
    }
    field.push_str(&format!("; {}\r\n", rfc5322_date(arrival.at_unix_ms)));
    field
}

/// `Sat, 21 Nov 2026 18:06:24 +0000`, RFC 5322 section 3.3.
pub fn rfc5322_date(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    let timestamp = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    timestamp.to_zoned(TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

fn tcp_info(arrival: &Arrival) -> String {
    let literal = match canonical(arrival.peer) {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    };
    match &arrival.peer_name {
        Some(name) => format!("{name} {literal}"),
        None => literal,
    }
}

/// A client on IPv4 that came over a socket for both families is still on IPv4.
fn canonical(peer: SocketAddr) -> IpAddr {
    peer.ip().to_canonical()
}

fn protocol(meta: &Meta) -> &'static str {
    match (meta.smtputf8, meta.arrival.esmtp, meta.arrival.tls.is_some()) {
        (true, _, true) => "UTF8SMTPS",
        (true, _, false) => "UTF8SMTP",
        (false, true, true) => "ESMTPS",
        (false, true, false) => "ESMTP",
        (false, false, _) => "SMTP",
    }
}

#[cfg(test)]
mod tests;
