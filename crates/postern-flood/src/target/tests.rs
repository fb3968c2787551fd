use super::{Link, check, decide, links};
use crate::plan::FloodError;

fn link(name: &str, kind: &str) -> Link {
    Link { name: name.into(), kind: kind.into(), loopback: name == "lo", up: true }
}

#[test]
fn loopback_is_always_allowed() {
    for address in ["127.0.0.1", "127.255.0.3", "::1"] {
        assert!(check(address.parse().unwrap()).is_ok(), "{address}");
    }
}

#[test]
fn another_address_is_refused_where_an_interface_leads_out() {
    let links = [link("lo", ""), link("v0", "veth"), link("eth0", "")];
    let why = decide("192.0.2.1".parse().unwrap(), &links).unwrap_err();
    assert!(why.contains("eth0 (hardware)") && why.contains("127.0.0.0/8"), "{why}");
    for kind in ["tun", "bridge", "wireguard", "macvlan", "bond"] {
        assert!(decide("10.0.0.2".parse().unwrap(), &[link("lo", ""), link("x", kind)]).is_err(), "{kind}");
    }
}

#[test]
fn another_address_is_allowed_in_a_namespace_of_ones_own() {
    let links = [link("lo", ""), link("v0", "veth"), link("d0", "dummy")];
    assert_eq!(decide("192.0.2.1".parse().unwrap(), &links), Ok(()));
    assert!(decide("192.0.2.1".parse().unwrap(), &[link("lo", "")]).is_err(), "nobody there");
    let fallback = Link { up: false, ..link("sit0", "sit") };
    assert_eq!(
        decide("192.0.2.1".parse().unwrap(), &[link("v0", "veth"), fallback.clone()]),
        Ok(()),
        "down leads nowhere"
    );
    assert!(decide("192.0.2.1".parse().unwrap(), &[link("lo", ""), fallback]).is_err(), "nor to anybody");
    assert!(decide("0.0.0.0".parse().unwrap(), &links).is_err());
    assert!(decide("ff02::1".parse().unwrap(), &links).is_err());
}

#[test]
fn the_kernel_lists_loopback_among_its_interfaces() {
    let links = links().expect("netlink answers");
    assert!(links.iter().any(|link| link.loopback && link.name == "lo"), "{links:?}");
}

#[test]
fn the_error_for_a_foreign_target_is_of_its_own_kind() {
    // Multicast is never the address of one server, whatever the interfaces are.
    assert!(matches!(check("224.0.0.1".parse().unwrap()), Err(FloodError::Foreign(_))));
}
