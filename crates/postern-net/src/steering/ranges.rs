//! Networks as what the program asks for: the addresses at which "known" begins and ends.

use std::net::IpAddr;

use ipnet::IpNet;

/// The places where the answer changes, in order: stranger before the first, known from there to
/// the second, and so on. An IPv4 address is its number.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Edges {
    pub(super) v4: Vec<u128>,
    pub(super) v6: Vec<u128>,
}

impl Edges {
    /// Of the union of these networks. IPv4 networks in IPv6 notation (`::ffff:192.0.2.0/120`) are
    /// IPv4: a socket for both families sees an IPv4 header.
    pub(super) fn of(networks: &[IpNet]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            let length = network.prefix_len();
            match network.addr() {
                IpAddr::V4(addr) => v4.push(range(u128::from(addr.to_bits()), 32, length)),
                IpAddr::V6(addr) => match addr.to_ipv4_mapped() {
                    Some(addr) if length >= 96 => v4.push(range(u128::from(addr.to_bits()), 32, length - 96)),
                    _ => v6.push(range(addr.to_bits(), 128, length)),
                },
            }
        }
        Self { v4: edges(v4, u128::from(u32::MAX)), v6: edges(v6, u128::MAX) }
    }
}

/// First and last address.
fn range(addr: u128, bits: u8, length: u8) -> (u128, u128) {
    let host = 1u128.checked_shl(u32::from(bits - length)).map_or(u128::MAX, |size| size - 1);
    (addr & !host, addr | host)
}

fn edges(mut ranges: Vec<(u128, u128)>, last: u128) -> Vec<u128> {
    ranges.sort_unstable();
    let mut edges: Vec<u128> = Vec::with_capacity(ranges.len() * 2);
    // Where the range being put together ends; beyond it nothing is known yet.
    let mut open: Option<u128> = None;
    for (first, end) in ranges {
        match open {
            Some(so_far) if so_far == last || first <= so_far + 1 => open = Some(so_far.max(end)),
            Some(so_far) => {
                edges.extend([so_far + 1, first]);
                open = Some(end);
            }
            None => {
                edges.push(first);
                open = Some(end);
            }
        }
    }
    // A range that reaches the last address has no end.
    edges.extend(open.filter(|so_far| *so_far != last).map(|so_far| so_far + 1));
    edges
}
