//! Real clients: swaks for one message, `smtp-source` for thousands.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::{Peers, Scratch};

pub(crate) const SWAKS: &str = "usr/bin/swaks";
pub(crate) const SMTP_SOURCE: &str = "usr/sbin/smtp-source";

/// What a swaks session said: the whole conversation, and whether every command was taken.
pub(crate) struct Talk {
    pub(crate) taken: bool,
    pub(crate) text: String,
}

/// Sends `message` (complete, with CRLF line ends) by swaks; `args` may ask for more (`--tls`, `--xclient …`).
pub(crate) fn swaks(peers: &Peers, port: u16, from: &str, to: &[&str], message: &[u8], args: &[&str]) -> Talk {
    let scratch = Scratch::new("swaks");
    // As it goes over the wire: swaks would otherwise replace words in the text and mend line ends.
    let mut wire = Vec::with_capacity(message.len() + 16);
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    wire.extend_from_slice(b".");
    let data = scratch.file("message", wire);
    let mut command = peers.command("usr/bin/env");
    let perl = |version: &str| peers.path("usr/lib/x86_64-linux-gnu/perl5").join(version).display().to_string();
    let library = [peers.path("usr/share/perl5").display().to_string(), perl("5.36"), perl("5.40"), perl("5.38")];
    command = with_program(&command, "perl");
    command.env("PERL5LIB", library.join(":")).arg(peers.path(SWAKS));
    command.args(["--server", "127.0.0.1", "--port", &port.to_string(), "--from", from, "--to", &to.join(",")]);
    command.args(["--helo", "client.example.net", "--no-data-fixup", "--data"]).arg(format!("@{}", data.display()));
    command.args(args).stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output().expect("perl starts");
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    Talk { taken: status.success(), text }
}

/// A load of `smtp-source`.
pub(crate) struct Load<'a> {
    pub(crate) sessions: usize,
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    pub(crate) to: &'a str,
    /// Stay connected and send the next message over the same connection.
    pub(crate) stay: bool,
    pub(crate) core: Option<usize>,
}

/// Runs `smtp-source` to its end; it stops with an error at the first command that is refused.
pub(crate) fn smtp_source(peers: &Peers, port: u16, load: &Load<'_>) -> Result<(), String> {
    let mut command = peers.command(SMTP_SOURCE);
    if let Some(core) = load.core {
        command = pinned(&command, core);
    }
    command.args(["-s", &load.sessions.to_string(), "-m", &load.messages.to_string()]);
    command.args(["-l", &load.bytes.to_string(), "-f", "sender@example.org", "-t", load.to, "-4"]);
    if load.stay {
        command.arg("-d");
    }
    let output = command.arg(format!("127.0.0.1:{port}")).output().map_err(|why| why.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// The same command, kept on one core.
pub(crate) fn pinned(command: &Command, core: usize) -> Command {
    let mut taskset = with_program(command, "taskset");
    taskset.args(["-c", &core.to_string()]).arg(command.get_program()).args(command.get_args());
    taskset
}

/// Another program with the environment of `command`.
fn with_program(command: &Command, program: impl AsRef<Path>) -> Command {
    let mut other = Command::new(program.as_ref());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => other.env(name, value),
            None => other.env_remove(name),
        };
    }
    other
}
