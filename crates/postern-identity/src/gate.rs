//! Who may look something up now. Pure: the time comes in.
//!
//! There is no waiting line at the gate: strangers who wait for DNS are what the desk protects from. What
//! is not affordable now is not looked up. Checked in the order of whose fault it is: the domain's (it is
//! shut, or has its share in flight), the crowd's (look-ups in flight, look-ups this second).
//!
//! Shares are those of trust (`Shares::lookups`): nobody goes above his ceiling, and the floors of all other
//! classes stay free whether they want them now or not, because there is no line in which they could wait.
//! Of a second's look-ups a class leaves the floors of those before it. So whatever the crowd asks, an
//! answer for the known is always affordable.

use std::collections::HashMap;

use postern_trust::shares::ClassShares;
use postern_trust::{CLASSES, Class, admission};

use crate::limits;
use crate::options::Budgets;
use crate::stats::Unaffordable;

pub(crate) struct Gate {
    shares: ClassShares,
    in_flight_max: u64,
    in_flight: [u64; CLASSES],
    /// In thousandths of a look-up, so that a millisecond earns something.
    tokens: u64,
    tokens_max: u64,
    refilled_ms: u64,
    domains: HashMap<Box<str>, Domain>,
}

#[derive(Default)]
struct Domain {
    in_flight: u32,
    strikes: u32,
    /// Strikes are remembered, and the domain is shut, until then.
    until_ms: u64,
}

impl Gate {
    pub(crate) fn new(budgets: &Budgets) -> Self {
        let tokens_max = u64::from(budgets.per_second.max(1)) * 1000;
        Self {
            shares: budgets.shares,
            in_flight_max: budgets.in_flight.max(IN_FLIGHT_MIN).into(),
            in_flight: [0; CLASSES],
            tokens: tokens_max,
            tokens_max,
            refilled_ms: 0,
            domains: HashMap::new(),
        }
    }

    /// Takes a place for a look-up that counts for `domain`, which may have `domain_max` of them.
    pub(crate) fn enter(
        &mut self,
        now_ms: u64,
        class: Class,
        domain: &str,
        domain_max: u32,
    ) -> Result<(), Unaffordable> {
        if let Some(entry) = self.domains.get(domain) {
            if entry.strikes >= limits::STRIKES_MAX && now_ms < entry.until_ms {
                return Err(Unaffordable::Shut);
            }
            if entry.in_flight >= domain_max.max(1) {
                return Err(Unaffordable::Domain);
            }
        } else if self.domains.len() >= limits::DOMAINS_MAX {
            self.domains.retain(|_, entry| entry.in_flight > 0 || now_ms < entry.until_ms);
            if self.domains.len() >= limits::DOMAINS_MAX {
                return Err(Unaffordable::Domain);
            }
        }
        if !admission::allot(class, 1, &self.in_flight, self.in_flight_max, &[true; CLASSES], &self.shares) {
            return Err(Unaffordable::InFlight);
        }
        self.tokens =
            (self.tokens + now_ms.saturating_sub(self.refilled_ms) * self.tokens_max / 1000).min(self.tokens_max);
        self.refilled_ms = now_ms.max(self.refilled_ms);
        let better = Class::ALL.into_iter().take_while(|better| *better != class);
        let left: u64 = better.map(|better| self.shares.floor(better, self.tokens_max)).sum();
        // Whatever the budget, one look-up of a quiet second is always there.
        if self.tokens < (left + 1000).min(self.tokens_max) {
            return Err(Unaffordable::Rate);
        }
        self.tokens -= 1000;
        self.in_flight[class as usize] += 1;
        self.domains.entry(domain.into()).or_default().in_flight += 1;
        Ok(())
    }

    /// Gives the place back. `slow`: it got no answer, or only after most of its time.
    pub(crate) fn leave(&mut self, now_ms: u64, class: Class, domain: &str, slow: bool) {
        let flying = &mut self.in_flight[class as usize];
        *flying = flying.saturating_sub(1);
        let Some(entry) = self.domains.get_mut(domain) else { return };
        entry.in_flight = entry.in_flight.saturating_sub(1);
        if slow {
            entry.strikes = match now_ms >= entry.until_ms {
                // After the time shut, one more failure is enough: it was asked again as a test.
                true if entry.strikes >= limits::STRIKES_MAX => limits::STRIKES_MAX,
                true => 1,
                false => entry.strikes.saturating_add(1),
            };
            entry.until_ms = now_ms + u64::try_from(limits::SHUT.as_millis()).unwrap_or(u64::MAX);
        } else {
            entry.strikes = 0;
            entry.until_ms = 0;
        }
        if entry.in_flight == 0 && entry.strikes == 0 {
            self.domains.remove(domain);
        }
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.iter().sum()
    }
}

/// Below this the shares of the smaller classes would be less than one look-up.
const IN_FLIGHT_MIN: u32 = 32;

/// The domain that a look-up counts for, and a peer of the postern: what somebody has registered, by its looks. Without a
/// list of public suffixes: the last two labels, or three where the second is short and the first a country (`co.uk`,
/// `com.au`); of reverse zones what one owner has at most (/16, /32). A wrong guess merges two budgets, and nothing else.
#[must_use]
pub fn account(name: &str) -> &str {
    let labels = if name.ends_with(".in-addr.arpa") {
        4
    } else if name.ends_with(".ip6.arpa") {
        10
    } else if suffix_like(last_labels(name, 2)) {
        3
    } else {
        2
    };
    last_labels(name, labels)
}

/// Looks like a place where others register: `com`, `co.uk`. Two letters behind at most three, or no dot.
pub(crate) fn suffix_like(domain: &str) -> bool {
    match domain.split_once('.') {
        None => true,
        Some((second, country)) => country.len() == 2 && second.len() <= 3,
    }
}

fn last_labels(name: &str, labels: usize) -> &str {
    name.rmatch_indices('.').nth(labels - 1).map_or(name, |(dot, _)| &name[dot + 1..])
}

#[cfg(test)]
mod tests;
