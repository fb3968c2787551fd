//! Lines of Exim's main log.

use std::net::IpAddr;

use super::{Client, Said, date, mailbox};

/// `DATE TIME [pid] id <= sender …`, `id => recipient …`, `id Completed`, or a rejection.
pub(super) fn line(line: &str) -> Option<(u64, Said)> {
    let (at, rest) = date::exim(line)?;
    // log_selector = +pid
    let rest = if rest.starts_with('[') { rest.split_once(' ')?.1 } else { rest };
    if rest.starts_with("H=") {
        let unknown = rest.contains(" rejected RCPT ")
            && ["Unrouteable address", "Unknown user", "unknown user", "User unknown"]
                .iter()
                .any(|words| rest.contains(words));
        return unknown.then(|| Some((at, Said::Unknown { ip: ip(rest)? })))?;
    }
    let (id, rest) = rest.split_once(' ')?;
    if !is_id(id) {
        return None;
    }
    let id = id.to_owned();
    let said = match rest.split_once(' ') {
        Some(("<=", rest)) => {
            let (sender, facts) = rest.split_once(' ').unwrap_or((rest, ""));
            let sender = if sender == "<>" { String::new() } else { mailbox(sender)? };
            let own_user = facts.split(' ').any(|word| word.starts_with("A=") || word.starts_with("U="));
            Said::Arrived { id, client: client(facts), sender: Some(sender), own_user }
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

/// `H=mx.example.org (helo) [192.0.2.7]:25`; a name outside parentheses is confirmed.
fn client(facts: &str) -> Option<Client> {
    let after = facts.split_once("H=")?.1;
    let word = after.split(' ').next()?;
    let confirmed = !word.starts_with(['(', '[']);
    Some(Client { ip: ip(facts)?, name: confirmed.then(|| word.to_lowercase()) })
}

fn ip(text: &str) -> Option<IpAddr> {
    text.split_once("H=")?.1.split_once('[')?.1.split(']').next()?.parse().ok()
}

/// `1abcDE-0000Ab-Cd`, and the longer ones since 4.97.
fn is_id(word: &str) -> bool {
    word.len() >= 16 && word.split('-').count() == 3 && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
