//! `queue ls`, `show`, `hold`, `release`, `delete` and `retry`.

use std::time::Duration;

use serde_json::Value;

use super::status::age;
use super::{connect, print};
use crate::args::{Queue, QueueIds};
use crate::config::values::Size;
use crate::control::{Ask, PAGE_MAX, QueueAction};
use crate::exit::{Code, Failure};
use crate::log::rfc3339;
use crate::serve::now_unix_ms;

/// `postern queue …`.
pub(crate) fn queue(action: Queue) -> Result<(), Failure> {
    match action {
        Queue::Ls { domain, dead, limit, json, server } => {
            let mut client = connect(&server)?;
            let mut left = limit;
            let mut after = None;
            while left > 0 {
                let ask = Ask::QueueList { domain: domain.clone(), dead, after, limit: left.min(PAGE_MAX) };
                let page = client.ask(ask)?;
                let items = page["items"].as_array().map_or(&[][..], Vec::as_slice);
                left -= items.len().min(left);
                for item in items {
                    print(&if json { format!("{item}\n") } else { line(item, now_unix_ms()) })?;
                }
                after = page["after"].as_str().map(str::to_owned);
                if page["more"] != true || items.is_empty() {
                    break;
                }
            }
            Ok(())
        }
        Queue::Show { id, body: true, server, .. } => {
            let mut client = connect(&server)?;
            let answer = client.ask(Ask::QueueShow { id, body: true })?;
            client.copy_octets(answer["octets"].as_u64().unwrap_or(0), &mut std::io::stdout().lock())
        }
        Queue::Show { id, json, server, .. } => {
            let item = connect(&server)?.ask(Ask::QueueShow { id, body: false })?;
            print(&if json { format!("{item}\n") } else { detail(&item) })
        }
        Queue::Hold(ids) => act(&ids, QueueAction::Hold),
        Queue::Release(ids) => act(&ids, QueueAction::Release),
        Queue::Delete(ids) => act(&ids, QueueAction::Delete),
        Queue::Retry(ids) => act(&ids, QueueAction::Retry),
    }
}

/// Each id is tried; the worst outcome decides the exit code.
fn act(ids: &QueueIds, action: QueueAction) -> Result<(), Failure> {
    let mut client = connect(&ids.server)?;
    let mut failures: Vec<Failure> = Vec::new();
    for id in &ids.ids {
        failures.extend(client.ask(Ask::QueueDo { id: id.clone(), action }).err());
    }
    let what: Vec<String> = failures.iter().map(ToString::to_string).collect();
    match failures.iter().map(|failure| failure.code).max_by_key(|code| *code as u8) {
        None => Ok(()),
        Some(code @ (Code::Data | Code::Failed | Code::Io)) => Err(Failure::new(code, what.join("\n"))),
        Some(code) => Err(Failure::new(code, what.join("\n"))),
    }
}

fn line(item: &Value, now_unix_ms: u64) -> String {
    let since = now_unix_ms.saturating_sub(item["arrived_unix_ms"].as_u64().unwrap_or(now_unix_ms));
    format!(
        "{}  {:>6}  {:>10}  {:<9}  {:>2} tries  {}  {} -> {} recipients{}\n",
        text(&item["id"]),
        age(Duration::from_millis(since)),
        Size(item["size"].as_u64().unwrap_or(0)).to_string(),
        text(&item["state"]),
        item["attempts"].as_u64().unwrap_or(0),
        text(&item["lane"]),
        printable(text(&item["sender"])),
        item["recipients"].as_u64().unwrap_or(0),
        item["last_error"].as_str().map_or_else(String::new, |error| format!("  ({})", printable(error))),
    )
}

fn detail(item: &Value) -> String {
    let time = |value: &Value| value.as_u64().map_or_else(String::new, |ms| rfc3339(Duration::from_millis(ms)));
    let arrival = &item["arrival"];
    let mut out = format!("id          {}\nstate       {}\n", text(&item["id"]), text(&item["state"]));
    let mut push = |name: &str, value: &str| {
        if !value.is_empty() {
            out.push_str(&format!("{name:<11} {}\n", printable(value)));
        }
    };
    push("lane", &format!("{} class {}", text(&item["lane"]), item["class"]));
    push("size", &format!("{} octets", item["size"]));
    push("sender", text(&item["sender"]));
    for recipient in item["recipients"].as_array().into_iter().flatten() {
        push("recipient", text(&recipient["address"]));
    }
    push("arrived", &time(&arrival["at_unix_ms"]));
    push("from", &format!("{} ({})", text(&arrival["peer"]), text(&arrival["helo"])));
    push("through", &format!("{} door at {}", text(&arrival["via"]).to_lowercase(), text(&arrival["local"])));
    let tls = &arrival["tls"];
    push(
        "tls",
        &if tls.is_object() { format!("{} {}", text(&tls["version"]), text(&tls["cipher"])) } else { "none".into() },
    );
    push("judged", if item["judged"] == true { "yes" } else { "no" });
    push("attempts", &item["attempts"].to_string());
    push("due", &time(&item["due_unix_ms"]));
    push("last error", item["last_error"].as_str().unwrap_or(""));
    push("note", item["note"].as_str().unwrap_or(""));
    out
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// Words of strangers must not steer the operator's terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_item_is_one_line_and_a_stranger_s_words_cannot_steer_the_terminal() {
        let item = json!({
            "id": "0G2K5ZC8T1Q7M", "lane": "a.example", "state": "waiting", "size": 4096, "arrived_unix_ms": 1000,
            "attempts": 2, "sender": "x\u{1b}[2J@b.example", "recipients": 3, "last_error": "451 4.2.0\nlater",
        });
        let line = line(&item, 61_000);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert!(!line.contains('\u{1b}'));
        assert!(line.contains("1m0s") && line.contains("4.0 KiB") && line.contains("3 recipients"), "{line}");
    }
}
