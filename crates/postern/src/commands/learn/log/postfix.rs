//! Lines of Postfix, as syslog writes them.

use super::{Client, Said, date, mailbox};

/// `DATE host postfix/service[pid]: text`.
pub(super) fn line(line: &str, now_s: u64) -> Option<(u64, Said)> {
    let (at, rest) = date::syslog(line, now_s)?;
    let (_, rest) = rest.split_once(' ')?;
    let (program, text) = rest.split_once(": ")?;
    let program = program.split('[').next()?;
    if !program.starts_with("postfix") {
        return None;
    }
    Some((at, said(program.rsplit('/').next()?, text)?))
}

fn said(service: &str, text: &str) -> Option<Said> {
    if service == "postscreen" {
        // PREGREET 11 after 0.1 from [192.0.2.7]:4711: EHLO x
        let from = text.strip_prefix("PREGREET ")?.split_once(" from ")?.1;
        let ip = from.strip_prefix('[')?.split(']').next()?.parse().ok()?;
        return Some(Said::EarlyTalker { ip });
    }
    if let Some(reject) = text.strip_prefix("NOQUEUE: reject: RCPT from ") {
        let client = client(reject.split(": ").next()?)?;
        return reject.contains(" 5.1.1 ").then_some(Said::Unknown { ip: client.ip });
    }
    let (id, text) = text.split_once(": ")?;
    if id.len() < ID_MIN || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let id = id.to_owned();
    match service {
        "smtpd" => {
            let mut facts = text.strip_prefix("client=")?.split(", ");
            let client = client(facts.next()?);
            let own_user = facts.any(|fact| fact.starts_with("sasl_username="));
            Some(Said::Arrived { id, client, sender: None, own_user })
        }
        "pickup" => {
            let sender = mailbox(text.split_once("from=")?.1)?;
            Some(Said::Arrived { id, client: None, sender: Some(sender), own_user: true })
        }
        "qmgr" if text == "removed" => Some(Said::Removed { id }),
        "qmgr" => {
            let sender = mailbox(address(text.strip_prefix("from=")?)?)?;
            Some(Said::Arrived { id, client: None, sender: Some(sender), own_user: false })
        }
        _ => {
            let text = text.strip_prefix("to=")?;
            let to = mailbox(address(text)?)?;
            // The first one: behind it stand the words of the other server.
            let (before, status) = text.split_once(", status=")?;
            // `orig_to=<"…"@…>` is a stranger's choice.
            (status.starts_with("sent ") && !before.contains('"')).then_some(Said::Delivered { id, to })
        }
    }
}

/// `<address>`; a quoted local part may have anything in it, also `>, `: those are not understood.
fn address(text: &str) -> Option<&str> {
    let (address, rest) = text.strip_prefix('<')?.split_once('>')?;
    let plain = !address.contains(['"', '\\', ' ']) && (rest.is_empty() || rest.starts_with(", "));
    plain.then_some(address)
}

/// `mx.example.org[192.0.2.7]`; the name is `unknown` unless its own addresses confirm it.
fn client(text: &str) -> Option<Client> {
    let (name, rest) = text.split_once('[')?;
    let ip = rest.split(']').next()?.parse().ok()?;
    Some(Client { ip, name: (name != "unknown").then(|| name.to_lowercase()) })
}

/// Short queue ids have at least six digits.
const ID_MIN: usize = 6;
