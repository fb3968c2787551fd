//! Tests that need a network of their own run themselves again inside a namespace.

use std::net::Ipv4Addr;
use std::process::Command;

use super::group::{Group, Queue};
use super::*;

/// Given in the namespace.
const INSIDE: &str = "POSTERN_TEST_INSIDE_NAMESPACE";

/// Whether this is the namespace already; outside, the test `name` is run in one, behind the
/// commands of `set_up`, and must pass there.
fn inside(name: &str, set_up: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let script = format!("ip link set lo up && {set_up}");
    let unshare = |program: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "sh", "-c", &format!("{script} && exec \"$@\""), "sh"]).args(program);
        command
    };
    // Without the right to make namespaces (containers often lack it), or to set them up: other
    // tests still try 127/8 and ::1.
    if !unshare(&["true"]).output().is_ok_and(|tried| tried.status.success()) {
        eprintln!("no such namespace here: not tried");
        return false;
    }
    let this = std::env::current_exe().expect("this test");
    let name = format!("steering::tests::namespace::{name}");
    let mut again = unshare(&[this.to_str().expect("a path"), "--exact", &name, "--nocapture"]);
    let output = again.env(INSIDE, "1").output().expect("unshare runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    false
}

#[test]
fn the_kernel_steers_an_ipv6_prefix() {
    let set_up = "ip -6 addr add 2001:db8::25/128 dev lo nodad && ip -6 route add local 2001:db8::/32 dev lo";
    if !inside("the_kernel_steers_an_ipv6_prefix", set_up) {
        return;
    }
    let mut group = Group::open("[2001:db8::25]:0", 2);
    let list = "2001:db8:1::/48 2001:db8:2:3::/64 2001:db8:4::1 2001:db8:5::8000:0/97";
    group.steering.attach(&networks(list)).expect("steering");
    for (source, queue) in [
        ("2001:db8:1::", Queue::Known),
        ("2001:db8:1:ffff:ffff:ffff:ffff:ffff", Queue::Known),
        ("2001:db8:2:3:4:5:6:7", Queue::Known),
        ("2001:db8:4::1", Queue::Known),
        ("2001:db8:5::ffff:ffff", Queue::Known),
        ("2001:db8:0:ffff::1", Queue::Strangers),
        ("2001:db8:2:2::1", Queue::Strangers),
        ("2001:db8:2:4::1", Queue::Strangers),
        ("2001:db8:4::2", Queue::Strangers),
        ("2001:db8:4::", Queue::Strangers),
        ("2001:db8:5::7fff:ffff", Queue::Strangers),
        ("2001:db8:5::1:0:0", Queue::Strangers),
    ] {
        for _ in 0..4 {
            assert_eq!(group.queue_of(source), queue, "{source}");
        }
    }
}

#[test]
fn a_kernel_with_little_room_gets_a_shorter_program() {
    // The default before Linux 6.7; a setting of the namespace since 6.8.
    let name = "a_kernel_with_little_room_gets_a_shorter_program";
    if !inside(name, "echo 20480 > /proc/sys/net/core/optmem_max") {
        return;
    }
    let scattered = |n: u32| IpNet::from(IpAddr::V4(Ipv4Addr::from(n.wrapping_mul(2_654_435_761))));
    let hottest = "127.7.0.0/16".parse().expect("a network");
    let list: Vec<IpNet> = std::iter::once(hottest).chain((0..4000).map(scattered)).collect();
    let mut group = Group::open("127.0.0.1:0", 1);
    let held = group.steering.attach(&list).expect("steering");
    assert!(held.instructions <= INSTRUCTIONS_MAX / 2 && held.networks > 200, "{held:?}");
    assert_eq!(held.networks + held.left_out, list.len());
    assert_eq!(group.queue_of("127.7.0.1"), Queue::Known);
    assert_eq!(group.queue_of("127.6.0.1"), Queue::Strangers);
    // A list that fits is taken whole, be the room found small or not.
    assert_eq!(group.steering.attach(&list[..200]).expect("steering").left_out, 0);
}
