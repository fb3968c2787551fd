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
            let own_user = text.contains(", sasl_username=");
            let client = client(text.strip_prefix("client=")?.split(", ").next()?);
            Some(Said::Arrived { id, client, sender: None, own_user })
        }
        "pickup" => {
            let sender = mailbox(text.split_once("from=")?.1)?;
            Some(Said::Arrived { id, client: None, sender: Some(sender), own_user: true })
        }
        "qmgr" if text == "removed" => Some(Said::Removed { id }),
        "qmgr" => {
            let sender = mailbox(text.strip_prefix("from=")?.split(", ").next()?)?;
            Some(Said::Arrived { id, client: None, sender: Some(sender), own_user: false })
        }
        _ => {
            let to = mailbox(text.strip_prefix("to=")?.split(", ").next()?)?;
            text.contains(", status=sent ").then_some(Said::Delivered { id, to })
        }
    }
}

/// `mx.example.org[192.0.2.7]`; the name is `unknown` unless its own addresses confirm it.
fn client(text: &str) -> Option<Client> {
    let (name, rest) = text.split_once('[')?;
    let ip = rest.split(']').next()?.parse().ok()?;
    Some(Client { ip, name: (name != "unknown").then(|| name.to_lowercase()) })
}

/// Short queue ids have at least six digits.
const ID_MIN: usize = 6;
