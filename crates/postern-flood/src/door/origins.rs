//! Where the packets of a crowd come from: so many addresses in so many prefixes, and back from an address to its number.
//!
//! Neighbouring numbers lie in different prefixes; prefixes (/24, or /48) lie side by side from the start of the network,
//! so that 256 of them fill a /16. It does not check whether the network is ours: the plan did.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::network::Network;

/// The addresses of a crowd.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origins {
    base: IpAddr,
    pub(super) count: u32,
    prefixes: u32,
}

impl Origins {
    /// `None` when the network has not so many prefixes, or they not so many hosts.
    pub(super) fn new(network: &Network, count: u32, prefixes: u32) -> Option<Self> {
        let (network_bits, prefix_bits) = (u32::from(network.prefix()), if network.is_ipv4() { 24 } else { 48 });
        if count == 0 || prefixes == 0 {
            return None;
        }
        let inside = prefix_bits >= network_bits && u64::from(prefixes) <= 1 << (prefix_bits - network_bits).min(32);
        let each = count.div_ceil(prefixes);
        let one = count == 1 && network_bits == if network.is_ipv4() { 32 } else { 128 };
        (one || (inside && each <= HOSTS_MAX)).then_some(Self { base: network.address(), count, prefixes })
    }

    /// Address number `n`, modulo the count.
    pub(super) fn at(&self, n: u32) -> IpAddr {
        if self.count == 1 {
            return self.only();
        }
        let n = n % self.count;
        let (prefix, host) = (n % self.prefixes, n / self.prefixes + 1);
        match self.base {
            IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() | prefix << 8 | host).into(),
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() | u128::from(prefix) << 80 | u128::from(host)).into(),
        }
    }

    /// The number of an address; `None` when it is none of these.
    pub(super) fn number(&self, address: IpAddr) -> Option<u32> {
        if self.count == 1 {
            return (address == self.only()).then_some(0);
        }
        let (prefix, host) = match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(v4)) => {
                let inside = v4.to_bits().wrapping_sub(base.to_bits());
                (inside >> 8, inside & 0xff)
            }
            (IpAddr::V6(base), IpAddr::V6(v6)) => {
                let inside = v6.to_bits().wrapping_sub(base.to_bits());
                (u32::try_from(inside >> 80).ok()?, u32::try_from(inside & u128::from(u64::MAX)).ok()?)
            }
            _ => return None,
        };
        let number = host.checked_sub(1)?.checked_mul(self.prefixes)?.checked_add(prefix)?;
        (prefix < self.prefixes && number < self.count).then_some(number)
    }

    /// A crowd of one: a whole address, or the first host of a network.
    fn only(&self) -> IpAddr {
        match self.base {
            IpAddr::V4(v4) if v4.octets()[3] == 0 => Ipv4Addr::from_bits(v4.to_bits() | 1).into(),
            other => other,
        }
    }
}

/// Hosts in a prefix: the last address of 127/8 is a broadcast, and so is the first.
const HOSTS_MAX: u32 = 254;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_its_number_and_lies_in_its_prefix() {
        let network: Network = "127.64.0.0/10".parse().unwrap();
        let origins = Origins::new(&network, 65_536, 16_384).unwrap();
        let mut prefixes = std::collections::HashSet::new();
        for n in 0..65_536 {
            let address = origins.at(n);
            assert!(address.is_loopback());
            assert_eq!(origins.number(address), Some(n));
            let IpAddr::V4(v4) = address else { panic!("of the network's family") };
            assert!(u32::from(v4.octets()[1]) & 0xc0 == 64, "inside the network");
            prefixes.insert(v4.to_bits() >> 8);
        }
        assert_eq!(prefixes.len(), 16_384);
        assert_eq!(origins.number([127, 0, 0, 1].into()), None);
    }

    #[test]
    fn more_than_a_network_holds_is_refused() {
        let network: Network = "127.64.0.0/16".parse().unwrap();
        assert!(Origins::new(&network, 256 * 254, 256).is_some());
        assert!(Origins::new(&network, 256 * 254 + 1, 256).is_none(), "254 hosts in a /24");
        assert!(Origins::new(&network, 257, 257).is_none(), "256 of /24 in a /16");
        assert!(Origins::new(&network, 0, 1).is_none());
    }
}
