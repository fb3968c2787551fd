//! A server of 2007's kind: so many processes, each with one connection from its greeting to its end, and a content
//! filter inside the session that judges so many messages a second. It stands alone in one half of the demo, and behind
//! Postern in the other.
//!
//! It stores nothing and writes no log, so it is faster than any real one; what it shares with them is what decides
//! that night: who holds a process, and for how long. It remembers the id of each message it took, for the reckoning at
//! the end.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A running one; its threads end with the process.
#[derive(Clone)]
pub(super) struct OldServer {
    addr: SocketAddr,
    inner: Arc<Inner>,
}

/// How many it has of what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Connections at once; further ones wait in the kernel.
    pub(super) processes: usize,
    /// Messages a second.
    pub(super) filter_rate: u32,
}

struct Inner {
    listener: TcpListener,
    filter: Filter,
    busy: AtomicU64,
    taken: Mutex<BTreeMap<String, Taken>>,
}

/// One message.
struct Taken {
    times: u32,
    first_at: Instant,
}

impl OldServer {
    /// Listens on loopback.
    ///
    /// # Errors
    /// No address, or no thread.
    pub(super) fn start(size: Size) -> io::Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?;
        let filter =
            Filter { every: Duration::from_secs(1) / size.filter_rate.max(1), free_at: Mutex::new(Instant::now()) };
        let inner = Arc::new(Inner { listener, filter, busy: AtomicU64::new(0), taken: Mutex::default() });
        for _ in 0..size.processes {
            let inner = Arc::clone(&inner);
            // Each waits in accept() itself, as the children of a prefork server do.
            let process = move || inner.serve_forever();
            std::thread::Builder::new().stack_size(STACK_BYTES).spawn(process)?;
        }
        Ok(Self { addr, inner })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Processes that have a connection.
    pub(super) fn busy(&self) -> u64 {
        self.inner.busy.load(Ordering::Relaxed)
    }

    /// Messages taken so far.
    pub(super) fn count(&self) -> u64 {
        lock(&self.inner.taken).values().map(|taken| u64::from(taken.times)).sum()
    }

    /// How often each message was taken, by its id.
    pub(super) fn taken(&self) -> BTreeMap<String, u32> {
        lock(&self.inner.taken).iter().map(|(id, taken)| (id.clone(), taken.times)).collect()
    }

    /// When each message was first taken, by its id.
    pub(super) fn arrived(&self) -> BTreeMap<String, Instant> {
        lock(&self.inner.taken).iter().map(|(id, taken)| (id.clone(), taken.first_at)).collect()
    }
}

impl Inner {
    fn serve_forever(&self) {
        loop {
            let Ok((stream, _)) = self.listener.accept() else {
                // Out of descriptors: a moment for others to give theirs back.
                std::thread::sleep(Duration::from_millis(50));
                continue;
            };
            self.busy.fetch_add(1, Ordering::Relaxed);
            // A client that goes away, or stays silent too long, ends its own session only.
            let _ = self.serve(stream);
            self.busy.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        let mut reader = BufReader::with_capacity(READ_BYTES, stream.try_clone()?);
        let mut writer = stream;
        writer.write_all(GREETING)?;
        let mut recipients = 0;
        loop {
            let line = line(&mut reader)?;
            let verb = line.get(..4).unwrap_or(&line).to_ascii_uppercase();
            let reply: &[u8] = match verb.as_str() {
                "EHLO" => CAPABILITIES,
                // The client's address is taken note of, and the session begins anew.
                "XCLI" => GREETING,
                "RSET" => {
                    recipients = 0;
                    OK
                }
                "HELO" | "MAIL" | "NOOP" => OK,
                "RCPT" => {
                    recipients += 1;
                    OK
                }
                "DATA" if recipients > 0 => {
                    writer.write_all(b"354 Go on\r\n")?;
                    recipients = 0;
                    let id = message(&mut reader)?;
                    self.filter.judge();
                    if let Some(id) = id {
                        let mut taken = lock(&self.taken);
                        let first = || Taken { times: 0, first_at: Instant::now() };
                        taken.entry(id).or_insert_with(first).times += 1;
                    }
                    b"250 2.0.0 Taken\r\n"
                }
                "DATA" => b"503 5.5.1 RCPT first\r\n",
                "QUIT" => return writer.write_all(b"221 2.0.0 Bye\r\n"),
                _ => b"502 5.5.1 Unknown\r\n",
            };
            writer.write_all(reply)?;
        }
    }
}

/// Judges one message after the other, in the order in which they came.
struct Filter {
    every: Duration,
    free_at: Mutex<Instant>,
}

impl Filter {
    fn judge(&self) {
        let done = {
            let mut free_at = lock(&self.free_at);
            *free_at = (*free_at).max(Instant::now()) + self.every;
            *free_at
        };
        std::thread::sleep(done.saturating_duration_since(Instant::now()));
    }
}

/// A command, without its end.
fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    if reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// Reads to the final dot; the id that the flood has given the message.
fn message(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut id = None;
    loop {
        let line = line(reader)?;
        match line.strip_prefix("X-Flood-Id: ") {
            Some(found) if id.is_none() => id = Some(found.to_owned()),
            _ if line == "." => return Ok(id),
            _ => {}
        }
    }
}

/// A thread that panicked while it held this has left nothing half done.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

const GREETING: &[u8] = b"220 old.example ESMTP\r\n";
const OK: &[u8] = b"250 2.0.0 Ok\r\n";
const CAPABILITIES: &[u8] =
    b"250-old.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 10240000\r\n250 XCLIENT NAME ADDR PORT PROTO HELO\r\n";
/// How long it waits for a client: RFC 5321 4.5.3.2.7 and the usual default.
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// A command line, or a line of a message (RFC 5321 4.5.3.1.6 has 1,000).
const LINE_BYTES_MAX: u64 = 4_096;
const READ_BYTES: usize = 4_096;
/// Two small buffers and a few frames.
const STACK_BYTES: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(addr: SocketAddr, lines: &str) -> String {
        let mut stream = TcpStream::connect(addr).expect("connected");
        stream.write_all(lines.as_bytes()).expect("written");
        let mut said = String::new();
        stream.read_to_string(&mut said).expect("said");
        said
    }

    const MESSAGE: &str = "EHLO a.example\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<ann@localhost>\r\nDATA\r\n\
        X-Flood-Id: 1-f0-0\r\n\r\nhello\r\n.\r\nQUIT\r\n";

    #[test]
    fn it_takes_mail_and_remembers_its_id() {
        let server = OldServer::start(Size { processes: 2, filter_rate: 1_000 }).expect("listens");
        let said = talk(server.addr(), MESSAGE);
        assert!(said.ends_with("354 Go on\r\n250 2.0.0 Taken\r\n221 2.0.0 Bye\r\n"), "{said}");
        talk(server.addr(), MESSAGE);
        assert_eq!(server.taken(), [("1-f0-0".to_owned(), 2)].into());
        assert_eq!(server.count(), 2);
        assert!(server.arrived()["1-f0-0"] <= Instant::now());
    }

    #[test]
    fn when_every_process_has_a_silent_client_nobody_is_greeted_until_one_goes() {
        let server = OldServer::start(Size { processes: 1, filter_rate: 1_000 }).expect("listens");
        let mut silent = TcpStream::connect(server.addr()).expect("connected");
        let mut greeting = [0; GREETING.len()];
        silent.read_exact(&mut greeting).expect("greeted");
        let mut friend = TcpStream::connect(server.addr()).expect("the kernel takes it");
        friend.set_read_timeout(Some(Duration::from_millis(100))).expect("set");
        friend.read_exact(&mut greeting).expect_err("nobody is free");
        drop(silent);
        friend.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        friend.read_exact(&mut greeting).expect("greeted now");
    }
}
