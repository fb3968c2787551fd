use std::collections::HashSet;

use super::Network;

fn check(text: &str, hosts: u64) {
    let network: Network = text.parse().unwrap();
    assert_eq!(network.hosts(), hosts, "{text}");
    let sample = hosts.min(20_000);
    let mut seen = HashSet::new();
    for n in 0..sample {
        let host = network.host(n, 7);
        assert!(seen.insert(host), "{text}: {host} twice");
        let bits: u8 = text.split('/').nth(1).unwrap().parse().unwrap();
        assert_eq!(Network::new(host, bits), Some(network), "{host} is outside {text}");
    }
}

#[test]
fn every_host_of_a_network_is_named_once_and_lies_inside() {
    check("127.0.0.0/8", (1 << 24) - 2);
    check("127.64.0.0/10", (1 << 22) - 2);
    check("127.200.3.0/24", 254);
    check("127.0.0.9/32", 1);
    check("::1/128", 1);
    check("2001:db8:0:7::/64", 1 << 63);
    check("2001:db8::/48", 1 << 63);
    check("2001:db8::/112", (1 << 16) - 1);
}

#[test]
fn what_is_no_network_is_refused() {
    for text in ["", "x", "127.0.0.1/33", "::1/129", "127.0.0.1/-1"] {
        assert!(text.parse::<Network>().is_err(), "{text}");
    }
}

#[test]
fn only_a_network_wholly_below_loopback_is_loopback() {
    for (text, is) in
        [("127.0.0.0/8", true), ("127.3.0.0/16", true), ("126.0.0.0/7", false), ("::1/128", true), ("::/0", false)]
    {
        assert_eq!(text.parse::<Network>().unwrap().is_loopback(), is, "{text}");
    }
}
