//! Who judges: the trust book, the filters, and the two switches that keep their hands still. Held
//! together because a new configuration changes them together.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::bypass::Bypass;
use super::filters::Filters;
use super::trust::TrustHandle;
use crate::config::Config;

/// Handles only; clones are the same.
#[derive(Clone)]
pub(crate) struct Judging {
    /// Who is who.
    pub(crate) trust: TrustHandle,
    /// Who judges content.
    pub(crate) filters: Filters,
    /// Whether judgement is out of the path.
    pub(crate) bypass: Bypass,
    /// `trust.observe`, read by the doors at each decision.
    pub(crate) observe: Arc<AtomicBool>,
}

impl Judging {
    /// As configured, and as the last server left the bypass.
    pub(super) fn new(data: &Path, config: &Config, trust: TrustHandle, observe: Arc<AtomicBool>) -> Self {
        observe.store(config.settings.trust.observe, Ordering::Relaxed);
        let bypass = Bypass::load(data);
        Self { filters: Filters::new(config, &bypass), trust, bypass, observe }
    }

    /// A new configuration.
    pub(super) async fn configure(&self, config: &Config) {
        self.filters.configure(config, &self.bypass);
        self.trust.configure(config.settings.trust.clone()).await;
        self.observe.store(config.settings.trust.observe, Ordering::Relaxed);
    }
}
