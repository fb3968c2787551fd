//! The engine by hand: the test says which operation ends when, and how.

use super::*;
use crate::disk::{DiskError, PartData, ReadPart};
use crate::item::{Body, Child, ChildBody, Fate, Lease, NewItem, When};

struct Rig {
    engine: Engine,
    now: u64,
    /// Submitted and not ended.
    ops: Vec<DiskOp>,
    files: HashMap<String, Vec<u8>>,
    replies: Vec<Reply>,
    events: Vec<EventKind>,
}

fn broken() -> DiskError {
    DiskError::Failed("input/output error".into())
}

impl Rig {
    fn new() -> Self {
        let options = SpoolOptions { segment_bytes: 64 << 10, free_low_bytes: 0, ..SpoolOptions::new("") };
        let engine = Engine::new(options, Recovered::default(), 1, 0);
        let mut rig =
            Self { engine, now: 0, ops: Vec::new(), files: HashMap::new(), replies: Vec::new(), events: Vec::new() };
        rig.settle();
        rig
    }

    fn pull(&mut self) {
        self.ops.extend(std::iter::from_fn(|| self.engine.poll_disk()));
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Event { event, .. } => self.events.push(event.kind),
                Output::Reply { reply, .. } => self.replies.push(reply),
            }
        }
    }

    fn port(&mut self, request: PortRequest) {
        self.engine.handle(self.now, Input::Port { port: 0, request });
        self.pull();
    }

    fn ask(&mut self, request: Request) {
        self.engine.handle(self.now, Input::Request { token: 1, request });
        self.pull();
    }

    fn take(&mut self, name: &str) -> DiskOp {
        let at = self.ops.iter().position(|op| format!("{:?}", op.kind).starts_with(name));
        self.ops.remove(at.unwrap_or_else(|| panic!("no {name} in {:?}", self.ops)))
    }

    /// Ends the first operation of this name as it should.
    fn end(&mut self, name: &str) {
        let op = self.take(name);
        self.perform(op);
    }

    fn fail(&mut self, name: &str, error: DiskError) {
        let DiskOp { token, .. } = self.take(name);
        self.complete(token, Err(error));
    }

    fn perform(&mut self, op: DiskOp) {
        let done = match op.kind {
            DiskOpKind::WriteLog { segment, offset, data } => {
                let file = self.files.entry(format!("log {segment}")).or_default();
                file.resize(file.len().max(offset as usize + data.len()), 0);
                file[offset as usize..][..data.len()].copy_from_slice(&data);
                Done::Buffer(data)
            }
            DiskOpKind::WriteBody { body, data, .. } => {
                self.files.entry(format!("body {body}")).or_default().extend(data);
                Done::Plain
            }
            DiskOpKind::Read(parts) => Done::Read(parts.into_iter().map(|part| self.read(part)).collect()),
            _ => Done::Plain,
        };
        self.complete(op.token, Ok(done));
    }

    fn read(&self, part: ReadPart) -> Result<PartData, DiskError> {
        let bytes = match part {
            ReadPart::Log { segment, offset, len } => {
                self.files[&format!("log {segment}")][offset as usize..][..len as usize].to_vec()
            }
            ReadPart::Body { body } => self.files[&format!("body {body}")].clone(),
        };
        Ok(PartData::Bytes(bytes.into()))
    }

    fn complete(&mut self, token: u64, result: Result<Done, DiskError>) {
        self.engine.handle_completion(self.now, Completion { token, result });
        self.pull();
    }

    /// Ends everything well.
    fn settle(&mut self) {
        self.pull();
        while !self.ops.is_empty() {
            let op = self.ops.remove(0);
            self.perform(op);
        }
    }

    fn append(&mut self, id: u64, body: Body, when: When) {
        let item = NewItem { id: ItemId(id), lane: lane(), meta: b"meta".to_vec(), due_unix_ms: 0, body };
        self.port(PortRequest::Append(item, when));
    }

    fn committed(&mut self, id: u64) {
        self.append(id, Body::Inline(b"body".to_vec()), When::Commit);
        self.settle();
        assert!(matches!(self.events.pop(), Some(EventKind::Committed(_))));
    }

    fn ask_lease(&mut self) {
        self.ask(Request::Lease { lane: lane(), n: 9, until_unix_ms: self.now + 1000 });
    }

    fn lease(&mut self) -> Vec<Lease> {
        self.ask_lease();
        self.settle();
        let Some(Reply::Leased(leases)) = self.replies.pop() else { panic!("no leases") };
        leases
    }

    fn pass(&mut self, ms: u64) {
        self.now += ms;
        self.engine.handle(self.now, Input::Tick);
        self.pull();
    }
}

fn lane() -> Lane {
    Lane::new("example.org", 0)
}

#[test]
fn an_item_on_its_way_to_the_disk_stays_when_its_file_cannot_be_read() {
    let mut rig = Rig::new();
    rig.port(PortRequest::WriteBody(ItemId(7), b"body".to_vec()));
    rig.settle();
    rig.append(7, Body::Streamed, When::Tentative);
    rig.ask_lease();
    rig.port(PortRequest::Commit(ItemId(7)));
    rig.end("SyncBody");
    rig.end("SyncBodyDir");
    let read = rig.take("Read");
    rig.complete(read.token, Ok(Done::Read(vec![Err(broken())])));
    rig.settle();
    assert!(matches!(rig.events.last(), Some(EventKind::Committed(_))), "{:?}", rig.events);
    let stats = rig.engine.stats();
    assert_eq!((stats.items, stats.bytes, stats.tentative, stats.leased), (1, 4, 0, 0));
    rig.ask(Request::Delete(ItemId(7)));
    rig.settle();
    let stats = rig.engine.stats();
    assert_eq!((stats.items, stats.bytes, stats.held), (0, 0, 0));
}

#[test]
fn a_postpone_on_a_broken_disk_keeps_the_item_from_leaving_again() {
    let mut rig = Rig::new();
    rig.committed(1);
    rig.committed(2);
    let mut leases = rig.lease();
    let (second, first) = (leases.pop().unwrap(), leases.pop().unwrap());
    rig.ask(Request::Postpone { lease: first, meta: Vec::new(), due_unix_ms: 5 });
    rig.fail("WriteLog", broken());
    assert!(matches!(rig.replies.pop(), Some(Reply::Done(Err(SpoolError::Failed(_))))));
    rig.ask(Request::Postpone { lease: second, meta: Vec::new(), due_unix_ms: 5 });
    assert!(matches!(rig.replies.pop(), Some(Reply::Done(Err(SpoolError::Failed(_))))));
    rig.pass(100_000);
    assert!(rig.lease().is_empty());
    assert_eq!(rig.engine.stats().items, 2);
}

#[test]
fn a_postpone_that_finds_the_disk_full_is_leasable_after_a_minute() {
    let mut rig = Rig::new();
    rig.committed(1);
    let lease = rig.lease().remove(0);
    rig.ask(Request::Postpone { lease, meta: Vec::new(), due_unix_ms: 5 });
    rig.fail("WriteLog", DiskError::Full);
    assert!(matches!(rig.replies.pop(), Some(Reply::Done(Err(SpoolError::Full)))));
    rig.pass(59_000);
    assert!(rig.lease().is_empty());
    rig.pass(1_000);
    assert_eq!(rig.lease()[0].meta, b"meta");
}

#[test]
fn a_spare_segment_that_could_not_be_made_is_tried_again_when_it_is_needed() {
    let mut rig = Rig::new();
    let large = |rig: &mut Rig, id| rig.append(id, Body::Inline(vec![7; 20 << 10]), When::Commit);
    large(&mut rig, 1);
    rig.settle();
    large(&mut rig, 2);
    for op in ["WriteLog", "SyncLog"] {
        rig.end(op);
    }
    rig.fail("CreateSegment", DiskError::Full);
    rig.settle();
    rig.events.clear();
    rig.pass(3_600_000);
    large(&mut rig, 3);
    rig.settle();
    large(&mut rig, 4);
    rig.settle();
    assert!(matches!(rig.events[..], [EventKind::Committed(_), EventKind::Committed(_)]), "{:?}", rig.events);
    // Who waits for it is told when it fails.
    for id in 5..8 {
        rig.append(id, Body::Inline(vec![7; 50 << 10]), When::Commit);
    }
    while !rig.ops.is_empty() {
        let op = rig.ops.remove(0);
        match op.kind {
            DiskOpKind::CreateSegment { .. } => rig.complete(op.token, Err(DiskError::Full)),
            _ => rig.perform(op),
        }
    }
    assert!(matches!(rig.events.last(), Some(EventKind::Refused(Refusal::Full { .. }))), "{:?}", rig.events);
}

#[test]
fn a_lease_given_before_the_clock_went_back_runs_out_in_its_own_time() {
    const DAY: u64 = 86_400_000;
    let mut rig = Rig::new();
    rig.now = 2 * DAY;
    rig.committed(1);
    assert_eq!(rig.lease().len(), 1);
    rig.now -= DAY;
    rig.pass(0);
    rig.pass(999);
    assert!(rig.lease().is_empty());
    rig.pass(1);
    assert_eq!(rig.lease().len(), 1);
}

#[test]
fn a_clock_that_went_back_while_the_server_was_down_makes_nothing_wait_for_it() {
    const DAY: u64 = 86_400_000;
    let mut rig = Rig::new();
    rig.now = 2 * DAY;
    rig.committed(rig.now << 22);
    let lease = rig.lease().remove(0);
    rig.ask(Request::Postpone { lease, meta: Vec::new(), due_unix_ms: rig.now + 60_000 });
    rig.settle();
    rig.engine.heed_clock(rig.now);
    assert!(rig.lease().is_empty());
    rig.engine.now_unix_ms = DAY;
    rig.now = DAY;
    rig.engine.heed_clock(ItemId((2 * DAY) << 22).unix_ms());
    assert_eq!(rig.lease().len(), 1);
}

#[test]
fn a_clock_that_jumps_forward_takes_no_lease_from_whoever_delivers() {
    let mut rig = Rig::new();
    rig.committed(1);
    let lease = rig.lease().remove(0);
    rig.pass(86_400_000);
    assert!(rig.lease().is_empty());
    rig.ask(Request::Finish { lease, fate: Fate::Delivered, children: Vec::new() });
    rig.settle();
    assert!(matches!(rig.replies.pop(), Some(Reply::Finished(Ok(())))));
    rig.committed(2);
    assert_eq!(rig.lease().len(), 1);
    rig.pass(86_400_000);
    rig.pass(1_200_000);
    assert_eq!(rig.lease().len(), 1, "one that nobody ends runs out all the same");
}

#[test]
fn an_id_that_comes_back_leaves_the_body_file_to_those_who_carry_it() {
    let mut rig = Rig::new();
    rig.port(PortRequest::WriteBody(ItemId(7), b"body".to_vec()));
    rig.settle();
    rig.append(7, Body::Streamed, When::Commit);
    rig.settle();
    let lease = rig.lease().remove(0);
    let child = Child { lane: lane(), meta: b"rest".to_vec(), due_unix_ms: 0, body: ChildBody::Parent };
    rig.ask(Request::Finish { lease, fate: Fate::Delivered, children: vec![(ItemId(8), child)] });
    rig.settle();
    rig.events.clear();
    rig.port(PortRequest::WriteBody(ItemId(7), b"other bytes".to_vec()));
    rig.append(7, Body::Streamed, When::Commit);
    let taken = |event: &EventKind| matches!(event, EventKind::Refused(Refusal::Taken));
    assert!(rig.events.len() == 2 && rig.events.iter().all(taken), "{:?}", rig.events);
    assert!(rig.ops.is_empty(), "nothing is written or removed: {:?}", rig.ops);
    let lease = rig.lease().remove(0);
    assert_eq!((lease.id, lease.body.len()), (ItemId(8), 4));
    rig.ask(Request::Finish { lease, fate: Fate::Delivered, children: Vec::new() });
    rig.pull();
    rig.end("WriteLog");
    rig.end("SyncLog");
    rig.end("RemoveBody");
}

#[test]
fn a_body_that_one_port_is_writing_is_not_written_or_discarded_by_another() {
    let mut rig = Rig::new();
    rig.port(PortRequest::WriteBody(ItemId(7), b"bo".to_vec()));
    rig.settle();
    let elsewhere = |rig: &mut Rig, request| {
        rig.engine.handle(rig.now, Input::Port { port: 1, request });
        rig.pull();
        assert!(matches!(rig.events.pop(), Some(EventKind::Refused(Refusal::Taken))), "{:?}", rig.events);
    };
    elsewhere(&mut rig, PortRequest::WriteBody(ItemId(7), b"xx".to_vec()));
    let body = Body::Inline(b"x".to_vec());
    let item = NewItem { id: ItemId(7), lane: lane(), meta: Vec::new(), due_unix_ms: 0, body };
    elsewhere(&mut rig, PortRequest::Append(item, When::Commit));
    rig.port(PortRequest::WriteBody(ItemId(7), b"dy".to_vec()));
    rig.settle();
    rig.append(7, Body::Streamed, When::Commit);
    rig.settle();
    assert!(matches!(rig.events.last(), Some(EventKind::Committed(_))), "{:?}", rig.events);
    assert_eq!(rig.files["body 0000000000007"], b"body");
}

#[test]
fn what_comes_in_held_is_never_leased_until_it_is_let_go() {
    let mut rig = Rig::new();
    rig.append(1, Body::Inline(b"body".to_vec()), When::CommitHeld);
    rig.port(PortRequest::WriteBody(ItemId(2), b"body".to_vec()));
    rig.settle();
    rig.append(2, Body::Streamed, When::CommitHeld);
    rig.settle();
    assert_eq!(rig.engine.stats().held, 2);
    assert!(rig.lease().is_empty());
    for id in [1, 2] {
        rig.ask(Request::Hold(ItemId(id), false));
        rig.settle();
    }
    assert_eq!((rig.lease().len(), rig.engine.stats().held), (2, 0));
}
