//! Mail logs: which line is of whom. Postfix writes through syslog, Exim its own file; both may be
//! mixed in one stream. Lines that are neither are passed over.

mod date;
mod exim;
mod postfix;

use std::collections::HashMap;
use std::net::IpAddr;

use super::Site;
use crate::serve::trust::seed::{Seed, Seen};

/// Reads a log line by line.
pub(super) struct Log<'a> {
    site: &'a Site,
    queue: HashMap<String, Queued>,
    /// Lines that said something.
    pub(super) lines: u64,
    /// Deliveries whose sender is not ours.
    pub(super) foreign: u64,
}

/// What is known of a message under way.
#[derive(Clone, Debug, Default)]
struct Queued {
    client: Option<Client>,
    /// Empty for the null sender.
    sender: Option<String>,
    /// The client was authenticated, or a process of this host.
    own_user: bool,
}

impl Queued {
    fn is_ours(&self) -> bool {
        self.own_user || self.client.as_ref().is_some_and(|client| !is_public(client.ip))
    }
}

/// A client as the MTA saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Client {
    ip: IpAddr,
    /// Its reverse name, when that name's own addresses confirm it.
    name: Option<String>,
}

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Arrived { id: String, client: Option<Client>, sender: Option<String>, own_user: bool },
    Delivered { id: String, to: String },
    Removed { id: String },
    Unknown { ip: IpAddr },
    EarlyTalker { ip: IpAddr },
}

impl<'a> Log<'a> {
    pub(super) fn new(site: &'a Site) -> Self {
        Self { site, queue: HashMap::new(), lines: 0, foreign: 0 }
    }

    /// One line.
    pub(super) fn line(&mut self, line: &str, found: &mut impl FnMut(Seed)) {
        let line = line.trim_end();
        let Some((at, said)) = postfix::line(line, self.site.now_s).or_else(|| exim::line(line)) else { return };
        self.lines += 1;
        match said {
            Said::Arrived { id, client, sender, own_user } => {
                if self.queue.len() >= QUEUE_MAX {
                    self.queue.clear();
                }
                let queued = self.queue.entry(id).or_default();
                queued.client = client.or(queued.client.take());
                queued.sender = sender.or(queued.sender.take());
                queued.own_user |= own_user;
            }
            Said::Delivered { id, to } => self.delivered(at, &id, &to, found),
            Said::Removed { id } => drop(self.queue.remove(&id)),
            Said::Unknown { ip } => found(Seed { at, seen: Seen::BadRecipients(ip, 1) }),
            Said::EarlyTalker { ip } => found(Seed { at, seen: Seen::EarlyTalker(ip) }),
        }
    }

    fn delivered(&mut self, at: u64, id: &str, to: &str, found: &mut impl FnMut(Seed)) {
        let Some(queued) = self.queue.get(id) else { return };
        let Some(sender) = queued.sender.as_deref().filter(|sender| !sender.is_empty()) else { return };
        let (Some((user, from)), Some((_, domain))) = (sender.rsplit_once('@'), to.rsplit_once('@')) else { return };
        let (ours_from, ours_to) = (self.site.is_ours(from), self.site.is_ours(domain));
        match (ours_from, ours_to) {
            // A person's letter: a machine's is no correspondence. Anybody from outside may write our name
            // into MAIL FROM, of whom we then only forward: one who logged in, or is in our own network.
            (true, false) if !is_machine(user) && queued.is_ours() => {
                found(Seed { at, seen: Seen::WroteTo(to.to_owned()) });
            }
            // Taken, but nobody has said that it was wanted: it proves who the client is, no more.
            (false, true) => {
                if let Some(Client { ip, name: Some(name) }) = &queued.client
                    && is_within(name, from)
                    && is_public(*ip)
                {
                    found(Seed { at, seen: Seen::Authorised(*ip, from.to_owned()) });
                }
            }
            (false, false) => self.foreign += 1,
            _ => {}
        }
    }
}

/// Local parts that no person writes from.
pub(super) fn is_machine(user: &str) -> bool {
    let user = user.to_lowercase();
    let exactly = ["mailer-daemon", "postmaster", "root", "www-data", "apache", "nobody", "cron"];
    exactly.contains(&user.as_str())
        || ["bounce", "noreply", "no-reply", "donotreply", "do-not-reply"].iter().any(|word| user.contains(word))
        || user.starts_with("owner-")
        || ["-owner", "-request", "-admin"].iter().any(|end| user.ends_with(end))
        // VERP and SRS: the address of another stands inside.
        || user.contains('=')
}

/// Whether `name` is `domain` or below it.
pub(super) fn is_within(name: &str, domain: &str) -> bool {
    let name = name.trim_end_matches('.').to_lowercase();
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')) && domain.contains('.')
}

/// An address of the internet: what comes from ourselves or the office says nothing about strangers.
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !(ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified()),
        IpAddr::V6(ip) => {
            !(ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unique_local() || ip.is_unspecified())
        }
    }
}

/// An address as logs have it: lower case, without what is between `<` and `>` being anything else.
fn mailbox(text: &str) -> Option<String> {
    let text = text.trim_start_matches('<').trim_end_matches('>');
    let plain = text.len() <= ADDRESS_BYTES_MAX && !text.contains(char::is_whitespace);
    plain.then(|| text.to_lowercase())
}

/// Messages under way; beyond that the log is not one of a server, and they are forgotten.
const QUEUE_MAX: usize = 100_000;
/// RFC 5321 section 4.5.3.1.3.
const ADDRESS_BYTES_MAX: usize = 254;

#[cfg(test)]
mod tests;
