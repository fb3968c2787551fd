//! Starts real mail servers for one test each and stops them when the test ends.
//!
//! A peer runs from the tree that `cargo xtask peers` unpacked, or from the system when nothing was unpacked; its config,
//! queue and log live in a scratch directory of the test, its listeners on free ports of 127.0.0.1. Nothing here
//! knows what Postern should do: that is the tests' part. `cargo xtask bench` uses the same guards.

pub(crate) mod dovecot;
pub(crate) mod filters;
pub(crate) mod maildir;
pub(crate) mod netns;
pub(crate) mod opendkim;
#[path = "../../cli/ports.rs"]
mod ports;
pub(crate) mod postern;
pub(crate) mod postfix;
pub(crate) mod senders;
pub(crate) mod zones;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub(crate) use ports::free_port;

/// How long a peer may take to do what it was asked (2 shared cores, debug builds, fsync on a busy disk).
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the peers' programs are.
#[derive(Clone)]
pub(crate) struct Peers {
    root: PathBuf,
}

impl Peers {
    /// The peers a test needs, or `None` after saying on stderr why the test is skipped.
    ///
    /// Where CI or POSTERN_REQUIRE_PEERS is set a missing peer fails the test instead: a promise that was not tested
    /// there would look like one that was kept.
    pub(crate) fn need(programs: &[&str]) -> Option<Self> {
        let missing = match Self::find() {
            Some(peers) => match programs.iter().find(|program| !peers.path(program).exists()) {
                None if rustix::process::geteuid().is_root() || !programs.iter().any(|program| wants_root(program)) => {
                    return Some(peers);
                }
                None => "Postfix and Dovecot start as root only (they give up its rights by themselves)".to_owned(),
                Some(program) => format!("{program} is missing; `cargo xtask peers` makes it"),
            },
            None => "no real peers; `cargo xtask peers` makes them".to_owned(),
        };
        let strict = ["CI", "POSTERN_REQUIRE_PEERS"].iter().any(|name| std::env::var_os(name).is_some());
        assert!(!strict, "{missing}");
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        // Straight to the descriptor: a captured line of a passing test is never seen.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {name}: {missing}");
        None
    }

    fn find() -> Option<Self> {
        let made = std::env::var_os("POSTERN_PEERS");
        Self::at(&made.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers"), PathBuf::from))
    }

    /// The peers that `cargo xtask peers` made in `dir`, else the system's.
    pub(crate) fn at(dir: &Path) -> Option<Self> {
        let root = dir.join("root").canonicalize().unwrap_or_else(|_| PathBuf::from("/"));
        root.join("usr/sbin/smtp-source").exists().then_some(Self { root })
    }

    /// A file of a peer, named without the leading slash: `usr/sbin/smtp-source`.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    /// A command for a peer's program, able to find its libraries.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.path(program));
        if self.root != Path::new("/") {
            command.env("LD_LIBRARY_PATH", self.library_path());
        }
        command
    }

    fn library_path(&self) -> String {
        const FOLDERS: [&str; 7] = [
            "usr/lib/postfix",
            "usr/lib/dovecot",
            "usr/lib/dovecot/modules/old-stats",
            "usr/lib/rspamd",
            "usr/lib/x86_64-linux-gnu",
            "usr/lib/aarch64-linux-gnu",
            "usr/lib",
        ];
        FOLDERS.map(|folder| self.path(folder).display().to_string()).join(":")
    }
}

fn wants_root(program: &str) -> bool {
    program.ends_with("/master") || program.ends_with("/dovecot")
}

/// A directory of one test; gone at the end unless the test failed, so that logs can be read.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Short: a Unix socket's path has 107 bytes at most.
        let dir = std::env::temp_dir().join(format!("postern-{name}-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("the temporary directory is writable");
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("the scratch directory is writable");
        fs::write(&path, text).expect("the scratch directory is writable");
        path
    }

    pub(crate) fn dir(&self, name: &str, owner: Owner) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(&path).expect("the scratch directory is writable");
        owner.give(&path);
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "kept for reading: {}", self.0.display());
        } else {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Unprivileged users that every Debian has, so that nothing must be added to the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Whoever runs the tests.
    Caller,
    /// Owns mailboxes (`mail`, 8).
    Mailboxes,
    /// Owns Postfix's queue (`uucp`, 10).
    Queue,
}

impl Owner {
    pub(crate) const MAILBOX_ID: u32 = 8;
    pub(crate) const QUEUE_USER: &'static str = "uucp";
    const QUEUE_ID: u32 = 10;

    pub(crate) fn give(self, path: &Path) {
        let id = match self {
            Self::Caller => return,
            Self::Mailboxes => Self::MAILBOX_ID,
            Self::Queue => Self::QUEUE_ID,
        };
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(path, Some(id), None).expect("root may give a file away");
        }
    }
}

/// A server and all it started, in a process group of their own; killed when dropped.
pub(crate) struct Guard {
    child: Child,
}

impl Guard {
    /// Starts `command`; everything it says goes to `log`.
    pub(crate) fn spawn(command: &mut Command, log: &Path) -> Self {
        command.stdout(Self::append(log));
        Self::spawn_keeping_stdout(command, log)
    }

    /// Starts `command` with the stdout it was given; stderr goes to `log`.
    pub(crate) fn spawn_keeping_stdout(command: &mut Command, log: &Path) -> Self {
        command.process_group(0).stdin(Stdio::null()).stderr(Self::append(log));
        let child = command.spawn().unwrap_or_else(|why| panic!("cannot start {command:?}: {why}"));
        Self { child }
    }

    fn append(log: &Path) -> fs::File {
        fs::File::options().create(true).append(true).open(log).expect("the scratch directory is writable")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process_group(pid, signal);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.signal(rustix::process::Signal::TERM);
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.signal(rustix::process::Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Waits until `done` gives something, and fails the test after a minute.
pub(crate) fn wait_for<T>(what: &str, done: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, what, done)
}

/// The same with another patience: for what takes a deadline of the protocol to happen.
pub(crate) fn wait_within<T>(patience: Duration, what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(Instant::now() < end, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until somebody listens on `port`; fails at once when `guard`'s process has ended, with its log.
pub(crate) fn wait_for_port(port: u16, guard: &mut Guard, log: &Path) {
    wait_for(&format!("port {port} to listen"), || {
        if let Ok(Some(status)) = guard.child.try_wait() {
            panic!("it ended with {status}:\n{}", fs::read_to_string(log).unwrap_or_default());
        }
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
}
