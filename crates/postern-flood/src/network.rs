//! An address with a prefix length, and the n-th host in it: where a crowd comes from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `127.64.0.0/10`, `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Of an address and a prefix length; host bits are cleared.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if prefix > bits {
            return None;
        }
        let address = match address {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from(u32::from(v4) & high_bits_v4(prefix))),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) & high_bits_v6(prefix))),
        };
        Some(Self { address, prefix })
    }

    /// Its first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many of its leading bits are the same in all its addresses.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Every address below is loopback.
    pub fn is_loopback(&self) -> bool {
        match self.address {
            IpAddr::V4(v4) => v4.is_loopback() && self.prefix >= 8,
            IpAddr::V6(v6) => v6.is_loopback() && self.prefix == 128,
        }
    }

    /// Whether it is IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// How many hosts [`Network::host`] can name; at most 2^63.
    pub fn hosts(&self) -> u64 {
        let bits = self.host_bits();
        match bits {
            0 => 1,
            // The first and the last address of a network of 127/8 are broadcasts: bind refuses them.
            1..=62 if self.is_ipv4() => (1 << bits) - 2,
            1..=62 => (1 << bits) - 1,
            _ => 1 << 63,
        }
        .max(1)
    }

    /// Host number `n` (modulo [`Network::hosts`]), scattered over the network by `key`: neighbours in number are not
    /// neighbours in address, as bots are not.
    pub fn host(&self, n: u64, key: u64) -> IpAddr {
        let hosts = self.hosts();
        // An odd stride next to the golden section, made coprime to the count by trying.
        let stride = coprime_near(((u128::from(hosts) * 618) / 1000) as u64 | 1, hosts);
        let scattered = (u128::from(n % hosts) * u128::from(stride) + u128::from(key)) % u128::from(hosts);
        let offset = if hosts == 1 { 0 } else { scattered + 1 };
        match self.address {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from(u32::from(v4) | offset as u32)),
            IpAddr::V6(v6) if self.host_bits() > 64 => {
                // A bot that owns a prefix spreads over its /64s: what differs belongs into the upper half.
                let shift = u32::from(self.host_bits() - 64).min(63);
                let upper = (offset << (64 - shift.min(64))) >> (64 - shift.min(64)) & ((1u128 << shift) - 1);
                IpAddr::V6(Ipv6Addr::from(u128::from(v6) | (upper << 64) | (offset & u128::from(u64::MAX))))
            }
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) | offset)),
        }
    }

    fn host_bits(&self) -> u8 {
        if self.is_ipv4() { 32 - self.prefix } else { 128 - self.prefix }
    }
}

fn high_bits_v4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

fn high_bits_v6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

fn coprime_near(mut candidate: u64, to: u64) -> u64 {
    let gcd = |mut a: u64, mut b: u64| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    while gcd(candidate, to) != 1 {
        candidate += 2;
    }
    candidate
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
        let address: IpAddr = address.parse().map_err(|_| format!("`{text}` is not ADDRESS/PREFIX"))?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = if prefix.is_empty() { Ok(longest) } else { prefix.parse() };
        prefix
            .ok()
            .and_then(|prefix| Self::new(address, prefix))
            .ok_or_else(|| format!("`{text}`: a prefix length is 0 to {longest}"))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests;
