//! The networks that a domain names in its SPF record, for steering by those of shared providers.
//!
//! Follows `ip4`, `ip6`, `include` and `redirect`, each record once, within bounds: a record that includes
//! itself, or hundreds of others, ends. `a`, `mx` and macros are left out: they name single machines, and
//! a provider's pools are networks.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use mail_auth::spf::{Macro, Mechanism, Qualifier};

use crate::dns::{self, Answer, Key, Kind};
use crate::limits;
use crate::lookups::{Lookups, Payer};
use crate::spf;

/// Sorted, joined where they overlap; `None`: the domain's own record could not be had.
pub(crate) async fn of_domain(lookups: &Rc<Lookups>, payer: Payer<'_>, domain: &str) -> Option<Vec<IpNet>> {
    let mut networks = Vec::new();
    let mut ahead = VecDeque::from([dns::domain(domain)?]);
    let mut seen = HashSet::new();
    // The domain's own record, and those it includes.
    while seen.len() <= limits::INCLUDES_MAX
        && let Some(domain) = ahead.pop_front()
    {
        if !seen.insert(domain.clone()) {
            continue;
        }
        let told = lookups.get(Key::new(Kind::Txt, &domain), payer).await;
        let record = match told.map(|told| told.answer) {
            Ok(Answer::Found(records)) => spf::record(&records).ok().flatten(),
            // Half of a provider's networks would steer the other half away: better those of an hour ago.
            Ok(Answer::Failed) | Err(_) => return None,
            Ok(Answer::Void) => None,
        };
        let Some(record) = record else {
            if seen.len() == 1 {
                return None;
            }
            continue;
        };
        for directive in record.directives.iter().filter(|directive| directive.qualifier == Qualifier::Pass) {
            match &directive.mechanism {
                Mechanism::Ip4 { addr, mask } => networks.extend(v4((*addr).into(), *mask)),
                Mechanism::Ip6 { addr, mask } => networks.extend(v6((*addr).into(), *mask)),
                Mechanism::Include { macro_string } => ahead.extend(literal(macro_string)),
                _ => {}
            }
        }
        ahead.extend(record.redirect.as_ref().and_then(literal));
        ahead.truncate(limits::INCLUDES_MAX);
        networks.truncate(limits::NETWORKS_MAX);
    }
    Some(IpNet::aggregate(&networks))
}

fn literal(name: &Macro) -> Option<Box<str>> {
    match name {
        Macro::Literal(name) => dns::domain(std::str::from_utf8(name).ok()?),
        _ => None,
    }
}

fn v4(address: u32, mask: u32) -> Option<IpNet> {
    let bits = u8::try_from(mask.count_ones()).ok().filter(|bits| *bits >= limits::NETWORK_V4_BITS_MIN)?;
    Ipv4Net::new((address & mask).into(), bits).ok().map(IpNet::V4)
}

fn v6(address: u128, mask: u128) -> Option<IpNet> {
    let bits = u8::try_from(mask.count_ones()).ok().filter(|bits| *bits >= limits::NETWORK_V6_BITS_MIN)?;
    Ipv6Net::new((address & mask).into(), bits).ok().map(IpNet::V6)
}
