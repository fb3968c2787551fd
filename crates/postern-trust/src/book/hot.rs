//! The trusted addresses that were seen of late, exactly, for steering before accept(): fingerprints cannot be turned into
//! networks. It owns a small sorted table; it never says who is trusted, that is looked up again when the table is read.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::sketch::Source;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hot {
    pub(crate) source: Source,
    /// How often seen, in `limits::HOT_SIGHT`; halved each day.
    pub(crate) heat: u32,
}

/// At most `max` addresses.
#[derive(Debug)]
pub(crate) struct HotTable {
    /// By address.
    entries: Vec<Hot>,
    max: usize,
}

impl HotTable {
    pub(crate) fn new(max: usize) -> Self {
        Self { entries: Vec::with_capacity(max), max }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Hot>()
    }

    /// One more sight. Full: the coldest goes, and its place costs no more than its heat.
    pub(crate) fn warm(&mut self, source: Source, by: u32) {
        match self.entries.binary_search_by_key(&source, |hot| hot.source) {
            Ok(at) => self.entries[at].heat = self.entries[at].heat.saturating_add(by),
            Err(_) if self.max == 0 => {}
            Err(at) => {
                let mut at = at;
                if self.entries.len() >= self.max {
                    let coldest = (0..self.entries.len()).min_by_key(|index| self.entries[*index].heat).unwrap_or(0);
                    self.entries.remove(coldest);
                    at -= usize::from(coldest < at);
                }
                self.entries.insert(at, Hot { source, heat: by });
            }
        }
    }

    /// A day has passed.
    pub(crate) fn cool(&mut self) {
        self.entries.iter_mut().for_each(|hot| hot.heat /= 2);
        self.entries.retain(|hot| hot.heat > 0);
    }

    /// The hottest first.
    pub(crate) fn by_heat(&self) -> Vec<Hot> {
        let mut entries = self.entries.clone();
        entries.sort_by_key(|hot| u32::MAX - hot.heat);
        entries
    }
}

impl Source {
    /// An address of it.
    pub(crate) fn address(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from(self.0)).to_canonical()
    }

    /// The /32 of IPv4, the /64 of IPv6.
    pub(crate) fn network(self) -> IpNet {
        match self.address() {
            IpAddr::V4(four) => IpNet::V4(Ipv4Net::from(Ipv4Addr::from(four.octets()))),
            IpAddr::V6(six) => Ipv6Net::new(six, 64).map_or_else(|_| IpNet::V6(Ipv6Net::from(six)), IpNet::V6),
        }
    }
}
