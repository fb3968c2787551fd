//! A door's end of the spool. Requests gather in the door's own thread without a lock and are handed over together;
//! answers come back together, with one wake. Called by door runtimes only.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::event::{Event, EventKind, Refusal};
use crate::inbox::{Inbox, Message};
use crate::item::{Body, ItemId, NewItem, When};
use crate::request::PortRequest;

/// A door runtime's own way into the spool. `Send`, but used by one thread at a time.
///
/// Requests wait until [`Port::flush`], 32 of them, 256 KiB or 1 ms: call `flush` whenever the runtime parks.
pub struct Port {
    number: u32,
    inbox: Arc<Inbox>,
    outbox: Arc<Outbox>,
    gathered: RefCell<Vec<PortRequest>>,
    gathered_bytes: Cell<usize>,
    since: Cell<Option<Instant>>,
}

/// Where the engine leaves the answers for one port.
pub(crate) struct Outbox {
    events: Mutex<Vec<Event>>,
    wake: Arc<dyn Fn() + Send + Sync>,
    /// See [`Port::expect`].
    expected: AtomicU32,
}

impl Outbox {
    /// Messages that are on their way in at this door.
    pub(crate) fn expected(&self) -> u32 {
        self.expected.load(Relaxed)
    }

    /// Adds what is in `events`, leaving it empty, and wakes the door once if it had been told nothing yet.
    pub(crate) fn deliver(&self, events: &mut Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let mut waiting = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let first = waiting.is_empty();
        if first {
            std::mem::swap(&mut *waiting, events);
        } else {
            waiting.append(events);
        }
        drop(waiting);
        if first {
            (self.wake)();
        }
    }
}

impl Port {
    pub(crate) fn new(number: u32, inbox: Arc<Inbox>, wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self {
            number,
            inbox,
            outbox: Arc::new(Outbox { events: Mutex::default(), wake, expected: AtomicU32::new(0) }),
            gathered: RefCell::default(),
            gathered_bytes: Cell::new(0),
            since: Cell::new(None),
        }
    }

    pub(crate) fn outbox(&self) -> Arc<Outbox> {
        self.outbox.clone()
    }

    /// Says how many messages are coming in at this door at the moment, so that a commit waits a little for them
    /// ([`SpoolOptions::gather`](crate::SpoolOptions::gather)) and not for nobody.
    pub fn expect(&self, messages: u32) {
        self.outbox.expected.store(messages, Relaxed);
    }

    /// Puts an item in.
    pub fn append(&self, item: NewItem, when: When) {
        let body = if let Body::Inline(bytes) = &item.body { bytes.len() } else { 0 };
        let bytes = item.meta.len() + body;
        self.gather(PortRequest::Append(item, when), bytes);
    }

    /// Asks that a tentative item be made durable.
    pub fn commit(&self, id: ItemId) {
        self.gather(PortRequest::Commit(id), 0);
    }

    /// Drops a tentative item or streamed pieces; no event follows.
    pub fn abandon(&self, id: ItemId) {
        self.gather(PortRequest::Abandon(id), 0);
    }

    /// Adds a piece to the body file of an item to come. Wait for Stored before the next one.
    pub fn write_body(&self, id: ItemId, chunk: Vec<u8>) {
        let bytes = chunk.len();
        self.gather(PortRequest::WriteBody(id, chunk), bytes);
    }

    /// Hands over what has gathered, in one message.
    pub fn flush(&self) {
        let mut gathered = self.gathered.borrow_mut();
        if gathered.is_empty() {
            return;
        }
        let requests = std::mem::replace(&mut *gathered, Vec::with_capacity(GATHER_REQUESTS));
        drop(gathered);
        self.gathered_bytes.set(0);
        self.since.set(None);
        if let Err(Message::Port { requests, .. }) = self.inbox.push(Message::Port { port: self.number, requests }) {
            refuse_all(&self.outbox, requests);
        }
    }

    /// Hands over what has gathered for longer than 1 ms: call it where a busy runtime passes by, because one that never
    /// parks never calls [`Port::flush`].
    pub fn flush_if_old(&self) {
        if self.since.get().is_some_and(|since| since.elapsed() >= GATHER_TIME) {
            self.flush();
        }
    }

    /// Moves the answers that have come to the end of `into`.
    pub fn drain_events(&self, into: &mut Vec<Event>) {
        into.append(&mut self.outbox.events.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn gather(&self, request: PortRequest, bytes: usize) {
        let bytes = self.gathered_bytes.get() + bytes;
        self.gathered_bytes.set(bytes);
        let mut gathered = self.gathered.borrow_mut();
        gathered.push(request);
        let many = gathered.len() >= GATHER_REQUESTS || bytes >= GATHER_BYTES;
        drop(gathered);
        let old = match self.since.get() {
            Some(since) => since.elapsed() >= GATHER_TIME,
            None => {
                self.since.set(Some(Instant::now()));
                false
            }
        };
        if many || old {
            self.flush();
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.flush();
        let _ = self.inbox.push(Message::ClosePort { port: self.number });
    }
}

/// Answers requests that reached an engine which has stopped.
pub(crate) fn refuse_all(outbox: &Outbox, requests: Vec<PortRequest>) {
    let mut events = Vec::new();
    for request in requests {
        let id = match request {
            PortRequest::Append(item, _) => item.id,
            PortRequest::Commit(id) | PortRequest::WriteBody(id, _) => id,
            PortRequest::Abandon(_) => continue,
        };
        events.push(Event { id, kind: EventKind::Refused(Refusal::Failed) });
    }
    outbox.deliver(&mut events);
}

/// Requests handed over at once: beyond this the lock costs nothing any more.
const GATHER_REQUESTS: usize = 32;
/// Bytes handed over at once: the writer can begin on them.
const GATHER_BYTES: usize = 256 << 10;
/// A runtime that has not parked for this long is busy; its requests must not wait for it.
const GATHER_TIME: Duration = Duration::from_millis(1);
