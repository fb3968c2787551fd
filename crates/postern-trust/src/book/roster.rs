//! Who is declared: pins, forwarders, providers and their networks. A roster never changes; the book swaps in a new one, and doors
//! read whichever is there. It owns the list of large shared providers that comes with the program, and the bounds on what an
//! SPF record may make us steer. It never does DNS: networks come as evidence.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::limits::{
    KNOWN_PREFIX_MIN, PROVIDER_NETWORKS_EACH, PROVIDER_NETWORKS_MAX, PROVIDER_PREFIX_MIN, PROVIDERS_MAX,
};
use crate::sketch::Source;

/// What the operator declared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pins {
    /// Addresses that always come first.
    pub networks: Vec<IpNet>,
    /// Domains (with what is below them) that come first from an authorised address.
    pub domains: Vec<String>,
    /// Forwarders and lists: exempt from what would punish forwarding.
    pub forwarders: Vec<IpNet>,
    /// Domains of shared providers, beside those that come with the program.
    pub providers: Vec<String>,
}

/// A provider with the networks of its SPF record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Provider {
    /// Its domain; empty: the place is free.
    pub(crate) domain: String,
    pub(crate) networks: Vec<IpNet>,
    /// Declared by the operator or by the program; else the domain is only known.
    pub(crate) declared: bool,
}

/// Disjoint ranges of addresses in order, each with a number.
#[derive(Debug, Default)]
struct Ranges(Vec<(u128, u128, u8)>);

impl Ranges {
    /// Networks are nested or disjoint; of nested ones the widest stays.
    fn of(networks: impl Iterator<Item = (IpNet, u8)>) -> Self {
        let mut all: Vec<_> = networks
            .map(|(net, number)| (Source::whole(net.network()), Source::whole(net.broadcast()), number))
            .collect();
        all.sort_unstable_by_key(|&(start, end, _)| (start, u128::MAX - end));
        let mut kept: Vec<(u128, u128, u8)> = Vec::with_capacity(all.len());
        for range in all {
            if kept.last().is_none_or(|last| range.0 > last.1) {
                kept.push(range);
            }
        }
        Self(kept)
    }

    fn find(&self, address: u128) -> Option<u8> {
        let at = self.0.partition_point(|range| range.0 <= address);
        let range = self.0[..at].last()?;
        (address <= range.1).then_some(range.2)
    }
}

/// What an address is declared as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) pinned: bool,
    pub(crate) forwarder: bool,
    /// The provider's place.
    pub(crate) provider: Option<u8>,
}

/// Everything declared, ready to be looked up.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    pins: Pins,
    providers: Vec<Provider>,
    pinned: Ranges,
    forwarders: Ranges,
    provided: Ranges,
    pinned_domains: Vec<Box<[u8]>>,
    provider_domains: Vec<Box<[u8]>>,
}

impl Roster {
    pub(crate) fn new(pins: Pins, providers: Vec<Provider>, well_known: bool) -> Self {
        let plain = |networks: &[IpNet]| Ranges::of(networks.iter().map(|net| (*net, 0)));
        let names = |domains: &mut dyn Iterator<Item = &str>| {
            let mut names: Vec<Box<[u8]>> =
                domains.map(|name| name.trim_matches('.').to_ascii_lowercase().into_bytes().into()).collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        let shipped = if well_known { WELL_KNOWN } else { &[] };
        Self {
            pinned: plain(&pins.networks),
            forwarders: plain(&pins.forwarders),
            provided: Ranges::of(
                providers
                    .iter()
                    .zip(0..)
                    .flat_map(|(provider, place)| provider.networks.iter().map(move |net| (*net, place))),
            ),
            pinned_domains: names(&mut pins.domains.iter().map(String::as_str)),
            provider_domains: names(&mut pins.providers.iter().map(String::as_str).chain(shipped.iter().copied())),
            providers,
            pins,
        }
    }

    pub(crate) const fn pins(&self) -> &Pins {
        &self.pins
    }

    pub(crate) fn providers(&self) -> &[Provider] {
        &self.providers
    }

    pub(crate) fn declared(&self, ip: IpAddr) -> Declared {
        let address = Source::whole(ip.to_canonical());
        Declared {
            pinned: self.pinned.find(address).is_some(),
            forwarder: self.forwarders.find(address).is_some(),
            provider: self.provided.find(address),
        }
    }

    /// The same, but only a declared provider counts: the networks of a domain that is only known hold ordinary addresses,
    /// which earn credit and blame of their own.
    pub(crate) fn declared_pool(&self, ip: IpAddr) -> Declared {
        let mut declared = self.declared(ip);
        declared.provider = declared.provider.filter(|place| self.providers[usize::from(*place)].declared);
        declared
    }

    /// With other pins. A provider that is no longer declared frees its place; one that is now, is.
    pub(crate) fn redeclared(&self, pins: Pins, well_known: bool) -> Self {
        let names = Self::new(pins, Vec::new(), well_known);
        let mut providers = self.providers.clone();
        for provider in &mut providers {
            match (provider.declared, names.is_provider_domain(provider.domain.as_bytes())) {
                (true, false) => *provider = Provider::default(),
                (_, declared) => provider.declared = declared,
            }
        }
        Self::new(names.pins, providers, well_known)
    }

    /// The domains of declared providers.
    pub(crate) fn provider_domains(&self) -> Vec<String> {
        self.provider_domains.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    /// Whether the domain, or one above it, is pinned.
    pub(crate) fn is_pinned_domain(&self, domain: &[u8]) -> bool {
        holds(&self.pinned_domains, domain)
    }

    /// Whether this very domain is pinned.
    pub(crate) fn is_pinned_itself(&self, domain: &[u8]) -> bool {
        self.pinned_domains.binary_search_by(|name| (**name).cmp(domain)).is_ok()
    }

    /// Whether the domain, or one above it, is a declared provider.
    pub(crate) fn is_provider_domain(&self, domain: &[u8]) -> bool {
        holds(&self.provider_domains, domain)
    }

    /// The providers with this one's networks replaced, and its place; `None` when there is no room for it.
    pub(crate) fn with_networks(
        &self,
        domain: &str,
        networks: &[IpNet],
        declared: bool,
    ) -> Option<(Vec<Provider>, usize)> {
        let mut providers = self.providers.clone();
        let (v4_min, v6_min) = if declared { PROVIDER_PREFIX_MIN } else { KNOWN_PREFIX_MIN };
        let named = |wanted: &str| providers.iter().position(|provider| provider.domain == wanted);
        let place = named(domain).or_else(|| named("")).or_else(|| {
            if providers.len() < PROVIDERS_MAX {
                providers.push(Provider::default());
                return Some(providers.len() - 1);
            }
            // One that is declared takes the place of one that is only known.
            if declared { providers.iter().position(|provider| !provider.declared) } else { None }
        })?;
        let others: usize = providers
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != place)
            .map(|(_, provider)| provider.networks.len())
            .sum();
        let room = PROVIDER_NETWORKS_EACH.min(PROVIDER_NETWORKS_MAX.saturating_sub(others));
        let allowed = |net: &&IpNet| match net {
            IpNet::V4(four) => four.prefix_len() >= v4_min,
            IpNet::V6(six) => six.prefix_len() >= v6_min,
        };
        let networks = networks.iter().filter(allowed).take(room).map(IpNet::trunc).collect();
        providers[place] = Provider { domain: domain.to_owned(), networks, declared };
        Some((providers, place))
    }
}

fn holds(names: &[Box<[u8]>], domain: &[u8]) -> bool {
    if names.is_empty() {
        return false;
    }
    let mut rest = domain;
    loop {
        if names.binary_search_by(|name| (**name).cmp(rest)).is_ok() {
            return true;
        }
        match rest.iter().position(|byte| *byte == b'.') {
            Some(dot) => rest = &rest[dot + 1..],
            None => return false,
        }
    }
}

/// Where many strangers share a domain or a sending pool: mailbox providers, then bulk and transactional senders.
/// Writing to one mailbox there proves nothing of the others.
const WELL_KNOWN: &[&str] = &[
    "126.com",
    "163.com",
    "aol.com",
    "fastmail.com",
    "free.fr",
    "gmail.com",
    "gmx.at",
    "gmx.ch",
    "gmx.com",
    "gmx.de",
    "gmx.net",
    "google.com",
    "googlemail.com",
    "hotmail.com",
    "icloud.com",
    "laposte.net",
    "libero.it",
    "live.com",
    "mac.com",
    "mail.ru",
    "mailbox.org",
    "me.com",
    "msn.com",
    "naver.com",
    "orange.fr",
    "outlook.com",
    "posteo.de",
    "proton.me",
    "protonmail.com",
    "qq.com",
    "t-online.de",
    "web.de",
    "yahoo.co.jp",
    "yahoo.co.uk",
    "yahoo.com",
    "yandex.com",
    "yandex.ru",
    "zoho.com",
    "amazonses.com",
    "mailchimpapp.net",
    "mailgun.org",
    "mandrillapp.com",
    "mcsv.net",
    "mtasv.net",
    "onmicrosoft.com",
    "sendgrid.net",
    "sparkpostmail.com",
];
