//! A door and a drain in miniature, over a spool on the real disk.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use postern_spool::*;

pub(crate) struct Door {
    pub(crate) spool: Spool,
    pub(crate) port: Port,
    wakes: mpsc::Receiver<()>,
    events: Vec<Event>,
}

pub(crate) fn options(dir: &Path) -> SpoolOptions {
    SpoolOptions { segment_bytes: 64 << 10, free_low_bytes: 0, free_high_bytes: 0, ..SpoolOptions::new(dir) }
}

pub(crate) fn open(dir: &Path) -> (Door, RecoveryReport) {
    open_with(options(dir))
}

pub(crate) fn open_with(options: SpoolOptions) -> (Door, RecoveryReport) {
    let (spool, report) = Spool::open(options).unwrap();
    let (wake, wakes) = mpsc::channel();
    let port = spool.port(Arc::new(move || {
        let _ = wake.send(());
    }));
    (Door { spool, port, wakes, events: Vec::new() }, report)
}

pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

pub(crate) fn lane() -> Lane {
    Lane::new("example.org", 0)
}

pub(crate) const FAR: u64 = u64::MAX / 2;

impl Door {
    pub(crate) fn item(&self, meta: &[u8], body: Body) -> NewItem {
        NewItem { id: self.spool.new_id(), lane: lane(), meta: meta.to_vec(), due_unix_ms: 0, body }
    }

    pub(crate) fn put(&mut self, meta: &[u8], body: &[u8], when: When) -> ItemId {
        let item = self.item(meta, Body::Inline(body.to_vec()));
        let id = item.id;
        self.port.append(item, when);
        self.port.flush();
        id
    }

    /// Commits an item and waits for its receipt.
    pub(crate) fn commit(&mut self, meta: &[u8], body: &[u8]) -> ItemId {
        let id = self.put(meta, body, When::Commit);
        self.expect_committed(id);
        id
    }

    pub(crate) fn stream(&mut self, body: &[u8], piece: usize) -> ItemId {
        let id = self.spool.new_id();
        for chunk in body.chunks(piece) {
            self.port.write_body(id, chunk.to_vec());
            self.port.flush();
            assert!(matches!(self.event(id), EventKind::Stored));
        }
        id
    }

    pub(crate) fn append_streamed(&mut self, id: ItemId, meta: &[u8], when: When) {
        let item = NewItem { id, lane: lane(), meta: meta.to_vec(), due_unix_ms: 0, body: Body::Streamed };
        self.port.append(item, when);
        self.port.flush();
    }

    pub(crate) fn expect_committed(&mut self, id: ItemId) {
        let event = self.event(id);
        assert!(matches!(event, EventKind::Committed(_)), "{event:?}");
    }

    /// The next event about this item.
    pub(crate) fn event(&mut self, id: ItemId) -> EventKind {
        loop {
            if let Some(at) = self.events.iter().position(|event| event.id == id) {
                return self.events.remove(at).kind;
            }
            self.wakes.recv_timeout(Duration::from_secs(60)).expect("an event comes");
            self.port.drain_events(&mut self.events);
        }
    }

    pub(crate) fn no_event(&mut self, id: ItemId) {
        // A reply comes after everything before it in the engine.
        wait(self.spool.lanes());
        self.port.drain_events(&mut self.events);
        assert!(!self.events.iter().any(|event| event.id == id), "{:?}", self.events);
    }

    pub(crate) fn lease(&self, n: usize) -> Vec<Lease> {
        wait(self.spool.lease(&lane(), n, FAR))
    }

    pub(crate) fn lease_one(&self) -> Lease {
        let mut leases = self.lease(1);
        leases.pop().expect("something to lease")
    }

    pub(crate) fn finish(&self, lease: Lease, fate: Fate, children: Vec<Child>) -> Result<(), FinishError> {
        wait(self.spool.finish(lease, fate, children))
    }
}

pub(crate) fn bytes(body: &BodySource) -> Vec<u8> {
    match body {
        BodySource::Inline(bytes) => bytes.to_vec(),
        BodySource::File { file, len } => {
            let mut bytes = vec![0; *len as usize];
            std::os::unix::fs::FileExt::read_exact_at(&**file, &mut bytes, 0).unwrap();
            assert_eq!(file.metadata().unwrap().len(), *len);
            bytes
        }
    }
}

pub(crate) fn child(meta: &[u8], body: ChildBody) -> Child {
    Child { lane: lane(), meta: meta.to_vec(), due_unix_ms: 0, body }
}
