//! The server under test: `postern serve` with a data directory of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Guard, Scratch};

pub(crate) struct Postern {
    /// The public door.
    pub(crate) port: u16,
    /// The relay listener; 0 when it is off.
    pub(crate) relay_port: u16,
    /// As it was started.
    command: Command,
    guard: Guard,
    scratch: Scratch,
}

/// What the server says when it is ready.
struct Ready(String);

impl Ready {
    fn port(&self, name: &str) -> u16 {
        let address = self.0.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        address.and_then(|address| address.rsplit(':').next()?.parse().ok()).unwrap_or(0)
    }
}

fn spawn(command: &mut Command, scratch: &Scratch) -> (Guard, Ready) {
    command.current_dir(scratch.path()).stdout(Stdio::piped());
    let log = scratch.path().join("log");
    let mut guard = Guard::spawn_keeping_stdout(command, &log);
    let mut ready = String::new();
    let mut stdout = BufReader::new(guard.child().stdout.take().expect("stdout is piped"));
    while !ready.starts_with("ready ") {
        ready.clear();
        let read = stdout.read_line(&mut ready).expect("the server writes text");
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        assert!(read > 0, "{command:?} ended before it was ready:\n{}", said());
    }
    // Whatever it says later must find a reader, or it would get SIGPIPE.
    std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    (guard, Ready(ready))
}

impl Postern {
    /// Starts `binary serve` with `flags`, every listener on a free port, and waits for its `ready` line.
    pub(crate) fn start(binary: &Path, flags: &[&str]) -> Self {
        Self::start_with(Command::new(binary), Scratch::new("server"), flags)
    }

    /// The same with a config file, whose text may name `{dir}`, the scratch directory.
    pub(crate) fn start_with_config(binary: &Path, config: &str, flags: &[&str]) -> Self {
        let scratch = Scratch::new("server");
        let config = config.replace("{dir}", &scratch.path().display().to_string());
        let file = scratch.file("postern.toml", config).display().to_string();
        let flags: Vec<&str> = ["-c", file.as_str()].iter().chain(flags).copied().collect();
        Self::start_with(Command::new(binary), scratch, &flags)
    }

    /// The same on one core (for the bench).
    pub(crate) fn start_on_core(binary: &Path, core: usize, flags: &[&str]) -> Self {
        Self::start_with(super::senders::pinned(&Command::new(binary), core), Scratch::new("server"), flags)
    }

    /// On the addresses that the config file says, whose data directory is `data` in `scratch`.
    pub(crate) fn start_as_configured(binary: &Path, scratch: Scratch, config: &Path) -> Self {
        let config = config.display().to_string();
        Self::launch(Command::new(binary), scratch, &["-c", &config])
    }

    fn start_with(command: Command, scratch: Scratch, flags: &[&str]) -> Self {
        let listeners = ["--smtp", "127.0.0.1:0", "--door", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        Self::launch(command, scratch, &[&listeners, flags].concat())
    }

    fn launch(mut command: Command, scratch: Scratch, flags: &[&str]) -> Self {
        let data = scratch.path().join("data");
        command.arg("serve").arg("--data").arg(&data).args(flags);
        let (guard, ready) = spawn(&mut command, &scratch);
        Self { port: ready.port("smtp"), relay_port: ready.port("relay"), command, guard, scratch }
    }

    /// Ends it by this signal and starts it again on its data: the listeners are on other ports then.
    pub(crate) fn restart_after(&mut self, signal: rustix::process::Signal) {
        self.restart_after_meanwhile(signal, || ());
    }

    /// The same; `meanwhile` has the data to itself.
    pub(crate) fn restart_after_meanwhile(&mut self, signal: rustix::process::Signal, meanwhile: impl FnOnce()) {
        self.guard.signal(signal);
        super::wait_for("the server to end", || self.guard.child().try_wait().expect("it is our child"));
        meanwhile();
        let (guard, ready) = spawn(&mut self.command, &self.scratch);
        (self.guard, self.port, self.relay_port) = (guard, ready.port("smtp"), ready.port("relay"));
    }

    /// What a command of the operator (`peer add …`) says; it must succeed.
    pub(crate) fn command(&self, binary: &Path, args: &[&str]) -> String {
        let mut command = Command::new(binary);
        command.args(args).arg("--data").arg(self.data()).current_dir(self.scratch.path());
        let output = command.output().expect("the program starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.guard.pid()
    }

    /// The directory that `{dir}` in the config stands for.
    pub(crate) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// `postern status --json` of this server.
    pub(crate) fn status(&self, binary: &Path) -> Option<serde_json::Value> {
        let output = Command::new(binary).args(["status", "--json", "--data"]).arg(self.data()).output().ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }
}
