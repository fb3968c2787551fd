//! One attacker's connection: says exactly the octets it is given, in exactly the pieces, and reads replies with patience.

use std::fmt;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// The server closed the connection.
    Closed,
    /// It says nothing.
    Silent,
    /// It refuses ordinary mail.
    Refused(String),
    /// No connection, or what it says is no SMTP.
    Trouble(String),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed the connection"),
            Self::Silent => f.write_str("said nothing"),
            Self::Refused(reply) => write!(f, "said `{reply}`"),
            Self::Trouble(what) => write!(f, "failed: {what}"),
        }
    }
}

/// A whole reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: u16,
    /// All lines, without codes.
    pub(super) text: String,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text.lines().next().unwrap_or_default())
    }
}

/// A connection over anything that reads and writes: TCP, or TLS above it.
pub(super) struct Client<S = TcpStream> {
    pub(super) stream: S,
    read: Vec<u8>,
}

impl Client {
    /// Connects from `source` where one is given.
    pub(super) fn connect(source: Option<IpAddr>, target: SocketAddr, patience: Duration) -> Result<Self, Lost> {
        let trouble = |error: std::io::Error| Lost::Trouble(error.to_string());
        let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(|error| trouble(error.into()))?;
        if let Some(source) = source {
            rustix::net::bind(&socket, &SocketAddr::new(source, 0)).map_err(|error| trouble(error.into()))?;
        }
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).map_err(trouble)?;
        stream.set_read_timeout(Some(patience)).map_err(trouble)?;
        // Linux lets it bound the connect as well.
        stream.set_write_timeout(Some(patience)).map_err(trouble)?;
        rustix::net::connect(&stream, &target).map_err(|error| trouble(error.into()))?;
        Ok(Self { stream, read: Vec::new() })
    }

    /// How long each read may take from now on.
    pub(super) fn patience(&self, patience: Duration) {
        // A socket that is gone tells at the read.
        let _ = self.stream.set_read_timeout(Some(patience));
    }

    /// Waits until nothing that was sent is unread on the other side, or a moment has passed: so that the next piece is a
    /// segment, and most likely a read, of its own.
    pub(super) fn let_it_be_read(&self) {
        std::thread::sleep(BETWEEN_PIECES);
    }
}

impl<S: Read + Write> Client<S> {
    pub(super) fn over(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    /// What was read and is not yet a reply.
    pub(super) fn unread(&self) -> usize {
        self.read.len()
    }

    pub(super) fn say(&mut self, octets: impl AsRef<[u8]>) -> Result<(), Lost> {
        let said = self.stream.write_all(octets.as_ref()).and_then(|()| self.stream.flush());
        said.map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => Lost::Silent,
            _ => Lost::Closed,
        })
    }

    /// Says a line, reads its reply.
    pub(super) fn ask(&mut self, line: impl AsRef<[u8]>) -> Result<Reply, Lost> {
        let mut octets = line.as_ref().to_vec();
        octets.extend_from_slice(b"\r\n");
        // A server may have answered and closed before it had read all of it.
        let said = self.say(&octets);
        self.reply().map_err(|lost| said.err().unwrap_or(lost))
    }

    pub(super) fn reply(&mut self) -> Result<Reply, Lost> {
        let deadline = Instant::now() + REPLY_PATIENCE;
        loop {
            if let Some((reply, end)) = first_reply(&self.read) {
                self.read.drain(..end);
                return reply;
            }
            let mut piece = [0; 4_096];
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(Lost::Closed),
                Ok(taken) => self.read.extend_from_slice(&piece[..taken]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(match error.kind() {
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => Lost::Silent,
                        _ => Lost::Closed,
                    });
                }
            }
            if Instant::now() > deadline || self.read.len() > REPLY_BYTES_MAX {
                return Err(Lost::Silent);
            }
        }
    }

    /// Codes until the server closes or says nothing more.
    pub(super) fn codes_to_the_end(&mut self) -> Vec<u16> {
        let mut codes = Vec::new();
        while codes.len() < CODES_MAX {
            match self.reply() {
                Ok(reply) => codes.push(reply.code),
                Err(_) => break,
            }
        }
        codes
    }

    /// EHLO, and what is offered, in capitals.
    pub(super) fn hello(&mut self) -> Result<Vec<String>, Lost> {
        let reply = self.ask("EHLO probe.example")?;
        if reply.code != 250 {
            return Err(Lost::Refused(reply.to_string()));
        }
        Ok(reply.text.lines().skip(1).map(str::to_ascii_uppercase).collect())
    }

    /// MAIL, RCPT and DATA, each answered as it should be.
    pub(super) fn begin_data(&mut self, sender: &str, recipient: &str) -> Result<(), Lost> {
        let steps =
            [(format!("MAIL FROM:<{sender}>"), 2), (format!("RCPT TO:<{recipient}>"), 2), ("DATA".to_owned(), 3)];
        for (line, class) in steps {
            let reply = self.ask(line)?;
            if reply.code / 100 != class {
                return Err(Lost::Refused(reply.to_string()));
            }
        }
        Ok(())
    }
}

/// The first whole reply and where it ends.
fn first_reply(octets: &[u8]) -> Option<(Result<Reply, Lost>, usize)> {
    let mut text = String::new();
    let mut at = 0;
    loop {
        let end = at + octets[at..].iter().position(|byte| *byte == b'\n')? + 1;
        let line = String::from_utf8_lossy(&octets[at..end]);
        let line = line.trim_end();
        let (Some(code), rest) = (line.get(..3).and_then(|code| code.parse().ok()), line.get(3..).unwrap_or_default())
        else {
            return Some((Err(Lost::Trouble(format!("`{line}` is no reply"))), end));
        };
        text.push_str(rest.get(1..).unwrap_or_default());
        if !rest.starts_with('-') {
            return Some((Ok(Reply { code, text }), end));
        }
        text.push('\n');
        at = end;
    }
}

/// Between two pieces of a split sequence. A server that wakes up later joins them, which is one of the splits too.
const BETWEEN_PIECES: Duration = Duration::from_millis(3);

/// A reply of many lines may come in many reads.
const REPLY_PATIENCE: Duration = Duration::from_secs(60);

/// A server that never ends its reply.
const REPLY_BYTES_MAX: usize = 1_000_000;

/// More replies than any probe can cause.
const CODES_MAX: usize = 100;
