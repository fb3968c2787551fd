//! A door, its spool and blunt clients: what the tests of this folder stand on.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use postern_doors::{DoorListeners, DoorOptions, Doors, Policy, Recipients};
use postern_net::socket;
use postern_proto::envelope::Via;
use postern_proto::mode::{Mode, Modes};
use postern_proto::session::SessionOptions;
use postern_spool::{Spool, SpoolOptions};

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
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(SpoolOptions::new(dir.path())).unwrap();
        let policy = Policy { domains: [("example.com".to_owned(), Recipients::Any)].into(), ..Policy::default() };
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
            admission: None,
        };
        let doors = Doors::start(
            spool.clone(),
            Arc::new(ArcSwap::from_pointee(policy)),
            Arc::new(ArcSwap::from_pointee(modes)),
            options,
        );
        Self { doors: Some(doors.unwrap()), spool, _dir: dir }
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

    /// Stops and waits.
    pub(crate) fn stop(mut self) {
        let doors = self.doors.take().unwrap();
        self.runtime().block_on(doors.stop(Duration::from_secs(4)));
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

/// A client that speaks in lockstep and waits at most ten seconds.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// One line without its end; empty at the end of the connection.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        // A reset is an end as well.
        let _read = self.stream.read_line(&mut line);
        line.trim_end().to_owned()
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
        for (command, reply) in [
            ("HELO client.example\r\n", "250 "),
            ("MAIL FROM:<bob@client.example>\r\n", "250 "),
            ("RCPT TO:<ann@example.com>\r\n", "250 "),
            ("DATA\r\n", "354 "),
        ] {
            self.write(command.as_bytes());
            self.expect(reply);
        }
        self.write(body.as_bytes());
        self.write(b".\r\n");
    }

    /// The same, and the answer.
    pub(crate) fn send_message(&mut self, body: &str) -> String {
        self.begin_message(body);
        self.line()
    }
}
