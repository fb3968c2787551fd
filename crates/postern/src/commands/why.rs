//! `why`: a class with its reasons, and what was known and decided about a message.

use std::time::Duration;

use serde_json::Value;

use super::queue::printable;
use super::{connect, print};
use crate::args::ServerArgs;
use crate::control::Ask;
use crate::exit::Failure;
use crate::log::rfc3339;

/// `postern why ADDRESS|DOMAIN|ID`.
pub(crate) fn why(what: String, json: bool, server: &ServerArgs) -> Result<(), Failure> {
    let answer = connect(server)?.ask(Ask::Why { what })?;
    print(&if json { format!("{answer}\n") } else { shown(&answer) })
}

fn shown(answer: &Value) -> String {
    let mut out = String::new();
    if answer["id"].is_string() {
        message(&mut out, answer);
    }
    for (name, now) in [("address", "now"), ("domain", if answer["id"].is_string() { "domain_now" } else { "now" })] {
        if let (Some(name), Some(class)) = (answer[name].as_str(), answer[now]["class"].as_str()) {
            line(&mut out, &format!("{name} is {class}"));
            for reason in answer[now]["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                line(&mut out, &format!("  {reason}"));
            }
        }
    }
    out
}

fn message(out: &mut String, item: &Value) {
    let arrival = &item["arrival"];
    let at = arrival["at_unix_ms"].as_u64().map_or_else(String::new, |ms| rfc3339(Duration::from_millis(ms)));
    line(out, &format!("{}: {}", text(&item["id"]), text(&item["became"])));
    line(out, &format!("  came {at} from {} ({})", text(&arrival["peer"]), text(&arrival["helo"])));
    line(out, &format!("  its class then: {}", text(&item["class_at_arrival"])));
    let checks = &item["checks"];
    match &checks["spf"] {
        Value::Null => line(out, "  SPF was not asked, or not answered in time"),
        spf => line(out, &format!("  SPF then: {} for {}", text(&spf["result"]), text(&spf["domain"]))),
    }
    if let Some(name) = checks["name"].as_str() {
        line(out, &format!("  its confirmed name then: {name}"));
    }
    for listed in checks["listed"].as_array().into_iter().flatten() {
        line(out, &format!("  listed by {} (weight {})", text(&listed["zone"]), listed["weight"]));
    }
    if checks["early_talker"] == true {
        line(out, "  it spoke before the greeting");
    }
    if checks["bad_helo"] == true {
        line(out, "  it called itself what it cannot be");
    }
    match &item["judgement"] {
        Value::Null if item["judged"] == true => line(out, "  judged"),
        Value::Null => line(out, "  no filter has judged it"),
        judgement => {
            let score = judgement["score_hundredths"].as_i64().map_or_else(String::new, |hundredths| {
                let sign = if hundredths < 0 { "-" } else { "" };
                format!(", score {sign}{}.{:02}", hundredths.abs() / 100, hundredths.abs() % 100)
            });
            let reason = judgement["reason"].as_str().map_or_else(String::new, |reason| format!(": {reason}"));
            line(out, &format!("  {} by {}{score}{reason}", text(&judgement["action"]), text(&judgement["by"])));
        }
    }
}

/// Words of strangers must not steer the operator's terminal.
fn line(out: &mut String, text: &str) {
    out.push_str(&printable(text));
    out.push('\n');
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn a_message_is_explained_with_what_was_known_then_and_what_is_known_now() {
        let shown = super::shown(&json!({
            "id": "0G2K5ZC8T1Q7M", "became": "buffered, judged", "class_at_arrival": "new", "judged": true,
            "arrival": { "at_unix_ms": 0, "peer": "192.0.2.7:4711", "helo": "x\u{1b}[2J" },
            "checks": { "spf": { "result": "Fail", "domain": "a.example" }, "listed": [{ "zone": "z.example", "weight": -50 }] },
            "judgement": { "action": "Mark", "by": "rspamd", "score_hundredths": -1205, "reason": "BAYES" },
            "address": "192.0.2.7", "now": { "class": "suspect", "reasons": ["too much spam"] },
            "domain": "a.example", "domain_now": { "class": "new", "reasons": [] },
        }));
        for part in ["buffered, judged", "SPF then: Fail", "listed by z.example (weight -50)", "score -12.05: BAYES"] {
            assert!(shown.contains(part), "{shown}\nlacks {part}");
        }
        assert!(shown.contains("192.0.2.7 is suspect\n  too much spam\na.example is new"), "{shown}");
        assert!(!shown.contains('\u{1b}'));
    }
}
