//! Filters, lists and what is trusted, from their settings: read once, with place and cure when wrong.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use postern_net::filter;

use super::dotted;
use super::parse::Source;
use super::settings::Settings;
use super::values::OnSpam;
use crate::exit::Failure;

/// One filter as it will run.
#[derive(Clone, Debug)]
pub(crate) struct FilterConfig {
    /// Whom to ask.
    pub(crate) filter: filter::Filter,
    /// Messages at once.
    pub(crate) workers: usize,
    /// What becomes of spam after a 250.
    pub(crate) on_spam: OnSpam,
}

/// The filters, in the order of their names.
///
/// # Errors
/// The first that could not run.
pub(super) fn filters(settings: &Settings, source: &Source) -> Result<Vec<FilterConfig>, Failure> {
    let mut filters = Vec::new();
    for (name, setting) in &settings.filter {
        let path = |key: &str| dotted("filter", name) + "." + key;
        let fault = |key: &str, what: String, cure: &str| Failure::from(Box::new(source.fault(&path(key), what, cure)));
        let Some(text) = &setting.target else {
            let what = format!("[{}] does not say which filter it is", dotted("filter", name));
            return Err(Box::new(source.fault(&dotted("filter", name), what, FILTER_CURE)).into());
        };
        let kind = filter::Kind::parse(text).map_err(|error| fault("use", error.to_string(), FILTER_CURE))?;
        if setting.timeout.0 < TIMEOUT_MIN || setting.timeout.0 > TIMEOUT_MAX {
            return Err(fault("timeout", "no time in which a filter can answer".into(), "from \"1s\" to \"10m\""));
        }
        if setting.workers == 0 || setting.workers > WORKERS_MAX {
            let cure = "from 1 to 1000; each costs a connection to the filter and a descriptor";
            return Err(fault("workers", format!("{} is no number of workers", setting.workers), cure));
        }
        let filter = filter::Filter { name: name.clone(), kind, timeout: setting.timeout.0 };
        filters.push(FilterConfig { filter, workers: setting.workers, on_spam: setting.on_spam });
    }
    if filters.len() > FILTERS_MAX {
        let what = format!("{} filters", filters.len());
        return Err(Box::new(source.fault("filter", what, "16 at most: each message waits for all of them")).into());
    }
    Ok(filters)
}

/// What can be said of lists, quarantine and trust without looking around.
///
/// # Errors
/// The first that contradicts itself.
pub(super) fn validate(settings: &Settings, source: &Source) -> Result<(), Failure> {
    let fault = |path: &str, what: String, cure: &str| Err(Box::new(source.fault(path, what, cure)).into());
    let is_domain = postern_proto::address::is_domain_or_literal;
    for (zone, setting) in &settings.dnsbl {
        if !is_domain(zone) {
            return fault(
                &dotted("dnsbl", zone),
                format!("\"{zone}\" is not a zone"),
                "write [dnsbl.\"zone.example.org\"]",
            );
        }
        if setting.weight == 0 || setting.weight.unsigned_abs() > WEIGHT_MAX {
            let cure = "-100 to -1 when a listing speaks against an address, 1 to 100 when it speaks for it";
            return fault(&(dotted("dnsbl", zone) + ".weight"), format!("{} says nothing", setting.weight), cure);
        }
        if let Some(code) = setting.codes.iter().find(|code| !LIST_ANSWERS.contains(&code.0)) {
            let cure = "lists answer inside 127.0.0.0/8 (RFC 5782): write codes such as \"127.0.0.2/31\"";
            return fault(&(dotted("dnsbl", zone) + ".codes"), format!("{code} is no answer of a list"), cure);
        }
    }
    if settings.dnsbl.len() > ZONES_MAX {
        let what = format!("{} lists", settings.dnsbl.len());
        return fault("dnsbl", what, "16 at most: each is a look-up for every unknown client");
    }
    let trust = &settings.trust;
    for (key, domains) in [("trust.pinned_domains", &trust.pinned_domains), ("trust.providers", &trust.providers)] {
        if let Some(domain) = domains.iter().find(|domain| !is_domain(domain)) {
            return fault(key, format!("\"{domain}\" is not a domain"), "write names such as \"example.org\"");
        }
    }
    if settings.quarantine.keep.0 < KEEP_MIN {
        let cure = "users must be able to see what was set aside: use at least \"1d\"";
        return fault("quarantine.keep", "less than a day is too short".into(), cure);
    }
    Ok(())
}

const FILTER_CURE: &str = "use = \"milter:inet:HOST:PORT\", \"milter:unix:PATH\", \"rspamd:HOST:PORT\", \"spamd:HOST:PORT\" or \"spamd:PATH\"";
/// Under a second every loaded filter is late.
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// A sender waits for five minutes at most after its final dot (RFC 5321 section 4.5.3.2.6: ten).
const TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// Descriptors of the drain are set aside for about as many.
const WORKERS_MAX: usize = 1000;
/// Each message waits for all of them in turn.
const FILTERS_MAX: usize = 16;
/// RFC 5782 section 2.1.
const LIST_ANSWERS: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8));
/// Each is a look-up for every unknown client.
const ZONES_MAX: usize = 16;
/// A listing can weigh as much as everything else together, not more.
const WEIGHT_MAX: u8 = 100;
/// Somebody must have had a chance to look.
const KEEP_MIN: Duration = Duration::from_secs(86_400);
