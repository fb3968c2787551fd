//! The real binary in a directory of its own: started on port 0, spoken to over SMTP and the
//! control socket, and gone with the test. Waiting is always for something: a line, an answer.

#![allow(dead_code, reason = "each test binary uses its part of the harness")]

#[path = "ports.rs"]
mod ports;

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

pub(crate) use ports::free_port;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What a command said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The flags, and no postern unless they say where: its default is one port for the whole machine, and tests run side
/// by side.
fn without_door<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    let door: &[&str] = if flags.contains(&"--door") { &[] } else { &["--door", "off"] };
    [flags, door].concat()
}

/// Runs `postern` in `dir`.
pub(crate) fn postern(dir: &Path, args: &[&str]) -> Said {
    let args = if args.first() == Some(&"serve") { without_door(args) } else { args.to_vec() };
    let output = Command::new(env!("CARGO_BIN_EXE_postern")).args(args).current_dir(dir).output().expect("runs");
    Said {
        code: output.status.code().expect("not killed"),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    /// Where it runs; data in `postern-data` below.
    pub(crate) dir: PathBuf,
    /// The whole `ready` line.
    pub(crate) ready: String,
    log: Receiver<String>,
}

impl Server {
    /// Starts `postern serve` in `dir` with these flags, the public door on a free port; the postern only when they
    /// say where, and then on one that it can come back to.
    pub(crate) fn start(dir: &Path, flags: &[&str]) -> Self {
        let door = format!("127.0.0.1:{}", free_port());
        let mut flags = without_door(&[&["--smtp", "127.0.0.1:0"], flags].concat());
        for at in 1..flags.len() {
            if flags[at - 1..=at] == ["--door", "127.0.0.1:0"] {
                flags[at] = &door;
            }
        }
        Self::spawn(dir, &flags)
    }

    /// Starts it with exactly these flags.
    pub(crate) fn spawn(dir: &Path, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.arg("serve").args(flags).stdin(Stdio::null());
        Self::spawn_command(dir, &mut command)
    }

    /// Starts what becomes a server.
    pub(crate) fn spawn_command(dir: &Path, command: &mut Command) -> Self {
        let mut child = command.current_dir(dir).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let (lines, log) = channel();
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut ready).expect("text");
        let mut server = Self { child, dir: dir.to_owned(), ready, log };
        if !server.ready.starts_with("ready ") {
            let status = server.child.wait();
            panic!("no ready line: {:?}, {status:?}, log: {:#?}", server.ready, server.log.iter().collect::<Vec<_>>());
        }
        server
    }

    /// An address of the ready line.
    pub(crate) fn addr(&self, name: &str) -> SocketAddr {
        let found = self.ready.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        found.and_then(|addr| addr.parse().ok()).unwrap_or_else(|| panic!("no {name} in {:?}", self.ready))
    }

    /// A connection to the public door, greeted and past EHLO.
    pub(crate) fn smtp(&self) -> Smtp {
        Smtp::connect(self.addr("smtp")).expect("greeted")
    }

    /// Runs a command against it.
    pub(crate) fn command(&self, args: &[&str]) -> Said {
        postern(&self.dir, args)
    }

    /// `status --json`.
    pub(crate) fn status(&self) -> Value {
        let said = self.command(&["status", "--json"]);
        assert_eq!(said.code, 0, "{}", said.err);
        serde_json::from_str(&said.out).expect("JSON")
    }

    /// Waits until nothing is left in the spool; as long as it becomes less, a slow disk may take its time.
    pub(crate) fn wait_until_drained(&self) {
        let (mut until, mut least) = (Instant::now() + PATIENCE, u64::MAX);
        loop {
            let items = self.status()["spool"]["items"].as_u64().expect("a number");
            if items == 0 {
                return;
            }
            if items < least {
                (until, least) = (Instant::now() + PATIENCE, items);
            }
            assert!(Instant::now() < until, "not drained: {}", self.status());
        }
    }

    /// Waits for a log line with these words.
    pub(crate) fn wait_for_log(&self, words: &str) -> String {
        let until = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while let Ok(line) = self.log.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if line.contains(words) {
                return line;
            }
            seen.push(line);
        }
        panic!("no log line with {words:?} in {seen:#?}");
    }

    /// Sends a signal by name, at once.
    pub(crate) fn signal(&self, name: &str) {
        let signal = match name {
            "-TERM" => Signal::TERM,
            "-HUP" => Signal::HUP,
            "-STOP" => Signal::STOP,
            "-CONT" => Signal::CONT,
            other => panic!("{other} has no use yet"),
        };
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait().expect("waits") {
                Some(status) => return status,
                None if Instant::now() > until => panic!("the server does not end"),
                // The only way to wait with a limit without a signal handler of our own.
                None => std::thread::yield_now(),
            }
        }
    }

    /// Asks over the control socket.
    pub(crate) fn control(&self) -> Control {
        let stream = UnixStream::connect(self.dir.join("postern-data/control.sock")).expect("listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        Control(BufReader::new(stream))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The control socket, spoken to directly.
pub(crate) struct Control(BufReader<UnixStream>);

impl Control {
    /// One question.
    pub(crate) fn ask(&mut self, line: &str) -> Value {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).expect("written");
        let mut answer = String::new();
        self.0.read_line(&mut answer).expect("answered");
        serde_json::from_str(&answer).expect("JSON")
    }

    /// The body of an item; `None` when it is not in the spool.
    pub(crate) fn body(&mut self, id: &str) -> Option<Vec<u8>> {
        let answer = self.ask(&format!(r#"{{"v":1,"ask":"queue_show","id":"{id}","body":true}}"#));
        let octets = answer["ok"]["octets"].as_u64()?;
        let mut body = vec![0; usize::try_from(octets).expect("fits")];
        self.0.read_exact(&mut body).expect("the octets");
        Some(body)
    }
}

/// A client in lockstep.
pub(crate) struct Smtp {
    stream: BufReader<TcpStream>,
}

impl Smtp {
    pub(crate) fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut smtp = Self { stream: BufReader::new(stream) };
        smtp.reply()?;
        smtp.say("EHLO client.example")?;
        Ok(smtp)
    }

    /// A command and its whole reply.
    pub(crate) fn say(&mut self, line: &str) -> io::Result<String> {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// The next whole reply.
    pub(crate) fn reply(&mut self) -> io::Result<String> {
        let mut reply = String::new();
        loop {
            let start = reply.len();
            if self.stream.read_line(&mut reply)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if reply.as_bytes().get(start + 3) != Some(&b'-') {
                return Ok(reply);
            }
        }
    }

    /// Everything up to the 354.
    pub(crate) fn envelope(&mut self, recipient: &str) -> io::Result<String> {
        self.say("MAIL FROM:<sender@client.example>")?;
        let reply = self.say(&format!("RCPT TO:<{recipient}>"))?;
        if reply.starts_with("250") { self.say("DATA") } else { Ok(reply) }
    }

    /// A whole message; `body` has CRLF line ends and no line that begins with a dot.
    pub(crate) fn send(&mut self, recipient: &str, body: &[u8]) -> io::Result<String> {
        let reply = self.envelope(recipient)?;
        if !reply.starts_with("354") {
            return Ok(reply);
        }
        self.stream.get_mut().write_all(body)?;
        self.say(".")
    }
}

/// The id in `250 2.0.0 Queued as …`.
pub(crate) fn id_in(reply: &str) -> Option<String> {
    let id = reply.trim_end().strip_prefix("250 ")?.rsplit(' ').next()?;
    (id.len() == 13).then(|| id.to_owned())
}

/// All messages in all Maildirs below `mail`.
pub(crate) fn delivered(mail: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for mailbox in fs::read_dir(mail).into_iter().flatten().flatten() {
        let below = fs::read_dir(mailbox.path().join("new")).into_iter().flatten().flatten();
        found.extend(below.map(|file| fs::read(file.path()).expect("readable")));
        // One level more: a directory per domain.
        if mailbox.path().join("new").is_dir() || !mailbox.path().is_dir() {
            continue;
        }
        found.extend(delivered(&mailbox.path()));
    }
    found
}

/// A body of its own, for comparing.
pub(crate) const BODY: &[u8] = b"Subject: hello\r\n\r\nHow are you?\r\n";

/// Nothing here takes longer unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
