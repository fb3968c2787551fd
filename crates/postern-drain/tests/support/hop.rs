//! A next hop that speaks just enough SMTP or LMTP, and remembers what it was told.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

/// One message as it was given to the hop.
#[derive(Clone, Debug, Default)]
pub struct Got {
    pub from: String,
    pub to: Vec<String>,
    pub data: String,
    /// The attributes of XCLIENT.
    pub xclient: Option<String>,
    /// The source address of the PROXY header, or `LOCAL`.
    pub proxy: Option<String>,
}

/// How the hop behaves.
pub struct Manners {
    pub lmtp: bool,
    /// Said to EHLO, besides what every hop says.
    pub offers: &'static [&'static str],
    /// A PROXY v2 header comes first.
    pub proxy: bool,
    /// What is said first, to the client of the PROXY header.
    pub greeting: fn(Option<&str>) -> &'static str,
    /// What is said to EHLO and HELO instead of the offers, for some names.
    pub hello: fn(&str) -> Option<&'static str>,
    /// What is said about a recipient at RCPT.
    pub rcpt: fn(&str) -> &'static str,
    /// What is said at the final dot, by LMTP for each recipient; [`HANG_UP`] ends the connection.
    pub end: fn(&str) -> &'static str,
}

/// Said by [`Manners::end`]: the connection is closed instead.
pub const HANG_UP: &str = "hang up";

impl Default for Manners {
    fn default() -> Self {
        Self {
            lmtp: false,
            offers: &["8BITMIME", "PIPELINING"],
            proxy: false,
            greeting: |_| "220 hop.example ready",
            hello: |_| None,
            rcpt: |_| "250 2.1.5 ok",
            end: |_| "250 2.0.0 ok",
        }
    }
}

pub struct Hop {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    manners: Manners,
    connections: AtomicUsize,
    /// Connections are closed at once.
    down: AtomicBool,
    /// 451 at the final dot for so many messages.
    busy: AtomicUsize,
    /// The reply to the final dot waits for a permit, when paused.
    paused: AtomicBool,
    resume: Semaphore,
    at_the_dot: Notify,
    got: Mutex<Vec<Got>>,
    bell: Notify,
}

impl Hop {
    pub async fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            manners,
            connections: AtomicUsize::new(0),
            down: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            paused: AtomicBool::new(false),
            resume: Semaphore::new(0),
            at_the_dot: Notify::new(),
            got: Mutex::default(),
            bell: Notify::new(),
        });
        let serving = shared.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if !serving.down.load(Ordering::SeqCst) {
                    tokio::spawn(serving.clone().session(stream));
                }
            }
        });
        Self { port, shared }
    }

    pub fn smtp(&self) -> String {
        format!("smtp:127.0.0.1:{}", self.port)
    }

    pub fn lmtp(&self) -> String {
        format!("lmtp:127.0.0.1:{}", self.port)
    }

    pub fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::SeqCst);
    }

    pub fn set_busy(&self, messages: usize) {
        self.shared.busy.store(messages, Ordering::SeqCst);
    }

    /// Messages wait at the final dot until [`Self::resume`].
    pub fn pause(&self) {
        self.shared.paused.store(true, Ordering::SeqCst);
    }

    pub fn resume(&self) {
        self.shared.paused.store(false, Ordering::SeqCst);
        self.shared.resume.add_permits(1000);
    }

    pub async fn until_at_the_dot(&self) {
        timeout(super::PATIENCE, self.shared.at_the_dot.notified()).await.expect("no message came");
    }

    /// Connections that said EHLO and a transaction; those that only asked are not counted.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub fn got(&self) -> Vec<Got> {
        self.shared.got.lock().unwrap().clone()
    }

    pub async fn until_got(&self, n: usize) -> Vec<Got> {
        let waiting = async {
            loop {
                let rung = self.shared.bell.notified();
                let got = self.got();
                if got.len() >= n {
                    return got;
                }
                rung.await;
            }
        };
        match timeout(super::PATIENCE, waiting).await {
            Ok(got) => got,
            Err(_) => panic!("{n} messages never came: {:?}", self.got()),
        }
    }
}

impl Shared {
    async fn session(self: Arc<Self>, stream: TcpStream) {
        // A client that goes away ends the session; nothing to tell.
        let _ = self.dialogue(stream).await;
    }

    async fn dialogue(&self, stream: TcpStream) -> std::io::Result<()> {
        // Replies to pipelined commands are written one by one: with Nagle each batch costs 40 ms.
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        let proxy = if self.manners.proxy { Some(read_proxy(&mut stream).await?) } else { None };
        let greeting = (self.manners.greeting)(proxy.as_deref());
        stream.write_all(format!("{greeting}\r\n").as_bytes()).await?;
        if !greeting.starts_with('2') {
            return Ok(());
        }
        let mut got = Got { proxy, ..Got::default() };
        let mut counted = false;
        let mut line = String::new();
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let text = line.trim_end();
            let verb = text.split([' ', ':']).next().unwrap_or("").to_ascii_uppercase();
            let reply = match verb.as_str() {
                "EHLO" | "LHLO" | "HELO" => match (self.manners.hello)(&text[5..]) {
                    None => self.hello(),
                    Some(refusal) => format!("{refusal}\r\n"),
                },
                "XCLIENT" => {
                    got.xclient = Some(text["XCLIENT ".len()..].to_owned());
                    "220 hop.example again\r\n".to_owned()
                }
                "MAIL" => {
                    if !counted {
                        self.connections.fetch_add(1, Ordering::SeqCst);
                        counted = true;
                    }
                    got.from = path_of(text);
                    got.to.clear();
                    "250 2.1.0 ok\r\n".to_owned()
                }
                "RCPT" => {
                    let reply = (self.manners.rcpt)(&path_of(text));
                    if reply.starts_with('2') {
                        got.to.push(path_of(text));
                    }
                    format!("{reply}\r\n")
                }
                "DATA" if got.to.is_empty() => "503 5.5.1 no recipients\r\n".to_owned(),
                "DATA" => {
                    stream.write_all(b"354 go on\r\n").await?;
                    got.data = read_data(&mut stream).await?;
                    let reply = self.end(&mut got).await;
                    if let Some(before) = reply.strip_suffix(&format!("{HANG_UP}\r\n")) {
                        return stream.write_all(before.as_bytes()).await;
                    }
                    reply
                }
                "RSET" | "NOOP" => "250 2.0.0 ok\r\n".to_owned(),
                "QUIT" => {
                    stream.write_all(b"221 2.0.0 bye\r\n").await?;
                    return Ok(());
                }
                _ => "500 5.5.2 what\r\n".to_owned(),
            };
            stream.write_all(reply.as_bytes()).await?;
        }
    }

    fn hello(&self) -> String {
        let mut lines: Vec<String> = self.manners.offers.iter().map(|offer| format!("250-{offer}\r\n")).collect();
        lines.insert(0, "250-hop.example\r\n".to_owned());
        lines.push("250 ENHANCEDSTATUSCODES\r\n".to_owned());
        lines.concat()
    }

    async fn end(&self, got: &mut Got) -> String {
        self.at_the_dot.notify_one();
        if self.paused.load(Ordering::SeqCst) {
            self.resume.acquire().await.unwrap().forget();
        }
        let one_less = |busy: usize| busy.checked_sub(1);
        let busy = self.busy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok();
        let verdict = |to: &String| if busy { "451 4.3.0 busy" } else { (self.manners.end)(to) };
        let verdicts: Vec<&str> = got.to.iter().map(verdict).collect();
        let taken = |i: &usize| verdicts[*i].starts_with('2');
        let to: Vec<String> = (0..got.to.len()).filter(taken).map(|i| got.to[i].clone()).collect();
        if !to.is_empty() {
            self.got.lock().unwrap().push(Got { to, ..got.clone() });
            self.bell.notify_waiters();
        }
        let replies = if self.manners.lmtp { verdicts.len() } else { 1 };
        verdicts[..replies].iter().map(|verdict| format!("{verdict}\r\n")).collect()
    }
}

fn path_of(line: &str) -> String {
    let path = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    path.map(|(path, _)| path.to_owned()).unwrap_or_default()
}

async fn read_data(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut data = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match line.strip_prefix('.') {
            Some("\r\n") => return Ok(data),
            Some(rest) => data.push_str(rest),
            None => data.push_str(&line),
        }
    }
}

/// PROXY v2: 12 octets of signature, version and command, family, length, addresses.
async fn read_proxy(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut head = [0; 16];
    stream.read_exact(&mut head).await?;
    assert_eq!(&head[..12], b"\r\n\r\n\0\r\nQUIT\n");
    let mut rest = vec![0; usize::from(u16::from_be_bytes([head[14], head[15]]))];
    stream.read_exact(&mut rest).await?;
    Ok(match (head[12], head[13]) {
        (0x20, _) => "LOCAL".to_owned(),
        (0x21, 0x11) => format!("{}.{}.{}.{}", rest[0], rest[1], rest[2], rest[3]),
        other => format!("{other:?}"),
    })
}
