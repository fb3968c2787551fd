//! What the drain tells the trust book: the filters' judgements of strangers, recipients that a next hop
//! does not know, and whom this site writes to. Sent and forgotten: the channel never blocks.

use postern_proto::address::Address;
use postern_proto::checks::{Spf, SpfResult};
use postern_proto::envelope::{Meta, Via};
use postern_proto::reply::{Enhanced, Reply};
use postern_spool::BodySource;
use postern_trust::{Class, Evidence};

use crate::delivery::beginning;
use crate::limits::REPORT_HEADER_BYTES_MAX;
use crate::route::RouteTable;
use crate::ruling::Hearing;
use crate::settle::Outcome;
use crate::worker::Worker;

impl Worker {
    pub(crate) fn tell_of_judgement(&self, meta: &Meta, hearing: &Hearing) {
        let (Some(evidence), Some(spam)) = (&self.options.evidence, hearing.is_spam()) else { return };
        let (ip, domain, n) = (meta.arrival.peer.ip(), sender_named(meta), 1);
        evidence.send(match (meta.arrival.via, domain) {
            // The postern has let nobody bring a sender for whom his key does not speak.
            (Via::Postern, Some(domain)) => Evidence::OfKeyHolder { ip, domain, n, spam },
            (_, domain) if spam => Evidence::Spam { ip, domain, n },
            (_, domain) => Evidence::Ham { ip, domain, n },
        });
    }

    /// After an attempt.
    pub(crate) async fn tell_of_delivery(&self, meta: &Meta, body: &BodySource, outcomes: &[Outcome]) {
        let Some(evidence) = &self.options.evidence else { return };
        match meta.arrival.via {
            Via::Public | Via::Postern => {
                if is_delivered_unjudged(meta, outcomes) {
                    evidence.send(Evidence::Delivered { ip: meta.arrival.peer.ip() });
                }
                let unknown = |outcome: &&Outcome| matches!(outcome, Outcome::Refused(reply) if is_unknown(reply));
                let n = outcomes.iter().filter(unknown).count();
                if let Ok(n @ 1..) = u16::try_from(n) {
                    evidence.send(Evidence::BadRecipients { ip: meta.arrival.peer.ip(), n });
                }
            }
            Via::Relay => {
                let table = self.routes.load_full();
                let written = correspondents(meta, &table, outcomes);
                let by_us = meta.sender.as_ref().is_some_and(|sender| is_person_of(&table, sender));
                // What a machine wrote by itself is no correspondence.
                if !written.is_empty() && by_us && !is_automatic(&header_of(body).await) {
                    for (domain, address) in written {
                        evidence.send(Evidence::WroteTo { domain: domain.into(), address: Some(address.into()) });
                    }
                }
            }
            Via::Local => {}
        }
    }
}

/// A person of this site. Web forms write to whom anybody names, mostly from `noreply@` or as the server's own user, and
/// what is forwarded comes from a stranger: none of it is a letter of ours.
fn is_person_of(table: &RouteTable, sender: &Address) -> bool {
    !sender.domain.is_empty() && table.is_local(&sender.domain) && !is_machine(&sender.local)
}

/// Local parts that no person writes from.
fn is_machine(local: &str) -> bool {
    let local = local.to_ascii_lowercase();
    let exactly =
        ["mailer-daemon", "postmaster", "root", "daemon", "www-data", "www", "apache", "nginx", "nobody", "cron"];
    exactly.contains(&local.as_str())
        || ["bounce", "noreply", "no-reply", "no_reply", "donotreply", "do-not-reply"].iter().any(|word| local.contains(word))
        || local.starts_with("owner-")
        || ["-owner", "-request", "-admin"].iter().any(|end| local.ends_with(end))
        // VERP and SRS: the address of another stands inside.
        || local.contains('=')
}

async fn header_of(body: &BodySource) -> Vec<u8> {
    beginning(body, REPORT_HEADER_BYTES_MAX as u64).await.unwrap_or_default()
}

/// The envelope sender, unless SPF spoke against it. The book credits and blames a domain only where the address was
/// authorised for it of late, and remembers that; here it is known for strangers only, since the known are not looked up.
fn sender_named(meta: &Meta) -> Option<Box<str>> {
    let sender = meta.sender.as_ref()?;
    let forged = |spf: &Spf| matches!(spf.result, SpfResult::Fail | SpfResult::SoftFail);
    (!meta.checks.spf.as_ref().is_some_and(forged)).then(|| sender.to_string().into())
}

/// Of somebody known, who would be forgotten if only judged mail counted. What others bring unjudged says nothing.
fn is_delivered_unjudged(meta: &Meta, outcomes: &[Outcome]) -> bool {
    meta.checks.class == Class::Known as u8
        && !meta.judged
        && outcomes.iter().any(|outcome| matches!(outcome, Outcome::Delivered(_)))
}

/// RFC 3463: x.1.1 and its like say that there is no such mailbox. A 550 alone may be about anything.
fn is_unknown(reply: &Reply) -> bool {
    matches!(reply.enhanced, Some(Enhanced(5, 1, 0 | 1 | 10)))
}

/// Recipients elsewhere that have the message now.
fn correspondents(meta: &Meta, table: &RouteTable, outcomes: &[Outcome]) -> Vec<(String, String)> {
    let recipients = meta.recipients.iter().zip(outcomes);
    let delivered =
        recipients.filter(|(_, outcome)| matches!(outcome, Outcome::Delivered(_))).map(|(to, _)| &to.address);
    let elsewhere = delivered.filter(|address| !table.is_local(&address.domain));
    elsewhere.map(|address| (address.domain.to_string(), address.to_string())).collect()
}

/// RFC 3834 section 5 (`Auto-Submitted:` other than `no`), and what lists put into their mail.
fn is_automatic(header: &[u8]) -> bool {
    let header = String::from_utf8_lossy(header).to_ascii_lowercase();
    let header = header.split("\r\n\r\n").next().unwrap_or_default();
    header.split("\r\n").any(|line| match line.split_once(':') {
        Some(("auto-submitted", value)) => value.trim() != "no",
        Some(("precedence", value)) => matches!(value.trim(), "bulk" | "list" | "junk"),
        Some(("list-id" | "list-unsubscribe", _)) => true,
        _ => false,
    })
}

#[cfg(test)]
mod tests;
