//! A spool's life in a seed: door, drain and operator ask at random, the disk does its operations in some order and some
//! of them badly, the process is killed and the power cut at any moment. A model remembers what was promised; after every
//! restart the whole spool is read back and held against it.
//!
//! What is checked: every item whose receipt or whose finish with children was told is there, byte for byte, with a state
//! it may have, until its own finish; nothing finished or never promised comes back; a finish and its children are there
//! together or not at all; everything asked is answered once the disk is well.

use std::collections::{BTreeMap, BTreeSet};

use postern_spool::machine::{Disk, Engine, Input, Output, PortRequest, Reply, Request, recover};
use postern_spool::{
    Body, BodySource, Child, ChildBody, EventKind, Fate, FinishError, Item, ItemId, Lane, Lease, NewItem, SpoolError,
    SpoolOptions, When,
};

use crate::disk::{Faults, FaultyDisk};
use crate::rng::Rng;

mod restart;

/// What a run is like.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Steps of a run.
    pub steps: u64,
    /// One step in so many is a power cut or a kill; 0: none.
    pub crash: u64,
    /// What the disk does wrong.
    pub faults: Faults,
}

/// What the model knows of an item.
#[derive(Clone, Debug)]
struct Known {
    lane: Lane,
    body: Vec<u8>,
    is: Is,
    /// States it may be found in; the last is the one asked for last.
    states: Vec<Found>,
    /// Of a child whose parent's finish is under way: the parent, and which attempt to finish it.
    birth: Option<(u64, u64)>,
    /// A delete or a finish without children was asked for: it may end without leaving anything.
    ends_alone: bool,
    /// A finish was asked for, and has not been turned down.
    ending: bool,
    /// A finish or postpone failed: the spool chose a due time of its own.
    any_due: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    meta: Vec<u8>,
    due: u64,
    held: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    /// Nothing promised, must not be found.
    Tentative,
    /// Asked for, or refused after it was asked for: may be found.
    Unsure,
    Promised,
    /// Its finish was asked for and not told.
    Closing,
    /// Must not be found.
    Gone,
}

/// Engine, disk, model and the people around them.
pub struct SpoolWorld {
    seed: u64,
    rng: Rng,
    profile: Profile,
    disk: FaultyDisk,
    engine: Engine,
    now: u64,
    next_id: u64,
    next_token: u64,
    known: BTreeMap<u64, Known>,
    leases: Vec<Lease>,
    streams: Vec<(ItemId, Vec<u8>, bool)>,
    awaited: BTreeSet<u64>,
    requests: BTreeMap<u64, Asked>,
    pages: Vec<Item>,
    listed: Option<Vec<ItemId>>,
    restarts: u64,
    traced: bool,
    /// Refused items whose records are there without their bodies.
    bodiless: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
enum Asked {
    Lease,
    Finish { id: u64, children: Vec<u64> },
    Delete(u64),
    Postpone { id: u64, meta: Vec<u8> },
    Update,
    Other,
}

impl SpoolWorld {
    /// An empty spool on an empty disk.
    pub fn new(seed: u64, profile: Profile) -> Self {
        let mut rng = Rng::new(seed);
        let mut disk = FaultyDisk::new(rng.next());
        let recovered = recover(&mut disk, &options()).expect("an empty disk can be read");
        disk.faults = profile.faults;
        let engine = Engine::new(options(), recovered, rng.next(), 0);
        Self {
            seed,
            rng,
            profile,
            disk,
            engine,
            now: 0,
            next_id: 1,
            next_token: 1,
            known: BTreeMap::new(),
            leases: Vec::new(),
            streams: Vec::new(),
            awaited: BTreeSet::new(),
            requests: BTreeMap::new(),
            pages: Vec::new(),
            listed: None,
            restarts: 0,
            traced: std::env::var_os("POSTERN_SEED").is_some(),
            bodiless: BTreeSet::new(),
        }
    }

    /// The whole run; panics with the seed when a promise is broken. Returns how often the spool was recovered and how
    /// many commits it made.
    pub fn run(mut self) -> (u64, u64) {
        let mut commits = 0;
        for _ in 0..self.profile.steps {
            let crash = self.profile.crash;
            let failed = self.engine.stats().failed.is_some();
            self.check(!failed || self.profile.faults.sync > 0, "given up although nothing is broken");
            self.check(self.engine.stats().damaged == 0, "called damaged although all can be read");
            if self.rng.one_in(crash) || failed && self.rng.one_in(20) {
                commits += self.engine.stats().commits;
                self.crash();
            } else {
                self.act();
                self.turn();
            }
        }
        self.disk.faults = Faults::default();
        self.settle();
        self.check(self.awaited.is_empty(), "appends were never answered");
        self.check(self.requests.is_empty(), "requests were never answered");
        commits += self.engine.stats().commits;
        self.crash();
        (self.restarts, commits)
    }

    /// What happens is printed when one seed is run by hand; the same seed prints the same.
    fn trace(&self, what: impl FnOnce() -> String) {
        if self.traced {
            println!("{} {}", self.now, what());
        }
    }

    fn check(&self, holds: bool, what: &str) {
        assert!(holds, "{what}; run again with POSTERN_SEED={}", self.seed);
    }

    /// One thing that door, drain or operator does.
    fn act(&mut self) {
        self.now += self.rng.below(20);
        match self.rng.below(16) {
            0..=3 => self.append(),
            4 => self.append_streamed(),
            5 => self.settle_tentative(),
            6..=7 => self.lease(),
            8..=11 => self.end_lease(),
            12..=13 => self.operate(),
            14 => {
                let bytes = if self.rng.one_in(4) { 0 } else { 1 << 40 };
                self.engine.handle(self.now, Input::FreeSpace(bytes));
            }
            _ => self.engine.handle(self.now, Input::Tick),
        }
    }

    /// Lets some operations begin, some be done, some completions come back.
    fn turn(&mut self) {
        for _ in 0..self.rng.below(6) {
            match self.rng.below(3) {
                0 => {
                    if let Some(op) = self.engine.poll_disk() {
                        self.disk.submit(op);
                    }
                }
                1 => drop(self.disk.step()),
                _ => {
                    if let Some(completion) = self.disk.poll() {
                        self.engine.handle_completion(self.now, completion);
                    }
                }
            }
        }
        self.hear();
    }

    /// Everything under way comes to its end.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            while let Some(op) = self.engine.poll_disk() {
                self.disk.submit(op);
                moved = true;
            }
            moved |= self.disk.step();
            while let Some(completion) = self.disk.poll() {
                self.engine.handle_completion(self.now, completion);
                moved = true;
            }
            self.hear();
            if !moved {
                return self.check(self.engine.is_idle(), "the engine waits for nothing");
            }
        }
    }

    fn bytes(&mut self, max: u64) -> Vec<u8> {
        let (len, first) = (self.rng.below(max), self.rng.next());
        (0..len).map(|n| (first.wrapping_add(n * 7) >> 3) as u8).collect()
    }

    fn id(&mut self) -> ItemId {
        self.next_id += 1;
        ItemId(self.next_id)
    }

    fn lane(&mut self) -> Lane {
        Lane::new(["a", "b"][self.rng.below(2) as usize], 0)
    }

    fn append(&mut self) {
        let (id, lane, meta, body) = (self.id(), self.lane(), self.bytes(60), self.bytes(3000));
        let tentative = self.rng.one_in(2);
        self.append_known(id, lane, meta, body.clone(), Body::Inline(body), tentative);
    }

    fn append_streamed(&mut self) {
        // One that was fully stored is appended; otherwise a new one is begun.
        if let Some(at) = self.streams.iter().position(|stream| stream.2)
            && self.rng.one_in(2)
        {
            let (id, body, _) = self.streams.swap_remove(at);
            let (lane, meta, tentative) = (self.lane(), self.bytes(60), self.rng.one_in(2));
            return self.append_known(id, lane, meta, body, Body::Streamed, tentative);
        }
        let at = match self.streams.iter().position(|stream| stream.2) {
            Some(at) if self.rng.one_in(2) => at,
            _ => {
                let id = self.id();
                self.streams.push((id, Vec::new(), true));
                self.streams.len() - 1
            }
        };
        let piece = self.bytes(2000);
        let stream = &mut self.streams[at];
        stream.1.extend_from_slice(&piece);
        stream.2 = false;
        let id = stream.0;
        self.port(PortRequest::WriteBody(id, piece));
    }

    fn append_known(&mut self, id: ItemId, lane: Lane, meta: Vec<u8>, bytes: Vec<u8>, body: Body, tentative: bool) {
        let due = self.now + if self.rng.one_in(3) { self.rng.below(300) } else { 0 };
        let is = if tentative { Is::Tentative } else { Is::Unsure };
        let states = vec![Found { meta: meta.clone(), due, held: false }];
        let known = Known {
            lane: lane.clone(),
            body: bytes,
            is,
            states,
            birth: None,
            ends_alone: false,
            ending: false,
            any_due: false,
        };
        self.known.insert(id.0, known);
        if !tentative {
            self.awaited.insert(id.0);
        }
        let when = if tentative { When::Tentative } else { When::Commit };
        self.port(PortRequest::Append(NewItem { id, lane, meta, due_unix_ms: due, body }, when));
    }

    fn settle_tentative(&mut self) {
        let waiting: Vec<u64> =
            self.latest().filter(|known| known.1.is == Is::Tentative).map(|known| *known.0).collect();
        let Some(id) = self.rng.pick(&waiting) else { return };
        let known = self.known.get_mut(&id).expect("picked from it");
        if self.rng.one_in(3) {
            known.is = Is::Gone;
            self.port(PortRequest::Abandon(ItemId(id)));
        } else {
            known.is = Is::Unsure;
            self.awaited.insert(id);
            self.port(PortRequest::Commit(ItemId(id)));
        }
    }

    fn lease(&mut self) {
        let (lane, n) = (self.lane(), 1 + self.rng.below(4) as usize);
        let until_unix_ms = self.now + self.rng.below(400);
        self.ask(Request::Lease { lane, n, until_unix_ms }, Asked::Lease);
    }

    fn end_lease(&mut self) {
        if self.leases.is_empty() {
            return;
        }
        let lease = self.leases.swap_remove(self.rng.below(self.leases.len() as u64) as usize);
        let id = lease.id.0;
        match self.rng.below(8) {
            0 => {}
            1..=2 => {
                let (meta, due) = (self.bytes(80), self.now + self.rng.below(100));
                if let Some(known) = self.known.get_mut(&id) {
                    let held = known.states.iter().any(|state| state.held);
                    known.states.push(Found { meta: meta.clone(), due, held });
                    known.states.push(Found { meta: meta.clone(), due, held: !held });
                }
                let asked = Asked::Postpone { id, meta: meta.clone() };
                self.ask(Request::Postpone { lease, meta, due_unix_ms: due }, asked);
            }
            3 => {
                let fate = Fate::Deferred(b"4.3.0".as_slice().into());
                self.finish(lease, fate, 0);
            }
            4..=5 => {
                let children = 1 + self.rng.below(3);
                self.finish(lease, Fate::Delivered, children);
            }
            _ => self.finish(lease, Fate::Delivered, 0),
        }
    }

    fn finish(&mut self, lease: Lease, fate: Fate, count: u64) {
        let parent = lease.id.0;
        let mut children = Vec::new();
        let attempt = self.next_token;
        for _ in 0..count {
            let (id, lane, meta) = (self.id(), self.lane(), self.bytes(60));
            let own = self.rng.one_in(3).then(|| self.bytes(500));
            let bytes = own.clone().unwrap_or_else(|| self.known.get(&parent).map_or(Vec::new(), |k| k.body.clone()));
            let states = vec![Found { meta: meta.clone(), due: self.now, held: false }];
            let known = Known {
                lane: lane.clone(),
                body: bytes,
                is: Is::Unsure,
                states,
                birth: Some((parent, attempt)),
                ends_alone: false,
                ending: false,
                any_due: false,
            };
            self.known.insert(id.0, known);
            let body = own.map_or(ChildBody::Parent, ChildBody::New);
            children.push((id, Child { lane, meta, due_unix_ms: self.now, body }));
        }
        if let Some(known) = self.known.get_mut(&parent) {
            known.ends_alone |= count == 0;
            known.ending = true;
            if known.is == Is::Promised {
                known.is = Is::Closing;
            }
        }
        let ids = children.iter().map(|child| child.0.0).collect();
        self.ask(Request::Finish { lease, fate, children }, Asked::Finish { id: parent, children: ids });
    }

    fn operate(&mut self) {
        let promised: Vec<u64> =
            self.latest().filter(|known| known.1.is == Is::Promised).map(|known| *known.0).collect();
        let Some(id) = self.rng.pick(&promised) else { return };
        let known = self.known.get_mut(&id).expect("picked from it");
        match self.rng.below(4) {
            0 => {
                known.is = Is::Closing;
                known.ends_alone = true;
                self.ask(Request::Delete(ItemId(id)), Asked::Delete(id));
            }
            1 => {
                let due = self.now + self.rng.below(200);
                known.allow(|state| state.due = due);
                self.ask(Request::Retry(ItemId(id), due), Asked::Update);
            }
            held => {
                known.allow(|state| state.held = held == 2);
                self.ask(Request::Hold(ItemId(id), held == 2), Asked::Update);
            }
        }
    }

    /// The newest items: there are at most so many in the spool.
    fn latest(&self) -> impl Iterator<Item = (&u64, &Known)> {
        self.known.iter().rev().take(150)
    }

    fn port(&mut self, request: PortRequest) {
        self.engine.handle(self.now, Input::Port { port: 0, request });
    }

    fn ask(&mut self, request: Request, asked: Asked) {
        self.trace(|| format!("ask {} {asked:?} {request:?}", self.next_token + 1));
        self.next_token += 1;
        self.requests.insert(self.next_token, asked);
        self.engine.handle(self.now, Input::Request { token: self.next_token, request });
    }

    fn hear(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Event { event, .. } => self.hear_event(event.id, event.kind),
                Output::Reply { token, reply } => {
                    let asked = self.requests.remove(&token);
                    self.trace(|| format!("reply {token} {asked:?} {reply:?}"));
                    self.check(asked.is_some(), "a reply nobody asked for");
                    self.hear_reply(asked.unwrap_or(Asked::Other), reply);
                }
            }
        }
    }

    fn hear_event(&mut self, id: ItemId, kind: EventKind) {
        self.trace(|| format!("event {id} {kind:?}"));
        if let Some(at) = self.streams.iter().position(|stream| stream.0 == id) {
            match kind {
                EventKind::Stored => self.streams[at].2 = true,
                EventKind::Refused(_) => drop(self.streams.swap_remove(at)),
                _ => self.check(false, "a receipt for a body that was not appended"),
            }
            return;
        }
        let Some(known) = self.known.get_mut(&id.0) else { return self.check(false, "an event about nothing") };
        match kind {
            EventKind::Stored => self.check(false, "stored twice"),
            EventKind::Committed(_) => {
                let awaited = self.awaited.remove(&id.0);
                if known.is == Is::Unsure {
                    known.is = if known.ending { Is::Closing } else { Is::Promised };
                }
                self.check(awaited, "a receipt nobody waits for");
            }
            EventKind::Fate(Fate::Unsettled) => {}
            EventKind::Fate(fate) => {
                self.awaited.remove(&id.0);
                known.is = Is::Gone;
                if fate == Fate::Delivered {
                    self.promise_children(id.0);
                }
            }
            EventKind::Refused(_) => {
                self.awaited.remove(&id.0);
                // A tentative one was never written; of the others a failed write may have left a whole record.
                if known.is == Is::Tentative {
                    known.is = Is::Gone;
                }
            }
        }
    }

    fn hear_reply(&mut self, asked: Asked, reply: Reply) {
        match (asked, reply) {
            (_, Reply::Leased(leases)) => {
                for lease in leases {
                    self.check_content(lease.id.0, &lease.meta, &lease.body);
                    self.leases.push(lease);
                }
            }
            (Asked::Finish { id, children }, Reply::Finished(result)) => self.finished(id, &children, result),
            (Asked::Delete(id), Reply::Done(result)) => {
                let Some(known) = self.known.get_mut(&id) else { return };
                match result {
                    Ok(()) => known.is = Is::Gone,
                    Err(SpoolError::Leased) if known.is == Is::Closing => known.is = Is::Promised,
                    Err(_) => {}
                }
            }
            // What it was before must not come back: its recipients would be served again.
            (Asked::Postpone { id, meta }, Reply::Done(Ok(()))) => {
                if let Some(known) = self.known.get_mut(&id) {
                    known.states.retain(|state| state.meta == meta);
                }
            }
            (Asked::Postpone { id, .. }, Reply::Done(Err(_))) => {
                if let Some(known) = self.known.get_mut(&id) {
                    known.any_due = true;
                }
            }
            (_, Reply::Listed(items)) => self.listed = Some(items.into_iter().map(|item| item.id).collect()),
            (_, Reply::Shown(item)) => self.pages.extend(item.map(|item| *item)),
            _ => {}
        }
    }

    fn finished(&mut self, id: u64, children: &[u64], result: Result<(), FinishError>) {
        match result {
            Ok(()) => {
                if let Some(known) = self.known.get_mut(&id) {
                    known.is = Is::Gone;
                }
                self.awaited.remove(&id);
                for child in children {
                    // With any other fate than Delivered a tentative item's children are not stored; none are given then.
                    self.promise(*child);
                }
            }
            Err(FinishError::CommittedMeanwhile(lease)) => {
                self.leases.push(*lease);
                self.unclose(id);
                self.drop_children(children);
            }
            Err(FinishError::Gone) => self.drop_children(children),
            // It may have been written in full all the same: both ways are allowed until the next restart.
            Err(FinishError::Spool(_)) => {
                if let Some(known) = self.known.get_mut(&id) {
                    known.any_due = true;
                }
            }
        }
    }

    fn unclose(&mut self, id: u64) {
        let Some(known) = self.known.get_mut(&id) else { return };
        known.ending = false;
        if known.is == Is::Closing {
            known.is = Is::Promised;
        }
    }

    fn drop_children(&mut self, children: &[u64]) {
        for child in children {
            self.known.remove(child);
        }
    }

    fn promise_children(&mut self, parent: u64) {
        let of = |known: &Known| known.birth.is_some_and(|birth| birth.0 == parent) && known.is == Is::Unsure;
        let children: Vec<u64> = self.known.iter().filter(|known| of(known.1)).map(|known| *known.0).collect();
        for child in children {
            self.promise(child);
        }
    }

    fn promise(&mut self, id: u64) {
        if let Some(known) = self.known.get_mut(&id)
            && known.is == Is::Unsure
        {
            known.is = Is::Promised;
            known.birth = None;
        }
    }

    fn check_content(&self, id: u64, meta: &[u8], body: &BodySource) {
        let known = self.known.get(&id);
        self.check(known.is_some(), "an item was invented");
        let Some(known) = known else { return };
        let BodySource::Inline(bytes) = body else { return self.check(false, "the simulator has no files") };
        self.check(bytes[..] == known.body[..], "a body has changed");
        self.check(known.states.iter().any(|state| state.meta == meta), "metadata nobody wrote");
    }
}

impl Known {
    /// Each state it may have, changed so, is allowed too.
    fn allow(&mut self, change: impl Fn(&mut Found)) {
        let mut more = self.states.clone();
        more.iter_mut().for_each(change);
        for state in more {
            if !self.states.contains(&state) {
                self.states.push(state);
            }
        }
    }
}

/// Small segments, so that a few hundred steps go round the log several times.
fn options() -> SpoolOptions {
    SpoolOptions {
        segment_bytes: 24 << 10,
        tentative_bytes_max: 64 << 10,
        items_max: 60,
        free_low_bytes: 1 << 20,
        free_high_bytes: 2 << 20,
        ..SpoolOptions::new("")
    }
}
