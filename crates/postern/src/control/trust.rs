//! The server's end of `why`, `report`, `peer`, `learn` and `bypass`.

use std::net::IpAddr;

use postern_drain::{QUARANTINE_CLASS, ReleaseAs, release_quarantined};
use postern_proto::address::is_domain_or_literal;
use postern_proto::checks::SpfResult;
use postern_proto::envelope::Meta;
use postern_spool::{Item, ItemId};
use postern_trust::{Authority, Class, Evidence, Explanation};
use serde_json::{Value, json};

use super::server::Owners;
use crate::exit::{Code, Failure};
use crate::serve::peers::PeerChange;
use crate::serve::queue;
use crate::serve::trust::now_s;
use crate::serve::trust::pins::Pin;

/// `postern why`.
///
/// # Errors
/// Neither an address nor a domain, nor the id of an item that is here.
pub(super) async fn why(owners: &Owners, what: &str) -> Result<Value, Failure> {
    let book = owners.judging.trust.book();
    if let Ok(ip) = what.parse::<IpAddr>() {
        return Ok(json!({ "address": ip, "now": explained(&book.explain_address(ip, now_s())) }));
    }
    // No top-level domain is of 13 letters and has no dot: an id is an id.
    if let Ok(id) = what.parse::<ItemId>() {
        return match owners.spool.show(id).await {
            Some(item) => Ok(why_item(owners, &item)),
            None => Err(not_here(id)),
        };
    }
    let name = what.trim_end_matches('.').to_lowercase();
    let domain = name.rsplit_once('@').map_or(name.as_str(), |(_, domain)| domain);
    if is_domain_or_literal(domain) {
        return Ok(json!({ "domain": name, "now": explained(&book.explain_domain(&name, now_s())) }));
    }
    let what = format!("\"{what}\" is no address, no domain and no id");
    Err(Failure::new(Code::Usage, what).cure("for example: postern why 192.0.2.7"))
}

/// Then, as it was stored; and now, as the book has it.
fn why_item(owners: &Owners, item: &Item) -> Value {
    let mut value = queue::detail(item);
    let Ok(meta) = Meta::from_bytes(&item.meta) else { return value };
    let book = owners.judging.trust.book();
    let ip = meta.arrival.peer.ip();
    value["became"] = json!(became(item, &meta));
    value["address"] = json!(ip);
    value["now"] = explained(&book.explain_address(ip, now_s()));
    if let Some(sender) = &meta.sender {
        let mailbox = sender.to_string();
        value["domain"] = json!(sender.domain);
        value["domain_now"] = explained(&book.explain_domain(&mailbox, now_s()));
    }
    value
}

/// What became of it, in words, while it is here.
fn became(item: &Item, meta: &Meta) -> String {
    let summary = &item.summary;
    if queue::is_dead(summary) {
        let note = meta.note.as_deref().unwrap_or("no reason was kept");
        return format!("a dead letter: it was taken, failed for good, and nobody may be told ({note})");
    }
    if summary.lane.class == QUARANTINE_CLASS {
        return "in the quarantine: a filter called it spam after its sender had been told 250".to_owned();
    }
    if summary.tentative {
        return "its sender still waits for the answer".to_owned();
    }
    let judged = if meta.judged { "judged" } else { "not judged yet" };
    match (summary.held, summary.leased, meta.attempts) {
        (true, _, _) => format!("held by the operator, {judged}"),
        (_, true, _) => format!("being judged or delivered at this moment, {judged}"),
        (_, _, 0) => format!("buffered, {judged}"),
        (_, _, attempts) => format!("waits after {attempts} attempts, {judged}"),
    }
}

fn explained(explanation: &Explanation) -> Value {
    json!({ "class": explanation.class.as_str(), "reasons": explanation.reasons })
}

/// `postern report`.
///
/// # Errors
/// The item has left: the address must be given.
pub(super) async fn report(owners: &Owners, spam: bool, what: &str) -> Result<Value, Failure> {
    if let Ok(ip) = what.parse::<IpAddr>() {
        owners.judging.trust.report(vec![word(spam, ip, None)]).await;
        tracing::info!(%ip, spam, "report of the operator");
        return Ok(json!({ "address": ip, "class": owners.judging.trust.book().class_of(ip, now_s()).as_str() }));
    }
    let wrong = |_| {
        let what = format!("\"{what}\" is no id and no address");
        Failure::new(Code::Usage, what).cure("`postern queue ls` shows ids; the log has the address of each message")
    };
    let id: ItemId = what.parse().map_err(wrong)?;
    let item = owners.spool.show(id).await.ok_or_else(|| not_here(id))?;
    let meta = Meta::from_bytes(&item.meta).map_err(|error| Failure::new(Code::Data, format!("{id}: {error}")))?;
    let ip = meta.arrival.peer.ip();
    let sender = meta.sender.as_ref().map(ToString::to_string);
    let mut evidence = Vec::new();
    // Credit reaches an address only where it is authorised; what was found at arrival says so.
    if let Some(spf) = meta.checks.spf.as_ref().filter(|spf| !spam && spf.result == SpfResult::Pass) {
        let domain = spf.domain.as_str().into();
        evidence.push(Evidence::Authorised { ip, domain, by: Authority::Spf });
    }
    evidence.push(word(spam, ip, sender.as_deref()));
    let released = if spam || item.summary.lane.class != QUARANTINE_CLASS {
        false
    } else {
        let done = release_quarantined(&owners.spool, id, ReleaseAs::Accepted, crate::serve::now_unix_ms()).await;
        owners.drain.wake();
        done.map_err(|error| Failure::new(Code::Io, format!("{id}: {error}")))?
    };
    // Not before: a report that fails and is made again would count twice.
    owners.judging.trust.report(evidence).await;
    tracing::info!(%id, %ip, sender, spam, released, "report of the operator");
    let class = owners.judging.trust.book().class_of(ip, now_s());
    Ok(json!({ "address": ip, "sender": sender, "released": released, "class": class.as_str() }))
}

/// A person has looked: worth several messages that a filter has judged.
fn word(spam: bool, ip: IpAddr, sender: Option<&str>) -> Evidence {
    let domain = sender.map(Into::into);
    if spam { Evidence::Spam { ip, domain, n: REPORT_WEIGHT } } else { Evidence::Ham { ip, domain, n: REPORT_WEIGHT } }
}

/// `postern peer`.
///
/// # Errors
/// Not a pin, no room, or it could not be kept.
pub(super) async fn pin(owners: &Owners, change: Option<(String, bool)>) -> Result<Value, Failure> {
    if let Some((text, add)) = change {
        let pin = Pin::parse(&text).map_err(|what| Failure::new(Code::Usage, what).cure(PIN_CURE))?;
        let changed = owners.judging.trust.pin(pin, add).await.map_err(|what| Failure::new(Code::Io, what))?;
        tracing::info!(what = text, add, changed, "pin");
        if !changed && !add {
            return Err(Failure::new(Code::Data, format!("{text} was not pinned")).cure("`postern peer ls` shows all"));
        }
    }
    Ok(owners.judging.trust.show_pins().await)
}

/// `postern peer` about peers of the postern. Says whether something changed; nothing to remove is no error here, it may
/// be a pin of the other kind.
///
/// # Errors
/// Not a peer, no room, or it could not be kept.
pub(super) fn peer(owners: &Owners, change: Option<PeerChange>) -> Result<Value, Failure> {
    let mut changed = false;
    if let Some(change) = change {
        let change = change.checked().map_err(|what| Failure::new(Code::Usage, what))?;
        let (domain, add) = (change.domain.clone(), change.add);
        changed = owners.peers.change(change, now_s()).map_err(|what| Failure::new(Code::Io, what))?;
        tracing::info!(domain, add, changed, "peer of the postern");
    }
    Ok(json!({ "changed": changed, "door": owners.peers.now().show() }))
}

/// Ours, in order.
pub(super) fn domains(owners: &Owners) -> Vec<String> {
    let mut domains: Vec<String> = owners.policy.load().domains.keys().cloned().collect();
    domains.sort();
    domains
}

/// `postern bypass`.
///
/// # Errors
/// It could not be kept; nothing has changed.
pub(super) fn bypass(owners: &Owners, on: Option<bool>) -> Result<Value, Failure> {
    if let Some(on) = on {
        owners.judging.bypass.set(on).map_err(|error| Failure::io(Code::Io, "bypass", &error))?;
        owners.judging.filters.publish(on);
        owners.drain.wake();
        tracing::warn!(on, "bypass: judgement is {}", if on { "out of the path" } else { "in the path again" });
    }
    Ok(json!({ "on": owners.judging.bypass.is_on() }))
}

fn not_here(id: ItemId) -> Failure {
    Failure::new(Code::Data, format!("{id} is not in the spool"))
        .cure("it was delivered or deleted; the log has the address it came from: use that instead of the id")
}

/// The word for a stored class.
pub(crate) fn class_word(class: u8) -> &'static str {
    Class::from_u8(class).map_or("?", Class::as_str)
}

const PIN_CURE: &str = "for example: postern peer add 192.0.2.7, 2001:db8::/32 or example.org";
/// How many messages a person's word is worth.
const REPORT_WEIGHT: u16 = 10;
