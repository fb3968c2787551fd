//! From the configuration to the doors: their options, their policy, starting, counting, stopping.

use std::sync::Arc;
use std::time::Duration;

use postern_doors::{
    Admission, CalloutCache, CalloutTarget, Crowd, CrowdSnapshot, DoorListeners, DoorOptions, DoorStats, Doors, Policy,
    Recipients,
};
use postern_drain::{Carries, Route};
use postern_net::client::{ClientAddress, Protocol};
use postern_net::tls::{ReloadableCert, server_config};
use postern_proto::envelope::Via;
use postern_proto::mode::Modes;
use postern_proto::session::{Offers, SessionLimits, SessionOptions};
use postern_spool::Spool;
use postern_trust::Class;
use serde_json::{Value, json};

use super::Shared;
use super::listeners::Listeners;
use super::names::{NameSources, Names};
use crate::config::Config;
use crate::exit::{Code, Failure};

/// What doors are made of.
pub(super) struct Wiring<'a> {
    pub(super) spool: Spool,
    pub(super) listeners: Listeners,
    pub(super) policy: Shared<Policy>,
    pub(super) modes: Shared<Modes>,
    pub(super) certificate: ReloadableCert,
    /// Who comes first at the public door.
    pub(super) admission: Admission,
    /// Where callouts are remembered.
    pub(super) callouts: Option<CalloutCache>,
    pub(super) config: &'a Config,
}

/// All doors: the public one and the relay listener.
pub(super) struct RunningDoors {
    doors: Vec<(String, Doors)>,
}

/// Their counters.
#[derive(Clone)]
pub(crate) struct Counters(Vec<(String, Arc<DoorStats>, Arc<Crowd>)>);

/// Opens them.
///
/// # Errors
/// The system's, or a callout cache that cannot be opened.
pub(super) fn start(wiring: Wiring<'_>) -> Result<RunningDoors, Failure> {
    let Wiring { spool, listeners, policy, modes, certificate, admission, callouts, config } = wiring;
    let tls = server_config(&certificate);
    let mut doors = Vec::new();
    // All public addresses are one door: what is full is the machine, and a slot is kept by merit
    // whichever address it came in by.
    for (name, via, groups) in [("smtp", Via::Public, listeners.smtp), ("relay", Via::Relay, listeners.relay)] {
        if groups.is_empty() {
            continue;
        }
        let addrs: Vec<String> = groups.iter().map(|group| group.addr.to_string()).collect();
        let name = format!("{name} {}", addrs.join(", "));
        let threads = groups.into_iter().flat_map(|group| group.threads);
        let public = via == Via::Public;
        let options = DoorOptions {
            listeners: threads.map(|(strangers, known)| DoorListeners { strangers, known }).collect(),
            session: session_options(config, via),
            tls: Some(tls.clone()),
            // The relay listener believes the local MTA itself, and nobody else's word.
            proxy_from: if public { config.settings.smtp.proxy_from.clone() } else { Vec::new() },
            xclient_from: if public { config.settings.smtp.xclient_from.clone() } else { Vec::new() },
            connections_max: config.settings.smtp.connections_max,
            callouts: callouts.clone(),
            admission: public.then(|| admission.clone()),
        };
        let door = Doors::start(spool.clone(), policy.clone(), modes.clone(), options)
            .map_err(|error| Failure::new(Code::Os, format!("{name}: {error}")))?;
        doors.push((name, door));
    }
    Ok(RunningDoors { doors })
}

/// Domains, recipients, and the extensions that every route carries; none while that is unknown.
pub(super) fn policy(config: &Config, names: &NameSources, carries: Option<Carries>) -> Policy {
    let recipients = |domain: &str, names: &Names| match names {
        Names::Any => Recipients::Any,
        Names::Known(names) => Recipients::Names(names.clone()),
        Names::Callout => callout(config.route_of(domain)),
        Names::Unreadable => Recipients::Unsure,
    };
    let domains = names.iter().map(|(domain, names)| (domain.to_owned(), recipients(domain, names)));
    Policy {
        domains: domains.collect(),
        // Without a next hop for it mail for anywhere could only lie in the spool.
        relay_anywhere: config.relay_next_hop.is_some(),
        detail: config.detail(),
        offers: Offers {
            eight_bit: carries.is_some_and(|carries| carries.eight_bit),
            smtputf8: carries.is_some_and(|carries| carries.smtputf8),
            ..Offers::default()
        },
    }
}

/// Whom to ask. Nobody can be asked when the names of an older setting are in force and the mail
/// now goes into Maildirs; that is no reason to refuse it.
fn callout(route: &Route) -> Recipients {
    let (target, protocol, proxy) = match route {
        Route::Lmtp(target) => (target, Protocol::Lmtp, false),
        Route::Smtp { target, client_address, .. } => {
            (target, Protocol::Smtp, *client_address == ClientAddress::ProxyV2)
        }
        Route::Maildir(_) | Route::Mx | Route::None => return Recipients::Unsure,
    };
    Recipients::Callout(CalloutTarget { target: target.clone(), protocol, proxy })
}

impl RunningDoors {
    /// For `status`.
    pub(super) fn counters(&self) -> Counters {
        let counters = |(name, door): &(String, Doors)| (name.clone(), door.stats().clone(), door.crowd().clone());
        Counters(self.doors.iter().map(counters).collect())
    }

    /// Accepts no more; messages under way get `grace` to end.
    pub(super) async fn stop(self, grace: Duration) {
        // All at once: each tells its threads when it is first polled.
        let stopping: Vec<_> =
            self.doors.into_iter().map(|(_, door)| tokio::task::spawn_local(door.stop(grace))).collect();
        for door in stopping {
            let _ = door.await;
        }
    }
}

impl Counters {
    /// Connections and memory by class, of each door.
    pub(crate) fn crowds(&self) -> impl Iterator<Item = CrowdSnapshot> + '_ {
        self.0.iter().map(|(_, _, crowd)| crowd.snapshot())
    }

    /// One object, by door.
    pub(super) fn show(&self) -> Value {
        let doors = self.0.iter().map(|(name, stats, crowd)| {
            let (now, crowd) = (stats.snapshot(), crowd.snapshot());
            let shown = json!({
                "open": now.open, "accepted": now.accepted, "turned_away": now.turned_away,
                "accept_errors": now.accept_errors, "queued": now.queued, "delivered": now.delivered,
                "refused": now.refused, "tls": now.tls, "tls_failed": now.tls_failed,
                "timeouts": now.timeouts, "panics": now.panics, "early_talkers": now.early_talkers,
                "idled": crowd.idled, "classes": by_class(&crowd),
            });
            (name.clone(), shown)
        });
        Value::Object(doors.collect())
    }
}

fn by_class(crowd: &CrowdSnapshot) -> Value {
    let shown = |class: Class| {
        let i = class.index();
        let counts = json!({
            "open": crowd.open[i], "held_bytes": crowd.held_bytes[i], "evicted": crowd.evicted[i],
            "deferred": crowd.deferred[i], "refused": crowd.refused[i],
        });
        (class.as_str().to_owned(), counts)
    };
    Value::Object(Class::ALL.into_iter().map(shown).collect())
}

fn session_options(config: &Config, via: Via) -> SessionOptions {
    let smtp = &config.settings.smtp;
    SessionOptions {
        size_max: smtp.size_max.0,
        recipients_max: smtp.recipients_max,
        limits: SessionLimits {
            command: smtp.command_timeout.0,
            outcome: smtp.outcome_timeout.0,
            ..SessionLimits::default()
        },
        ..SessionOptions::new(config.hostname.clone(), via)
    }
}

/// Where callouts are remembered, when there are any.
///
/// # Errors
/// It cannot be opened.
pub(super) fn callout_cache(config: &Config) -> Result<Option<CalloutCache>, Failure> {
    if !config.has_callouts() {
        return Ok(None);
    }
    let path = config.settings.general.data.join("callouts");
    CalloutCache::open(&path).map(Some).map_err(|error| Failure::new(Code::CannotCreate, error.to_string()))
}
