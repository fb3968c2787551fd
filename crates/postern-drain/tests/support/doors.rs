//! A postern for tests: a door that opens or does not, mail streams in memory behind it, and DNS to find it by.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use postern_drain::{Closed, Opener};
use postern_net::dns::{Binding, DnsError, Mx, Published, Told};
use postern_net::door::courier::{Octets, Pending, Road};
use postern_net::door::{DoorAddress, KeyPair, PublicKey};
use postern_net::mx::{self, Names};
use postern_net::published::Tlsa;
use postern_proto::door::{DoorRecord, Mode};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};

/// What the door does.
#[derive(Clone)]
pub struct Manners {
    pub closed: Option<Closed>,
    /// No word at all ends the stream.
    pub rcpt: fn(&str) -> &'static str,
    pub end: fn(usize) -> &'static str,
    /// The link breaks, without a word, instead of answering the so-manieth message.
    pub breaks_at: Option<usize>,
    /// It opens, and grants no mail stream.
    pub refuses_streams: bool,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            closed: None,
            rcpt: |_| "250 2.1.5 ok",
            end: |_| "250 2.0.0 ok",
            breaks_at: None,
            refuses_streams: false,
        }
    }
}

/// Clones are the same door.
#[derive(Clone)]
pub struct Door {
    shared: Arc<Shared>,
}

struct Shared {
    manners: Mutex<Manners>,
    knocks: AtomicUsize,
    /// Recipients and text of what was taken.
    got: Mutex<Vec<(Vec<String>, String)>>,
    ended: AtomicUsize,
    asked: Mutex<Vec<DoorAddress>>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Door")
    }
}

impl Door {
    pub fn new(manners: Manners) -> Self {
        let shared = Shared {
            manners: Mutex::new(manners),
            knocks: AtomicUsize::new(0),
            got: Mutex::default(),
            ended: AtomicUsize::new(0),
            asked: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    pub fn set(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.shared.manners.lock().unwrap());
    }

    /// How often somebody wanted it opened.
    pub fn knocks(&self) -> usize {
        self.shared.knocks.load(Ordering::SeqCst)
    }

    pub fn got(&self) -> Vec<(Vec<String>, String)> {
        self.shared.got.lock().unwrap().clone()
    }

    pub fn asked(&self) -> Vec<DoorAddress> {
        self.shared.asked.lock().unwrap().clone()
    }

    async fn talk(self, stream: DuplexStream) -> std::io::Result<()> {
        let (reader, mut writer) = tokio::io::split(stream);
        let mut reader = BufReader::new(reader);
        let (mut to, mut body) = (Vec::new(), Vec::new());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let manners = self.shared.manners.lock().unwrap().clone();
            let mut words = line.split_whitespace();
            let reply = match words.next() {
                Some("EHLO") => "250-mx.far.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 CHUNKING",
                Some("MAIL") => {
                    (to, body) = (Vec::new(), Vec::new());
                    "250 2.1.0 ok"
                }
                Some("RCPT") => {
                    let recipient = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                    let reply = (manners.rcpt)(&recipient);
                    if reply.is_empty() {
                        return Ok(());
                    }
                    if reply.starts_with('2') {
                        to.push(recipient);
                    }
                    reply
                }
                Some("BDAT") => {
                    let mut chunk = vec![0; words.next().unwrap().parse().unwrap()];
                    reader.read_exact(&mut chunk).await?;
                    body.extend(chunk);
                    match words.next() {
                        _ if to.is_empty() => "554 5.5.1 no recipients",
                        Some("LAST") => {
                            let ended = self.shared.ended.fetch_add(1, Ordering::SeqCst) + 1;
                            if manners.breaks_at == Some(ended) {
                                return Ok(());
                            }
                            let reply = (manners.end)(ended);
                            if reply.starts_with('2') {
                                let text = String::from_utf8(body.clone()).unwrap();
                                self.shared.got.lock().unwrap().push((to.clone(), text));
                            }
                            reply
                        }
                        _ => "250 2.0.0 ok",
                    }
                }
                _ => "250 2.0.0 ok",
            };
            writer.write_all(format!("{reply}\r\n").as_bytes()).await?;
        }
    }
}

impl Opener for Door {
    fn open(&self, door: DoorAddress) -> Pending<Result<Arc<dyn Road>, Closed>> {
        self.shared.knocks.fetch_add(1, Ordering::SeqCst);
        self.shared.asked.lock().unwrap().push(door);
        let closed = self.shared.manners.lock().unwrap().closed;
        let road: Arc<dyn Road> = Arc::new(self.clone());
        Box::pin(async move { closed.map_or(Ok(road), Err) })
    }
}

impl Road for Door {
    fn open(&self) -> Pending<Result<Box<dyn Octets>, String>> {
        if self.shared.manners.lock().unwrap().refuses_streams {
            return Box::pin(async { Err("no more streams".to_owned()) });
        }
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        tokio::spawn(self.clone().talk(theirs));
        Box::pin(async move {
            let octets: Box<dyn Octets> = Box::new(ours);
            Ok(octets)
        })
    }

    fn streams_max(&self) -> usize {
        4
    }

    fn is_open(&self) -> bool {
        true
    }
}

pub fn key() -> PublicKey {
    KeyPair::from_pkcs8(&KeyPair::generate().unwrap()).unwrap().public().clone()
}

/// For which answers may be kept.
pub const TTL_S: u64 = 300;

/// DNS of the test's own: every domain has an MX on loopback, unless it is said otherwise.
#[derive(Debug, Default)]
pub struct Zone {
    pub doors: Mutex<HashMap<String, Published>>,
    /// Domains for whose postern DNS has no answer.
    pub fails: Mutex<Vec<String>>,
    pub mx: HashMap<String, Vec<Mx>>,
    pub addresses: HashMap<String, IpAddr>,
    /// Digests in signed TLSA records by the host of a door; `None` fails.
    pub tlsa: Mutex<HashMap<String, Option<Vec<[u8; 32]>>>>,
    /// Signed service bindings, by domain.
    pub bindings: Mutex<HashMap<String, Binding>>,
    /// How often TLSA records were asked for.
    pub tlsa_asked: AtomicUsize,
}

impl Zone {
    /// Publishes a door of `domain`.
    pub fn publish(&self, domain: &str, mode: Mode, secure: bool) {
        let keys = vec![key().spki().to_vec()];
        let record = DoorRecord { host: Some(format!("door.{domain}")), port: 2526, keys, mode, max_age_s: 86_400 };
        self.doors.lock().unwrap().insert(domain.to_owned(), Published { record, secure, ttl_s: TTL_S });
    }
}

impl Names for Zone {
    fn mx<'a>(&'a self, domain: &'a str) -> mx::Pending<'a, Result<Told<Vec<Mx>>, DnsError>> {
        let host = || vec![Mx { preference: 10, host: format!("mx.{domain}") }];
        let answer = self.mx.get(domain).cloned().unwrap_or_else(host);
        Box::pin(async { Ok(Told { value: answer, secure: false, ttl: None }) })
    }

    fn addresses<'a>(&'a self, host: &'a str) -> mx::Pending<'a, Result<Vec<IpAddr>, DnsError>> {
        let address = self.addresses.get(host).copied().unwrap_or(IpAddr::from([127, 0, 0, 1]));
        Box::pin(async move { Ok(vec![address]) })
    }

    fn door<'a>(&'a self, domain: &'a str) -> mx::Pending<'a, Result<Option<Published>, DnsError>> {
        let fails = self.fails.lock().unwrap().iter().any(|name| name == domain);
        let answer = self.doors.lock().unwrap().get(domain).cloned();
        Box::pin(async move { if fails { Err(DnsError::Timeout(domain.to_owned())) } else { Ok(answer) } })
    }

    fn door_binding<'a>(&'a self, domain: &'a str) -> mx::Pending<'a, Result<Told<Option<Binding>>, DnsError>> {
        let value = self.bindings.lock().unwrap().get(domain).cloned();
        let ttl = Some(std::time::Duration::from_secs(TTL_S));
        Box::pin(async move { Ok(Told { secure: value.is_some(), value, ttl }) })
    }

    fn door_keys<'a>(&'a self, host: &'a str, _port: u16) -> mx::Pending<'a, Result<Told<Vec<[u8; 32]>>, DnsError>> {
        let answer = self.tlsa.lock().unwrap().get(host).cloned().unwrap_or(Some(Vec::new()));
        Box::pin(async move {
            self.tlsa_asked.fetch_add(1, Ordering::SeqCst);
            let value = answer.ok_or_else(|| DnsError::Timeout(host.to_owned()))?;
            Ok(Told { secure: !value.is_empty(), value, ttl: Some(std::time::Duration::from_secs(TTL_S / 2)) })
        })
    }

    fn mail_tlsa<'a>(&'a self, _host: &'a str) -> mx::Pending<'a, Result<Told<Vec<Tlsa>>, DnsError>> {
        Box::pin(async { Ok(Told { value: Vec::new(), secure: false, ttl: None }) })
    }

    fn sts_id<'a>(&'a self, _domain: &'a str) -> mx::Pending<'a, Result<Option<String>, DnsError>> {
        Box::pin(async { Ok(None) })
    }
}
