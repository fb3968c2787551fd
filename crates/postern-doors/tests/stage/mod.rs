//! A door, its spool and blunt clients: what the tests of this folder stand on.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use postern_doors::{Admission, CrowdSnapshot, DoorListeners, DoorOptions, Doors, Intake, Policy, Recipients};
use postern_net::socket;
use postern_proto::envelope::Via;
use postern_proto::mode::{Mode, Modes};
use postern_proto::session::SessionOptions;
use postern_spool::{Spool, SpoolOptions};
use postern_trust::greylist::{BadRecipients, Greylist};
use postern_trust::pressure::PressureCell;
use postern_trust::shares::Shares;
use postern_trust::{Book, BookOptions, Evidence, EvidenceReceiver, Pins, Writer};

/// A running door for `example.com`, any recipient.
pub(crate) struct Door {
    doors: Option<Doors>,
    /// Behind it.
    pub(crate) spool: Spool,
    _dir: tempfile::TempDir,
}

impl Door {
    /// With room for all.
    pub(crate) fn start(mode: Mode) -> Self {
        Self::start_with(mode, 10_000)
    }

    /// With room for some.
    pub(crate) fn start_with(mode: Mode, connections_max: usize) -> Self {
        Self::open(mode, connections_max, Recipients::Any, None)
    }

    /// One that judges who comes first: 127.200/16 is pinned, one address is suspect, all others are
    /// strangers.
    pub(crate) fn judging(judged: Judged) -> (Self, Hands) {
        let (admission, hands) = admission(judged.held_bytes_max);
        let recipients = match judged.names.as_slice() {
            [] => Recipients::Any,
            names => Recipients::names(names.iter().copied()),
        };
        (Self::open(judged.mode, judged.connections_max, recipients, Some(admission)), hands)
    }

    fn open(mode: Mode, connections_max: usize, recipients: Recipients, admission: Option<Admission>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(SpoolOptions::new(dir.path())).unwrap();
        let policy = Policy { domains: [("example.com".to_owned(), recipients)].into(), ..Policy::default() };
        let modes = Modes { default: mode, ..Modes::default() };
        let listener = socket::listen("127.0.0.1:0".parse().unwrap(), socket::BACKLOG, false).unwrap();
        let options = DoorOptions {
            listeners: vec![DoorListeners { strangers: listener, known: None }],
            session: SessionOptions::new("mx.example.com".into(), Via::Public),
            tls: None,
            proxy_from: Vec::new(),
            xclient_from: Vec::new(),
            connections_max,
            callouts: None,
            admission,
        };
        let doors = Doors::start(
            spool.clone(),
            Arc::new(ArcSwap::from_pointee(policy)),
            Arc::new(ArcSwap::from_pointee(modes)),
            options,
        );
        Self { doors: Some(doors.unwrap()), spool, _dir: dir }
    }

    /// Who is in.
    pub(crate) fn crowd(&self) -> CrowdSnapshot {
        self.doors.as_ref().unwrap().crowd().snapshot()
    }

    /// A new client with an address of its own.
    pub(crate) fn connect_from(&self, ip: Ipv4Addr) -> Client {
        Client::connect_from(ip, self.addr())
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.doors.as_ref().unwrap().addr()
    }

    /// The door's counters.
    pub(crate) fn stats(&self) -> postern_doors::DoorStatsSnapshot {
        self.doors.as_ref().unwrap().stats().snapshot()
    }

    /// A new client.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.addr())
    }

    /// For the spool's asynchronous side.
    pub(crate) fn runtime(&self) -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// Stops, with this much time for messages under way.
    pub(crate) fn stop(mut self, grace: Duration) {
        let doors = self.doors.take().unwrap();
        self.runtime().block_on(doors.stop(grace));
    }
}

/// What differs between judging doors.
pub(crate) struct Judged {
    pub(crate) mode: Mode,
    pub(crate) connections_max: usize,
    pub(crate) held_bytes_max: u64,
    /// Recipients; any, when there are none.
    pub(crate) names: Vec<&'static str>,
}

impl Default for Judged {
    fn default() -> Self {
        Self { mode: Mode::Collect, connections_max: 1_000, held_bytes_max: 64 << 20, names: Vec::new() }
    }
}

/// What a judging door reads, for the test to write.
pub(crate) struct Hands {
    /// An address with a history.
    pub(crate) suspect: Ipv4Addr,
    pub(crate) pressure: Arc<PressureCell>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) bypass: Arc<AtomicBool>,
    pub(crate) observe: Arc<AtomicBool>,
    receiver: EvidenceReceiver,
}

impl Hands {
    /// What the door has told since the last call.
    pub(crate) fn evidence(&mut self) -> Vec<Evidence> {
        let mut told = Vec::new();
        self.receiver.drain(&mut told, 1_000);
        told
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let runtime = self.runtime();
        if let Some(doors) = self.doors.take() {
            runtime.block_on(doors.stop(Duration::ZERO));
        }
        runtime.block_on(self.spool.shutdown());
    }
}

/// Nothing here takes longer unless it is broken, however busy the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A client that speaks in lockstep and waits for as long as [`PATIENCE`].
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Connects from an address of this machine's.
    pub(crate) fn connect_from(ip: Ipv4Addr, addr: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((ip, 0)).into()).unwrap();
        socket.connect(&addr.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// One line without its end; empty at the end of the connection.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("neither a line nor an end came: {line:?}"),
            // A reset is an end as well.
            Ok(_) | Err(_) => line.trim_end().to_owned(),
        }
    }

    /// The next line begins so.
    #[track_caller]
    pub(crate) fn expect(&mut self, beginning: &str) {
        let line = self.line();
        assert!(line.starts_with(beginning), "{line:?} does not begin with {beginning:?}");
    }

    /// Says something.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// A whole message to ann@example.com up to the final dot.
    pub(crate) fn begin_message(&mut self, body: &str) {
        self.begin_body();
        self.write(body.as_bytes());
        self.write(b".\r\n");
    }

    /// Lines, until the other side takes no more.
    pub(crate) fn write_what_fits(&mut self, line: &str, times: usize) {
        let stream = self.stream.get_mut();
        stream.set_nonblocking(true).unwrap();
        let text = format!("{line}\r\n").repeat(times);
        let mut rest = text.as_bytes();
        while let Ok(n) = stream.write(rest)
            && n > 0
        {
            rest = &rest[n..];
        }
        stream.set_nonblocking(false).unwrap();
    }

    /// The envelope, up to 354.
    pub(crate) fn begin_body(&mut self) {
        for (command, reply) in [
            ("HELO client.example\r\n", "250 "),
            ("MAIL FROM:<bob@client.example>\r\n", "250 "),
            ("RCPT TO:<ann@example.com>\r\n", "250 "),
            ("DATA\r\n", "354 "),
        ] {
            self.write(command.as_bytes());
            self.expect(reply);
        }
    }

    /// The same, and the answer.
    pub(crate) fn send_message(&mut self, body: &str) -> String {
        self.begin_message(body);
        self.line()
    }
}

/// What [`Door::judging`] judges by, with room for so many octets of messages on their way in.
pub(crate) fn admission(held_bytes_max: u64) -> (Admission, Hands) {
    let book = Book::new(BookOptions::default(), [7; 16]);
    book.set_pins(Pins { networks: vec!["127.200.0.0/16".parse().unwrap()], ..Pins::default() });
    let suspect = Ipv4Addr::new(127, 66, 6, 6);
    let mut writer = Writer::new(Arc::clone(&book));
    let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for _ in 0..20 {
        let ip = suspect.into();
        writer.apply(&Evidence::Spam { ip, domain: None, n: 5 }, now_s);
        writer.apply(&Evidence::EarlyTalker { ip }, now_s);
        writer.apply(&Evidence::Abuse { ip }, now_s);
        writer.apply(&Evidence::BadRecipients { ip, n: 50 }, now_s);
    }
    let (evidence, receiver) = postern_trust::channel(1_000);
    let hands = Hands {
        suspect,
        pressure: Arc::default(),
        intake: Arc::default(),
        bypass: Arc::default(),
        observe: Arc::default(),
        receiver,
    };
    let admission = Admission {
        book,
        evidence,
        identity: None,
        pressure: Arc::clone(&hands.pressure),
        intake: Arc::clone(&hands.intake),
        bypass: Arc::clone(&hands.bypass),
        observe: Arc::clone(&hands.observe),
        greylist: Arc::new(Greylist::new(10, [1; 16])),
        bad_recipients: Arc::new(BadRecipients::new(10, [2; 16])),
        shares: Shares::default(),
        held_bytes_max,
        our_names: vec!["mx.example.com".to_owned()],
        spin: Duration::ZERO,
    };
    (admission, hands)
}
