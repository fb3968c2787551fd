//! What the header of one stored message shows.
//!
//! Anybody can write anything into a header. Believed are the fields above and including the
//! topmost Received field of our own host that names a client from outside: our own server wrote
//! them. Everything below came with the message.

use std::net::IpAddr;

use mail_parser::{Address, Header, HeaderValue, Host, Message, MessageParser, Received};

use super::Site;
use super::log::{is_machine, is_public, is_within};
use crate::serve::trust::seed::{Seed, Seen};

/// In what kind of folder it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folder {
    /// Written by us.
    Sent,
    /// Read, and not thrown away.
    Kept,
    /// Thrown into the junk folder.
    Junk,
}

/// Facts of one message from its header section. False when nothing in it could be believed.
pub(super) fn message(
    header: &[u8],
    folder: Folder,
    modified_s: u64,
    site: &Site,
    found: &mut impl FnMut(Seed),
) -> bool {
    let Some(message) = MessageParser::new().parse_headers(header) else { return false };
    if folder == Folder::Sent {
        return sent(&message, modified_s, site, found);
    }
    let Some(hop) = own_hop(header, &message, site) else { return false };
    let sender = match message.return_path() {
        HeaderValue::Text(text) => Some(text.trim_matches(['<', '>']).to_lowercase()),
        _ => None,
    };
    let Some((sender, domain)) = sender.as_ref().and_then(|sender| Some((sender, sender.rsplit_once('@')?.1))) else {
        // The null sender, or a delivery agent that keeps none: From is the author's own word.
        return true;
    };
    if site.is_ours(domain) {
        return true;
    }
    let at = date_of(&message, modified_s, site);
    let proven = hop.spf_pass || hop.name.as_deref().is_some_and(|name| is_within(name, domain));
    if proven {
        found(Seed { at, seen: Seen::Authorised(hop.ip, domain.to_owned()) });
    }
    let seen = match folder {
        Folder::Junk => Seen::Spam(hop.ip, sender.clone(), 1),
        _ => Seen::Ham(hop.ip, sender.clone(), 1),
    };
    found(Seed { at, seen });
    true
}

/// To whom we wrote.
fn sent(message: &Message<'_>, modified_s: u64, site: &Site, found: &mut impl FnMut(Seed)) -> bool {
    let field = |name: &str| {
        let found = message.headers().iter().find(|header| header.name.as_str().eq_ignore_ascii_case(name));
        found.and_then(|header| header.value.as_text())
    };
    let automatic = field("Auto-Submitted").is_some_and(|value| !value.trim().eq_ignore_ascii_case("no"));
    let bulk = field("Precedence").is_some_and(|value| ["bulk", "list", "junk"].contains(&value.trim()));
    // A stranger's mail that lies there: moved by hand, or the folder is none of a person's letters.
    let authors = message.from().into_iter().flat_map(Address::iter).filter_map(|from| from.address.as_deref());
    let mut authors = authors.map(|from| from.rsplit_once('@').is_some_and(|(_, of)| site.is_ours(&of.to_lowercase())));
    let by_us = authors.next() == Some(true) && authors.all(|ours| ours);
    if automatic || bulk || !by_us || came_from_outside(message, site) {
        return false;
    }
    let at = date_of(message, modified_s, site);
    let lists = [message.to(), message.cc(), message.bcc()];
    for to in lists.into_iter().flatten().flat_map(Address::iter).take(RECIPIENTS_MAX) {
        let Some(address) = to.address.as_deref().map(str::to_lowercase) else { continue };
        if let Some((user, domain)) = address.rsplit_once('@')
            && !site.is_ours(domain)
            && !is_machine(user)
            && postern_proto::address::is_domain_or_literal(domain)
        {
            found(Seed { at, seen: Seen::WroteTo(address.clone()) });
        }
    }
    true
}

/// Whether another host than ours has passed it on. What our own server took from outside is no proof: people
/// who travel send from anywhere.
fn came_from_outside(message: &Message<'_>, site: &Site) -> bool {
    message.headers().iter().any(|field| match &field.value {
        HeaderValue::Received(received) => !by_our_host(received, site),
        _ => false,
    })
}

fn by_our_host(received: &Received<'_>, site: &Site) -> bool {
    match &received.by {
        Some(Host::Name(name)) => site.hosts.contains(&name.trim_end_matches('.').to_lowercase()),
        _ => false,
    }
}

/// The client as our own server saw it.
struct Hop {
    ip: IpAddr,
    /// Its confirmed name.
    name: Option<String>,
    /// A field that our server added above says so (RFC 7208 section 9.1).
    spf_pass: bool,
}

fn own_hop(raw: &[u8], message: &Message<'_>, site: &Site) -> Option<Hop> {
    let mut spf_pass = false;
    for field in message.headers() {
        match &field.value {
            HeaderValue::Received(received) => {
                if !by_our_host(received, site) {
                    return None;
                }
                let ip = received.from_ip?;
                // Between our own programs (a content filter), or from a front door that was named. Any other
                // private client wrote what is below: a guest's laptop, a container.
                if ip.is_loopback() || site.hosts.contains(&ip.to_string()) {
                    spf_pass = false;
                    continue;
                }
                if !is_public(ip) {
                    return None;
                }
                return Some(Hop { ip, name: confirmed(raw, field, received), spf_pass });
            }
            HeaderValue::Text(text) if field.name.as_str().eq_ignore_ascii_case("Received-SPF") => {
                spf_pass = text.trim_start().get(..4).is_some_and(|word| word.eq_ignore_ascii_case("pass"));
            }
            _ => {}
        }
    }
    None
}

/// `from helo (name [address])`: Postfix and Sendmail write the name there, `unknown` or `may be
/// forged` when its addresses do not confirm it.
fn confirmed(raw: &[u8], field: &Header<'_>, received: &Received<'_>) -> Option<String> {
    let text = raw.get(field.offset_start as usize..field.offset_end as usize)?;
    let forged = text.windows(FORGED.len()).any(|words| words.eq_ignore_ascii_case(FORGED));
    let name = received.from_iprev.as_ref()?.to_lowercase();
    (!forged && name != "unknown").then_some(name)
}

/// The date in the header, unless it is of the future.
fn date_of(message: &Message<'_>, modified_s: u64, site: &Site) -> u64 {
    let date = message.date().and_then(|date| u64::try_from(date.to_timestamp()).ok());
    date.filter(|at| *at > 0 && *at <= site.now_s).unwrap_or(modified_s).min(site.now_s)
}

const FORGED: &[u8] = b"may be forged";
/// A letter to more is a circular.
const RECIPIENTS_MAX: usize = 50;

#[cfg(test)]
mod tests;
