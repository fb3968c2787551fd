//! A site with a real spool and a real drain, and next hops on loopback that do as they are told.

#![allow(dead_code, unreachable_pub, reason = "a helper module of the tests, not an interface")]

pub mod doors;
pub mod hop;
pub mod milter;
pub mod rspamd;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use postern_drain::{Drain, DrainHandle, DrainOptions, FilterTable, Route, RouteTable};
use postern_proto::address::Address;
use postern_proto::envelope::{Arrival, DsnRequest, Meta, Notify, Recipient, Refusal, Via};
use postern_proto::mode::{Mode, Modes};
use postern_proto::reply::Reply;
use postern_spool::{Body, Event, EventKind, Fate, ItemId, Lane, LaneStats, NewItem, Port, Spool, SpoolOptions, When};
use tokio::sync::Notify as Bell;
use tokio::time::timeout;

/// No test takes this long; one that hangs fails with its own words.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const BODY: &[u8] = b"Subject: hello\r\n\r\nThe body.\r\n.dot\r\n";

pub struct Site {
    pub dir: tempfile::TempDir,
    pub spool: Spool,
    pub routes: Arc<ArcSwap<RouteTable>>,
    pub modes: Arc<ArcSwap<Modes>>,
    pub options: DrainOptions,
    pub drain: DrainHandle,
    port: Port,
    events: RefCell<Vec<Event>>,
    /// Nobody waits for their fate any more; the drain may be at one of them still.
    withdrawn: RefCell<Vec<ItemId>>,
    bell: Arc<Bell>,
}

/// What a message is, where it matters to a test.
#[derive(Clone, Copy)]
pub struct Mail<'a> {
    pub from: Option<&'a str>,
    pub to: &'a [&'a str],
    pub via: Via,
    pub peer: &'a str,
    pub helo: &'a str,
    pub arrived_unix_ms: u64,
    pub tried_since_unix_ms: Option<u64>,
    pub notify: Notify,
    pub smtputf8: bool,
}

pub fn mail<'a>(to: &'a [&'a str]) -> Mail<'a> {
    Mail {
        from: Some("ann@sender.example"),
        to,
        via: Via::Public,
        peer: "192.0.2.7",
        helo: "client.example",
        arrived_unix_ms: now_unix_ms(),
        tried_since_unix_ms: None,
        notify: Notify::default(),
        smtputf8: false,
    }
}

pub fn now_unix_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

pub fn address(text: &str) -> Address {
    match text {
        "postmaster" => Address { local: "postmaster".into(), domain: "".into() },
        _ => Address::parse(text.as_bytes(), true).unwrap(),
    }
}

impl Mail<'_> {
    pub fn meta(&self) -> Meta {
        let recipient = |text: &&str| Recipient { address: address(text), original: None, notify: self.notify };
        Meta {
            arrival: Arrival {
                at_unix_ms: self.arrived_unix_ms,
                peer: format!("{}:4711", self.peer).parse().unwrap(),
                peer_name: Some("client.example".into()),
                local: "198.51.100.1:25".parse().unwrap(),
                by: "mx.example".into(),
                helo: self.helo.into(),
                esmtp: true,
                tls: None,
                via: self.via,
            },
            sender: self.from.map(address),
            recipients: self.to.iter().map(recipient).collect(),
            eight_bit: false,
            smtputf8: self.smtputf8,
            dsn: DsnRequest::default(),
            size: BODY.len() as u64,
            judged: false,
            attempts: 0,
            tried_since_unix_ms: self.tried_since_unix_ms,
            last_error: None,
            note: None,
            checks: Default::default(),
            judgement: None,
        }
    }
}

/// Short waits, so that retries happen within a test.
pub fn quick() -> DrainOptions {
    DrainOptions {
        hostname: "mx.example".into(),
        retry_first: Duration::from_millis(20),
        retry_max: Duration::from_millis(50),
        backoff_first: Duration::from_millis(20),
        backoff_max: Duration::from_millis(50),
        probe_unknown_every: Duration::from_millis(20),
        ..DrainOptions::default()
    }
}

impl Site {
    /// `route` is the default of every domain.
    pub fn new(mode: Mode, route: &str) -> Self {
        Self::with(mode, route, quick())
    }

    pub fn with(mode: Mode, route: &str, options: DrainOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let route = Route::parse(&route.replace("DIR", &dir.path().display().to_string())).unwrap();
        let table = RouteTable { detail: Some('+'), ..RouteTable::new(route) };
        Self::at(dir, table, mode, options)
    }

    pub fn at(dir: tempfile::TempDir, table: RouteTable, mode: Mode, options: DrainOptions) -> Self {
        let (spool, _) = Spool::open(SpoolOptions {
            segment_bytes: 1 << 20,
            free_low_bytes: 0,
            free_high_bytes: 1,
            ..SpoolOptions::new(dir.path().join("spool"))
        })
        .unwrap();
        let bell = Arc::new(Bell::new());
        let ring = bell.clone();
        let port = spool.port(Arc::new(move || ring.notify_one()));
        let routes = Arc::new(ArcSwap::from_pointee(table));
        let modes = Arc::new(ArcSwap::from_pointee(Modes { default: mode, ..Modes::default() }));
        let drain = Drain::start(spool.clone(), routes.clone(), modes.clone(), options.clone()).unwrap();
        let (events, withdrawn) = Default::default();
        Self { dir, spool, routes, modes, options, drain, port, events, withdrawn, bell }
    }

    pub fn set_mode(&self, domain: &str, mode: Mode) {
        let mut modes = Modes::clone(&self.modes.load());
        modes.domains.insert(domain.to_owned(), mode);
        self.modes.store(Arc::new(modes));
        self.drain.wake();
    }

    pub fn set_routes(&self, change: impl FnOnce(&mut RouteTable)) {
        let mut table = RouteTable::clone(&self.routes.load());
        change(&mut table);
        self.routes.store(Arc::new(table));
        self.drain.wake();
    }

    pub fn append(&self, mail: &Mail<'_>, when: When) -> ItemId {
        let id = self.spool.new_id();
        self.append_as(id, mail, Body::Inline(BODY.to_vec()), when);
        id
    }

    pub fn append_as(&self, id: ItemId, mail: &Mail<'_>, body: Body, when: When) {
        let meta = mail.meta();
        let lane = Lane::new(&*meta.recipients[0].address.domain, 0);
        let item = NewItem { id, lane, meta: meta.to_bytes(), due_unix_ms: now_unix_ms(), body };
        self.port.append(item, when);
        self.port.flush();
    }

    /// As the storm does, with other bytes, in the lane of a class; on return it is durable.
    pub async fn collect_as(&self, mail: &Mail<'_>, class: u8, body: &str) -> ItemId {
        let (id, meta) = (self.spool.new_id(), mail.meta());
        let lane = Lane::new(&*meta.recipients[0].address.domain, class);
        let body = Body::Inline(body.as_bytes().to_vec());
        let item = NewItem { id, lane, meta: meta.to_bytes(), due_unix_ms: now_unix_ms(), body };
        self.port.append(item, When::Commit);
        self.port.flush();
        assert!(matches!(self.event(id).await, EventKind::Committed(_)));
        id
    }

    /// A message that lies in quarantine since its id was given.
    pub async fn quarantine_as(&self, id: ItemId, mail: &Mail<'_>) {
        let meta = Meta { judged: true, ..mail.meta() };
        let lane = Lane::new(&*meta.recipients[0].address.domain, postern_drain::QUARANTINE_CLASS);
        let body = Body::Inline(BODY.to_vec());
        self.port.append(NewItem { id, lane, meta: meta.to_bytes(), due_unix_ms: 1, body }, When::Commit);
        self.port.flush();
        assert!(matches!(self.event(id).await, EventKind::Committed(_)));
    }

    /// Another table of filters.
    pub fn set_filters(&self, table: FilterTable) {
        self.options.filters.store(Arc::new(table));
        self.drain.wake();
    }

    pub fn commit(&self, id: ItemId) {
        self.port.commit(id);
        self.port.flush();
    }

    /// Streams a body, piece by piece.
    pub async fn write_body(&self, id: ItemId, body: &[u8]) {
        for piece in body.chunks(64 * 1024) {
            self.port.write_body(id, piece.to_vec());
            self.port.flush();
            assert!(matches!(self.event(id).await, EventKind::Stored));
        }
    }

    /// The next event, which must be about this item.
    pub async fn event(&self, id: ItemId) -> EventKind {
        let event = self.next_event().await;
        assert_eq!(event.id, id, "{event:?}");
        event.kind
    }

    /// The next event, whichever item it is about.
    pub async fn next_event(&self) -> Event {
        let waiting = async {
            loop {
                if let Some(event) = self.take_event() {
                    return event;
                }
                self.bell.notified().await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("no event came")
    }

    fn take_event(&self) -> Option<Event> {
        let mut events = self.events.borrow_mut();
        if events.is_empty() {
            self.port.drain_events(&mut events);
            events.retain(|event| !self.withdrawn.borrow().contains(&event.id));
        }
        (!events.is_empty()).then(|| events.remove(0))
    }

    /// Appends as the calm does and waits for the outcome. What has none is withdrawn: else it would be tried again, and
    /// on a busy machine at the same time as what comes next.
    pub async fn through(&self, mail: &Mail<'_>) -> Fate {
        let id = self.append(mail, When::Tentative);
        let fate = match self.event(id).await {
            EventKind::Fate(fate) => fate,
            other => panic!("{other:?}"),
        };
        if fate == Fate::Unsettled {
            self.withdrawn.borrow_mut().push(id);
            self.port.abandon(id);
            self.port.flush();
        }
        fate
    }

    /// Appends as the storm does; on return it is durable.
    pub async fn collect(&self, mail: &Mail<'_>) -> ItemId {
        let id = self.append(mail, When::Commit);
        assert!(matches!(self.event(id).await, EventKind::Committed(_)));
        id
    }

    /// Waits until the lanes are as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&[LaneStats]) -> bool) -> Vec<LaneStats> {
        let mut changed = self.spool.changed();
        let waiting = async {
            loop {
                let lanes = self.spool.lanes().await;
                if wanted(&lanes) {
                    return lanes;
                }
                let _ = timeout(Duration::from_millis(5), changed.changed()).await;
            }
        };
        match timeout(PATIENCE, waiting).await {
            Ok(lanes) => lanes,
            Err(_) => panic!("never {what}: {:?} {:?}", self.spool.lanes().await, self.drain.stats()),
        }
    }

    pub async fn until_empty(&self) {
        self.until("empty", |lanes| lanes.iter().all(|lane| count(lane) == 0)).await;
    }

    /// The metadata of everything in the dead-letter lane of a domain.
    pub async fn dead(&self, domain: &str) -> Vec<Meta> {
        let mut dead = Vec::new();
        for item in self.spool.list(Some(domain.to_owned()), None, 100).await {
            if item.lane.class == Lane::DEAD_CLASS {
                let item = self.spool.show(item.id).await.unwrap();
                dead.push(Meta::from_bytes(&item.meta).unwrap());
            }
        }
        dead
    }

    /// Letters in `new` of a mailbox.
    pub fn letters(&self, mailbox: &str) -> Vec<String> {
        let new = self.mailbox(mailbox).join("new");
        let Ok(entries) = std::fs::read_dir(new) else { return Vec::new() };
        entries.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
    }

    pub fn mailbox(&self, name: &str) -> PathBuf {
        self.dir.path().join("mail").join(name)
    }

    pub fn mail_dir(&self) -> PathBuf {
        Path::join(self.dir.path(), "mail")
    }
}

pub fn count(lane: &LaneStats) -> usize {
    lane.ready + lane.waiting + lane.leased + lane.held
}

/// How many items wait in a lane.
pub fn in_lane(lanes: &[LaneStats], key: &str, class: u8) -> usize {
    lanes.iter().filter(|lane| *lane.lane.key == *key && lane.lane.class == class).map(count).sum()
}

/// The words that a waiting sender hears.
pub fn heard(fate: &Fate) -> String {
    let reply = |bytes: &[u8]| Refusal::from_bytes(bytes).map(|Refusal(reply): Refusal| Reply::to_string(&reply));
    match fate {
        Fate::Delivered => "delivered".into(),
        Fate::Unsettled => "unsettled".into(),
        Fate::Refused(bytes) | Fate::Deferred(bytes) => reply(bytes).unwrap(),
    }
}
