//! What proves a domain's mail servers where only a proven one will do: DANE (RFC 7672) and MTA-STS (RFC 8461).
//!
//! Called for the downgrade of a domain that asked for enforcement, which is rare; never on the usual way of mail. It finds
//! out; what counts in a handshake is in `tls/authenticated.rs`. Nothing here takes away what counted before: an answer
//! that fails proves nothing, and that is all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{HOSTS_MAX, Names};
use crate::published::Tlsa;
use crate::sts::{self, FetchOptions, Policy, PolicyMode};
use crate::tls::Expected;

/// Adds to what is expected of a server of `expected.domain`: its MX hosts that DNSSEC or an enforced policy vouches for, and
/// validated TLSA records of the former.
pub async fn proven_by(names: &Arc<dyn Names>, policies: &Policies, mut expected: Expected) -> Expected {
    let domain = expected.domain.clone();
    let (mx, policy) = tokio::join!(names.mx(&domain), policies.of(&**names, &domain));
    let Ok(mx) = mx else { return expected };
    let mut hosts: Vec<String> = mx.value.into_iter().map(|mx| mx.host).filter(|host| !host.is_empty()).collect();
    hosts.truncate(HOSTS_MAX);
    // RFC 7672 section 2.2: behind an unsigned MX a TLSA record proves a host that anybody may have named. The domain as
    // its own server (no MX, RFC 5321 section 5.1) was named by nobody.
    let itself = hosts.is_empty() || hosts.contains(&domain);
    let signed = if mx.secure { hosts.clone() } else { Vec::from_iter(itself.then_some(domain)) };
    for (host, records) in tlsa(names, signed).await {
        let Some(records) = records else { continue };
        if !records.is_empty() {
            expected.tlsa.push((host.clone(), records));
        }
        expected.hosts.push(host);
    }
    // RFC 8461 section 4.1: of the hosts that the MX records name, those that the policy names too.
    if let Some(policy) = policy.filter(|policy| policy.mode == PolicyMode::Enforce) {
        expected.hosts.extend(hosts.into_iter().filter(|host| policy.names(host)));
    }
    expected
}

/// Validated TLSA records of each host; `None` where the question failed.
async fn tlsa(names: &Arc<dyn Names>, hosts: Vec<String>) -> Vec<(String, Option<Vec<Tlsa>>)> {
    let mut asked = tokio::task::JoinSet::new();
    for host in hosts {
        let names = names.clone();
        asked.spawn(async move {
            let told = names.mail_tlsa(&host).await.map(|told| if told.secure { told.value } else { Vec::new() });
            let records = told.map(|all| all.into_iter().filter(Tlsa::is_usable).take(RECORDS_MAX).collect());
            (host, records.ok())
        });
    }
    asked.join_all().await
}

/// Policies that were fetched, each for as long as it says. Clones share them. Gone with the process: they are fetched again.
#[derive(Clone, Debug)]
pub struct Policies {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: FetchOptions,
    kept: Mutex<HashMap<String, Kept>>,
    fetches: Semaphore,
}

#[derive(Clone, Debug)]
struct Kept {
    /// As DNS had it when this was fetched.
    id: String,
    /// `None`: it could not be fetched.
    policy: Option<Policy>,
    until: Instant,
    /// Another is not fetched sooner.
    again_at: Instant,
}

impl Policies {
    /// None yet.
    pub fn new(options: FetchOptions) -> Self {
        let fetches = Semaphore::new(FETCHES_MAX);
        Self { shared: Arc::new(Shared { options, kept: Mutex::default(), fetches }) }
    }

    /// The domain's policy: fetched when DNS names one that is not here yet. One that is here stands until it is too old
    /// (RFC 8461 section 5.1), whatever DNS says or does not say: taking the record away is cheap.
    pub async fn of(&self, names: &dyn Names, domain: &str) -> Option<Policy> {
        let id = names.sts_id(domain).await.ok().flatten();
        let is_news = |id: &str, kept: &Option<Kept>| {
            kept.as_ref().is_none_or(|kept| kept.id != id && Instant::now() >= kept.again_at)
        };
        let kept = self.kept(domain);
        let Some(id) = id.filter(|id| is_news(id, &kept)) else { return kept?.policy };
        let Ok(_turn) = self.shared.fetches.acquire().await else { return kept?.policy };
        // Another message may have brought it meanwhile.
        let kept = self.kept(domain);
        if !is_news(&id, &kept) {
            return kept?.policy;
        }
        let fetched = sts::fetch(domain.to_owned(), self.shared.options.clone()).await;
        let now = Instant::now();
        let new = match (fetched, kept) {
            (Ok(policy), _) => {
                let until = now + Duration::from_secs(policy.max_age.min(MAX_AGE_S));
                Kept { id, policy: Some(policy), until, again_at: now }
            }
            (Err(error), older) => {
                tracing::info!(domain, %error, "a domain's MTA-STS policy cannot be fetched");
                let again_at = now + FAILED;
                let none = Kept { id, policy: None, until: again_at, again_at };
                older.map_or(none, |older| Kept { again_at, ..older })
            }
        };
        self.keep(domain, new.clone());
        new.policy
    }

    fn kept(&self, domain: &str) -> Option<Kept> {
        self.lock().get(domain).filter(|kept| Instant::now() < kept.until).cloned()
    }

    fn keep(&self, domain: &str, new: Kept) {
        let (mut all, now) = (self.lock(), Instant::now());
        if all.len() >= POLICIES_MAX {
            all.retain(|_, kept| now < kept.until);
        }
        if all.len() < POLICIES_MAX || all.contains_key(domain) {
            all.insert(domain.to_owned(), new);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// TLSA records of a host that are looked at. Two keys of a roll-over in four kinds of record are eight.
const RECORDS_MAX: usize = 16;
/// Policies kept, 64 KiB each at the very worst, 200 octets as a rule. Only domains that enforce and are silent come here.
/// Full: fetched again for each message.
const POLICIES_MAX: usize = 256;
/// Fetches at a time: each holds a thread for as long as its deadline allows.
const FETCHES_MAX: usize = 4;
/// RFC 8461 section 3.2: "a maximum value of 31557600".
const MAX_AGE_S: u64 = 31_557_600;
/// A fetch that failed is not tried again sooner (RFC 8461 section 3.3).
const FAILED: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests;
