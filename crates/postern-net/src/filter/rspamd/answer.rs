//! rspamd's JSON, as a finding.

use postern_proto::address::Address;
use postern_proto::judgement::HeaderChange;
use postern_proto::milter::Field;
use postern_proto::reply::{Enhanced, Reply};
use serde_json::{Map, Value};

use crate::filter::{FilterError, Finding, HEADER_CHANGES_MAX, Verdict, clean_field, hundredths, one_line};

/// Reads an answer about a message with this header (as stored).
pub(super) fn read(answer: &[u8], header: &[u8]) -> Result<Finding, FilterError> {
    let wrong = |what: &str| FilterError::Protocol(format!("its answer {what}"));
    let answer: Value = serde_json::from_slice(answer).map_err(|error| wrong(&format!("is no JSON: {error}")))?;
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        return Err(wrong(&format!("is an error: {}", one_line(error))));
    }
    let action = answer.get("action").and_then(Value::as_str).ok_or_else(|| wrong("has no action"))?;
    let words = answer.pointer("/messages/smtp_message").and_then(Value::as_str).map(one_line);
    let refusal = |code, enhanced, text: &'static str| {
        let reply = Reply::new(code, enhanced, text);
        words.clone().map_or(reply.clone(), |words| reply.with_text(words))
    };
    let verdict = match action {
        // rspamd's own greylisting answers "soft reject" when a message must wait; this says only that its score is in
        // the range where it would have been asked.
        "no action" | "greylist" => Verdict::Accept,
        "add header" | "rewrite subject" => Verdict::Mark,
        "soft reject" => Verdict::Tempfail(refusal(451, Enhanced(4, 7, 1), "Please try again later")),
        "reject" => Verdict::Reject(refusal(554, Enhanced(5, 7, 1), "Rejected as spam")),
        "quarantine" => Verdict::Quarantine,
        "discard" => Verdict::Discard,
        other => return Err(wrong(&format!("has an unknown action: {}", one_line(other)))),
    };
    let mut finding = Finding::new(verdict);
    finding.score_hundredths = answer.get("score").and_then(Value::as_f64).map(hundredths);
    finding.reason = Some(reason(&answer, action));
    if let Some(milter) = answer.get("milter").and_then(Value::as_object) {
        finding.headers = changes(milter, header)?;
        finding.sender = changed_sender(milter);
    }
    if let (Verdict::Mark, "rewrite subject", Some(subject)) =
        (&finding.verdict, action, answer.get("subject").and_then(Value::as_str))
    {
        let value = clean_field("Subject", subject).ok_or_else(|| wrong("has a subject that cannot be one"))?.1;
        finding.headers.push(HeaderChange::Change { nth: 1, name: "Subject".to_owned(), value });
    }
    Ok(finding)
}

/// `reject 1015.00/15.00: GTUBE, MISSING_DATE`; the heaviest symbols first.
fn reason(answer: &Value, action: &str) -> String {
    let number = |name| answer.get(name).and_then(Value::as_f64).unwrap_or_default();
    let mut symbols: Vec<(f64, &str)> = answer
        .get("symbols")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, symbol)| (symbol.get("score").and_then(Value::as_f64).unwrap_or_default(), name.as_str()))
        .collect();
    symbols.sort_by(|a, b| b.0.abs().total_cmp(&a.0.abs()).then(a.1.cmp(b.1)));
    let names: Vec<String> =
        symbols.iter().take(SYMBOLS_MAX).map(|(score, name)| format!("{name}({score:.2})")).collect();
    let words = format!("{action} {:.2}/{:.2}: {}", number("score"), number("required_score"), names.join(", "));
    one_line(words.trim_end_matches([' ', ':']))
}

/// `milter.remove_headers` and `milter.add_headers`, in this order as rspamd's own proxy has it.
fn changes(milter: &Map<String, Value>, header: &[u8]) -> Result<Vec<HeaderChange>, FilterError> {
    let mut changes = Vec::new();
    let fields = Field::all(header);
    for (name, which) in milter.get("remove_headers").and_then(Value::as_object).into_iter().flatten() {
        let Some((name, _)) = clean_field(name, "") else { continue };
        let present = u32::try_from(fields.iter().filter(|field| field.is(&name)).count()).unwrap_or(u32::MAX);
        // 0 is all of them, n the nth, -n the nth from the end.
        match which.as_i64().unwrap_or_default() {
            // The last first, so that the numbers of the others stay.
            0 => changes.extend((1..=present).rev().map(|nth| HeaderChange::Delete { nth, name: name.clone() })),
            n => {
                let nth = if n > 0 { n } else { i64::from(present) + 1 + n };
                let nth = u32::try_from(nth).ok().filter(|nth| (1..=present).contains(nth));
                changes.extend(nth.map(|nth| HeaderChange::Delete { nth, name }));
            }
        }
    }
    for (name, what) in milter.get("add_headers").and_then(Value::as_object).into_iter().flatten() {
        let several = what.as_array().map_or(std::slice::from_ref(what), Vec::as_slice);
        for one in several {
            let value = one.get("value").unwrap_or(one).as_str();
            let Some((name, value)) = value.and_then(|value| clean_field(name, value)) else { continue };
            let at = one.get("order").and_then(Value::as_i64).and_then(|order| u32::try_from(order).ok());
            changes.push(match at {
                // As milters count: our Received field is the first.
                Some(at) => HeaderChange::Insert { at: at.saturating_sub(1), name, value },
                None => HeaderChange::Add { name, value },
            });
        }
    }
    if changes.len() > HEADER_CHANGES_MAX {
        return Err(FilterError::Protocol(format!("{} changes to the header", changes.len())));
    }
    Ok(changes)
}

fn changed_sender(milter: &Map<String, Value>) -> Option<Option<Address>> {
    let path = milter.get("change_from").and_then(Value::as_str)?.trim();
    let bare = path.strip_prefix('<').and_then(|path| path.strip_suffix('>')).unwrap_or(path);
    if bare.is_empty() { Some(None) } else { Address::parse(bare.as_bytes(), true).ok().map(Some) }
}

/// Symbols named in a reason: it goes into one line of a log.
const SYMBOLS_MAX: usize = 8;

#[cfg(test)]
mod tests;
