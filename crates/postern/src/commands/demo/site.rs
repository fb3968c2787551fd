//! A site of the demo: this very program, as anybody would run it, with a configuration of a few lines and a key of its
//! own. There are two of them, and each has pinned the other's key.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use postern_net::door::PublicKey;
use serde_json::Value;

use super::night::{FRIENDS_DOMAIN, friends_addresses, friends_mailboxes};
use crate::control::Ask;
use crate::control::client::Client;
use crate::exit::{Code, Failure};
use crate::serve::keys::KeyFiles;
use crate::serve::peers::{PeerChange, PeerFile};
use crate::serve::trust::now_s;
use crate::serve::trust::seed::{Seed, Seen};

/// A directory for what is temporary; gone when this is.
pub(super) struct Scratch(pub(super) PathBuf);

/// A site that does not run yet: it has a key, which others must know first.
pub(super) struct Plot {
    dir: PathBuf,
    pub(super) key: PublicKey,
}

/// A running one. Dropping it ends it.
pub(super) struct Site {
    child: Child,
    data: PathBuf,
    /// Where the world writes to.
    pub(super) smtp: SocketAddr,
    /// Its postern.
    pub(super) door: SocketAddr,
    /// Where its own people write to; port 0 where they do not.
    pub(super) relay: SocketAddr,
}

impl Scratch {
    /// A new one.
    pub(super) fn make() -> Result<Self, Failure> {
        for n in 0..1000 {
            let dir = std::env::temp_dir().join(format!("postern-demo-{}-{n}", std::process::id()));
            match fs::create_dir(&dir) {
                Ok(()) => return Ok(Self(dir)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Failure::io(Code::CannotCreate, dir.display(), &error)),
            }
        }
        Err(Failure::new(Code::CannotCreate, "no room for another temporary directory"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Plot {
    /// A directory and a key.
    pub(super) fn make(scratch: &Scratch, name: &str) -> Result<Self, Failure> {
        let dir = scratch.0.join(name);
        let data = dir.join("data");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&data)
            .map_err(|error| Failure::io(Code::CannotCreate, data.display(), &error))?;
        let key = KeyFiles::of(&data).load()?.public().clone();
        Ok(Self { dir, key })
    }

    /// What `postern peer add DOMAIN KEY --at ADDR` does where no server runs yet.
    pub(super) fn pin(&self, domain: &str, key: &PublicKey, at: Option<SocketAddr>) -> Result<(), Failure> {
        let data = self.dir.join("data");
        let (key, at) = (Some(key.to_string()), at.map(|at| at.to_string()));
        let change = PeerChange { domain: domain.to_owned(), key, at, add: true, enforce: false };
        let change = change.checked().map_err(|what| Failure::new(Code::Usage, what))?;
        let failed = |error: std::io::Error| Failure::io(Code::Io, PeerFile::path(&data).display(), &error);
        let mut file = PeerFile::load(&data).map_err(failed)?;
        file.change(&change, now_s()).map_err(|what| Failure::new(Code::Failed, what))?;
        file.save(&data).map_err(failed)
    }

    /// Starts the server, and waits until it is ready.
    pub(super) fn open(self, configuration: &str) -> Result<Site, Failure> {
        let failed = |error: std::io::Error| Failure::io(Code::Os, "the server", &error);
        let child = spawn(&self.dir, configuration).map_err(failed)?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let data = self.dir.join("data");
        // From here on it is ended whatever happens.
        let mut site = Site { child, data, smtp: nowhere, door: nowhere, relay: nowhere };
        let mut ready = String::new();
        if let Some(stdout) = site.child.stdout.take() {
            BufReader::new(stdout).read_line(&mut ready).map_err(failed)?;
        }
        let addr = |name: &str| ready.split_whitespace().find_map(|word| word.strip_prefix(name)?.parse().ok());
        let (Some(smtp), Some(door)) = (addr("smtp="), addr("door=")) else {
            let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            let last = log.lines().last().unwrap_or("it said nothing").to_owned();
            let what = format!("Postern did not start: {last}");
            return Err(Failure::new(Code::Software, what).cure("try `postern serve`"));
        };
        (site.smtp, site.door, site.relay) = (smtp, door, addr("relay=").unwrap_or(nowhere));
        Ok(site)
    }
}

impl Site {
    /// Where it can be asked.
    pub(super) fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// What `postern learn` would find in a mail log of last week: this site wrote to the friends, and they answered
    /// from addresses that are proven theirs. (It leaves out addresses of loopback, from which nobody's friends write.)
    pub(super) fn teach(&self) -> Result<(), Failure> {
        let at = now_s();
        let wrote = friends_mailboxes().into_iter().map(Seen::WroteTo);
        let proven = friends_addresses().into_iter().flat_map(|ip| {
            let domain = FRIENDS_DOMAIN.to_owned();
            [Seen::Authorised(ip, domain.clone()), Seen::Ham(ip, domain, 20)]
        });
        let seeds = wrote.chain(proven).map(|seen| Seed { at, seen }).collect();
        Client::connect(&self.data)?.ask(Ask::Learn { seeds }).map(drop)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a site says of itself, as `postern status --json`.
pub(super) fn status(data: &Path) -> Result<Value, Failure> {
    Client::connect(data)?.ask(Ask::Status)
}

fn spawn(dir: &Path, configuration: &str) -> std::io::Result<Child> {
    let config = dir.join("postern.toml");
    fs::write(&config, configuration)?;
    Command::new(std::env::current_exe()?)
        .args(["serve", "--smtp", "127.0.0.1:0", "--data"])
        .arg(dir.join("data"))
        .arg("-c")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(dir.join("log"))?)
        .spawn()
}
