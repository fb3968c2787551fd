//! Lists of addresses in DNS (RFC 5782), the bad and the good.
//!
//! A list is somebody else's opinion and somebody else's server. It is asked within budgets, its answers
//! weigh what the operator says, and it is not believed when it answers what no list answers:
//! 127.255.255.x ("you ask through an open resolver", "you ask too often"), addresses outside 127.0.0.0/8
//! (the domain was sold, or a resolver helps with advertisements), or that it lists 127.0.0.1 (section 5:
//! a list that does has ended and lists the world). Then it weighs nothing for an hour, and says so once.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use postern_proto::checks::Listed;
use postern_trust::Class;

use crate::desk::{IdentityError, Shared};
use crate::dns::{self, Answer, Key, Kind, Records};
use crate::limits;
use crate::lookups::{Lookups, Payer};
use crate::options::Zone;
use crate::stats::{Unaffordable, count};

/// One configured list.
pub(crate) struct List {
    /// Its place in the configuration.
    index: usize,
    zone: Zone,
    name: Box<str>,
    shared: Arc<Shared>,
    health: RefCell<Health>,
}

#[derive(Default)]
struct Health {
    off_until: Option<Instant>,
    sane_until: Option<Instant>,
    misses: u32,
    said: Option<Instant>,
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
enum Reading {
    Listed(Ipv4Addr),
    NotListed,
    /// Not an answer of a list.
    Nonsense(Ipv4Addr),
}

impl List {
    pub(crate) fn new(index: usize, zone: Zone, shared: Arc<Shared>) -> Result<Self, IdentityError> {
        let name = dns::domain(&zone.name).ok_or_else(|| IdentityError::Zone(zone.name.clone()))?;
        Ok(Self { index, zone, name, shared, health: RefCell::default() })
    }

    /// Whether the list has the address; and whether it was asked just now.
    pub(crate) async fn ask(
        &self,
        lookups: &Rc<Lookups>,
        class: Class,
        ip: IpAddr,
    ) -> Result<(Option<Listed>, bool), Unaffordable> {
        if !self.is_on() || !is_public(ip) {
            return Ok((None, false));
        }
        let payer = Payer { class, list: Some(&self.name) };
        if !self.is_sane(lookups, payer).await? {
            return Ok((None, false));
        }
        let counters = &self.shared.counters.zones[self.index];
        count(&counters.asked);
        let told = lookups.get(Key::new(Kind::A, &(dns::reversed(ip) + &self.name)), payer).await?;
        let listed = match self.hear(&told.answer, told.fresh) {
            Some(Reading::Listed(code)) => {
                count(&counters.listed);
                Some(Listed { zone: self.zone.name.clone(), weight: self.zone.weight, code: code.octets() })
            }
            _ => None,
        };
        Ok((listed, told.fresh))
    }

    /// Switched off meanwhile? An answer that came back to several at once may have done so.
    fn is_on(&self) -> bool {
        let mut health = self.health.borrow_mut();
        let on = health.off_until.is_none_or(|until| until <= Instant::now());
        if on && health.off_until.take().is_some() {
            self.shared.counters.zones[self.index].off.store(false, Relaxed);
        }
        on
    }

    /// RFC 5782 section 5: 127.0.0.1 "MUST NOT be listed". Once an hour, for those who ask meanwhile too.
    async fn is_sane(&self, lookups: &Rc<Lookups>, payer: Payer<'_>) -> Result<bool, Unaffordable> {
        if self.health.borrow().sane_until.is_some_and(|until| until > Instant::now()) {
            return Ok(true);
        }
        let test = Key::new(Kind::A, &(dns::reversed(Ipv4Addr::LOCALHOST.into()) + &self.name));
        let told = lookups.get(test, payer).await?;
        match self.hear(&told.answer, told.fresh) {
            Some(Reading::NotListed) => {
                self.health.borrow_mut().sane_until = Some(Instant::now() + limits::SANITY);
                Ok(true)
            }
            Some(Reading::Listed(code)) => {
                self.shut(limits::REFUSED, &format!("it lists 127.0.0.1 ({code}), as lists do that have ended"));
                Ok(false)
            }
            Some(Reading::Nonsense(_)) | None => Ok(false),
        }
    }

    /// Reads an answer and draws the consequences for the list; `None`: there was none.
    fn hear(&self, answer: &Answer, fresh: bool) -> Option<Reading> {
        let reading = match answer {
            Answer::Void => Reading::NotListed,
            Answer::Found(records) => match &**records {
                Records::V4(addresses) => read(addresses, &self.zone.codes),
                _ => Reading::NotListed,
            },
            Answer::Failed => {
                let misses = {
                    let mut health = self.health.borrow_mut();
                    health.misses += u32::from(fresh);
                    health.misses
                };
                if fresh {
                    count(&self.shared.counters.zones[self.index].errors);
                }
                if fresh && misses >= limits::STRIKES_MAX {
                    self.shut(limits::SILENT, "it does not answer");
                }
                return None;
            }
        };
        self.health.borrow_mut().misses = 0;
        if let Reading::Nonsense(code) = reading {
            if fresh {
                count(&self.shared.counters.zones[self.index].errors);
            }
            self.shut(limits::REFUSED, &format!("it answers {code}, which is an error and no listing"));
        }
        Some(reading)
    }

    fn shut(&self, time: Duration, why: &str) {
        let now = Instant::now();
        let mut health = self.health.borrow_mut();
        health.off_until = Some(now + time);
        health.sane_until = None;
        health.misses = 0;
        self.shared.counters.zones[self.index].off.store(true, Relaxed);
        let quiet = health.said.is_some_and(|said| now.saturating_duration_since(said) < limits::REFUSED);
        if !quiet {
            health.said = Some(now);
            tracing::warn!(list = %self.zone.name, minutes = time.as_secs() / 60, "a list is left alone: {why}");
        }
    }
}

fn read(addresses: &[Ipv4Addr], codes: &[Ipv4Net]) -> Reading {
    let error = |ip: &&Ipv4Addr| ip.octets()[0] != 127 || ip.octets()[..3] == [127, 255, 255];
    if let Some(code) = addresses.iter().find(error) {
        return Reading::Nonsense(*code);
    }
    let counts = |ip: &&Ipv4Addr| codes.is_empty() || codes.iter().any(|net| net.contains(*ip));
    addresses.iter().find(counts).map_or(Reading::NotListed, |code| Reading::Listed(*code))
}

/// No list knows addresses that mean another machine in every network, and what they are is our own affair.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || ip.is_broadcast())
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(addresses: &[[u8; 4]], codes: &[&str], expected: Reading) {
        let addresses: Vec<Ipv4Addr> = addresses.iter().map(|&octets| octets.into()).collect();
        let codes: Vec<Ipv4Net> = codes.iter().map(|net| net.parse().expect("a network")).collect();
        assert_eq!(read(&addresses, &codes), expected, "{addresses:?} in {codes:?}");
    }

    #[test]
    fn only_codes_that_count_are_listings() {
        let code = |octets: [u8; 4]| Reading::Listed(octets.into());
        check(&[[127, 0, 0, 2]], &[], code([127, 0, 0, 2]));
        check(&[[127, 0, 0, 10], [127, 0, 0, 4]], &["127.0.0.0/29"], code([127, 0, 0, 4]));
        check(&[[127, 0, 0, 10]], &["127.0.0.0/29"], Reading::NotListed);
        check(&[], &[], Reading::NotListed);
    }

    #[test]
    fn errors_and_strangers_addresses_are_no_listings() {
        let nonsense = |octets: [u8; 4]| Reading::Nonsense(octets.into());
        check(&[[127, 255, 255, 254]], &[], nonsense([127, 255, 255, 254]));
        check(&[[127, 255, 255, 252]], &["127.0.0.0/8"], nonsense([127, 255, 255, 252]));
        check(&[[127, 0, 0, 2], [127, 255, 255, 255]], &[], nonsense([127, 255, 255, 255]));
        check(&[[192, 0, 2, 80]], &[], nonsense([192, 0, 2, 80]));
        check(&[[127, 255, 254, 1]], &[], Reading::Listed([127, 255, 254, 1].into()));
    }
}
