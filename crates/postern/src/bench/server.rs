//! The server under measurement: this very program, as a child, in a directory that goes with it.

use std::borrow::Cow;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::machine;
use crate::control::client::Client;
use crate::control::{Ask, SEEDS_MAX};
use crate::exit::{Code, Failure};
use crate::serve::trust::now_s;
use crate::serve::trust::seed::{Seed, Seen};

/// How it runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Setup {
    /// Names in its recipient list; 0 takes any.
    pub(super) recipients: u32,
    /// Added to each flush.
    pub(super) flush_delay_ms: u64,
    /// More lines of configuration.
    pub(super) settings: Cow<'static, str>,
    /// As many as it may open; `None`: as many as this process.
    pub(super) descriptors: Option<u32>,
    /// Mail leaves, into Maildirs beside the spool; without it nothing does.
    pub(super) delivers: bool,
    /// Judgement out of the path, as by `postern bypass on`.
    pub(super) bypass: bool,
}

/// A running one; killed and its directory removed when dropped.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    dir: PathBuf,
    addr: SocketAddr,
}

impl Server {
    /// Starts it and waits for its `ready` line.
    pub(super) fn start(setup: &Setup) -> Result<Self, Failure> {
        let dir = scratch_dir()?;
        let config = dir.join("postern.toml");
        let failed = |what: &str, error: &std::io::Error| Failure::io(Code::Os, what, error);
        fs::write(&config, configuration(setup)).map_err(|error| failed("configuration", &error))?;
        if setup.bypass {
            fs::create_dir(dir.join("data")).map_err(|error| failed("data", &error))?;
            fs::write(dir.join("data/bypass"), "").map_err(|error| failed("data/bypass", &error))?;
        }
        let mut command = command(setup.descriptors).map_err(|error| failed("this program", &error))?;
        let child = command
            .args(["serve", "--smtp", "127.0.0.1:0", "--door", "off"])
            .args(if setup.delivers { &[][..] } else { &["--deliver", "none"] })
            .args(["--pin", &CORE.to_string(), "--flush-delay-ms", &setup.flush_delay_ms.to_string()])
            .arg("--data")
            .arg(dir.join("data"))
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed("server", &error))?;
        let mut server = Self { child, dir, addr: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let mut ready = String::new();
        let stdout = server.child.stdout.take();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut ready).map_err(|error| failed("server", &error))?;
        }
        let addr = ready.split_whitespace().find_map(|word| word.strip_prefix("smtp=")?.parse().ok());
        server.addr = addr.ok_or_else(|| {
            Failure::new(Code::Software, "the server under measurement did not start").cure("try `postern serve`")
        })?;
        Ok(server)
    }

    /// Its public door.
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// CPU time it has used.
    pub(super) fn cpu(&self) -> Result<Duration, Failure> {
        machine::cpu(self.child.id())
    }

    /// Resident and private octets.
    pub(super) fn memory(&self) -> Result<(u64, u64), Failure> {
        machine::memory(self.child.id())
    }

    /// Messages made durable, and in how many groups.
    pub(super) fn commits(&self) -> Result<(u64, u64), Failure> {
        let status = Client::connect(&self.dir.join("data"))?.ask(Ask::Status)?;
        let number = |key: &str| status["spool"][key].as_u64().unwrap_or(0);
        Ok((number("messages_committed"), number("commits")))
    }

    /// Addresses that this site has written to and heard from, each of a domain of its own: in the book they are
    /// known, by the evidence that costs a stranger most.
    pub(super) fn make_known(&self, addresses: impl Iterator<Item = IpAddr>) -> Result<(), Failure> {
        let at = now_s();
        let seed = |seen| Seed { at, seen };
        let seeds: Vec<Seed> = addresses
            .enumerate()
            .flat_map(|(n, ip)| {
                let domain = format!("s{n}.example");
                let wrote = Seen::WroteTo(format!("ann@{domain}"));
                [
                    seed(wrote),
                    seed(Seen::Authorised(ip, domain.clone())),
                    seed(Seen::Ham(ip, format!("ann@{domain}"), 1)),
                ]
            })
            .collect();
        let mut client = Client::connect(&self.dir.join("data"))?;
        for seeds in seeds.chunks(SEEDS_MAX - SEEDS_MAX % 3) {
            client.ask(Ask::Learn { seeds: seeds.to_vec() })?;
        }
        Ok(())
    }

    /// What the book says of an address.
    pub(super) fn class_of(&self, ip: IpAddr) -> Result<String, Failure> {
        let answer = Client::connect(&self.dir.join("data"))?.ask(Ask::Why { what: ip.to_string() })?;
        Ok(answer["now"]["class"].as_str().unwrap_or("?").to_owned())
    }

    /// Connections so far.
    pub(super) fn accepted(&self) -> Result<u64, Failure> {
        let status = Client::connect(&self.dir.join("data"))?.ask(Ask::Status)?;
        let doors = status["doors"].as_object().into_iter().flatten();
        Ok(doors.filter_map(|(_, door)| door["accepted"].as_u64()).sum())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A measurement has nothing to finish.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// This program, with so many descriptors: the shell lowers its own limit before it becomes the server.
fn command(descriptors: Option<u32>) -> std::io::Result<Command> {
    let program = std::env::current_exe()?;
    let Some(limit) = descriptors else { return Ok(Command::new(program)) };
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &limit.to_string()]).arg(program);
    Ok(command)
}

fn configuration(setup: &Setup) -> String {
    let mut text = String::from("hostname = \"bench.localhost\"\n");
    if setup.recipients > 0 {
        let names: Vec<String> = (1..setup.recipients).map(|n| format!("\"user{n}\"")).collect();
        text.push_str(&format!("[recipients]\n\"localhost\" = {{ list = [\"ann\", {}] }}\n", names.join(", ")));
    }
    text.push_str(&setup.settings);
    text
}

/// A directory of this run's own.
pub(super) fn scratch_dir() -> Result<PathBuf, Failure> {
    for n in 0..1000 {
        let dir = std::env::temp_dir().join(format!("postern-bench-{}-{n}", std::process::id()));
        match fs::create_dir(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Failure::io(Code::CannotCreate, dir.display(), &error)),
        }
    }
    Err(Failure::new(Code::CannotCreate, "no room for another temporary directory"))
}

/// Where it runs.
pub(super) const CORE: usize = 0;
