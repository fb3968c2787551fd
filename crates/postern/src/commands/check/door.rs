//! What DNS says of our postern, held against the keys that it shows.
//!
//! Peers that find another key in our TXT record, or in a signed TLSA record, are refused or wait for a door that does not
//! open to them, and nobody here is told. A key that is on its way out or in may stand beside ours.

use postern_net::dns::{DnsError, NoRecord, Resolver, choose, tlsa_keys};
use postern_net::door::{KeyPair, PublicKey};
use postern_proto::door::DoorRecord;
use postern_proto::door::limits::PORT_DEFAULT;

use super::Findings;
use super::published::{DOMAINS_MAX, QUESTION_WAIT, is_public};
use crate::config::{Config, is_publishable};
use crate::serve::keys::KeyFiles;

/// Looks up the records of our domains and of our host, when there is a postern.
pub(super) async fn check(config: &Config, findings: &mut Findings) {
    let Some(listen) = config.door else { return };
    let files = KeyFiles::of(&config.settings.general.data);
    if !files.current.exists() {
        return findings
            .note("postern: its key will be made at the first start", "then publish `postern identity dns`");
    }
    let shown = match KeyPair::load(&files.current) {
        Ok(key) => key.public().clone(),
        Err(error) => {
            return findings.wrong(format!("postern: {error}"), "restore it, or see `postern identity rotate`");
        }
    };
    let server = config.settings.dns.resolver;
    let resolver = match Resolver::new(server, QUESTION_WAIT) {
        Ok(resolver) => resolver,
        Err(error) => return not_looked_up(&error, findings),
    };
    let port = if listen.port() == 0 { PORT_DEFAULT } else { listen.port() };
    let may_ask = |name: &str| server.is_some() || is_public(name);
    let published = config.recipients.keys().filter(|domain| is_publishable(domain) && may_ask(domain));
    let domains: Vec<&String> = published.take(DOMAINS_MAX).collect();
    let mut ours = 0;
    for domain in &domains {
        match look(&resolver, domain, &shown).await {
            Ok(Published::Ours) => ours += 1,
            Ok(Published::Nothing) => {}
            Ok(Published::Wrong(why)) => findings.wrong(format!("postern: _postern.{domain}: {why}"), CURE),
            Err(error) => return not_looked_up(&error, findings),
        }
    }
    let place = may_ask(&config.hostname).then(|| format!("_{port}._quic.{}", config.hostname));
    let clients = domains.iter().map(|domain| format!("_smtp-client.{domain}"));
    for name in place.into_iter().chain(clients) {
        match names_another(&resolver, &name, &shown).await {
            Ok(false) => {}
            Ok(true) => findings.wrong(
                format!("postern: the TLSA records at {name} name another key than ours"),
                "where they are signed, peers do not take ours: `postern identity dns` prints those that do",
            ),
            Err(error) => return not_looked_up(&error, findings),
        }
    }
    match (ours, domains.len()) {
        (_, 0) => {}
        (0, _) => findings.note(
            "postern: none of its domains has a record in DNS: only peers that have pinned our key know us",
            "`postern identity dns` prints what to publish",
        ),
        (ours, all) => findings.good(format!("postern: {ours} of {all} domains name our key in DNS")),
    }
}

/// What stands at `_postern.DOMAIN`.
enum Published {
    Nothing,
    Ours,
    Wrong(String),
}

async fn look(resolver: &Resolver, domain: &str, shown: &PublicKey) -> Result<Published, DnsError> {
    let texts = resolver.texts(&format!("_postern.{domain}")).await?;
    let names_ours = |record: &DoorRecord| record.keys.iter().any(|key| key.as_slice() == shown.spki());
    Ok(match choose(&texts.value) {
        Ok(None) => Published::Nothing,
        Ok(Some(record)) if names_ours(&record) => Published::Ours,
        Ok(Some(_)) => Published::Wrong("it names another key than ours: peers refuse us".to_owned()),
        Err(error @ (NoRecord::Several | NoRecord::Unreadable(_))) => {
            Published::Wrong(format!("no peer can use it: {error}"))
        }
    })
}

/// Whether there are TLSA records for a bare key, and none is of this one. Whether the zone is signed is not asked: there
/// they matter, and elsewhere they mislead whoever reads them.
async fn names_another(resolver: &Resolver, name: &str, shown: &PublicKey) -> Result<bool, DnsError> {
    let mut records = resolver.tlsa_at(name).await?;
    records.secure = true;
    let keys = tlsa_keys(&records);
    Ok(!keys.is_empty() && !keys.contains(&shown.sha256()))
}

fn not_looked_up(error: &DnsError, findings: &mut Findings) {
    findings.note(format!("postern: its records were not looked up: {error}"), "run this again when DNS answers");
}

const CURE: &str = "`postern identity dns` prints the record that does";
