//! Hosts of our own on one network: a namespace each, joined by a bridge; gone when dropped.
//!
//! A test that says "two sites on a network" means it: each host has its own addresses, its own port 25 and its own
//! loopback, and what passes between them crosses a wire that the test can cut. Needs root and iproute2.

use std::fs::File;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network of hosts `10.77.0.N`.
pub(crate) struct Network {
    name: String,
    hosts: Vec<String>,
}

impl Network {
    /// A network with `hosts` machines; the first has address 1.
    pub(crate) fn new(hosts: u8) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // An interface's name has 15 octets at most.
        let name = format!("pt{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut network = Self { name: name.clone(), hosts: Vec::new() };
        // Of a run that was killed, whose process had the same number, they would still be there.
        sweep(&name);
        ip(&["netns", "add", &name]);
        ip(&["-n", &name, "link", "add", "wire", "type", "bridge"]);
        ip(&["-n", &name, "link", "set", "wire", "up"]);
        for number in 1..=hosts {
            let host = format!("{name}h{number}");
            let port = format!("port{number}");
            ip(&["netns", "add", &host]);
            network.hosts.push(host.clone());
            ip(&["-n", &host, "link", "set", "lo", "up"]);
            ip(&["-n", &name, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &host]);
            ip(&["-n", &name, "link", "set", &port, "master", "wire", "up"]);
            ip(&["-n", &host, "addr", "add", &format!("{}/24", Self::address(number)), "dev", "eth0"]);
            ip(&["-n", &host, "link", "set", "eth0", "up"]);
            // The table of local addresses comes first of all; what is cut must come before it to hold for what arrives.
            ip(&["-n", &host, "rule", "add", "pref", "20", "lookup", "local"]);
            ip(&["-n", &host, "rule", "del", "pref", "0"]);
        }
        network
    }

    /// The address of host `number`.
    pub(crate) fn address(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, number)
    }

    /// Runs `act` as host `number`: sockets that it opens and programs that it starts are there.
    pub(crate) fn on<T: Send>(&self, number: u8, act: impl FnOnce() -> T + Send) -> T {
        let place = File::open(format!("/run/netns/{}", self.hosts[usize::from(number) - 1])).expect("a namespace");
        // A namespace is a thread's: this one ends with what it did there.
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                move_into_link_name_space(std::os::fd::AsFd::as_fd(&place), Some(LinkNameSpaceType::Network))
                    .expect("root may enter its own namespace");
                act()
            });
            there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Datagrams to `port` of host `number` get nowhere from now on, without a word: as behind a firewall. Its own to that
    /// port of others are refused.
    pub(crate) fn cut_udp(&self, number: u8, port: u16) {
        self.rule(number, "add", port);
    }

    /// They get through again.
    pub(crate) fn mend_udp(&self, number: u8, port: u16) {
        self.rule(number, "del", port);
    }

    fn rule(&self, number: u8, what: &str, port: u16) {
        let host = &self.hosts[usize::from(number) - 1];
        let port = port.to_string();
        // Ahead of the table of local addresses, so that it holds for all.
        ip(&["-n", host, "rule", what, "pref", "10", "ipproto", "udp", "dport", &port, "blackhole"]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in self.hosts.iter().chain([&self.name]) {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// Removes the network of this name, and its hosts.
fn sweep(name: &str) {
    for there in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let there = there.file_name();
        let of_it = there.to_str().and_then(|there| there.strip_prefix(name));
        if of_it.is_some_and(|rest| rest.is_empty() || rest.starts_with('h')) {
            let _ = Command::new("ip").args(["netns", "del"]).arg(&there).status();
        }
    }
}

fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().expect("iproute2 is on every Debian");
    assert!(output.status.success(), "ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
}
