//! Lines of Exim's main log.

use super::{Client, Said, date, mailbox};

/// `DATE TIME [pid] id <= sender …`, `id => recipient …`, `id Completed`, or a rejection.
pub(super) fn line(line: &str) -> Option<(u64, Said)> {
    let (at, rest) = date::exim(line)?;
    // log_selector = +pid
    let rest = if rest.starts_with('[') { rest.split_once(' ')?.1 } else { rest };
    if let Some(host) = rest.strip_prefix("H=") {
        let unknown = rest.contains(" rejected RCPT ")
            && ["Unrouteable address", "Unknown user", "unknown user", "User unknown"]
                .iter()
                .any(|words| rest.contains(words));
        return unknown.then(|| Some((at, Said::Unknown { ip: client(host)?.ip })))?;
    }
    let (id, rest) = rest.split_once(' ')?;
    if !is_id(id) {
        return None;
    }
    let id = id.to_owned();
    let said = match rest.split_once(' ') {
        Some(("<=", rest)) => {
            // A quoted local part may have anything in it, such as ` H=mail.bank.example [192.0.2.7]`.
            if rest.starts_with(['"', '\'']) {
                return None;
            }
            let (sender, facts) = rest.split_once(' ').unwrap_or((rest, ""));
            let sender = if sender == "<>" { String::new() } else { mailbox(sender)? };
            let facts = Facts::of(facts)?;
            let own_user = facts.own_user;
            let client = facts.client;
            Said::Arrived { id, client, sender: Some(sender), own_user }
        }
        Some(("=>" | "->", rest)) => Said::Delivered { id, to: recipient(rest)? },
        _ if rest == "Completed" => Said::Removed { id },
        _ => return None,
    };
    Some((at, said))
}

/// `addr`, or `local <addr>`, in front of ` R=router`.
fn recipient(rest: &str) -> Option<String> {
    let end = [" R=", " T=", " F=", " P="].iter().filter_map(|mark| rest.find(mark)).min().unwrap_or(rest.len());
    let words = rest.get(..end)?;
    mailbox(words.split_once(" <").map_or(words, |(_, address)| address))
}

/// What stands behind the sender, up to the first field whose value is somebody else's words.
struct Facts {
    client: Option<Client>,
    /// Authenticated, or a local process.
    own_user: bool,
}

impl Facts {
    /// Exim writes `R=` (a bounce), then `H=`, `U=`, `P=`, then `X=`, `A=` and others, then those that
    /// the sender words (`id=`, `T=`, `from`), in this order.
    fn of(text: &str) -> Option<Self> {
        let bounce = text.strip_prefix("R=").and_then(|rest| rest.split_once(' ')).map_or(text, |(_, rest)| rest);
        let host = bounce.strip_prefix("H=");
        let client = host.map(|host| client(host).ok_or(())).transpose().ok()?;
        // Behind the address of the client, so that nothing in its HELO counts.
        let rest = host.map_or(Some(bounce), behind_host)?;
        let ours = rest.split(' ').take_while(|word| !["id=", "T=", "from"].iter().any(|end| word.starts_with(end)));
        let own_user = ours.clone().any(|word| word.starts_with("A=")) || host.is_none() && rest.starts_with("U=");
        Some(Self { client, own_user })
    }
}

/// `mx.example.org (helo) [192.0.2.7]:25`; a name outside parentheses is confirmed. The HELO may be a
/// literal with an address of its choice: the address of the client is the one behind it.
fn client(host: &str) -> Option<Client> {
    let word = host.split(' ').next()?;
    let confirmed = !word.starts_with(['(', '[']);
    let literal = host.get(address_at(host)?..)?;
    let ip = literal.strip_prefix('[')?.split(']').next()?.parse().ok()?;
    Some(Client { ip, name: confirmed.then(|| word.to_lowercase()) })
}

fn behind_host(host: &str) -> Option<&str> {
    host.get(address_at(host)?..)?.split_once(' ').map_or(Some(""), |(_, rest)| Some(rest))
}

/// Where the literal of the client begins: behind a name without blanks, and a HELO in balanced parentheses.
fn address_at(host: &str) -> Option<usize> {
    let mut at = 0;
    if !host.starts_with(['(', '[']) {
        at = host.find(' ')? + 1;
    }
    if host.get(at..)?.starts_with('(') {
        let mut depth = 0_i32;
        let end = host.get(at..)?.char_indices().find(|(_, char)| {
            depth += i32::from(*char == '(') - i32::from(*char == ')');
            depth == 0
        });
        at += end?.0 + 1;
        at += usize::from(host.get(at..)?.starts_with(' '));
    }
    host.get(at..)?.starts_with('[').then_some(at)
}

/// `1abcDE-0000Ab-Cd`, and the longer ones since 4.97.
fn is_id(word: &str) -> bool {
    word.len() >= 16 && word.split('-').count() == 3 && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
