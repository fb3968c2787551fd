//! An OpenDKIM of our own: a milter that signs mail of `example.com` which comes from the inside (127.0.0.1).

use std::process::{Command, Stdio};

use super::{Guard, Peers, Scratch, free_port, wait_for_port};

pub(crate) const NEEDS: [&str; 1] = ["usr/sbin/opendkim"];

pub(crate) struct Opendkim {
    pub(crate) port: u16,
    _guard: Guard,
    _scratch: Scratch,
}

impl Opendkim {
    pub(crate) fn start(peers: &Peers) -> Self {
        let scratch = Scratch::new("opendkim");
        let key = scratch.path().join("key.pem");
        let made =
            Command::new("openssl").args(["genrsa", "-out"]).arg(&key).arg("2048").stderr(Stdio::null()).status();
        assert!(made.is_ok_and(|status| status.success()), "openssl makes the signing key");
        // A file of DNS answers, with none in it: no test asks the world's DNS.
        let dns = scratch.file("dns", "");
        let port = free_port();
        let config = format!(
            "Domain example.com\nSelector test\nKeyFile {}\nSocket inet:{port}@127.0.0.1\nInternalHosts 127.0.0.1\n\
             Mode sv\nSyslog no\nBackground no\nAutoRestart no\nRequireSafeKeys no\nDNSTimeout 1\nTestDNSData {}\n",
            key.display(),
            dns.display(),
        );
        let config = scratch.file("opendkim.conf", config);
        let out = scratch.path().join("out");
        let mut guard = Guard::spawn(peers.command("usr/sbin/opendkim").arg("-f").arg("-x").arg(config), &out);
        wait_for_port(port, &mut guard, &out);
        Self { port, _guard: guard, _scratch: scratch }
    }
}
