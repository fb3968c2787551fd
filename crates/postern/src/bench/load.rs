//! The generator: so many clients in lockstep, each waiting for every reply before it goes on, on
//! one thread. It is kept cheap, because it must be able to drown the server from one core.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::exit::{Code, Failure};

/// What to send.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// The server.
    pub(super) addr: SocketAddr,
    /// At once.
    pub(super) clients: u32,
    /// In all.
    pub(super) messages: u32,
    /// On one connection.
    pub(super) per_connection: u32,
    /// Of each message.
    pub(super) body_bytes: u32,
    /// Of each message.
    pub(super) recipient: String,
    /// Before the first message of a connection.
    pub(super) starttls: bool,
}

/// What came of it. Latencies are of whole messages: from the connect, or the MAIL command of a
/// later one, to the reply after the dot.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    /// Answered 250.
    pub(super) messages: u32,
    /// Answered otherwise, or not at all.
    pub(super) errors: u32,
    /// The first of them.
    pub(super) first_error: Option<String>,
    /// Opened.
    pub(super) connections: u32,
    /// From the first connect to the last reply.
    pub(super) seconds: f64,
    /// Median latency.
    pub(super) p50: Duration,
    /// 99 of 100 were faster.
    pub(super) p99: Duration,
    /// The slowest.
    pub(super) max: Duration,
}

/// What the clients share.
struct Shared {
    load: Load,
    /// MAIL, RCPT and the message with its dot, ready to be written.
    mail: Vec<u8>,
    rcpt: Vec<u8>,
    message: Vec<u8>,
    tls: Option<Arc<ClientConfig>>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    left: u32,
    report: Report,
    latencies: Vec<Duration>,
}

/// Sends everything and returns when the last reply is there.
pub(super) fn run(load: &Load) -> Result<Report, Failure> {
    let failed = |error: &io::Error| Failure::io(Code::Os, "load generator", error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error))?;
    let shared = Rc::new(Shared {
        mail: b"MAIL FROM:<load@bench.example>\r\n".to_vec(),
        rcpt: format!("RCPT TO:<{}>\r\n", load.recipient).into_bytes(),
        message: message(load.body_bytes),
        tls: load.starttls.then(postern_net::tls::client_config),
        state: RefCell::new(State { left: load.messages, ..State::default() }),
        load: load.clone(),
    });
    let began = Instant::now();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let clients: Vec<_> = (0..load.clients).map(|_| tokio::task::spawn_local(client(shared.clone()))).collect();
        for client in clients {
            let _ = client.await;
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let mut state = shared.state.borrow_mut();
    state.latencies.sort_unstable();
    let at = |share: usize| state.latencies.get(state.latencies.len() * share / 100).copied().unwrap_or_default();
    let (p50, p99, max) = (at(50), at(99), state.latencies.last().copied().unwrap_or_default());
    Ok(Report { seconds, p50, p99, max, ..state.report.clone() })
}

/// One client: connections one after the other until no message is left.
async fn client(shared: Rc<Shared>) {
    let mut failures = 0;
    while failures < FAILURES_MAX {
        let count = {
            let mut state = shared.state.borrow_mut();
            let count = shared.load.per_connection.min(state.left);
            state.left -= count;
            state.report.connections += u32::from(count > 0);
            count
        };
        if count == 0 {
            return;
        }
        let mut sent = 0;
        if let Err(error) = connection(&shared, count, &mut sent).await {
            failures += 1;
            let mut state = shared.state.borrow_mut();
            state.report.errors += count - sent;
            state.report.first_error.get_or_insert_with(|| error.to_string());
        }
    }
}

async fn connection(shared: &Shared, count: u32, sent: &mut u32) -> io::Result<()> {
    let began = Instant::now();
    let stream = tokio::time::timeout(REPLY_WAIT, TcpStream::connect(shared.load.addr)).await??;
    stream.set_nodelay(true)?;
    let mut plain = Dialogue::new(stream);
    plain.expect(220).await?;
    plain.say(b"EHLO bench.example\r\n", 250).await?;
    let Some(config) = &shared.tls else {
        return messages(&mut plain, shared, count, sent, began).await;
    };
    plain.say(b"STARTTLS\r\n", 220).await?;
    let name = ServerName::try_from("bench.localhost").map_err(io::Error::other)?;
    let mut tls = Dialogue::new(TlsConnector::from(config.clone()).connect(name, plain.stream).await?);
    tls.say(b"EHLO bench.example\r\n", 250).await?;
    messages(&mut tls, shared, count, sent, began).await
}

async fn messages<S: AsyncRead + AsyncWrite + Unpin>(
    dialogue: &mut Dialogue<S>,
    shared: &Shared,
    count: u32,
    sent: &mut u32,
    mut began: Instant,
) -> io::Result<()> {
    for _ in 0..count {
        dialogue.say(&shared.mail, 250).await?;
        dialogue.say(&shared.rcpt, 250).await?;
        dialogue.say(b"DATA\r\n", 354).await?;
        dialogue.say(&shared.message, 250).await?;
        *sent += 1;
        let mut state = shared.state.borrow_mut();
        state.report.messages += 1;
        state.latencies.push(began.elapsed());
        drop(state);
        began = Instant::now();
    }
    dialogue.say(b"QUIT\r\n", 221).await
}

/// A connection on which one reply answers one command.
pub(super) struct Dialogue<S> {
    pub(super) stream: S,
    input: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Dialogue<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, input: Vec::with_capacity(1024) }
    }

    /// Writes and waits for a reply with this code.
    pub(super) async fn say(&mut self, line: &[u8], code: u16) -> io::Result<()> {
        self.stream.write_all(line).await?;
        self.stream.flush().await?;
        self.expect(code).await
    }

    /// Waits for a whole reply with this code.
    pub(super) async fn expect(&mut self, code: u16) -> io::Result<()> {
        self.input.clear();
        loop {
            // No timer per read: that alone would cost the generator a tenth of its speed. The
            // server's own deadlines end a dialogue that hangs.
            let read = self.stream.read_buf(&mut self.input).await?;
            if read == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
            }
            if let Some(reply) = whole_reply(&self.input) {
                let right = reply.starts_with(code.to_string().as_bytes());
                return if right {
                    Ok(())
                } else {
                    Err(io::Error::other(String::from_utf8_lossy(reply).trim().to_owned()))
                };
            }
            if self.input.len() > REPLY_BYTES_MAX {
                return Err(io::Error::other("an endless reply"));
            }
        }
    }
}

/// The last line of a reply, when it has come whole: the one with a space behind the code.
fn whole_reply(input: &[u8]) -> Option<&[u8]> {
    let body = input.strip_suffix(b"\r\n")?;
    let start = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    (body.get(start + 3) == Some(&b' ') || body.len() == start + 3).then(|| &body[start..])
}

/// A message of so many octets, with the dot that ends it.
fn message(octets: u32) -> Vec<u8> {
    let octets = octets as usize;
    let mut message = b"From: load@bench.example\r\nSubject: bench\r\n\r\n".to_vec();
    while message.len() + LINE.len() <= octets {
        message.extend_from_slice(LINE);
    }
    let rest = octets.saturating_sub(message.len());
    message.extend(std::iter::repeat_n(b'x', rest.saturating_sub(2)));
    if rest > 0 {
        message.extend_from_slice(b"\r\n");
    }
    message.extend_from_slice(b".\r\n");
    message
}

const LINE: &[u8] = b"The quick brown fox jumps over the lazy dog and back again, seventy-two.\r\n";
/// Connections that one client sees fail before it gives up.
const FAILURES_MAX: u32 = 10;
const REPLY_WAIT: Duration = Duration::from_secs(30);
const REPLY_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_whole_when_its_last_line_has_a_space_behind_the_code() {
        let check = |input: &[u8], expected: Option<&[u8]>| assert_eq!(whole_reply(input), expected);
        check(b"250 ok\r\n", Some(b"250 ok"));
        check(b"250-a\r\n250 b\r\n", Some(b"250 b"));
        check(b"250-a\r\n250-b\r\n", None);
        check(b"250 o", None);
        check(b"250\r\n", Some(b"250"));
    }

    #[test]
    fn a_message_has_the_size_asked_for_and_ends_with_its_dot() {
        for octets in [64, 65, 66, 4096, 51_200] {
            let message = message(octets);
            assert_eq!(message.len(), octets as usize + 3);
            assert!(message.ends_with(b"\r\n.\r\n"));
        }
    }
}
