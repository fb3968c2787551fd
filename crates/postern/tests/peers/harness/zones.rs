//! A small DNS of its own: a signed root, a signed `example`, and domains below it, signed or not; with the trust anchor
//! for it, NSD to serve all of it and unbound to resolve it.
//!
//! Everything is in one directory and on given addresses, so that a test may run the two commands in a network namespace
//! as well. Keys are made with ldns-keygen and are as old as the test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{Guard, Peers, Scratch, wait_for_port};

pub(crate) const NSD: &str = "usr/sbin/nsd";
pub(crate) const UNBOUND: &str = "usr/sbin/unbound";
pub(crate) const KEYGEN: &str = "usr/bin/ldns-keygen";
pub(crate) const SIGN: &str = "usr/bin/ldns-signzone";

/// How a domain is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signed {
    /// Not at all, and `example` says so.
    No,
    /// As most are.
    Nsec,
    /// With hashed names.
    Nsec3,
    /// Signed; then its TXT records were changed.
    Forged,
}

/// A domain below `example`.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    /// `good.example`.
    pub(crate) name: String,
    /// Lines of a zone file; names without a final dot are below it.
    pub(crate) records: String,
    pub(crate) signed: Signed,
}

/// The files of the whole tree.
pub(crate) struct Zones {
    scratch: Scratch,
    names: Vec<String>,
}

impl Zones {
    /// Makes keys, writes zones that NSD at `server` serves, signs them, and writes the trust anchor. NSD must then be on
    /// that address; a resolver that follows delegations looks for it on port 53.
    pub(crate) fn write(peers: &Peers, server: SocketAddr, domains: &[Zone]) -> Self {
        let mut zones = Self { scratch: Scratch::new("zones"), names: Vec::new() };
        let mut delegations = String::new();
        for zone in domains {
            delegations += &format!("{}. NS ns.example.\n", zone.name);
            delegations += &zones.add(peers, &zone.name, &zone.records, zone.signed);
        }
        let kind = if server.is_ipv4() { "A" } else { "AAAA" };
        let glue = format!("ns.example. {kind} {}\n", server.ip());
        let secured = zones.add(peers, "example", &format!("{glue}{delegations}"), Signed::Nsec);
        zones.add(peers, "", &format!("example. NS ns.example.\n{glue}{secured}"), Signed::Nsec);
        zones
    }

    /// The DNSKEY of the root, as `[dns] dnssec` and `postern_net::dns::DnsTrust::Anchor` take it.
    pub(crate) fn anchor(&self) -> PathBuf {
        self.dir().join("anchor")
    }

    /// Writes one zone; returns the DS records that its parent must have.
    fn add(&mut self, peers: &Peers, name: &str, records: &str, signed: Signed) -> String {
        let file = if name.is_empty() { "root" } else { name };
        let head = format!(
            "$ORIGIN {name}.\n$TTL 300\n@ SOA ns.example. hostmaster.example. 1 3600 600 86400 60\n@ NS ns.example.\n"
        );
        self.scratch.file(file, head + records);
        self.names.push(name.to_owned());
        if signed == Signed::No {
            return String::new();
        }
        let key = self.run(peers, KEYGEN, &["-a", "ECDSAP256SHA256", "-r", "/dev/urandom", "-k", &format!("{name}.")]);
        let key = key.trim();
        let hashed: &[&str] = if signed == Signed::Nsec3 { &["-n"] } else { &[] };
        self.run(peers, SIGN, &[hashed, &["-f", file, file, key]].concat());
        if signed == Signed::Forged {
            let text = self.read(file).replace("\"v=postern1;", "\"v=postern1; forged=1;");
            self.scratch.file(file, text);
        }
        if name.is_empty() {
            self.scratch.file("anchor", self.read(&format!("{key}.key")));
        }
        self.read(&format!("{key}.ds"))
    }

    /// NSD in the foreground on `server`, as whoever runs the test.
    pub(crate) fn start_nsd(&self, peers: &Peers, server: SocketAddr) -> Guard {
        let dir = self.dir().display();
        let mut config = format!(
            "server:\n  ip-address: {}\n  port: {}\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{dir}\"\n  \
             database: \"\"\n  pidfile: \"{dir}/nsd.pid\"\n  xfrdfile: \"{dir}/xfrd\"\n  zonelistfile: \"{dir}/list\"\n  \
             server-count: 1\n  rrl-ratelimit: 0\nremote-control:\n  control-enable: no\n",
            server.ip(),
            server.port()
        );
        for name in &self.names {
            let file = if name.is_empty() { "root" } else { name };
            config += &format!("zone:\n  name: \"{name}.\"\n  zonefile: \"{file}\"\n");
        }
        self.start(peers, NSD, "nsd", &config, server)
    }

    /// Unbound on `resolver`, asking NSD at `server`. With `validates` it checks signatures itself, too.
    pub(crate) fn start_unbound(
        &self,
        peers: &Peers,
        resolver: SocketAddr,
        server: SocketAddr,
        validates: bool,
    ) -> Guard {
        let dir = self.dir().display();
        let modules = if validates { "validator iterator" } else { "iterator" };
        let mut config = format!(
            "server:\n  interface: {}\n  port: {}\n  username: \"\"\n  chroot: \"\"\n  directory: \"{dir}\"\n  \
             pidfile: \"{dir}/unbound.pid\"\n  do-daemonize: no\n  use-syslog: no\n  do-not-query-localhost: no\n  \
             access-control: 0.0.0.0/0 allow\n  access-control: ::/0 allow\n  do-ip6: {}\n  num-threads: 1\n  \
             trust-anchor-file: \"{dir}/anchor\"\n  module-config: \"{modules}\"\nremote-control:\n  control-enable: no\n",
            resolver.ip(),
            resolver.port(),
            if server.is_ipv4() { "no" } else { "yes" },
        );
        // Each by itself: a delegation says no port.
        for name in &self.names {
            config += &format!("stub-zone:\n  name: \"{name}.\"\n  stub-addr: {}@{}\n", server.ip(), server.port());
        }
        self.start(peers, UNBOUND, "unbound", &config, resolver)
    }

    fn start(&self, peers: &Peers, program: &str, name: &str, config: &str, at: SocketAddr) -> Guard {
        let config = self.scratch.file(&format!("{name}.conf"), config);
        let log = self.dir().join(format!("{name}.log"));
        let mut guard = Guard::spawn(peers.command(program).arg("-d").arg("-c").arg(config), &log);
        if at.ip().is_loopback() {
            wait_for_port(at.port(), &mut guard, &log);
        }
        guard
    }

    fn run(&self, peers: &Peers, program: &str, args: &[&str]) -> String {
        let output = peers.command(program).args(args).current_dir(self.dir()).output().expect("it starts");
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.dir().join(file)).expect("readable")
    }

    fn dir(&self) -> &Path {
        self.scratch.path()
    }
}
