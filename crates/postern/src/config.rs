//! The configuration that a run uses: file, then flags, then what follows from both.
//!
//! Lower crates never see it: `serve` turns it into their option structs. Reading it has no effect
//! but reading files.

pub(crate) mod definition;
pub(crate) mod judging;
pub(crate) mod parse;
pub(crate) mod sample;
pub(crate) mod settings;
pub(crate) mod values;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_drain::Route;
use postern_net::client::ClientAddress;

use crate::args::ServeArgs;
use crate::exit::{Code, Failure};
pub(crate) use parse::Fault;
use parse::Source;
use settings::Settings;
use values::{Addresses, ClientAddressSetting, DoorSetting, ModeSetting, RecipientsSetting};

/// What runs.
#[derive(Debug)]
pub(crate) struct Config {
    /// Every setting, with the flags applied.
    pub(crate) settings: Settings,
    /// Our name.
    pub(crate) hostname: String,
    /// Our domains, lower case, and their recipients.
    pub(crate) recipients: BTreeMap<String, RecipientsSetting>,
    /// Where mail goes that no domain sends elsewhere.
    pub(crate) deliver: Route,
    /// Where mail of single domains goes.
    pub(crate) deliver_by_domain: BTreeMap<String, Route>,
    /// Modes of single domains when no command is in force.
    pub(crate) mode_by_domain: BTreeMap<String, ModeSetting>,
    /// Where the postern listens.
    pub(crate) door: Option<SocketAddr>,
    /// Where mail from the relay listener goes.
    pub(crate) relay_next_hop: Option<Route>,
    /// Who judges content, in the order of asking.
    pub(crate) filters: Vec<judging::FilterConfig>,
}

impl Config {
    /// Reads `flags.config` when there is one, applies the flags, and checks what can be checked
    /// without looking around.
    ///
    /// # Errors
    /// `Code::Config` with place and cure; `Code::Io` when the file cannot be read.
    pub(crate) fn load(flags: &ServeArgs) -> Result<Self, Failure> {
        let (mut settings, source) = match &flags.config {
            Some(file) => parse::parse(&file.display().to_string(), &read(file)?)?,
            None => (Settings::default(), Source::default()),
        };
        apply_flags(&mut settings, flags);
        Self::resolve(flags, settings, &source)
    }

    fn resolve(flags: &ServeArgs, settings: Settings, source: &Source) -> Result<Self, Failure> {
        let recipients = domains(flags, &settings, source)?;
        let hostname = match &settings.general.hostname {
            Some(name) if postern_proto::address::is_domain_or_literal(name) => name.clone(),
            Some(name) => {
                let cure = "write a host name such as \"mail.example.com\"";
                return Err(Box::new(source.fault("hostname", format!("\"{name}\" is not a host name"), cure)).into());
            }
            None => system_hostname(),
        };
        let default_route = Route::Maildir(settings.general.data.join("mail"));
        let deliver = match (&flags.deliver, &settings.general.deliver) {
            (Some(text), _) => route(&settings, text).map_err(|what| usage("--deliver", &what))?,
            (None, Some(text)) => route(&settings, text).map_err(|what| source_fault(source, "deliver", &what))?,
            (None, None) => default_route,
        };
        let mut deliver_by_domain = BTreeMap::new();
        let mut mode_by_domain = BTreeMap::new();
        for (domain, setting) in &settings.domain {
            let lower = domain.to_lowercase();
            if let Some(text) = &setting.deliver {
                let path = dotted("domain", domain) + ".deliver";
                let route = route(&settings, text).map_err(|what| source_fault(source, &path, &what))?;
                deliver_by_domain.insert(lower.clone(), route);
            }
            if let Some(mode) = setting.mode {
                mode_by_domain.insert(lower, mode);
            }
        }
        let relay_next_hop = match &settings.relay.next_hop {
            Some(text) => Some(relay_route(text).map_err(|what| source_fault(source, "relay.next_hop", &what))?),
            None => None,
        };
        let door = match settings.door.listen {
            Some(DoorSetting::At(addr)) => Some(addr),
            None if flags.config.is_none() => Some(DOOR_DEFAULT),
            Some(DoorSetting::Off) | None => None,
        };
        let filters = judging::filters(&settings, source)?;
        let config = Self {
            settings,
            hostname,
            recipients,
            deliver,
            deliver_by_domain,
            mode_by_domain,
            door,
            relay_next_hop,
            filters,
        };
        config.validate(flags, source)?;
        Ok(config)
    }

    fn validate(&self, flags: &ServeArgs, source: &Source) -> Result<(), Failure> {
        let fault = |path: &str, what: String, cure: &str| Err(Box::new(source.fault(path, what, cure)).into());
        let settings = &self.settings;
        if let Some(relay) = settings.relay.listen.filter(|relay| !relay.ip().is_loopback()) {
            let cure = "whoever reaches the relay listener may send anywhere: use 127.0.0.1 or [::1]";
            if flags.relay == Some(relay) {
                return Err(Failure::new(Code::Usage, format!("--relay: {relay} is not loopback")).cure(cure));
            }
            return fault("relay.listen", format!("{relay} is not loopback"), cure);
        }
        if settings.tls.cert.is_some() != settings.tls.key.is_some() {
            let (there, missing) = if settings.tls.cert.is_some() { ("cert", "key") } else { ("key", "cert") };
            let cure = format!("add tls.{missing}, or leave both out for a self-signed certificate");
            return fault(&format!("tls.{there}"), format!("tls.{missing} is missing beside it"), &cure);
        }
        if settings.spool.free_low.0 > settings.spool.free_high.0 {
            let what = format!("{} is more than free_high = {}", settings.spool.free_low, settings.spool.free_high);
            return fault("spool.free_low", what, "refusing starts at the low mark and ends at the high one");
        }
        if settings.general.detail.chars().count() > 1 {
            let cure = "one character such as \"+\", or \"\" for none";
            return fault("detail", format!("\"{}\" is more than one character", settings.general.detail), cure);
        }
        if settings.smtp.listen.0.is_empty() && settings.relay.listen.is_none() {
            return fault("smtp.listen", "nothing to listen on".into(), "give smtp.listen or relay.listen an address");
        }
        self.validate_ranges(source)?;
        judging::validate(settings, source)?;
        let callouts = self.recipients.iter().filter(|(_, setting)| **setting == RecipientsSetting::Callout);
        for (domain, _) in callouts {
            let route = self.route_of(domain);
            if !matches!(route, Route::Lmtp(_) | Route::Smtp { .. }) {
                let what = format!("callout = true, but there is nobody to ask: its mail goes to {route}");
                let cure = "let `deliver` name an lmtp: or smtp: target, or give the recipients as list, file or dir";
                return fault(&dotted("recipients", domain), what, cure);
            }
        }
        if settings.run_as.group.is_some() && settings.run_as.user.is_none() {
            return fault("run_as.group", "a group without a user".into(), "add run_as.user");
        }
        Ok(())
    }

    /// Values with which the server would not run, or would refuse all mail.
    fn validate_ranges(&self, source: &Source) -> Result<(), Failure> {
        let fault = |path: &str, what: String, cure: &str| Err(Box::new(source.fault(path, what, cure)).into());
        let Settings { smtp, drain, spool, .. } = &self.settings;
        if smtp.recipients_max < RECIPIENTS_MAX_MIN {
            let what = format!("{} is under 100", smtp.recipients_max);
            return fault("smtp.recipients_max", what, "RFC 5321 section 4.5.3.1.8 requires at least 100");
        }
        if !SEGMENT_BYTES.contains(&spool.segment_bytes.0) || !spool.segment_bytes.0.is_multiple_of(PAGE_BYTES) {
            let what = format!("{} octets is no size for a segment", spool.segment_bytes.0);
            return fault(
                "spool.segment_bytes",
                what,
                "a multiple of 4 KiB, from 16 KiB to 1 GiB; the default is 16 MiB",
            );
        }
        let counts = [
            ("smtp.connections_max", smtp.connections_max, "with 0 every client is turned away"),
            ("spool.items_max", spool.items_max, "with 0 every message gets 452"),
            ("drain.concurrency", drain.concurrency, "with 0 nothing is ever delivered"),
            ("drain.mailboxes_max", drain.mailboxes_max, "with 0 no mailbox is ever made"),
        ];
        if let Some((path, _, cure)) = counts.into_iter().find(|(_, count, _)| *count == 0) {
            return fault(path, "0 is too few".into(), &format!("{cure}: use at least 1"));
        }
        if smtp.size_max.0 == 0 {
            return fault(
                "smtp.size_max",
                "0 is too small".into(),
                "every message would get 552: RFC 5321 section 4.5.3.1.7 asks for at least 64 KiB",
            );
        }
        if spool.bytes_max.0 < smtp.size_max.0 {
            let what =
                format!("{} for the whole spool is less than smtp.size_max = {}", spool.bytes_max, smtp.size_max);
            return fault("spool.bytes_max", what, "the largest message must fit into the spool");
        }
        let spans = [
            ("smtp.command_timeout", smtp.command_timeout, "every client would be sent away at once"),
            ("drain.retry_first", drain.retry_first, "a message would be tried without a pause"),
            ("drain.retry_max", drain.retry_max, "a message would be tried without a pause"),
            ("drain.expiry", drain.expiry, "mail would fail at its first deferral"),
        ];
        if let Some((path, _, cure)) = spans.into_iter().find(|(_, span, _)| span.0 < SPAN_MIN) {
            return fault(path, "less than a second is too short".into(), &format!("{cure}: use at least \"1s\""));
        }
        Ok(())
    }

    /// The mode of `domain` when no command is in force.
    pub(crate) fn mode_of(&self, domain: &str) -> ModeSetting {
        self.mode_by_domain.get(domain).copied().unwrap_or(self.settings.general.mode)
    }

    /// Where mail for `domain` goes.
    pub(crate) fn route_of(&self, domain: &str) -> &Route {
        self.deliver_by_domain.get(domain).unwrap_or(&self.deliver)
    }

    /// The domains that we speak for at the posterns of others, first the one that `hostname` is in: those that others can
    /// look up, or the one that is named.
    pub(crate) fn door_domains(&self) -> Vec<String> {
        if let Some(domain) = &self.settings.door.domain {
            return vec![domain.trim_end_matches('.').to_lowercase()];
        }
        let host = self.hostname.to_lowercase();
        let holds = |domain: &String| host == *domain || host.ends_with(&format!(".{domain}"));
        let mut ours: Vec<String> = self.recipients.keys().filter(|domain| is_publishable(domain)).cloned().collect();
        ours.sort_by_key(|domain| !holds(domain));
        ours
    }

    /// Whether the next hop is asked about recipients of any domain.
    pub(crate) fn has_callouts(&self) -> bool {
        self.recipients.values().any(|setting| *setting == RecipientsSetting::Callout)
    }

    /// The separator of details.
    pub(crate) fn detail(&self) -> Option<char> {
        self.settings.general.detail.chars().next()
    }

    /// Every route with the key that names it.
    pub(crate) fn routes(&self) -> Vec<(String, &Route)> {
        let mut routes = vec![("deliver".to_owned(), &self.deliver)];
        routes.extend(self.deliver_by_domain.iter().map(|(d, route)| (dotted("domain", d) + ".deliver", route)));
        routes.extend(self.relay_next_hop.iter().map(|route| ("relay.next_hop".to_owned(), route)));
        routes
    }
}

/// Whether DNS can have records for it that the outside can ask for: two labels or more.
pub(crate) fn is_publishable(domain: &str) -> bool {
    let domain = domain.trim_end_matches('.');
    let label = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    domain.contains('.')
        && domain.split('.').all(label)
        && domain.parse::<std::net::IpAddr>().is_err()
        && !domain.ends_with(".localhost")
}

/// The data directory of a server that was started with these flags.
pub(crate) fn data_dir(data: Option<&Path>, config: Option<&Path>) -> Result<PathBuf, Failure> {
    let flags =
        ServeArgs { config: config.map(Path::to_path_buf), data: data.map(Path::to_path_buf), ..Default::default() };
    match (data, config) {
        (Some(data), _) => Ok(data.to_path_buf()),
        (None, None) => Ok(Settings::default().general.data),
        (None, Some(_)) => Ok(Config::load(&flags)?.settings.general.data),
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    let bytes = std::fs::read(file).map_err(|error| {
        let cure = "`postern check --print-sample` prints a file to start from";
        Failure::io(Code::Config, file.display(), &error).cure(cure)
    })?;
    String::from_utf8(bytes).map_err(|_| Failure::new(Code::Config, format!("{}: not UTF-8 text", file.display())))
}

fn apply_flags(settings: &mut Settings, flags: &ServeArgs) {
    if let Some(data) = &flags.data {
        settings.general.data.clone_from(data);
    }
    if let Some(addr) = flags.smtp {
        settings.smtp.listen = Addresses(vec![addr]);
    }
    settings.door.listen = flags.door.or(settings.door.listen);
    settings.admin.listen = flags.admin.or(settings.admin.listen);
    settings.relay.listen = flags.relay.or(settings.relay.listen);
    settings.general.mode = flags.mode.unwrap_or(settings.general.mode);
    settings.spool.flush_delay_ms = flags.flush_delay_ms.unwrap_or(settings.spool.flush_delay_ms);
}

/// Flags name domains with any recipient; the file may say more about them.
fn domains(
    flags: &ServeArgs,
    settings: &Settings,
    source: &Source,
) -> Result<BTreeMap<String, RecipientsSetting>, Failure> {
    let mut file = BTreeMap::new();
    for (domain, setting) in settings.recipients.iter().flatten() {
        if !postern_proto::address::is_domain_or_literal(domain) {
            let path = dotted("recipients", domain);
            let fault = source.fault(&path, "not a domain", "write \"example.com\" = …");
            return Err(Box::new(fault).into());
        }
        file.insert(domain.to_lowercase(), setting.clone());
    }
    if flags.domains.is_empty() {
        let by_default = || DEFAULT_DOMAINS.map(|domain| (domain.to_owned(), RecipientsSetting::Any)).into();
        return Ok(if settings.recipients.is_some() { file } else { by_default() });
    }
    let mut domains = BTreeMap::new();
    for domain in &flags.domains {
        if !postern_proto::address::is_domain_or_literal(domain) {
            return Err(usage("--domain", &format!("\"{domain}\" is not a domain")));
        }
        let domain = domain.to_lowercase();
        let setting = file.remove(&domain).unwrap_or(RecipientsSetting::Any);
        domains.insert(domain, setting);
    }
    Ok(domains)
}

/// A target of `deliver`, with the way to tell an SMTP next hop who the client was.
fn route(settings: &Settings, text: &str) -> Result<Route, String> {
    let mut parsed = Route::parse(text).map_err(|error| error.to_string())?;
    if let Route::Smtp { client_address, trust_loopback, .. } = &mut parsed {
        *client_address = match settings.general.client_address {
            ClientAddressSetting::None => ClientAddress::None,
            ClientAddressSetting::Xclient => ClientAddress::Xclient,
            ClientAddressSetting::Proxy => ClientAddress::ProxyV2,
        };
        *trust_loopback = settings.general.trust_loopback;
    }
    Ok(parsed)
}

/// Mail of our own MTA: its next hop is to see us, not the loopback address it came from.
fn relay_route(text: &str) -> Result<Route, String> {
    let mut parsed = Route::parse(text).map_err(|error| error.to_string())?;
    if let Route::Smtp { client_address, trust_loopback, .. } = &mut parsed {
        *client_address = ClientAddress::None;
        *trust_loopback = true;
    }
    Ok(parsed)
}

fn source_fault(source: &Source, path: &str, what: &str) -> Failure {
    Box::new(source.fault(path, what, ROUTE_CURE)).into()
}

fn usage(flag: &str, what: &str) -> Failure {
    let cure = if flag == "--deliver" { ROUTE_CURE } else { "for example: --domain example.org" };
    Failure::new(Code::Usage, format!("{flag}: {what}")).cure(cure)
}

fn dotted(prefix: &str, key: &str) -> String {
    if key.contains('.') { format!("{prefix}.\"{key}\"") } else { format!("{prefix}.{key}") }
}

fn system_hostname() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    if postern_proto::address::is_domain_or_literal(&name) { name } else { "localhost".to_owned() }
}

/// Of a server that was started without a configuration.
const DOOR_DEFAULT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2526));
const DEFAULT_DOMAINS: [&str; 2] = ["localhost", "example.com"];
const RECIPIENTS_MAX_MIN: usize = 100;
/// What the spool takes for one segment.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 16 << 10..=1 << 30;
const PAGE_BYTES: u64 = 4096;
/// Under this a pause or a patience is a mistake.
const SPAN_MIN: Duration = Duration::from_secs(1);
const ROUTE_CURE: &str = "write maildir:DIR, lmtp:HOST:PORT, lmtp:PATH, smtp:HOST:PORT, mx (for [relay]) or none";

#[cfg(test)]
mod tests;
