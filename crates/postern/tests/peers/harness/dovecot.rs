//! A Dovecot of our own, taking mail over LMTP on TCP and on a Unix socket.
//!
//! Users `alice`, `bob` and `full` exist at `example.com`; `full` may store 1 KiB and is over quota with the first mail.

use std::path::PathBuf;

use super::{Guard, Owner, Peers, Scratch, free_port, wait_for_port};

pub(crate) const NEEDS: [&str; 2] = ["usr/sbin/dovecot", "usr/lib/dovecot/lmtp"];

pub(crate) struct Dovecot {
    pub(crate) port: u16,
    _guard: Guard,
    scratch: Scratch,
}

impl Dovecot {
    pub(crate) fn start(peers: &Peers) -> Self {
        let scratch = Scratch::new("dovecot");
        let base = scratch.dir("run", Owner::Caller);
        scratch.dir("mail", Owner::Mailboxes);
        // The relative path that `cargo xtask peers` has put into the unpacked copy.
        let modules = peers.path("usr/lib/dovecot/modules");
        std::os::unix::fs::symlink(modules, base.join("modules")).expect("the scratch directory is writable");
        let port = free_port();
        let id = Owner::MAILBOX_ID;
        let user = |name: &str, kib: u32| {
            format!("{name}@example.com:{{plain}}x:{id}:{id}::/nonexistent::userdb_quota_rule=*:storage={kib}K\n")
        };
        scratch.file("users", [user("alice", 1 << 20), user("bob", 1 << 20), user("full", 1)].concat());
        let config = scratch.file("dovecot.conf", config(peers, &scratch, port));
        // Dovecot's start would look for /usr/bin/doveconf to read its config; doveconf can start Dovecot as well.
        let mut command = peers.command("usr/bin/doveconf");
        command.args(["-f", "service=master", "-m", "master", "-c"]).arg(&config).arg("-e");
        command.arg(peers.path("usr/sbin/dovecot")).arg("-F").arg("-c").arg(&config);
        let out = scratch.path().join("out");
        let mut guard = Guard::spawn(&mut command, &out);
        wait_for_port(port, &mut guard, &out);
        Self { port, _guard: guard, scratch }
    }

    /// The Unix socket that speaks LMTP.
    pub(crate) fn socket(&self) -> PathBuf {
        self.scratch.path().join("lmtp")
    }

    /// The Maildir of a user of `example.com`.
    pub(crate) fn mailbox(&self, name: &str) -> PathBuf {
        self.scratch.path().join("mail").join(format!("{name}@example.com"))
    }
}

fn config(peers: &Peers, scratch: &Scratch, port: u16) -> String {
    let dir = scratch.path().display();
    let lib = peers.path("usr/lib/dovecot").display().to_string();
    format!(
        r#"
base_dir = {dir}/run
state_dir = {dir}/state
libexec_dir = {lib}
mail_plugin_dir = {lib}/modules
import_environment = TZ LD_LIBRARY_PATH
log_path = {dir}/log
protocols = lmtp
ssl = no
hostname = dovecot.example.com
postmaster_address = postmaster@example.com
default_internal_user = {user}
default_internal_group = news
default_login_user = nobody
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:{dir}/mail/%u
# Ten thousand messages in a test; what Dovecot syncs is Dovecot's promise.
mail_fsync = never
recipient_delimiter = +
passdb {{
  driver = passwd-file
  args = {dir}/users
}}
userdb {{
  driver = passwd-file
  args = {dir}/users
}}
protocol lmtp {{
  mail_plugins = quota
}}
plugin {{
  quota = maildir:User quota
  quota_rule = *:storage=1K
}}
service auth {{
  user = root
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
service lmtp {{
  user = root
  process_limit = 200
  unix_listener lmtp {{
    path = {dir}/lmtp
    mode = 0666
  }}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
"#,
        user = Owner::QUEUE_USER,
    )
}
