//! An IPv6 prefix needs a network of its own: this test runs itself again inside a namespace.

use std::process::Command;

use super::group::{Group, Queue};
use super::*;

/// Given in the namespace.
const INSIDE: &str = "POSTERN_TEST_INSIDE_NAMESPACE";
const NAME: &str = "steering::tests::namespace::the_kernel_steers_an_ipv6_prefix";

#[test]
fn the_kernel_steers_an_ipv6_prefix() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    // Without the right to make namespaces (containers often lack it) only ::1 can be tried; that
    // is another test.
    let possible = Command::new("unshare").args(["--map-root-user", "--net", "ip", "link", "set", "lo", "up"]).output();
    if !possible.is_ok_and(|tried| tried.status.success()) {
        eprintln!("no namespaces here: not tried");
        return;
    }
    let this = std::env::current_exe().expect("this test");
    let script = "ip link set lo up && ip -6 addr add 2001:db8::25/128 dev lo nodad && ip -6 route add local 2001:db8::/32 dev lo && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-c", script, "sh"])
        .arg(this)
        .args(["--exact", NAME, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn inside() {
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
