//! MTA-STS (RFC 8461): a domain's policy about its mail servers, read and fetched over HTTPS.
//!
//! Parsing is pure. Fetching is bounded in size and time, follows no redirect, and can be pointed at
//! an address and an authority of a test. Used by `postern check`, and where only a proven mail server will do (`mx/proof.rs`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use crate::published::Roots;

/// What a domain wants of senders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How seriously.
    pub mode: PolicyMode,
    /// Names of its servers, lower case; `*.` stands for one label.
    pub mx: Vec<String>,
    /// Seconds for which senders keep it.
    pub max_age: u64,
}

/// `mode:` of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyMode {
    /// Servers that do not match get no mail.
    Enforce,
    /// They get it, and the domain gets reports.
    Testing,
    /// No policy.
    None,
}

/// Why there is no policy to judge by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not fetched; senders then use what they have cached, or none.
    #[error("{0}")]
    Fetch(String),
    /// Fetched, but not a policy.
    #[error("the MTA-STS policy is malformed: {0}")]
    Malformed(&'static str),
}

/// Where from, and within what.
#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// Connect here instead of looking the name up; for tests.
    pub address: Option<SocketAddr>,
    /// Who may vouch for the HTTPS server.
    pub roots: Roots,
    /// For everything from the lookup to the last octet. Default 10 s; RFC 8461 section 3.3 speaks of
    /// a minute, but a person waits for `check`.
    pub time_max: Duration,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self { address: None, roots: Roots::Mozilla, time_max: Duration::from_secs(10) }
    }
}

impl Policy {
    /// Reads a policy (RFC 8461 section 3.2). Unknown keys are skipped, of repeated ones the first
    /// counts, as the section says.
    ///
    /// # Errors
    /// [`PolicyError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let malformed = PolicyError::Malformed;
        let (mut version, mut mode, mut max_age, mut mx) = (None, None, None, Vec::new());
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (key, value) = line.split_once(':').ok_or(malformed("a line is not \"key: value\""))?;
            let value = value.trim();
            match key.trim() {
                "version" => version = version.or(Some(value)),
                "mode" => mode = mode.or(Some(value)),
                "max_age" => max_age = max_age.or(Some(value)),
                "mx" => mx.push(value.to_ascii_lowercase()),
                _ => {}
            }
        }
        if version != Some("STSv1") {
            return Err(malformed("the version is not STSv1"));
        }
        let mode = match mode {
            Some("enforce") => PolicyMode::Enforce,
            Some("testing") => PolicyMode::Testing,
            Some("none") => PolicyMode::None,
            _ => return Err(malformed("the mode is none of enforce, testing, none")),
        };
        let max_age = max_age.and_then(|age| age.parse().ok()).ok_or(malformed("max_age is not a number"))?;
        if mx.is_empty() && mode != PolicyMode::None {
            return Err(malformed("it names no mx"));
        }
        Ok(Self { mode, mx, max_age })
    }

    /// Whether `host` is one of its servers (RFC 8461 section 4.1): `*.example.org` is
    /// `a.example.org`, neither `example.org` nor `a.b.example.org`.
    pub fn names(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        self.mx.iter().any(|name| match name.strip_prefix("*.") {
            Some(parent) => host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
            None => *name == host,
        })
    }
}

/// Fetches the policy of `domain`. Blocks: for `spawn_blocking`, see [`fetch`].
///
/// # Errors
/// [`PolicyError`].
pub fn fetch_blocking(domain: &str, options: &FetchOptions) -> Result<Policy, PolicyError> {
    let url = format!("https://mta-sts.{domain}/.well-known/mta-sts.txt");
    let failed = |error: &dyn std::fmt::Display| PolicyError::Fetch(format!("{url}: {error}"));
    let root_certs = match &options.roots {
        Roots::Mozilla => RootCerts::WebPki,
        Roots::Only(certificates) => certificates.iter().map(|der| Certificate::from_der(der).to_owned()).into(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder().root_certs(root_certs).unversioned_rustls_crypto_provider(provider).build();
    let config = ureq::Agent::config_builder()
        .https_only(true)
        .proxy(None)
        .max_redirects(0)
        .timeout_global(Some(options.time_max))
        .tls_config(tls)
        .build();
    let agent = match options.address {
        Some(address) => ureq::Agent::with_parts(config, DefaultConnector::new(), Fixed(address)),
        None => config.new_agent(),
    };
    let mut response = agent.get(&url).call().map_err(|error| failed(&error))?;
    // Section 3.3: "HTTP 3xx redirects MUST NOT be followed"; anything but 200 is no policy.
    if response.status().as_u16() != 200 {
        return Err(failed(&response.status()));
    }
    let body = response.body_mut().with_config().limit(POLICY_BYTES_MAX);
    Policy::parse(&body.read_to_string().map_err(|error| failed(&error))?)
}

/// As [`fetch_blocking`], on tokio's threads for blocking work.
///
/// # Errors
/// [`PolicyError`].
pub async fn fetch(domain: String, options: FetchOptions) -> Result<Policy, PolicyError> {
    let fetched = tokio::task::spawn_blocking(move || fetch_blocking(&domain, &options)).await;
    fetched.unwrap_or_else(|error| Err(PolicyError::Fetch(error.to_string())))
}

/// Answers every name with one address.
#[derive(Debug)]
struct Fixed(SocketAddr);

impl Resolver for Fixed {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut addresses = self.empty();
        addresses.push(self.0);
        Ok(addresses)
    }
}

/// Section 3.2 knows no limit; section 3.3 lets a sender stop at 64 KiB.
const POLICY_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests;
