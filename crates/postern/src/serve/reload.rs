//! What can change while the server runs: domains, recipients, routes, configured modes, certificate, our own keys.
//!
//! It publishes whole snapshots that doors and drain read; a configuration that does not hold
//! leaves the old one in force. What needs a restart is named, never half applied.

use std::sync::Arc;

use arc_swap::ArcSwap;
use postern_doors::Policy;
use postern_drain::{DrainHandle, Route, RouteTable};
use postern_net::tls::ReloadableCert;
use serde_json::{Value, json};

use super::judging::Judging;
use super::modes::{Configured, ModesHandle};
use super::names::NameSources;
use super::own::OwnKeys;
use super::{Shared, doors};
use crate::args::ServeArgs;
use crate::config::Config;
use crate::exit::Failure;

/// The configuration in force and where it is published.
pub(super) struct Reloader {
    flags: ServeArgs,
    config: Config,
    names: NameSources,
    policy: Shared<Policy>,
    routes: Shared<RouteTable>,
    modes: ModesHandle,
    certificate: ReloadableCert,
    judging: Judging,
    /// A cache for callouts was opened at the start.
    callouts: bool,
    drain: Option<DrainHandle>,
    own: Option<OwnKeys>,
}

impl Reloader {
    pub(super) fn new(
        flags: ServeArgs,
        config: Config,
        modes: ModesHandle,
        certificate: ReloadableCert,
        judging: Judging,
    ) -> Self {
        let mut names = NameSources::default();
        complain(names.load(&config.recipients));
        let policy = Arc::new(ArcSwap::from_pointee(doors::policy(&config, &names, None)));
        let routes = Arc::new(ArcSwap::from_pointee(routes(&config)));
        let callouts = config.has_callouts();
        Self { flags, config, names, policy, routes, modes, certificate, judging, callouts, drain: None, own: None }
    }

    /// Who is woken after a change, and who reads our own keys again.
    pub(super) fn attach(&mut self, drain: DrainHandle, own: Option<OwnKeys>) {
        self.drain = Some(drain);
        self.own = own;
        self.publish_policy();
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn policy(&self) -> Shared<Policy> {
        self.policy.clone()
    }

    pub(super) fn routes(&self) -> Shared<RouteTable> {
        self.routes.clone()
    }

    /// Reads everything again.
    ///
    /// # Errors
    /// Why the old configuration stays in force.
    pub(super) async fn reload(&mut self) -> Result<Value, Failure> {
        let config = Config::load(&self.flags).inspect_err(|failure| {
            tracing::error!(error = %failure, "reload: the old configuration stays in force");
        })?;
        let mut restart = needs_restart(&self.config, &config);
        if config.has_callouts() && !self.callouts {
            restart.push("[recipients] callout = true, the first one (until then no answer is remembered)");
        }
        let config = self.in_this_data_dir(config)?;
        if let Err(error) = self.certificate.reload() {
            tracing::error!(%error, "reload: the old certificate stays in use");
        }
        if let Some(Err(error)) = self.own.as_ref().map(OwnKeys::reload) {
            tracing::error!(%error, "reload: our own keys stay as they are");
        }
        complain(self.names.load(&config.recipients));
        self.routes.store(Arc::new(routes(&config)));
        self.judging.configure(&config).await;
        self.modes.configure(configured_modes(&config)).await;
        self.config = config;
        self.publish_policy();
        if let Some(drain) = &self.drain {
            drain.wake();
        }
        for key in &restart {
            tracing::warn!(key, "reload: a change of this setting needs a restart");
        }
        tracing::info!(domains = self.config.recipients.len(), "configuration reloaded");
        Ok(json!({ "needs_restart": restart }))
    }

    /// Spool, modes and certificate stay where they are until a restart; what follows from the data
    /// directory, such as the Maildirs of a route by default, must stay with them.
    fn in_this_data_dir(&self, config: Config) -> Result<Config, Failure> {
        let here = &self.config.settings.general.data;
        if config.settings.general.data == *here {
            return Ok(config);
        }
        Config::load(&ServeArgs { data: Some(here.clone()), ..self.flags.clone() })
    }

    /// Reads files and directories of names again when they have changed.
    pub(super) fn poll_names(&mut self) {
        if let Some(complaints) = self.names.poll() {
            self.publish_policy();
            if complaints.is_empty() {
                tracing::info!("recipients read again");
            }
            complain(complaints);
        }
    }

    /// Domains, names, and the extensions that every route now carries.
    pub(super) fn publish_policy(&self) {
        let carries = self.drain.as_ref().map(|drain| *drain.carries().borrow());
        self.policy.store(Arc::new(doors::policy(&self.config, &self.names, carries)));
    }
}

/// The modes of the configuration, for the task that owns modes.
pub(super) fn configured_modes(config: &Config) -> Configured {
    let nowhere = |route: &Route| *route == Route::None;
    let by_domain = config.deliver_by_domain.iter().map(|(domain, route)| (domain.clone(), nowhere(route)));
    Configured {
        all: config.settings.general.mode.0,
        domains: config.mode_by_domain.iter().map(|(domain, mode)| (domain.clone(), mode.0)).collect(),
        kept: (nowhere(&config.deliver), by_domain.collect()),
    }
}

fn routes(config: &Config) -> RouteTable {
    RouteTable {
        domains: config.deliver_by_domain.iter().map(|(domain, route)| (domain.clone(), route.clone())).collect(),
        local: config.recipients.keys().cloned().collect(),
        relay: config.relay_next_hop.clone(),
        doors: config.settings.relay.doors && config.door.is_some(),
        detail: config.detail(),
        mailboxes_max: config.settings.drain.mailboxes_max,
        ..RouteTable::new(config.deliver.clone())
    }
}

fn complain(complaints: Vec<String>) {
    for complaint in complaints {
        tracing::error!("{complaint}");
    }
}

/// Settings that differ and are read at start only.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    // Debug forms are compared: whatever a setting is, a change shows in it.
    fn differs<T: std::fmt::Debug>(old: &T, new: &T) -> bool {
        format!("{old:?}") != format!("{new:?}")
    }
    let (a, b) = (&old.settings, &new.settings);
    let compared = [
        ("hostname", old.hostname != new.hostname),
        ("data", a.general.data != b.general.data),
        ("threads", a.general.threads != b.general.threads),
        ("[smtp]", differs(&a.smtp, &b.smtp)),
        ("relay.listen", a.relay.listen != b.relay.listen),
        ("tls.cert, tls.key", differs(&a.tls, &b.tls)),
        ("[drain]", differs(&a.drain, &b.drain)),
        ("[auto]", differs(&a.auto, &b.auto)),
        ("[spool]", differs(&a.spool, &b.spool)),
        ("[log]", differs(&a.log, &b.log)),
        ("[run_as]", differs(&a.run_as, &b.run_as)),
        ("[dns]", differs(&a.dns, &b.dns)),
        ("trust.promotions_a_day", a.trust.promotions_a_day != b.trust.promotions_a_day),
        ("[quarantine]", differs(&a.quarantine, &b.quarantine)),
        ("[dnsbl]", differs(&a.dnsbl, &b.dnsbl)),
    ];
    compared.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
}
