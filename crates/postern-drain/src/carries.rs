//! What every route can carry: the doors offer 8BITMIME and SMTPUTF8 only when all of them can.
//!
//! Pure: the worker asks the next hops and tells [`Known`] what they offer.

use std::collections::HashMap;

use postern_net::client::Capabilities;

use crate::route::{Route, RouteTable};

/// What every route of the table carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carries {
    /// 8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
}

impl Carries {
    /// Unknown is no: what was taken and cannot be handed on would have to be bounced.
    pub(crate) const NOTHING: Self = Self { eight_bit: false, smtputf8: false };
    const ALL: Self = Self { eight_bit: true, smtputf8: true };

    fn both(self, other: Self) -> Self {
        Self { eight_bit: self.eight_bit && other.eight_bit, smtputf8: self.smtputf8 && other.smtputf8 }
    }
}

/// What each next hop offered when it was last asked or used.
#[derive(Debug, Default)]
pub(crate) struct Known {
    hops: HashMap<Route, (Carries, u64)>,
}

impl Known {
    /// A next hop has spoken. Returns whether that is news.
    pub(crate) fn learn(&mut self, route: &Route, offers: &Capabilities, now_ms: u64) -> bool {
        let carries = Carries { eight_bit: offers.eight_bit, smtputf8: offers.smtputf8 };
        let before = self.hops.insert(route.clone(), (carries, now_ms));
        before.is_none_or(|(before, _)| before != carries)
    }

    /// What all routes of the table carry. A Maildir keeps any byte. Behind `none` may come any
    /// hop later: nearly all take 8 bits, few take SMTPUTF8. A hop that is down keeps what it
    /// offered when it was up.
    pub(crate) fn over(&self, table: &RouteTable) -> Carries {
        table.all().into_iter().fold(Carries::ALL, |all, route| all.both(self.of(route)))
    }

    /// Next hops of the table that were not heard of since `since_ms`, or never.
    pub(crate) fn to_ask<'a>(&self, table: &'a RouteTable, since_ms: u64) -> Vec<&'a Route> {
        let old = |route: &&Route| self.hops.get(*route).is_none_or(|(_, at_ms)| *at_ms < since_ms);
        table
            .all()
            .into_iter()
            .filter(|route| matches!(route, Route::Lmtp(_) | Route::Smtp { .. }))
            .filter(old)
            .collect()
    }

    /// Whether a next hop of the table was never heard.
    pub(crate) fn lacks_any(&self, table: &RouteTable) -> bool {
        !self.to_ask(table, 0).is_empty()
    }

    /// Forgets hops that are in no route any more.
    pub(crate) fn keep_only(&mut self, table: &RouteTable) {
        let all = table.all();
        self.hops.retain(|route, _| all.contains(route));
    }

    fn of(&self, route: &Route) -> Carries {
        match route {
            // Of far servers each is another; who needs what one does not have is told so in a report.
            Route::Maildir(_) | Route::Mx => Carries::ALL,
            Route::None => Carries { eight_bit: true, smtputf8: false },
            Route::Lmtp(_) | Route::Smtp { .. } => self.hops.get(route).map_or(Carries::NOTHING, |known| known.0),
        }
    }
}

#[cfg(test)]
mod tests;
