//! What the server is made of, without the connections: spool, usher, book, modes, clocks. It wires; it decides nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use postern_doors::machine::Usher;
use postern_doors::{Admission, Crowd, DoorStats, Intake, Policy, Recipients};
use postern_proto::envelope::Via;
use postern_proto::mode::Modes;
use postern_proto::session::SessionOptions;
use postern_spool::machine::{Disk, Engine, Input, Output, PortRequest, Reply, Request, recover};
use postern_spool::{EventKind, ItemId, SpoolOptions};
use postern_trust::greylist::{BadRecipients, Greylist};
use postern_trust::pressure::PressureCell;
use postern_trust::shares::Shares;
use postern_trust::{Authority, Book, BookOptions, Class, Evidence, EvidenceReceiver, Writer};

use super::THREADS;
use super::ledger::Ledger;
use super::peers::{DOMAINS, Kind, Peer};
use crate::disk::FaultyDisk;
use crate::rng::Rng;

pub(super) struct House {
    pub(super) disk: FaultyDisk,
    pub(super) engine: Engine,
    pub(super) events: Vec<(ItemId, EventKind)>,
    pub(super) replies: Vec<(u64, Reply)>,
    pub(super) ledger: Ledger,
    /// Who waits for events of an item.
    pub(super) waiting: BTreeMap<ItemId, usize>,
    pub(super) book: Arc<Book>,
    writer: Writer,
    receiver: EvidenceReceiver,
    /// As it is on disk.
    snapshot: Vec<u8>,
    pub(super) admission: Admission,
    pub(super) shares: Shares,
    pub(super) crowd: Arc<Crowd>,
    pub(super) ushers: Vec<Usher>,
    pub(super) stats: DoorStats,
    pub(super) policy: Policy,
    pub(super) modes: Modes,
    pub(super) session: Arc<SessionOptions>,
    connections_max: usize,
    pub(super) now_ms: u64,
    /// What the wall clock shows at the beginning, jumps included.
    pub(super) wall_ms: i64,
    last_id: u64,
    next_token: u64,
    /// The identity desk has an answer.
    pub(super) dns: bool,
    /// Disk, filter and next hops are well, and no crash is near.
    pub(super) calm: bool,
    seed: u64,
}

impl House {
    pub(super) fn new(rng: &mut Rng, mut disk: FaultyDisk, peers: &[Peer], connections_max: usize) -> Self {
        let recovered = recover(&mut disk, &spool_options()).expect("an empty disk can be read");
        let seed = rng.next();
        let engine = Engine::new(spool_options(), recovered, seed, WALL_MS as u64);
        let book = Book::new(book_options(), *b"a key for worlds");
        let mut writer = Writer::new(Arc::clone(&book));
        warm(&mut writer, peers);
        let shares = Shares::default();
        let (admission, receiver) = admission(&book, shares);
        let crowd = Arc::new(Crowd::new(THREADS));
        let names: Vec<String> = (0..8).map(|n| format!("user{n}")).chain(["full".to_owned()]).collect();
        let recipients = Recipients::names(names.iter().map(String::as_str));
        let policy = Policy {
            domains: DOMAINS.iter().map(|domain| ((*domain).to_owned(), recipients.clone())).collect(),
            ..Policy::default()
        };
        Self {
            ushers: ushers(&admission, &crowd, connections_max),
            snapshot: book.snapshot(),
            disk,
            engine,
            events: Vec::new(),
            replies: Vec::new(),
            ledger: Ledger::default(),
            waiting: BTreeMap::new(),
            book,
            writer,
            receiver,
            admission,
            shares,
            crowd,
            stats: DoorStats::default(),
            policy,
            modes: Modes::default(),
            session: Arc::new(SessionOptions::new("mx.example".to_owned(), Via::Public)),
            connections_max,
            now_ms: 0,
            wall_ms: WALL_MS,
            last_id: 0,
            next_token: 0,
            dns: true,
            calm: true,
            seed,
        }
    }

    /// The wall clock.
    pub(super) fn unix_ms(&self) -> u64 {
        (self.wall_ms + self.now_ms as i64).max(0) as u64
    }

    pub(super) fn class_of(&self, ip: IpAddr) -> Class {
        self.book.class_of(ip, self.unix_ms() / 1000)
    }

    pub(super) fn new_id(&mut self) -> ItemId {
        self.last_id = (self.unix_ms() << 22).max(self.last_id + 1);
        ItemId(self.last_id)
    }

    pub(super) fn port(&mut self, request: PortRequest) {
        self.engine.handle(self.unix_ms(), Input::Port { port: 0, request });
    }

    pub(super) fn ask(&mut self, request: Request) -> u64 {
        self.next_token += 1;
        self.engine.handle(self.unix_ms(), Input::Request { token: self.next_token, request });
        self.next_token
    }

    pub(super) fn spool_tick(&mut self) {
        self.engine.handle(self.unix_ms(), Input::Tick);
    }

    pub(super) fn free_space(&mut self, bytes: u64) {
        self.engine.handle(self.unix_ms(), Input::FreeSpace(bytes));
    }

    /// The spool and its disk, as far as nothing takes time.
    pub(super) fn turn(&mut self) {
        let now = self.unix_ms();
        while let Some(op) = self.engine.poll_disk() {
            self.disk.submit(op);
        }
        while let Some(completion) = self.disk.poll() {
            self.engine.handle_completion(now, completion);
            while let Some(op) = self.engine.poll_disk() {
                self.disk.submit(op);
            }
        }
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Event { event, .. } => self.events.push((event.id, event.kind)),
                Output::Reply { token, reply } => self.replies.push((token, reply)),
            }
        }
    }

    pub(super) fn disk_waits(&self) -> bool {
        self.disk.is_busy()
    }

    pub(super) fn tell(&mut self, evidence: Evidence) {
        self.admission.evidence.send(evidence);
    }

    /// The trust task's turn.
    pub(super) fn gather(&mut self) {
        let now_s = self.unix_ms() / 1000;
        let mut batch = Vec::new();
        self.receiver.drain(&mut batch, 10_000);
        for evidence in batch {
            self.writer.apply(&evidence, now_s);
        }
        self.writer.tick(now_s);
    }

    /// Written aside, synced and renamed: it is durable, or the one before is.
    pub(super) fn save_book(&mut self) {
        self.snapshot = self.book.snapshot();
    }

    /// All that was in memory is gone; what was on the disk is read again.
    pub(super) fn start_again(&mut self) -> Result<Vec<ItemId>, String> {
        let recovered = recover(&mut self.disk, &spool_options()).map_err(|error| error.to_string())?;
        let damaged = recovered.report.damaged.clone();
        self.seed = self.seed.wrapping_add(1);
        self.last_id = self.last_id.max(recovered.id_high().0);
        self.engine = Engine::new(spool_options(), recovered, self.seed, self.unix_ms());
        self.events.clear();
        self.replies.clear();
        self.book = Book::restore(book_options(), &self.snapshot).map_err(|error| error.to_string())?;
        self.writer = Writer::new(Arc::clone(&self.book));
        (self.admission, self.receiver) = admission(&self.book, self.shares);
        self.crowd = Arc::new(Crowd::new(THREADS));
        self.ushers = ushers(&self.admission, &self.crowd, self.connections_max);
        Ok(damaged)
    }
}

fn ushers(admission: &Admission, crowd: &Arc<Crowd>, connections_max: usize) -> Vec<Usher> {
    (0..THREADS).map(|n| Usher::new(Some(admission.clone()), Arc::clone(crowd), n, connections_max)).collect()
}

fn admission(book: &Arc<Book>, shares: Shares) -> (Admission, EvidenceReceiver) {
    let (evidence, receiver) = postern_trust::channel(4096);
    let admission = Admission {
        book: Arc::clone(book),
        evidence,
        identity: None,
        pressure: Arc::new(PressureCell::new()),
        intake: Arc::new(Intake::default()),
        bypass: Arc::default(),
        observe: Arc::default(),
        greylist: Arc::new(Greylist::new(10, *b"another one here")),
        bad_recipients: Arc::new(BadRecipients::new(10, *b"and a third one.")),
        shares,
        held_bytes_max: HELD_BYTES_MAX,
        our_names: vec!["mx.example".to_owned()],
        spin: Duration::ZERO,
    };
    (admission, receiver)
}

/// What the book knows when the world begins: whom this site wrote to, and where the provider's machines are.
fn warm(writer: &mut Writer, peers: &[Peer]) {
    let now_s = WALL_MS as u64 / 1000 - 3600;
    writer.tick(now_s);
    for peer in peers.iter().filter(|peer| peer.kind == Kind::Friend) {
        let domain = || peer.domain.clone().into_boxed_str();
        writer.apply(&Evidence::WroteTo { domain: domain(), address: None }, now_s);
        writer.apply(&Evidence::Authorised { ip: peer.ip, domain: domain(), by: Authority::Spf }, now_s);
        writer.apply(&Evidence::Ham { ip: peer.ip, domain: Some(domain()), n: 1 }, now_s);
        assert_eq!(writer.book().class_of(peer.ip, now_s), Class::Known, "a friend is known");
    }
    let pins = postern_trust::Pins { providers: vec!["provider.example".to_owned()], ..Default::default() };
    writer.book().set_pins(pins);
    let networks = Box::new(["203.0.113.0/24".parse().expect("a network")]);
    writer.apply(&Evidence::ProviderNetworks { domain: "provider.example".into(), networks }, now_s);
}

fn book_options() -> BookOptions {
    BookOptions { good_entries: 1 << 10, bad_entries: 1 << 10, hot_entries: 64, ..BookOptions::default() }
}

/// Small, so that a few minutes go round the log, and a flood fills it.
fn spool_options() -> SpoolOptions {
    SpoolOptions {
        segment_bytes: 256 << 10,
        items_max: ITEMS_MAX,
        bytes_max: 8 << 20,
        tentative_bytes_max: 1 << 20,
        free_low_bytes: FREE_LOW,
        free_high_bytes: 2 * FREE_LOW,
        ..SpoolOptions::new("")
    }
}

/// Where the wall clock begins.
const WALL_MS: i64 = 1_700_000_000_000;
/// The promised delay of these worlds.
pub(super) const PROMISED_MS: u64 = 1_200_000;
/// Octets of messages on their way in.
pub(super) const HELD_BYTES_MAX: u64 = 2 << 20;
/// Items in the spool.
pub(super) const ITEMS_MAX: usize = 2_000;
/// The spool's low mark.
pub(super) const FREE_LOW: u64 = 1 << 20;
