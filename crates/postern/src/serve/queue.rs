//! Items of the spool as the operator sees them: a row of `queue ls`, the whole of `queue show`.

use postern_proto::envelope::Meta;
use postern_spool::{Item, ItemSummary, Lane};
use serde_json::{Value, json};

use super::now_unix_ms;
use crate::control::class_word;

/// Whether this is a dead letter: accepted, failed for good, nobody to tell.
pub(crate) fn is_dead(summary: &ItemSummary) -> bool {
    summary.lane.class == Lane::DEAD_CLASS
}

/// One row.
pub(crate) fn row(item: &Item) -> Value {
    let summary = &item.summary;
    let meta = Meta::from_bytes(&item.meta).ok();
    json!({
        "id": summary.id.to_string(),
        "lane": summary.lane.key.as_ref(),
        "class": summary.lane.class,
        "state": state(summary, now_unix_ms()),
        "leased": summary.leased,
        "size": summary.size,
        "arrived_unix_ms": meta.as_ref().map_or(summary.arrived_unix_ms, |meta| meta.arrival.at_unix_ms),
        "due_unix_ms": summary.due_unix_ms,
        "attempts": meta.as_ref().map(|meta| meta.attempts),
        "sender": meta.as_ref().map(sender),
        "recipients": meta.as_ref().map(|meta| meta.recipients.len()),
        "last_error": meta.as_ref().and_then(|meta| meta.last_error.clone()),
    })
}

/// Everything but the body.
pub(crate) fn detail(item: &Item) -> Value {
    let mut value = row(item);
    match Meta::from_bytes(&item.meta) {
        Ok(meta) => {
            value["recipients"] = meta
                .recipients
                .iter()
                .map(|recipient| json!({ "address": recipient.address.to_string(), "original": recipient.original }))
                .collect();
            value["arrival"] = json!(meta.arrival);
            value["eight_bit"] = json!(meta.eight_bit);
            value["smtputf8"] = json!(meta.smtputf8);
            value["dsn"] = json!(meta.dsn);
            value["judged"] = json!(meta.judged);
            value["note"] = json!(meta.note);
            value["checks"] = json!(meta.checks);
            value["class_at_arrival"] = json!(class_word(meta.checks.class));
            value["judgement"] = json!(meta.judgement);
        }
        Err(error) => value["last_error"] = json!(error.to_string()),
    }
    value
}

fn sender(meta: &Meta) -> String {
    meta.sender.as_ref().map_or_else(|| "<>".to_owned(), ToString::to_string)
}

fn state(summary: &ItemSummary, now_unix_ms: u64) -> &'static str {
    match summary {
        summary if is_dead(summary) => "DEAD",
        summary if summary.lane.class == postern_drain::QUARANTINE_CLASS => "quarantine",
        // Held while it is being delivered: that delivery ends first.
        summary if summary.leased => "leaving",
        summary if summary.held => "held",
        summary if summary.tentative => "tentative",
        summary if summary.due_unix_ms > now_unix_ms => "waiting",
        _ => "ready",
    }
}
