//! What the connections of one thread share: buffers, clock, the way to the spool.
//!
//! Nothing here is shared between threads but the spool's port, whose requests are handed over
//! when the thread is about to sleep: by then every connection that was ready has had its turn,
//! so that one sync of the disk serves them all.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use postern_proto::address::Address;
use postern_proto::envelope::Via;
use postern_proto::mode::{Mode, Modes};
use postern_proto::session::{Offers, RecipientVerdict, SessionOptions};
use postern_proto::time::Instant;
use postern_spool::{Event, EventKind, Fate, ItemId, NewItem, Port, Spool, When};
use rustls::ServerConfig;

use crate::callout::{CalloutCache, CalloutDesk};
use crate::conn::Surroundings;
use crate::deadlines::{Letter, Slot, Slots};
use crate::limits;
use crate::policy::{Lookup, Policy};
use crate::stats::{DoorStats, count};

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
    /// Who waits for events of an item, and with which question.
    waiting: RefCell<HashMap<ItemId, (Rc<Slot>, u64)>>,
    profile: RefCell<Option<Profile>>,
    callouts: CalloutDesk,
    events: RefCell<Vec<Event>>,
    /// Connections with a message on its way in.
    arriving: Cell<u32>,
    epoch: std::time::Instant,
}

/// The session options that follow from a policy, made once for each policy.
struct Profile {
    policy: Arc<Policy>,
    plain: Arc<SessionOptions>,
    xclient: Arc<SessionOptions>,
}

impl Core {
    pub(crate) fn new(shared: Arc<Shared>, port: Arc<Mutex<Port>>) -> Self {
        Self {
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
            dsn: plain.via == Via::Relay,
            starttls: self.shared.tls.is_some(),
        };
        let xclient = SessionOptions { xclient: true, ..plain.clone() };
        Profile { policy, plain: Arc::new(plain), xclient: Arc::new(xclient) }
    }

    /// Hands the spool's events to the connections that wait for them.
    pub(crate) fn dispatch(&self) {
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

    fn port(&self) -> MutexGuard<'_, Port> {
        self.port.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The world of one connection.
pub(crate) struct World<'a> {
    pub(crate) core: &'a Rc<Core>,
    pub(crate) slot: &'a Rc<Slot>,
}

impl World<'_> {
    fn expect_events(&self, id: ItemId) {
        self.core.waiting.borrow_mut().insert(id, (Rc::clone(self.slot), self.slot.ask()));
    }
}

impl Surroundings for World<'_> {
    fn recipient(&mut self, address: &Address) -> Option<RecipientVerdict> {
        let shared = &self.core.shared;
        if shared.session.via == Via::Relay {
            // The local MTA's own queue stands behind it: its mail is answered at the receipt.
            let relays = shared.policy.load().relays_to(&address.domain);
            return Some(if relays { RecipientVerdict::Accept(Mode::Collect) } else { RecipientVerdict::NotOurs });
        }
        let modes = shared.modes.load();
        match shared.policy.load().lookup(address, &modes) {
            Lookup::Known(verdict) => Some(verdict),
            Lookup::Ask(target) => {
                let mode = modes.of(&address.domain);
                self.core.callouts.ask(target, address, mode, self.unix_ms(), self.slot)
            }
        }
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
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }
}
