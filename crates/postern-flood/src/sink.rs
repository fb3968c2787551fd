//! A small SMTP server for this crate's tests: a thread a connection, and faults on request.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// LF.LF ends the data too, as servers did that could be smuggled into.
    pub(crate) lone_line_feeds: bool,
    /// The first attempt of each message is told 451.
    pub(crate) defers_first: bool,
    /// Says nothing behind the final dot.
    pub(crate) no_receipt: bool,
    /// Unknown recipients are refused, and a tenth of a second later than known ones are taken.
    pub(crate) tells_unknown_apart: bool,
    /// A NUL ends the connection without a word, as a crash does.
    pub(crate) dies_of_nul: bool,
}

/// A running one; it ends with the process.
pub(crate) struct Sink {
    pub(crate) addr: SocketAddr,
    seen: Arc<Mutex<Vec<Taken>>>,
}

/// A message it answered 250.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Taken {
    pub(crate) id: String,
    pub(crate) from: String,
    pub(crate) sender: String,
    pub(crate) bytes: usize,
}

impl Sink {
    pub(crate) fn start(faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let deferred = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let session = Session { faults, seen: Arc::clone(&shared), deferred: Arc::clone(&deferred) };
                // A client that goes away is the end of its session only.
                std::thread::spawn(move || session.serve(stream));
            }
        });
        Self { addr, seen }
    }

    /// All messages so far, by id.
    pub(crate) fn taken(&self) -> Vec<Taken> {
        let mut taken = self.seen.lock().unwrap().clone();
        taken.sort();
        taken
    }
}

struct Session {
    faults: Faults,
    seen: Arc<Mutex<Vec<Taken>>>,
    deferred: Arc<Mutex<Vec<String>>>,
}

impl Session {
    fn serve(&self, stream: TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let from = stream.peer_addr().ok()?.ip().to_string();
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut writer = stream;
        writer.write_all(b"220 sink ESMTP\r\n").ok()?;
        let (mut sender, mut recipients) = (None::<String>, 0);
        loop {
            let mut line = Vec::new();
            // A command line is bounded here too, else the line bomb would be ours to hold.
            if (&mut reader).take(4_096).read_until(b'\n', &mut line).ok()? == 0 {
                return None;
            }
            if self.faults.dies_of_nul && line.contains(&0) {
                return None;
            }
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            let verb = text.split(' ').next().unwrap_or_default().to_ascii_uppercase();
            let reply: &[u8] = match verb.as_str() {
                _ if !line.ends_with(b"\r\n") || !line.is_ascii() || line.contains(&0) || line.len() > 1_000 => {
                    b"500 5.5.2 what\r\n"
                }
                "EHLO" => b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
                "HELO" | "NOOP" => b"250 fine\r\n",
                "RSET" => {
                    (sender, recipients) = (None, 0);
                    b"250 fine\r\n"
                }
                "MAIL" if sender.is_some() => b"503 5.5.1 nested\r\n",
                "MAIL" => match path(&text, "FROM:") {
                    Some(path) => {
                        sender = Some(path);
                        b"250 fine\r\n"
                    }
                    None => b"501 5.5.4 no\r\n",
                },
                "RCPT" if sender.is_none() => b"503 5.5.1 MAIL first\r\n",
                "RCPT" => match path(&text, "TO:") {
                    Some(path) if self.faults.tells_unknown_apart && path != "ann@localhost" => {
                        std::thread::sleep(std::time::Duration::from_millis(100));
                        b"550 5.1.1 unknown\r\n"
                    }
                    Some(path) if path.contains('@') => {
                        recipients += 1;
                        b"250 fine\r\n"
                    }
                    _ => b"501 5.1.3 no\r\n",
                },
                "DATA" if recipients == 0 => b"503 5.5.1 RCPT first\r\n",
                "DATA" => {
                    writer.write_all(b"354 go on\r\n").ok()?;
                    let body = self.body(&mut reader)?;
                    let reply = self.receipt(&body, &from, sender.take().unwrap_or_default());
                    recipients = 0;
                    if self.faults.no_receipt {
                        continue;
                    }
                    reply
                }
                "QUIT" => {
                    writer.write_all(b"221 bye\r\n").ok()?;
                    return Some(());
                }
                _ => b"502 5.5.1 what\r\n",
            };
            writer.write_all(reply).ok()?;
        }
    }

    /// Reads to the end of the data; bare line ends are kept here and refused with the receipt.
    fn body(&self, reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
        let mut body = b"\r\n".to_vec();
        loop {
            let mut byte = [0];
            reader.read_exact(&mut byte).ok()?;
            // A bomb is read and forgotten.
            if body.len() > 1_000_000 {
                body.drain(..900_000);
            }
            body.push(byte[0]);
            let lone = self.faults.lone_line_feeds && body.ends_with(b"\n.\n");
            if body.ends_with(b"\r\n.\r\n") || lone {
                return Some(body);
            }
        }
    }

    fn receipt(&self, body: &[u8], from: &str, sender: String) -> &'static [u8] {
        let bare = body.iter().enumerate().any(|(at, byte)| match byte {
            b'\n' => at == 0 || body[at - 1] != b'\r',
            b'\r' => body.get(at + 1) != Some(&b'\n'),
            _ => false,
        });
        if bare && !self.faults.lone_line_feeds {
            return b"554 5.6.0 bare line end\r\n";
        }
        let text = String::from_utf8_lossy(body);
        let id = text.lines().find_map(|line| line.strip_prefix("X-Flood-Id: ")).unwrap_or_default().to_owned();
        if self.faults.defers_first {
            let mut deferred = self.deferred.lock().unwrap();
            if !deferred.contains(&id) {
                deferred.push(id);
                return b"451 4.7.1 come back\r\n";
            }
        }
        self.seen.lock().unwrap().push(Taken { id, from: from.to_owned(), sender, bytes: body.len() });
        b"250 taken\r\n"
    }
}

fn path(line: &str, after: &str) -> Option<String> {
    let at = line.to_ascii_uppercase().find(after)? + after.len();
    let rest = line[at..].strip_prefix('<')?;
    let path = rest.split_once('>')?.0;
    (!path.contains(' ') && !path.contains('<')).then(|| path.to_owned())
}
