//! How each server is started aside. All take alice@example.com and nobody else, and keep what they take.

use std::any::Any;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::SERVER_CORE;
use crate::harness::postern::Postern;
use crate::harness::postfix::{Postfix, Setup};
use crate::harness::{Guard, Owner, Peers, Scratch, free_port, senders, wait_for_port};
use crate::run;

/// Beside those of the tests. `libidn12` is Exim's.
pub(super) const PACKAGES: [&str; 5] = ["exim4-daemon-light", "exim4-base", "libidn12", "opensmtpd", "chasquid"];

/// A file of each.
pub(super) const LANDMARKS: [&str; 3] = ["usr/sbin/exim4", "usr/sbin/smtpd", "usr/bin/chasquid"];

/// A running server.
pub(super) struct Server {
    pub(super) port: u16,
    _running: Box<dyn Any>,
}

type Start = fn(&Path, &Peers, &Path) -> Result<Server>;

/// In the order of the table's columns.
pub(super) const SERVERS: [(&str, Start); 6] = [
    ("Postern", postern),
    ("Postfix", |_, peers, _| postfix(peers, false)),
    ("postscreen", |_, peers, _| postfix(peers, true)),
    ("Exim", |_, _, root| exim(root)),
    ("OpenSMTPD", |_, _, root| opensmtpd(root)),
    ("chasquid", |_, _, root| chasquid(root)),
];

fn postern(binary: &Path, _: &Peers, _: &Path) -> Result<Server> {
    let config = "deliver = \"none\"\nmode = \"collect\"\n[recipients]\n\"example.com\" = { list = [\"alice\"] }\n";
    let scratch = Scratch::new("torture");
    let file = scratch.file("postern.toml", config).display().to_string();
    let server = Postern::start_on_core(binary, SERVER_CORE, &["-c", &file]);
    Ok(Server { port: server.port, _running: Box::new((server, scratch)) })
}

fn root_only() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("it starts as root only (and gives up its rights by itself)");
    }
    Ok(())
}

fn postfix(peers: &Peers, screen: bool) -> Result<Server> {
    root_only()?;
    let mut main = vec![
        "smtpd_data_restrictions = check_client_access static:HOLD".to_owned(),
        // The clients come from 127/8: they must be the strangers that they play.
        "mynetworks = 127.255.255.254/32".to_owned(),
        "smtpd_relay_restrictions = reject_unauth_destination".to_owned(),
    ];
    // As Debian installs it: with a certificate that nobody knows.
    let scratch = Scratch::new("cert");
    let dir = certificate(&scratch, "cert")?;
    main.push("smtpd_tls_security_level = may".to_owned());
    main.push(format!("smtpd_tls_cert_file = {dir}/fullchain.pem"));
    main.push(format!("smtpd_tls_key_file = {dir}/privkey.pem"));
    if screen {
        main.push("postscreen_greet_action = enforce".to_owned());
        // Each stranger waits this long; the default of six seconds would triple the time of a run and change no verdict.
        main.push("postscreen_greet_wait = 2s".to_owned());
    }
    let setup = Setup {
        hostname: "mx.example.com",
        domain: "example.com",
        mailboxes: &["alice"],
        main,
        core: Some(SERVER_CORE),
    };
    let server = if screen { Postfix::start_behind_postscreen(peers, &setup) } else { Postfix::start(peers, &setup) };
    Ok(Server { port: server.port, _running: Box::new((server, scratch)) })
}

/// Makes `fullchain.pem` and `privkey.pem` for mx.example.com in a folder of the scratch directory.
fn certificate(scratch: &Scratch, folder: &str) -> Result<String> {
    let dir = scratch.dir(folder, Owner::Caller);
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=mx.example.com"]);
    openssl.arg("-keyout").arg(dir.join("privkey.pem")).arg("-out").arg(dir.join("fullchain.pem"));
    run::check(openssl.stderr(std::process::Stdio::null()))?;
    Ok(dir.display().to_string())
}

/// A command in a mount namespace of its own, after `mounts`; root's only.
fn aside(scratch: &Scratch, root: &Path, mounts: &str, program: &str) -> Result<Command> {
    root_only()?;
    let users = "Debian-exim:x:9101:9101::/nonexistent:/usr/sbin/nologin\n\
                 opensmtpd:x:9102:9102::/var/lib/opensmtpd/empty:/usr/sbin/nologin\n\
                 opensmtpq:x:9103:9103::/var/lib/opensmtpd/empty:/usr/sbin/nologin\n";
    let groups = "Debian-exim:x:9101:\nopensmtpd:x:9102:\nopensmtpq:x:9103:\n";
    let passwd = scratch.file("passwd", std::fs::read_to_string("/etc/passwd")? + users);
    let group = scratch.file("group", std::fs::read_to_string("/etc/group")? + groups);
    let script = format!(
        "set -e; mount --bind {} /etc/passwd; mount --bind {} /etc/group; {mounts} exec {program}",
        passwd.display(),
        group.display()
    );
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    let mut command = senders::pinned(&unshare, SERVER_CORE);
    command.env("LD_LIBRARY_PATH", root.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH)));
    Ok(command)
}

fn launch(mut command: Command, scratch: Scratch, port: u16) -> Server {
    let log = scratch.path().join("out");
    let mut guard = Guard::spawn(&mut command, &log);
    wait_for_port(port, &mut guard, &log);
    Server { port, _running: Box::new((guard, scratch)) }
}

fn exim(root: &Path) -> Result<Server> {
    let scratch = Scratch::new("exim");
    let (dir, port) = (scratch.path().display().to_string(), free_port());
    let program = root.join("usr/sbin/exim4").display().to_string();
    let config = format!(
        "exim_path = {program}\nexim_user = Debian-exim\nexim_group = Debian-exim\n\
         spool_directory = {dir}/spool\nlog_file_path = {dir}/log/%slog\nprimary_hostname = mx.example.com\n\
         domainlist ours = example.com\nlocal_interfaces = 127.0.0.1\nqueue_only = true\n\
         keep_environment = LD_LIBRARY_PATH\nacl_smtp_rcpt = rcpt\nacl_smtp_data = accept\n\
         begin acl\nrcpt:\n  accept domains = +ours\n         local_parts = alice\n  deny message = unknown\n\
         begin routers\nhere:\n  driver = accept\n  transport = drop\n\
         begin transports\ndrop:\n  driver = appendfile\n  file = /dev/null\n  user = nobody\n"
    );
    let file = scratch.file("conf", config);
    for folder in ["spool", "log"] {
        let path = scratch.dir(folder, Owner::Caller);
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(path, Some(9101), Some(9101))?;
        }
    }
    let run = format!("{program} -C {} -bdf -oX 127.0.0.1.{port} -oP {dir}/pid", file.display());
    let command = aside(&scratch, root, "", &run)?;
    Ok(launch(command, scratch, port))
}

fn opensmtpd(root: &Path) -> Result<Server> {
    let scratch = Scratch::new("smtpd");
    let port = free_port();
    // Nothing listens behind: what was taken stays in the queue.
    let config = format!(
        "listen on 127.0.0.1 port {port} hostname mx.example.com\naction \"keep\" relay host \"smtp://127.0.0.1:1\"\n\
         match from any for domain \"example.com\" rcpt-to \"alice@example.com\" action \"keep\"\n"
    );
    let file = scratch.file("conf", config);
    let spool = scratch.dir("spool", Owner::Caller);
    let mounts = format!(
        "mount -t tmpfs -o mode=755 tmpfs /run; mount -t tmpfs -o mode=755 tmpfs /var/lib; mount --bind {} /var/spool; \
         mkdir -p /var/lib/opensmtpd/empty; mkdir -m 711 /var/spool/smtpd; mkdir -m 770 /var/spool/smtpd/offline; \
         chgrp 9103 /var/spool/smtpd/offline;",
        spool.display()
    );
    let program = root.join("usr/sbin/smtpd");
    let command = aside(&scratch, root, &mounts, &format!("{} -d -f {}", program.display(), file.display()))?;
    Ok(launch(command, scratch, port))
}

fn chasquid(root: &Path) -> Result<Server> {
    let scratch = Scratch::new("chasquid");
    let (dir, port) = (scratch.path().display().to_string(), free_port());
    scratch.file(
        "conf/chasquid.conf",
        format!(
            "hostname: \"mx.example.com\"\nsmtp_address: \"127.0.0.1:{port}\"\ndata_dir: \"{dir}/data\"\n\
             mail_delivery_agent_bin: \"/bin/true\"\nmail_log_path: \"<stderr>\"\n"
        ),
    );
    scratch.file("conf/domains/example.com/aliases", "alice: |true\n");
    scratch.dir("data", Owner::Caller);
    certificate(&scratch, "conf/certs/mx.example.com")?;
    // It asks for SPF of each sender: DNS answers at once, namely that nobody is there.
    let resolver = scratch.file("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    let mounts = format!("mount --bind {} /etc/resolv.conf;", resolver.display());
    let program = root.join("usr/bin/chasquid");
    let command = aside(&scratch, root, &mounts, &format!("{} -config_dir={dir}/conf", program.display()))?;
    Ok(launch(command, scratch, port))
}
