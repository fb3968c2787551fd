//! A Postfix of our own: as the next hop, as the sending MTA, as the local MTA, and in the bench.
//!
//! It has its own config and queue, no chroot, and borrows two users that every Debian has. Mail for its domain goes
//! to Maildirs under `mail/`.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::{Guard, Owner, Peers, Scratch, free_port, wait_for_port};

pub(crate) const NEEDS: [&str; 2] = ["usr/lib/postfix/sbin/master", "usr/lib/postfix/sbin/smtpd"];

/// What differs between the Postfixes of the tests.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    pub(crate) hostname: &'a str,
    /// Domain whose mailboxes are here; empty for none.
    pub(crate) domain: &'a str,
    /// Local parts that exist in it.
    pub(crate) mailboxes: &'a [&'a str],
    /// More lines of `main.cf`; the last of a name wins.
    pub(crate) main: Vec<String>,
    /// Run through `taskset -c CORE`.
    pub(crate) core: Option<usize>,
}

pub(crate) struct Postfix {
    pub(crate) port: u16,
    guard: Guard,
    scratch: Scratch,
}

/// Queue directories that belong to Postfix's user, with their modes. `pid` is root's.
const QUEUES: [(&str, u32); 13] = [
    ("active", 0o700),
    ("bounce", 0o700),
    ("corrupt", 0o700),
    ("defer", 0o700),
    ("deferred", 0o700),
    ("flush", 0o700),
    ("hold", 0o700),
    ("incoming", 0o700),
    ("private", 0o700),
    ("saved", 0o700),
    ("trace", 0o700),
    ("public", 0o710),
    ("maildrop", 0o1730),
];

const SERVICES: &str = "\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
";

const BEHIND_POSTSCREEN: &str = "\
smtpd pass - - n - - smtpd
dnsblog unix - - n - 0 dnsblog
tlsproxy unix - - n - 0 tlsproxy";

impl Postfix {
    pub(crate) fn start(peers: &Peers, setup: &Setup<'_>) -> Self {
        Self::start_with_door(peers, setup, |port| format!("127.0.0.1:{port} inet n - n - - smtpd"))
    }

    /// Clients meet postscreen first, and smtpd behind it.
    pub(crate) fn start_behind_postscreen(peers: &Peers, setup: &Setup<'_>) -> Self {
        Self::start_with_door(peers, setup, |port| {
            format!("127.0.0.1:{port} inet n - n - 1 postscreen\n{BEHIND_POSTSCREEN}")
        })
    }

    /// For everybody on a network, on port 25 of this address.
    pub(crate) fn start_at(peers: &Peers, setup: &Setup<'_>, address: Ipv4Addr) -> Self {
        Self::start_with_door(peers, setup, |port| {
            format!(
                "127.0.0.1:{port} inet n - n - - smtpd\n{address}:25 inet n - n - - smtpd -o smtpd_peername_lookup=no"
            )
        })
    }

    fn start_with_door(peers: &Peers, setup: &Setup<'_>, door: impl FnOnce(u16) -> String) -> Self {
        let scratch = Scratch::new("postfix");
        scratch.dir("queue/pid", Owner::Caller);
        for (queue, mode) in QUEUES {
            let path = scratch.dir(&format!("queue/{queue}"), Owner::Queue);
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own directory");
        }
        scratch.dir("data", Owner::Queue);
        scratch.dir("mail", Owner::Mailboxes);
        let port = free_port();
        scratch.file("etc/main.cf", main_cf(peers, &scratch, setup));
        scratch.file("etc/master.cf", format!("{}\n{SERVICES}", door(port)));
        let mut command = peers.command("usr/lib/postfix/sbin/master");
        if let Some(core) = setup.core {
            command = super::senders::pinned(&command, core);
        }
        command.args(["-d", "-c"]).arg(scratch.path().join("etc"));
        command.env("MAIL_CONFIG", scratch.path().join("etc"));
        let out = scratch.path().join("out");
        let mut guard = Guard::spawn(&mut command, &out);
        wait_for_port(port, &mut guard, &out);
        Self { port, guard, scratch }
    }

    /// The Maildir of a mailbox of its domain.
    pub(crate) fn mailbox(&self, name: &str) -> PathBuf {
        self.scratch.path().join("mail").join(name)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.guard.pid()
    }

    /// A folder of its queue: `hold`, `deferred`.
    pub(crate) fn queue(&self, name: &str) -> PathBuf {
        self.scratch.path().join("queue").join(name)
    }
}

fn main_cf(peers: &Peers, scratch: &Scratch, setup: &Setup<'_>) -> String {
    let dir = scratch.path().display();
    let user = Owner::QUEUE_USER;
    let id = Owner::MAILBOX_ID;
    let mut text = format!(
        "compatibility_level = 3.6\nqueue_directory = {dir}/queue\ndata_directory = {dir}/data\n\
         daemon_directory = {}\ncommand_directory = {}\nshlib_directory = {}\nmeta_directory = {dir}/etc\n\
         mail_owner = {user}\nsetgid_group = news\ndefault_privs = nobody\n\
         import_environment = MAIL_CONFIG TZ LANG=C POSTLOG_SERVICE POSTLOG_HOSTNAME LD_LIBRARY_PATH\n\
         maillog_file = {dir}/log\nmaillog_file_prefixes = {dir}\n\
         inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmyhostname = {}\nmydestination =\nalias_maps =\n\
         local_recipient_maps =\nmynetworks = 127.0.0.0/8\nsmtp_dns_support_level = disabled\n\
         smtp_host_lookup = native\nsmtputf8_enable = yes\nvirtual_minimum_uid = 1\n\
         virtual_mailbox_base = {dir}/mail\nvirtual_uid_maps = static:{id}\nvirtual_gid_maps = static:{id}\n\
         virtual_mailbox_domains = {}\n",
        peers.path("usr/lib/postfix/sbin").display(),
        peers.path("usr/sbin").display(),
        peers.path("usr/lib/postfix").display(),
        setup.hostname,
        setup.domain,
    );
    let boxes: Vec<String> =
        setup.mailboxes.iter().map(|name| format!("{{ {name}@{} = {name}/ }}", setup.domain)).collect();
    let maps = if boxes.is_empty() { String::new() } else { format!("inline:{{ {} }}", boxes.join(", ")) };
    let _ = writeln!(text, "virtual_mailbox_maps = {maps}");
    for line in &setup.main {
        let _ = writeln!(text, "{line}");
    }
    text
}
