//! What the connections of one thread share: buffers, clock, the way to the spool.
//!
//! Nothing here is shared between threads but the spool's port, whose requests are handed over
//! when the thread is about to sleep: by then every connection that was ready has had its turn,
//! so that one sync of the disk serves them all.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use postern_identity::{Findings, Question, helo_is_plausible};
use postern_proto::address::Address;
use postern_proto::author::{Author, AuthorFault};
use postern_proto::checks::{Checks, SpfResult};
use postern_proto::envelope::Via;
use postern_proto::mode::{Mode, Modes};
use postern_proto::reply::Reply;
use postern_proto::session::{Deferral, Offers, RecipientVerdict, SessionOptions};
use postern_proto::time::Instant;
use postern_spool::{Event, EventKind, Fate, ItemId, NewItem, Port, Spool, When};
use postern_trust::{Class, Evidence};
use rustls::ServerConfig;
use tokio::sync::Notify;

use crate::admission::{Admission, Applicant, Usher};
use crate::callout::{CalloutCache, CalloutDesk};
use crate::conn::{Client, Surroundings, use_mx};
use crate::crowd::Crowd;
use crate::deadlines::{Letter, Slot, Slots};
use crate::limits;
use crate::policy::{Lookup, Policy};
use crate::postern::authority::ground_of;
use crate::recent::{Memory, Recent};
use crate::stats::{DoorStats, count};
use crate::turns::Turns;

/// What all threads of a door share.
pub(crate) struct Shared {
    pub(crate) spool: Spool,
    pub(crate) policy: Arc<ArcSwap<Policy>>,
    pub(crate) modes: Arc<ArcSwap<Modes>>,
    pub(crate) session: SessionOptions,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) proxy_from: Vec<IpNet>,
    pub(crate) xclient_from: Vec<IpNet>,
    pub(crate) connections_max: usize,
    pub(crate) callouts: Option<CalloutCache>,
    pub(crate) stats: Arc<DoorStats>,
    pub(crate) admission: Option<Admission>,
    pub(crate) crowd: Arc<Crowd>,
}

/// What the connections of one thread share.
pub(crate) struct Core {
    pub(crate) shared: Arc<Shared>,
    pub(crate) slots: Slots,
    /// Input of whoever reads at this moment.
    pub(crate) input: RefCell<Box<[u8]>>,
    /// Output of whoever answers at this moment.
    pub(crate) output: RefCell<Vec<u8>>,
    port: Arc<Mutex<Port>>,
    news: Arc<Notify>,
    /// Who waits for events of an item, and with which question.
    waiting: RefCell<HashMap<ItemId, (Rc<Slot>, u64)>>,
    profile: RefCell<Option<Profile>>,
    callouts: CalloutDesk,
    pub(crate) usher: Usher,
    pub(crate) turns: Turns,
    findings: Arc<Mailbox>,
    recent: Recent,
    events: RefCell<Vec<Event>>,
    /// Connections with a message on its way in.
    arriving: Cell<u32>,
    epoch: std::time::Instant,
}

/// Where the identity thread leaves what it found out.
#[derive(Default)]
struct Mailbox {
    letters: Mutex<Vec<Found>>,
}

/// An answer about a stranger, on its way to a connection.
struct Found {
    index: usize,
    serial: u64,
    key: u64,
    findings: Findings,
}

/// What a thread's core is made with besides what all threads share.
pub(crate) struct Seat {
    pub(crate) thread: usize,
    pub(crate) port: Arc<Mutex<Port>>,
    /// Wakes the thread for events and findings.
    pub(crate) news: Arc<Notify>,
    /// Raised when the thread wakes up from sleep.
    pub(crate) woken: Arc<AtomicU64>,
}

/// The session options that follow from a policy, made once for each policy.
struct Profile {
    policy: Arc<Policy>,
    plain: Arc<SessionOptions>,
    xclient: Arc<SessionOptions>,
}

impl Core {
    pub(crate) fn new(shared: Arc<Shared>, seat: Seat) -> Self {
        let Seat { thread, port, news, woken } = seat;
        let crowd = Arc::clone(&shared.crowd);
        Self {
            usher: Usher::new(shared.admission.clone(), crowd, thread, shared.connections_max),
            turns: Turns::new(woken),
            findings: Arc::default(),
            recent: Recent::new(),
            news,
            slots: Slots::default(),
            input: RefCell::new(vec![0; limits::READ_BYTES].into_boxed_slice()),
            output: RefCell::default(),
            port,
            waiting: RefCell::default(),
            profile: RefCell::default(),
            callouts: CalloutDesk::new(&shared.session.hostname, shared.callouts.clone()),
            events: RefCell::default(),
            arriving: Cell::new(0),
            epoch: std::time::Instant::now(),
            shared,
        }
    }

    /// The monotonic clock, as the sessions count it.
    pub(crate) fn now(&self) -> Instant {
        Instant(u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The options for a session with a peer that may or may not use XCLIENT.
    pub(crate) fn session_options(&self, xclient: bool) -> Arc<SessionOptions> {
        let policy = self.shared.policy.load();
        let mut profile = self.profile.borrow_mut();
        let fresh = profile.as_ref().is_some_and(|profile| Arc::ptr_eq(&profile.policy, &policy));
        let profile = match profile.as_mut() {
            Some(profile) if fresh => profile,
            _ => profile.insert(self.make_profile(Arc::clone(&policy))),
        };
        Arc::clone(if xclient { &profile.xclient } else { &profile.plain })
    }

    fn make_profile(&self, policy: Arc<Policy>) -> Profile {
        let mut plain = self.shared.session.clone();
        plain.offers = Offers {
            eight_bit: policy.offers.eight_bit,
            smtputf8: policy.offers.smtputf8,
            dsn: plain.via.is_reportable(),
            starttls: self.shared.tls.is_some(),
        };
        let xclient = SessionOptions { xclient: true, ..plain.clone() };
        Profile { policy, plain: Arc::new(plain), xclient: Arc::new(xclient) }
    }

    /// Hands the spool's events, and what was found out about strangers, to the connections.
    pub(crate) fn dispatch(&self) {
        for Found { index, serial, key, findings } in self.findings.take() {
            self.recent.learn(key, &findings, self.now());
            let open = |slot: &Rc<Slot>| slot.serial == serial && slot.looked_into.get() == key;
            if let Some(slot) = self.slots.get(index).filter(open) {
                slot.findings.replace(Some(Box::new(findings)));
            }
        }
        let mut events = self.events.borrow_mut();
        self.port().drain_events(&mut events);
        for Event { id, kind } in events.drain(..) {
            let goes_on = matches!(kind, EventKind::Stored | EventKind::Fate(Fate::Unsettled));
            let waiting = if goes_on { self.waiting.borrow().get(&id).cloned() } else { self.forget(id) };
            if let Some((slot, question)) = waiting {
                self.count(&kind);
                slot.deliver(question, Letter::Event(id, kind));
            }
        }
    }

    fn count(&self, kind: &EventKind) {
        let stats = &self.shared.stats;
        match kind {
            EventKind::Committed(_) => count(&stats.queued),
            EventKind::Fate(Fate::Delivered) => count(&stats.delivered),
            EventKind::Fate(Fate::Refused(_) | Fate::Deferred(_)) | EventKind::Refused(_) => count(&stats.refused),
            EventKind::Fate(Fate::Unsettled) | EventKind::Stored => {}
        }
    }

    /// Nobody waits for this item any more.
    pub(crate) fn forget(&self, id: ItemId) -> Option<(Rc<Slot>, u64)> {
        self.waiting.borrow_mut().remove(&id)
    }

    /// A connection's message begins or stops arriving: a commit waits a little for company only
    /// while there is some.
    pub(crate) fn note_arriving(&self, begins: bool) {
        let arriving = self.arriving.get();
        let arriving = if begins { arriving + 1 } else { arriving.saturating_sub(1) };
        self.arriving.set(arriving);
        self.port().expect(arriving);
    }

    /// Hands over what has waited for a millisecond. The hook of the parking thread does it when
    /// there is nothing else to do; a thread that one client keeps busy never parks.
    pub(crate) fn flush_if_old(&self) {
        self.port().flush_if_old();
    }

    /// Asks about a stranger; the answer is used if it is there when the message is whole. Nobody
    /// waits for it.
    fn look_into(&self, slot: &Rc<Slot>, index: usize, client: &Client<'_>) {
        let Some(desk) = self.usher.admission().and_then(|admission| admission.identity.as_ref()) else { return };
        let class = slot.class.get();
        if class <= Class::Known {
            return;
        }
        let key = self.recent.key(client);
        slot.looked_into.set(key);
        match self.recent.recall(key, self.now()) {
            Memory::Known(findings) => return drop(slot.findings.replace(Some(Box::new(findings)))),
            Memory::Asked => return,
            Memory::Nothing => {}
        }
        let question = Question {
            ip: client.ip,
            helo: client.helo.map(Into::into),
            mail_from: Some(client.sender.map(Address::to_string).unwrap_or_default().into_boxed_str()),
            class,
            level: self.usher.level(),
        };
        let (mailbox, news, serial) = (Arc::clone(&self.findings), Arc::clone(&self.news), slot.serial);
        let answer = Box::new(move |findings| {
            if mailbox.put(Found { index, serial, key, findings }) {
                news.notify_one();
            }
        });
        // Not affordable now: nothing is known then, and nothing is what is written down.
        if !desk.ask(question, answer) {
            self.recent.forget(key);
        }
    }

    fn port(&self) -> MutexGuard<'_, Port> {
        self.port.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mailbox {
    /// False: there are too many already.
    fn put(&self, found: Found) -> bool {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        let room = letters.len() < limits::FINDINGS_MAX;
        if room {
            letters.push(found);
        }
        room
    }

    fn take(&self) -> Vec<Found> {
        std::mem::take(&mut *self.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The world of one connection.
pub(crate) struct World<'a> {
    pub(crate) core: &'a Rc<Core>,
    pub(crate) slot: &'a Rc<Slot>,
    pub(crate) index: usize,
}

impl World<'_> {
    /// The class in which this transaction is judged: inside a shared provider, that of its tenant.
    fn class_of(&self, ip: IpAddr, sender: Option<&Address>, now_s: u64) -> Class {
        let class = self.slot.class.get();
        let Some(admission) = self.core.usher.admission() else { return class };
        let findings = self.slot.findings.borrow();
        let authorised = findings.as_ref().is_some_and(|findings| findings.authority.is_some());
        if class == Class::Provider || authorised {
            let sender = sender.map(Address::to_string);
            return admission.book.class_of_message(ip, sender.as_deref(), authorised, now_s);
        }
        class
    }

    /// At the first recipient of a transaction: what is to be asked, and what can be seen at once.
    fn begin_transaction(&self, client: &Client<'_>) {
        let slot = self.slot;
        slot.findings.replace(None);
        slot.looked_into.set(0);
        self.core.look_into(slot, self.index, client);
        let Some(admission) = self.core.usher.admission() else { return };
        let names: Vec<&str> = admission.our_names.iter().map(String::as_str).collect();
        let plausible = client.helo.is_none_or(|helo| helo_is_plausible(helo, client.ip, &names));
        if !plausible && !slot.bad_helo.replace(true) {
            self.core.usher.tell(Evidence::BadHelo { ip: client.ip });
        }
    }

    /// What admission says of this recipient, whoever that is.
    fn consider(&self, address: &Address, client: &Client<'_>, mode: Mode) -> Result<(), Deferral> {
        if self.core.usher.admission().is_none() {
            return Ok(());
        }
        let now_s = now_unix_ms() / 1000;
        let class = self.class_of(client.ip, client.sender, now_s);
        let findings = self.slot.findings.borrow();
        let credited = findings.as_ref().filter(|findings| findings.authority.is_some());
        let spf = credited.and_then(|findings| findings.spf.as_ref());
        let authorised_domain = spf.filter(|spf| spf.result == SpfResult::Pass).map(|spf| spf.domain.clone());
        let weight: i32 =
            findings.iter().flat_map(|findings| &findings.listed).map(|listed| i32::from(listed.weight)).sum();
        drop(findings);
        self.core.usher.consider(&Applicant {
            class,
            ip: client.ip,
            sender: &client.sender.map(Address::to_string).unwrap_or_default(),
            recipient: &address.to_string(),
            authorised_domain: authorised_domain.as_deref(),
            listed_good: weight > 0,
            collecting: mode != Mode::Through,
            now_s,
        })
    }

    /// Counts who asks for names that are not there, whoever found that out.
    pub(crate) fn note_unknown(&self, verdict: Option<&RecipientVerdict>, ip: IpAddr) {
        if matches!(verdict, Some(RecipientVerdict::Unknown(_))) {
            self.core.usher.note_bad_recipient(ip, now_unix_ms() / 1000);
        }
    }

    fn expect_events(&self, id: ItemId) {
        self.core.waiting.borrow_mut().insert(id, (Rc::clone(self.slot), self.slot.ask()));
    }
}

impl Surroundings for World<'_> {
    fn recipient(&mut self, address: &Address, client: &Client<'_>) -> Option<RecipientVerdict> {
        let shared = &self.core.shared;
        if shared.session.via == Via::Relay {
            // The local MTA's own queue stands behind it: its mail is answered at the receipt.
            let relays = shared.policy.load().relays_to(&address.domain);
            return Some(if relays { RecipientVerdict::Accept(Mode::Collect) } else { RecipientVerdict::NotOurs });
        }
        if client.begins {
            self.begin_transaction(client);
        }
        let modes = shared.modes.load();
        let mode = modes.of(&address.domain);
        // Before the name is looked up: what is deferred is deferred for known and unknown names
        // alike, in the same time.
        if let Err(why) = self.consider(address, client, mode) {
            return Some(RecipientVerdict::Defer(why));
        }
        match shared.policy.load().lookup(address, &modes) {
            Lookup::Known(verdict) => {
                self.note_unknown(Some(&verdict), client.ip);
                Some(verdict)
            }
            Lookup::Ask(target) => {
                let callouts = &self.core.callouts;
                let verdict = callouts.ask(target, address, (mode, self.slot.class.get()), self.unix_ms(), self.slot);
                self.note_unknown(verdict.as_ref(), client.ip);
                verdict
            }
        }
    }

    fn checks(&mut self, client: &Client<'_>) -> Checks {
        let class = self.class_of(client.ip, client.sender, now_unix_ms() / 1000);
        let findings = self.slot.findings.take().map(|findings| *findings).unwrap_or_default();
        self.slot.looked_into.set(0);
        if let Some(admission) = self.core.usher.admission() {
            admission.intake.taken(class);
        }
        Checks {
            class: class as u8,
            spf: findings.spf,
            name: findings.name,
            listed: findings.listed,
            early_talker: self.slot.early_talker.get(),
            bad_helo: self.slot.bad_helo.get(),
        }
    }

    fn may_bring(&mut self, author: Option<&Result<Author, AuthorFault>>, client: &Client<'_>) -> Result<(), Reply> {
        let Some(author) = author else { return Ok(()) };
        let peer = self.slot.principal.as_deref();
        let why = match (author, peer) {
            // Reports go to the envelope sender: aimed at others they would be backscatter of ours.
            (Ok(_), Some(peer)) if client.sender.is_some_and(|sender| !peer.may_send_as(&sender.domain)) => {
                "the envelope sender is not of your domain"
            }
            (Ok(author), Some(peer)) if ground_of(author, peer).is_some() => return Ok(()),
            (Ok(_), _) => "the author is not of your domain",
            (Err(fault), _) => fault.as_str(),
        };
        tracing::debug!(client = %client.ip, peer = peer.map(|peer| &*peer.domain), why, "a message has to use the MX");
        count(&self.core.shared.stats.use_mx);
        Err(use_mx(why))
    }

    fn new_id(&mut self) -> ItemId {
        self.core.shared.spool.new_id()
    }

    fn write_body(&mut self, id: ItemId, piece: Vec<u8>) {
        self.expect_events(id);
        self.core.port().write_body(id, piece);
    }

    fn append(&mut self, item: NewItem, when: When) {
        self.expect_events(item.id);
        self.core.port().append(item, when);
    }

    fn commit(&mut self, id: ItemId) {
        self.core.port().commit(id);
    }

    fn abandon(&mut self, id: ItemId) {
        self.core.forget(id);
        self.core.port().abandon(id);
    }

    fn forget(&mut self, id: ItemId) {
        self.core.forget(id);
        self.slot.ask();
    }

    fn unix_ms(&mut self) -> u64 {
        now_unix_ms()
    }
}

/// The wall clock, milliseconds since 1970.
pub(crate) fn now_unix_ms() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
