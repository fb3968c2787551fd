//! The program against the naive answer, and the kernel's own answer on sockets of this machine.

mod group;
mod namespace;

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;

use super::interpreter;
use super::*;

fn networks(list: &str) -> Vec<IpNet> {
    list.split_whitespace()
        .map(|network| network.parse().or_else(|_| network.parse().map(|addr: IpAddr| addr.into())).expect("a network"))
        .collect()
}

/// An IP header with this source address; all else in it is noise.
fn header(source: IpAddr) -> Vec<u8> {
    match source {
        IpAddr::V4(source) => {
            let mut header = vec![0xa5; 20];
            header[0] = 0x4f;
            header[12..16].copy_from_slice(&source.octets());
            header
        }
        IpAddr::V6(source) => {
            let mut header = vec![0xa5; 40];
            header[0] = 0x6f;
            header[8..24].copy_from_slice(&source.octets());
            header
        }
    }
}

fn is_known(program: &Program, source: IpAddr) -> bool {
    match interpreter::run(program, &header(source), 0) {
        0 => false,
        1 => true,
        index => panic!("{source} goes to listener {index} of 2"),
    }
}

/// Which of these addresses the networks steer to the known.
fn check(list: &str, addresses: &str, expected: &str) {
    let Compiled { program, left_out, .. } = compile(&networks(list), 1, INSTRUCTIONS_MAX);
    assert_eq!((interpreter::check(&program), left_out), (Ok(()), 0));
    let known: Vec<&str> =
        addresses.split_whitespace().filter(|addr| is_known(&program, addr.parse().expect("an address"))).collect();
    assert_eq!(known.join(" "), expected, "of {addresses} with {list}");
}

#[test]
fn the_known_are_those_within_a_network() {
    let around = "192.0.1.255 192.0.2.0 192.0.2.255 192.0.3.0 0.0.0.0 255.255.255.255 2001:db8::1 ::";
    check("", around, "");
    check("192.0.2.0/24", around, "192.0.2.0 192.0.2.255");
    check("192.0.2.255/24", around, "192.0.2.0 192.0.2.255");
    check("192.0.2.0", around, "192.0.2.0");
    check("192.0.2.0/25 192.0.2.128/25 192.0.2.7", around, "192.0.2.0 192.0.2.255");
    check("192.0.3.0/24 192.0.0.0/23", around, "192.0.1.255 192.0.3.0");
    check("0.0.0.0/0", around, "192.0.1.255 192.0.2.0 192.0.2.255 192.0.3.0 0.0.0.0 255.255.255.255");
    check("255.255.255.255 0.0.0.0", around, "0.0.0.0 255.255.255.255");
    check("::/0", around, "2001:db8::1 ::");
    check("::ffff:192.0.2.0/120", around, "192.0.2.0 192.0.2.255");
}

#[test]
fn an_ipv6_network_may_end_in_any_of_the_four_words() {
    let around = "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff 2001:db8:: 2001:db8::1 2001:db8::2 2001:db8::1:0:0 \
                  2001:db8:0:0:ffff:ffff:ffff:ffff 2001:db8:0:1:: 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 2001:db9:: \
                  ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 32.1.13.184";
    check("2001:db8::1", around, "2001:db8::1");
    check("2001:db8::/127", around, "2001:db8:: 2001:db8::1");
    check("2001:db8::/95", around, "2001:db8:: 2001:db8::1 2001:db8::2 2001:db8::1:0:0");
    let whole = "2001:db8:: 2001:db8::1 2001:db8::2 2001:db8::1:0:0 2001:db8:0:0:ffff:ffff:ffff:ffff";
    check("2001:db8::/64", around, whole);
    check("2001:db8::/64 2001:db8::/72 2001:db8::2", around, whole);
    check("2001:db8:0:1::/64", around, "2001:db8:0:1::");
    check("2001:db8::/32", around, &format!("{whole} 2001:db8:0:1:: 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"));
    check("ffff::/16", around, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
}

#[test]
fn a_packet_that_is_no_ip_packet_is_a_strangers() {
    let Compiled { program, .. } = compile(&networks("0.0.0.0/0 ::/0"), 4, INSTRUCTIONS_MAX);
    for (header, what) in [(vec![], "nothing"), (vec![0x50; 40], "version 5"), (vec![0; 40], "version 0")] {
        assert!(interpreter::run(&program, &header, 7) < 4, "{what}");
    }
    let Compiled { program, .. } = compile(&networks("192.0.2.0/24 2001:db8::/64"), 4, INSTRUCTIONS_MAX);
    for (header, what) in [(vec![0x45; 12], "a short IPv4 header"), (vec![0x60; 11], "a short IPv6 header")] {
        assert_eq!(interpreter::run(&program, &header, 7), 0, "{what}");
    }
}

#[test]
fn each_class_is_spread_over_its_own_queues_and_no_others() {
    for cores in [1, 2, 3, 64] {
        let Compiled { program, .. } = compile(&networks("192.0.2.0/24"), cores, INSTRUCTIONS_MAX);
        let reached = |source: &str| {
            let header = header(source.parse().expect("an address"));
            let mut reached: Vec<u32> =
                (0..640).map(|random| interpreter::run(&program, &header, random * 77)).collect();
            reached.sort_unstable();
            reached.dedup();
            reached
        };
        let cores = u32::from(cores);
        assert_eq!(reached("192.0.3.1"), (0..cores).collect::<Vec<_>>());
        assert_eq!(reached("192.0.2.1"), (cores..2 * cores).collect::<Vec<_>>());
    }
}

#[test]
fn the_coldest_are_left_out_when_the_program_is_full() {
    let v4 = |n: u32| IpNet::from(IpAddr::from(std::net::Ipv4Addr::from(n.wrapping_mul(2_654_435_761))));
    let v6 = |n: u32| IpNet::new(IpAddr::from(u128::from(v6_word(n)).rotate_right(32).to_be_bytes()), 64).expect("/64");
    let lists: [(Vec<IpNet>, usize); 2] = [((0..5000).map(v4).collect(), 1900), ((0..5000).map(v6).collect(), 750)];
    for (list, at_least) in lists {
        for cores in [1, 2] {
            let compiled = compile(&list, cores, INSTRUCTIONS_MAX);
            assert_eq!(interpreter::check(&compiled.program), Ok(()));
            assert_eq!(compiled.held + compiled.left_out, 5000);
            assert!(compiled.held >= at_least, "{} held", compiled.held);
            let full = compiled.program.len();
            assert!(full > INSTRUCTIONS_MAX - 16, "{full} instructions used");
            for (place, network) in list.iter().enumerate() {
                let index = interpreter::run(&compiled.program, &header(network.addr()), 0);
                assert_eq!(index >= u32::from(cores), place < compiled.held, "{network}, number {place}");
            }
        }
    }
}

/// Scattered, all different.
fn v6_word(n: u32) -> u64 {
    u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[test]
fn neighbours_share_and_a_repeated_network_costs_nothing() {
    let one = compile(&networks("10.0.0.0/24"), 2, INSTRUCTIONS_MAX).program.len();
    for list in ["10.0.0.0/25 10.0.0.128/25", "10.0.0.0/24 10.0.0.0/24 10.0.0.9", "10.0.0.128/25 10.0.0.3 10.0.0.0/25"]
    {
        assert_eq!(compile(&networks(list), 2, INSTRUCTIONS_MAX).program.len(), one, "{list}");
    }
}

fn some_network() -> impl Strategy<Value = IpNet> {
    // Few distinct high bits, so that networks overlap, touch and share words.
    let v4 = (any::<u32>(), 0u32..4, 0u8..=32, any::<bool>()).prop_map(|(low, high, length, near)| {
        let addr = if near { high << 24 | low & 0x3ff } else { low };
        IpNet::new(IpAddr::V4(addr.into()), length).expect("a network")
    });
    let v6 = (any::<u128>(), 0u128..4, 0u8..=128, 0u32..4).prop_map(|(low, high, length, word)| {
        let addr = if word == 0 { low } else { high << 120 | (low & 0x3) << (32 * (word - 1)) };
        IpNet::new(IpAddr::V6(addr.into()), length).expect("a network")
    });
    prop_oneof![v4, v6]
}

/// Addresses at which the answer may change.
fn edges_of(network: &IpNet) -> Vec<IpAddr> {
    match (network.network(), network.broadcast()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let (first, last) = (first.to_bits(), last.to_bits());
            [first.wrapping_sub(1), first, last, last.wrapping_add(1)].map(|addr| IpAddr::V4(addr.into())).to_vec()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            let (first, last) = (first.to_bits(), last.to_bits());
            [first.wrapping_sub(1), first, last, last.wrapping_add(1)].map(|addr| IpAddr::V6(addr.into())).to_vec()
        }
        _ => Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_program_answers_as_the_networks_themselves_do(
        list in prop::collection::vec(some_network(), 0..80),
        budget in prop_oneof![Just(INSTRUCTIONS_MAX), 16usize..600],
        cores in 1u16..5,
        random: u32,
        anywhere: (u32, u128),
    ) {
        let compiled = compile(&list, cores, budget);
        prop_assert_eq!(interpreter::check(&compiled.program), Ok(()));
        prop_assert!(compiled.program.len() <= budget);
        let held = &list[..compiled.held];
        let addresses = list.iter().flat_map(edges_of);
        for addr in addresses.chain([IpAddr::V4(anywhere.0.into()), IpAddr::V6(anywhere.1.into())]) {
            let known = held.iter().any(|network| network.contains(&addr));
            let cores = u32::from(cores);
            let expected = random % cores + if known { cores } else { 0 };
            // An address in IPv6 notation of IPv4 is never seen in a header.
            if !matches!(addr, IpAddr::V6(addr) if addr.to_ipv4_mapped().is_some()) {
                prop_assert_eq!(interpreter::run(&compiled.program, &header(addr), random), expected, "{}", addr);
            }
        }
    }
}
