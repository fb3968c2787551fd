//! What our domains have published about their mail servers, held against the certificate.
//!
//! A sender that heeds TLSA records or an MTA-STS policy delivers nothing to a server that does not
//! match them, and nobody here is told. Names that no DNS serves (RFC 6761) are not asked about.

use std::time::Duration;

use postern_net::dns::{DnsError, Resolver};
use postern_net::published::{Roots, refusals};
use postern_net::sts::{self, FetchOptions, Policy};

use super::Findings;
use crate::config::Config;
use crate::serve::now_unix_ms;

/// Looks up TLSA for our name and MTA-STS for our domains; `chain` is what we would show, DER.
pub(super) async fn check(config: &Config, chain: &[Vec<u8>], findings: &mut Findings) {
    let server = config.settings.dns.resolver;
    let told = server.is_some();
    let resolver = match Resolver::new(server, QUESTION_WAIT) {
        Ok(resolver) => resolver,
        Err(error) => return findings.note(format!("published TLSA and MTA-STS were not looked up: {error}"), ""),
    };
    let now_unix_s = now_unix_ms() / 1000;
    let mut refused = Vec::new();
    let mut asked = 0;
    if told || is_public(&config.hostname) {
        match resolver.tlsa(&config.hostname, 25).await {
            Ok(tlsa) => {
                asked += 1;
                refused.extend(refusals(chain, &tlsa, None, &config.hostname, &Roots::Mozilla, now_unix_s));
            }
            Err(error) => return not_looked_up(&error, findings),
        }
    }
    for domain in config.recipients.keys().filter(|domain| is_public(domain)).take(DOMAINS_MAX) {
        match policy(&resolver, domain).await {
            Ok(Some(policy)) => {
                asked += 1;
                let why = refusals(chain, &[], Some(&policy), &config.hostname, &Roots::Mozilla, now_unix_s);
                refused.extend(why);
            }
            Ok(None) => asked += 1,
            Err(error) => return not_looked_up(&error, findings),
        }
    }
    refused.dedup();
    for why in &refused {
        findings.wrong(format!("TLS: senders that heed what is published would not deliver: {why}"), "");
    }
    if refused.is_empty() && asked > 0 {
        findings.good("TLS: no published TLSA or MTA-STS would refuse this certificate");
    }
}

fn not_looked_up(error: &DnsError, findings: &mut Findings) {
    findings.note(format!("published TLSA and MTA-STS were not looked up: {error}"), "run this again when DNS answers");
}

/// The policy in force; `None` when there is none or it cannot be fetched: senders then use none.
async fn policy(resolver: &Resolver, domain: &str) -> Result<Option<Policy>, DnsError> {
    if resolver.mta_sts_id(domain).await?.is_none() {
        return Ok(None);
    }
    Ok(sts::fetch(domain.to_owned(), FetchOptions::default()).await.ok())
}

/// Whether public DNS can know this name (RFC 6761, RFC 6762, RFC 2606).
pub(super) fn is_public(name: &str) -> bool {
    const RESERVED: [&str; 7] = ["localhost", "example", "test", "invalid", "local", "internal", "arpa"];
    const EXAMPLES: [&str; 3] = ["example.com", "example.net", "example.org"];
    let Some((_, top)) = name.rsplit_once('.') else { return false };
    let below = |known: &&str| name == *known || name.strip_suffix(known).is_some_and(|rest| rest.ends_with('.'));
    !RESERVED.contains(&top) && !EXAMPLES.iter().any(below) && !name.starts_with('[')
}

/// For one question; a person waits.
pub(super) const QUESTION_WAIT: Duration = Duration::from_secs(4);
/// Domains whose records are looked up.
pub(super) const DOMAINS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    #[test]
    fn reserved_names_are_not_asked_about() {
        let check = |name, expected| assert_eq!(super::is_public(name), expected, "{name}");
        check("mail.postern.eu", true);
        check("notexample.com", true);
        check("vm", false);
        check("localhost", false);
        check("example.com", false);
        check("mail.example.com", false);
        check("a.test", false);
        check("[127.0.0.1]", false);
    }
}
