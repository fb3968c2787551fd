//! Clients in lockstep with addresses of their own, and a book of what each of their messages was answered.
//!
//! It judges nothing: `account` compares the book with what arrived. The flood crate is not used here because each message
//! needs a text of its own, and its answer word for word.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, sockopt};

/// A test text that every filter takes for spam, in two halves so that no filter takes this file for it.
const GTUBE: [&str; 2] = ["XJS*C4JDBQADN1.NSBN3*2IDNEN*", "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"];

/// One message to be sent.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) to: Vec<String>,
    pub(super) spam: bool,
    /// What the next hop refuses by a rule about contents.
    pub(super) bad: bool,
    pub(super) bytes: usize,
}

impl Letter {
    pub(super) fn new(to: &str, spam: bool) -> Self {
        Self { to: vec![to.to_owned()], spam, bad: false, bytes: 400 }
    }

    /// The text; whoever sends spam forges what a filter would have written.
    fn text(&self, number: u32) -> Vec<u8> {
        let forged = "X-Postern-Filter: accept; by=judge\r\nX-Spam-Flag: NO\r\nX-Spam-Status: No, score=-9.9\r\n";
        let (subject, orders) = match self.spam {
            true => ("offer", "reply 554 5.7.1 spam"),
            false => ("lunch", "add X-Heard yes"),
        };
        let mut text = format!(
            "From: Bob <bob@friend.example>\r\nTo: Ann <ann@example.com>\r\nSubject: {subject} {number}\r\n\
             Date: {}\r\nMessage-ID: <storm.{number}@friend.example>\r\nX-Do: {orders}\r\nX-Storm: {number}\r\n{}{}\r\n",
            date(),
            if self.bad { "X-Refuse: contents\r\n" } else { "" },
            if self.spam { forged } else { "" },
        );
        text.push_str(if self.spam { "Buy now.\r\n" } else { "Shall we have lunch on Thursday?\r\n" });
        if self.spam {
            text.push_str(&format!("{}\r\n", GTUBE.concat()));
        }
        for line in 0.. {
            if text.len() >= self.bytes {
                break;
            }
            text.push_str(&format!("The minutes of the meeting, page {line}, are as follows for everyone.\r\n"));
        }
        text.into_bytes()
    }
}

/// Now, less an hour: filters dislike what comes from the future, or from days ago.
fn date() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let then = jiff::Timestamp::from_second(now.cast_signed() - 3_600).expect("a moment of our time");
    then.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// What a client was told in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// 250.
    Taken,
    /// 5yz for the message, or for all of its recipients.
    Refused(String),
    /// 4yz.
    Deferred(String),
    /// The connection ended before the answer.
    Unknown,
}

/// One message, and its answer.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) number: u32,
    pub(super) peer: Ipv4Addr,
    pub(super) letter: Letter,
    /// Recipients that were taken at RCPT, and what the others were told.
    pub(super) to: Vec<String>,
    pub(super) turned_away: Vec<String>,
    pub(super) answer: Answer,
    /// Octets after the dot's answer: the id, when the receipt was answered.
    pub(super) words: String,
}

/// All clients of a test.
pub(super) struct Post {
    port: AtomicU16,
    stop: AtomicBool,
    next: AtomicU32,
    records: Mutex<Vec<Record>>,
}

impl Post {
    pub(super) fn new(port: u16) -> Self {
        let (stop, next) = (AtomicBool::new(false), AtomicU32::new(1));
        Self { port: AtomicU16::new(port), stop, next, records: Mutex::default() }
    }

    /// The server came back elsewhere.
    pub(super) fn moved_to(&self, port: u16) {
        self.port.store(port, Ordering::SeqCst);
    }

    /// Those who flood go home after the message they are at.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub(super) fn records(&self) -> Vec<Record> {
        self.records.lock().expect("no holder panics").clone()
    }

    /// How many answers there are that `wanted` likes.
    pub(super) fn count(&self, wanted: impl Fn(&Record) -> bool) -> usize {
        self.records.lock().expect("no holder panics").iter().filter(|record| wanted(record)).count()
    }

    /// Sends these over one connection; what is left when that breaks is never sent.
    pub(super) fn send(&self, peer: Ipv4Addr, letters: impl IntoIterator<Item = Letter>) {
        let Ok(mut client) = Client::connect(peer, self.port.load(Ordering::SeqCst)) else { return };
        for letter in letters {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            let mut record = Record {
                number,
                peer,
                letter,
                to: Vec::new(),
                turned_away: Vec::new(),
                answer: Answer::Unknown,
                words: String::new(),
            };
            let broken = client.send(&mut record).is_err();
            self.records.lock().expect("no holder panics").push(record);
            if broken {
                return;
            }
        }
    }

    /// Floods from `peer` until told to stop: three messages a connection, a breath between two.
    pub(super) fn flood(&self, peer: Ipv4Addr, breath: Duration, mut letter: impl FnMut(u32) -> Letter) {
        let mut sent = 0;
        while !self.stop.load(Ordering::SeqCst) {
            let letters: Vec<Letter> = (0..3).map(|n| letter(sent + n)).collect();
            sent += 3;
            self.send(peer, letters);
            // Paced, so that the filters of two busy cores have a chance to keep up in the calm.
            std::thread::sleep(breath);
        }
    }
}

/// Whatever happens, those who flood go home: a scope waits for them.
pub(super) struct AtTheEnd<'a>(pub(super) &'a Post);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// An SMTP client that waits for each reply.
struct Client(BufReader<TcpStream>);

impl Client {
    /// From an address of loopback itself; any other is told by XCLIENT.
    fn connect(peer: Ipv4Addr, port: u16) -> io::Result<Self> {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        let source = if peer.is_loopback() { peer } else { Ipv4Addr::LOCALHOST };
        rustix::net::bind(&socket, &SocketAddr::from((source, 0)))?;
        rustix::net::connect(&socket, &SocketAddr::from(([127, 0, 0, 1], port)))?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut client = Self(BufReader::new(stream));
        client.reply()?;
        if source != peer {
            client.say("EHLO localhost")?;
            client.say(&format!("XCLIENT ADDR={peer}"))?;
        }
        let hello = client.say(&format!("EHLO [{peer}]"))?;
        if hello.starts_with('2') { Ok(client) } else { Err(io::Error::other(hello)) }
    }

    fn say(&mut self, line: &str) -> io::Result<String> {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    fn reply(&mut self) -> io::Result<String> {
        let mut reply = String::new();
        loop {
            let start = reply.len();
            if self.0.read_line(&mut reply)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if reply.as_bytes().get(start + 3) != Some(&b'-') {
                return Ok(reply);
            }
        }
    }

    /// An error when the connection is of no more use; then nobody was told what became of the message.
    fn send(&mut self, record: &mut Record) -> io::Result<()> {
        let from = self.say("MAIL FROM:<bob@friend.example>")?;
        if !from.starts_with('2') {
            return self.answered(record, &from);
        }
        let mut last = String::new();
        for to in record.letter.to.clone() {
            last = self.say(&format!("RCPT TO:<{to}>"))?;
            match last.starts_with('2') {
                true => record.to.push(to),
                false => record.turned_away.push(format!("{to}: {}", last.trim_end())),
            }
        }
        if record.to.is_empty() {
            return self.answered(record, &last);
        }
        let go = self.say("DATA")?;
        if !go.starts_with('3') {
            return self.answered(record, &go);
        }
        self.0.get_mut().write_all(&record.letter.text(record.number))?;
        let end = self.say(".")?;
        self.answered(record, &end)
    }

    fn answered(&mut self, record: &mut Record, reply: &str) -> io::Result<()> {
        record.words = reply.trim_end().to_owned();
        record.answer = match reply.as_bytes().first() {
            Some(b'2') => Answer::Taken,
            Some(b'5') => Answer::Refused(record.words.clone()),
            _ => Answer::Deferred(record.words.clone()),
        };
        // Ready for the next: a 421 ends it, and so may anything after it.
        if !reply.starts_with('2') { self.say("RSET").map(drop) } else { Ok(()) }
    }
}
