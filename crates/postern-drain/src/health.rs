//! Whether a domain's mail is judged and leaves, for whoever decides on its mode. Called through
//! [`crate::DrainHandle::health`], on any thread; changes nothing.

use crate::filters::FilterTable;
use crate::route::Route;
use crate::stats::Counters;

/// What is in the way of one domain's mail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Its destination.
    pub hop: Option<Away>,
    /// The first of its filters that does not answer.
    pub filter: Option<Away>,
}

/// Something that cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Away {
    /// As in the configuration.
    pub name: String,
    /// Milliseconds since 1970.
    pub since_unix_ms: u64,
}

impl Counters {
    /// The state of a domain with this route and these filters.
    pub(crate) fn health(&self, route: &Route, filters: Option<&FilterTable>) -> Health {
        let stats = self.snapshot();
        let (hop, mut filters) = (route.to_string(), filters.into_iter().flat_map(|table| &table.filters));
        let destination = stats.destinations.iter().find(|destination| destination.name == hop);
        let filter_away = |name: &str| {
            let filter = stats.filters.iter().find(|filter| filter.name == name);
            filter.and_then(|filter| away(name, filter.away_since_unix_ms))
        };
        Health {
            hop: destination.and_then(|destination| away(&hop, destination.away_since_unix_ms)),
            filter: filters.find_map(|filter| filter_away(&filter.filter.name)),
        }
    }
}

fn away(name: &str, since_unix_ms: Option<u64>) -> Option<Away> {
    since_unix_ms.map(|since_unix_ms| Away { name: name.to_owned(), since_unix_ms })
}
