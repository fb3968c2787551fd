//! From the configuration to admission at the public door: who judges, by what, within which
//! bounds. It decides nothing itself.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use postern_doors::{Admission, Intake};
use postern_identity::{IdentityDesk, IdentityOptions, Zone};
use postern_trust::Book;
use postern_trust::greylist::{BadRecipients, Greylist};
use postern_trust::pressure::{Level, PressureCell};
use postern_trust::shares::Shares;

use super::bypass::Bypass;
use super::trust::TrustHandle;
use crate::config::Config;
use crate::exit::{Code, Failure};

/// What admission reads and others write.
#[derive(Clone, Default)]
pub(super) struct Gauges {
    /// How things stand: written by the weather task.
    pub(super) pressure: Arc<PressureCell>,
    /// How much more may be taken in: likewise.
    pub(super) intake: Arc<Intake>,
    /// `trust.observe`, as the configuration has it now.
    pub(super) observe: Arc<AtomicBool>,
}

/// Puts it together.
///
/// # Errors
/// No random bytes, or no resolver.
pub(super) fn admission(
    config: &Config,
    trust: &TrustHandle,
    bypass: &Bypass,
    gauges: &Gauges,
    identity: Option<IdentityDesk>,
) -> Result<Admission, Failure> {
    let key = || {
        let mut key = [0; 16];
        getrandom::fill(&mut key)
            .map(|()| key)
            .map_err(|error| Failure::new(Code::Os, format!("random bytes: {error}")))
    };
    let smtp = &config.settings.smtp;
    Ok(Admission {
        book: trust.book(),
        evidence: trust.evidence(),
        identity,
        pressure: gauges.pressure.clone(),
        intake: gauges.intake.clone(),
        bypass: bypass.flag(),
        observe: gauges.observe.clone(),
        // Forgotten at a restart: a suspect then waits a second time.
        greylist: Arc::new(Greylist::new(GREYLIST_BITS, key()?)),
        bad_recipients: Arc::new(BadRecipients::new(BAD_RECIPIENTS_BITS, key()?)),
        shares: Shares::default(),
        held_bytes_max: smtp.held_bytes_max.0,
        our_names: vec![config.hostname.clone()],
        spin: Duration::from_micros(smtp.admission_spin_us),
    })
}

/// Whoever looks into strangers; nobody, when the configuration says so.
///
/// # Errors
/// The resolver's.
pub(super) fn identity(config: &Config, trust: &TrustHandle) -> Result<Option<IdentityDesk>, Failure> {
    let settings = &config.settings;
    if !settings.dns.identity {
        return Ok(None);
    }
    let zone = |(name, list): (&String, &crate::config::settings::Dnsbl)| Zone {
        name: name.clone(),
        weight: list.weight,
        codes: list.codes.iter().filter_map(|code| v4(code.0)).collect(),
    };
    let options = IdentityOptions {
        resolver: settings.dns.resolver,
        zones: settings.dnsbl.iter().map(zone).collect(),
        // Those that come with the program and those of the configuration: the book has both.
        providers: trust.book().provider_domains(),
        networks_after: NETWORKS_AFTER,
        ..IdentityOptions::new(&config.hostname)
    };
    let failed = |error| Failure::new(Code::Os, format!("looking into strangers: {error}")).cure("see [dns]");
    IdentityDesk::start(options, trust.evidence()).map(Some).map_err(failed)
}

/// The configuration takes nothing else for a code.
fn v4(network: IpNet) -> Option<Ipv4Net> {
    match network {
        IpNet::V4(network) => Some(network),
        IpNet::V6(_) => None,
    }
}

/// What whoever looks into strangers must hear: how things stand, and who is a shared provider now.
pub(super) struct Desk {
    pub(super) identity: Option<IdentityDesk>,
    pub(super) book: Arc<Book>,
}

impl Desk {
    /// In the hours in which nobody asks it would else go by the pressure of the last question.
    pub(super) fn hear_level(&self, level: Level) {
        if let Some(identity) = &self.identity {
            identity.set_level(level);
        }
    }

    /// After a reload the book has others; the same ones again cost nothing.
    pub(super) fn hear_providers(&self) {
        if let Some(identity) = &self.identity {
            identity.set_providers(self.book.provider_domains());
        }
    }
}

/// A machine that boots has its resolver by then; the networks of yesterday are in the book.
const NETWORKS_AFTER: Duration = Duration::from_secs(10);
/// 65,536 suspects that may come again, 512 KiB.
const GREYLIST_BITS: u32 = 16;
/// Counts by prefix of who asks for unknown recipients.
const BAD_RECIPIENTS_BITS: u32 = 16;
