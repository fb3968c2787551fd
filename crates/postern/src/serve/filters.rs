//! The filters in force: those of the configuration, or none while the bypass is on.

use std::sync::Arc;

use arc_swap::ArcSwap;
use postern_drain::{FilterOptions, FilterTable, OnSpam};

use super::Shared;
use super::bypass::Bypass;
use crate::config::Config;
use crate::config::values;

/// Publishes the table that the drain reads.
#[derive(Clone)]
pub(crate) struct Filters {
    configured: Arc<ArcSwap<FilterTable>>,
    published: Shared<FilterTable>,
}

impl Filters {
    pub(crate) fn new(config: &Config, bypass: &Bypass) -> Self {
        let filters = Self { configured: Arc::default(), published: Arc::default() };
        filters.configure(config, bypass);
        filters
    }

    /// What the drain reads.
    pub(crate) fn published(&self) -> Shared<FilterTable> {
        self.published.clone()
    }

    /// A new configuration.
    pub(crate) fn configure(&self, config: &Config, bypass: &Bypass) {
        self.configured.store(Arc::new(table(config)));
        self.publish(bypass.is_on());
    }

    /// The bypass was switched. What is buffered unjudged then leaves unjudged: that is its meaning.
    pub(crate) fn publish(&self, bypassed: bool) {
        let table = if bypassed { Arc::default() } else { self.configured.load_full() };
        self.published.store(table);
    }
}

fn table(config: &Config) -> FilterTable {
    let filters = config.filters.iter().map(|one| FilterOptions {
        filter: one.filter.clone(),
        workers: one.workers,
        on_spam: match one.on_spam {
            values::OnSpam::Mark => OnSpam::Mark,
            values::OnSpam::Quarantine => OnSpam::Quarantine,
        },
    });
    let unjudged = config.settings.domain.iter().filter(|(_, setting)| setting.filter == Some(false));
    FilterTable::new(filters.collect()).without(unjudged.map(|(domain, _)| domain.to_lowercase()))
}
