//! A filter that speaks rspamd's protocol (HTTP, `POST /checkv2`, JSON) and says what it is told to say.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use postern_drain::{FilterOptions, OnSpam};
use postern_net::filter::{Filter, Kind};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

pub const ACCEPT: &str = r#"{"action":"no action","score":0.5,"required_score":15}"#;
pub const MARK: &str = r#"{"action":"add header","score":7.25,"required_score":15}"#;
pub const REJECT: &str =
    r#"{"action":"reject","score":20,"required_score":15,"messages":{"smtp_message":"We do not want this"}}"#;
pub const LATER: &str = r#"{"action":"soft reject","score":1,"required_score":15}"#;
pub const QUARANTINE: &str = r#"{"action":"quarantine","score":12,"required_score":15}"#;

pub struct Rspamd {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    /// What is said to each message, by its octets.
    verdict: fn(&str) -> &'static str,
    /// Connections are closed at once.
    down: AtomicBool,
    /// Nothing is answered while this is true.
    frozen: watch::Sender<bool>,
    asked: AtomicUsize,
    /// Messages that were judged, with the request before them.
    judged: Mutex<Vec<String>>,
    bell: Notify,
}

impl Rspamd {
    pub async fn start(verdict: fn(&str) -> &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            verdict,
            down: AtomicBool::new(false),
            frozen: watch::Sender::new(false),
            asked: AtomicUsize::new(0),
            judged: Mutex::default(),
            bell: Notify::new(),
        });
        let serving = shared.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if !serving.down.load(Ordering::SeqCst) {
                    let serving = serving.clone();
                    // A client that goes away ends the request; nothing to tell.
                    tokio::spawn(async move { serving.request(stream).await.ok() });
                }
            }
        });
        Self { port, shared }
    }

    pub fn options(&self, on_spam: OnSpam) -> FilterOptions {
        let kind = Kind::parse(&format!("rspamd:127.0.0.1:{}", self.port)).unwrap();
        let filter = Filter { name: "fake".into(), kind, timeout: super::PATIENCE / 2 };
        FilterOptions { filter, workers: 4, on_spam }
    }

    pub fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::SeqCst);
    }

    pub fn set_frozen(&self, frozen: bool) {
        self.shared.frozen.send_replace(frozen);
    }

    pub fn judged(&self) -> Vec<String> {
        self.shared.judged.lock().unwrap().clone()
    }

    /// Messages that came, answered or not.
    pub async fn until_asked(&self, n: usize) {
        let waiting = async {
            loop {
                let rung = self.shared.bell.notified();
                if self.shared.asked.load(Ordering::SeqCst) >= n {
                    return;
                }
                rung.await;
            }
        };
        timeout(super::PATIENCE, waiting).await.expect("the filter was not asked");
    }
}

impl Shared {
    async fn request(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
            head.push_str(&line);
            if line == "\r\n" {
                break;
            }
        }
        let mut message = vec![0; length];
        stream.read_exact(&mut message).await?;
        let message = String::from_utf8_lossy(&message).into_owned();
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.bell.notify_waiters();
        let mut frozen = self.frozen.subscribe();
        let _thawed = frozen.wait_for(|frozen| !frozen).await.is_ok();
        let answer = (self.verdict)(&message);
        let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}", answer.len());
        stream.write_all(reply.as_bytes()).await?;
        self.judged.lock().unwrap().push(head + &message);
        stream.shutdown().await
    }
}
