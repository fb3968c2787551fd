//! A flood in a seed: a crowd of clients, friendly and hostile, before the production machines (connections, usher, book,
//! pressure, promise, weather, greylist, the spool's engine, the drain's decisions) on a virtual clock, while filters and
//! next hops go away, the disk fails, the clock jumps and the server is restarted or killed. It holds no rule of the
//! server's: where a pump is not pure (sockets, tasks) a thin one of its own takes its place.
//!
//! What is checked in every world: what was answered 250 is in a mailbox, in the spool, in quarantine or a dead letter at
//! the end, and in no mailbox more often than SMTP's own ambiguity allows; what was refused for good is nowhere; at each
//! accept no class is refused below its floor, and nobody known while somebody lesser could go; tables stay within their
//! caps and agree with what is counted; nobody sits beyond his deadline; after the storm all mail has left and every domain
//! answers at the outcome again; nothing fails after a 250 that was said in the calm; nothing leaves unjudged.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use postern_doors::machine::Places;
use postern_proto::session::Eviction;
use postern_proto::time::Instant;
use postern_spool::ItemId;
use postern_trust::{CLASSES, Class};

use crate::disk::{Faults, FaultyDisk};
use crate::rng::Rng;

mod drain;
mod ending;
mod house;
mod ledger;
mod peers;
mod seats;
mod sky;
mod storms;

use drain::Drain;
use house::House;
use peers::{Act, Peer};
use seats::Seat;
use sky::SkyWatch;
use storms::Storm;

/// What a world is like.
#[derive(Clone, Copy, Debug)]
pub struct FloodProfile {
    /// How long the crowd comes, in simulated seconds.
    pub flood_s: u64,
    /// Hostile clients at most; 0 is the calm.
    pub hostile: u64,
    /// Places at the door.
    pub connections_max: usize,
    /// Filters and next hops go away, and the clock jumps.
    pub outages: bool,
    /// Restarts, kills and power cuts.
    pub crashes: bool,
    /// What the disk does wrong while the crowd is there.
    pub faults: Faults,
    /// A mistake that a checker must find.
    pub mistake: Option<Mistake>,
}

/// Mistakes put into a world on purpose: a checker that does not see its own is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Who has sent his dot stays among those who may be sent away.
    EvictAfterDot,
    /// Mail leaves without the filter's word.
    ForgetJudged,
    /// A promised item is lost at a restart.
    LoseItem,
    /// The next hop gets everything twice.
    DeliverTwice,
    /// Whoever comes when the door is full is refused.
    RefuseKnown,
    /// Nobody watches the weather after the storm has begun.
    StayInStorm,
    /// Deadlines are not looked at.
    ForgetDeadlines,
}

/// What happened in a world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FloodReport {
    /// What the checkers found; each names the time.
    pub faults: Vec<String>,
    /// A digest of all that happened, in order.
    pub trace: u64,
    /// Messages answered 250.
    pub promised: u64,
    /// Connections let in, by class.
    pub admitted: [u64; CLASSES],
    /// Connections turned away at accept, by class.
    pub refused: [u64; CLASSES],
    /// Sent away to make room.
    pub evicted: u64,
    /// Restarts, kills and power cuts.
    pub restarts: u64,
    /// Changes of a mode.
    pub changes: u64,
    /// Messages that ended in quarantine or as dead letters.
    pub aside: u64,
    /// Milliseconds from the end of the crowd until all was quiet.
    pub quiet_after_ms: u64,
}

/// What is to happen.
#[derive(Debug)]
enum Event {
    /// A client connects.
    Connect(usize),
    /// Octets of a client arrive here.
    Input(usize, u64, Vec<u8>),
    /// The client has closed.
    Hangup(usize, u64),
    /// Octets of ours arrive at a client; with `true` the connection is closed.
    Hear(usize, u64, Vec<u8>, bool),
    /// One more octet of a dribbler.
    Drip(usize, u64),
    /// A quarter of a second has passed.
    Tick,
    /// The disk does something.
    Disk,
    /// The drain looks at the lanes.
    Look,
    /// A filter has spoken, or has not.
    Judged(ItemId, u64),
    /// A next hop has spoken, or has not.
    Landed(ItemId, u64),
    /// Another thread's wish for places is heard.
    Wanted,
    Storm(Storm),
}

/// Order of events: time, then who asked first.
struct At(u64, u64, Event);

impl PartialEq for At {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for At {}
impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for At {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// Who was told to go in one call of the usher.
#[derive(Default)]
struct ToldToGo(RefCell<Vec<(usize, Eviction)>>);

impl Places for ToldToGo {
    fn evict(&self, index: usize, why: Eviction) {
        self.0.borrow_mut().push((index, why));
    }
}

/// The world.
pub struct FloodWorld {
    profile: FloodProfile,
    rng: Rng,
    now_ms: u64,
    events: BinaryHeap<Reverse<At>>,
    asked: u64,
    peers: Vec<Peer>,
    seats: Vec<Option<Seat>>,
    free: Vec<usize>,
    serial: u64,
    letters: u64,
    house: House,
    drain: Drain,
    sky: SkyWatch,
    /// No restart while one is under way.
    down_until_ms: u64,
    disk_busy: bool,
    look_asked: bool,
    found: ending::Found,
    report: FloodReport,
    trace: u64,
    traced: bool,
}

impl FloodWorld {
    /// A world at its first moment.
    pub fn new(seed: u64, profile: FloodProfile) -> Self {
        let mut rng = Rng::new(seed);
        let disk = FaultyDisk::new(rng.next());
        let peers = storms::crowd(&profile, &mut rng);
        let house = House::new(&mut rng, disk, &peers, profile.connections_max);
        Self {
            drain: Drain::new(&mut rng),
            sky: SkyWatch::new(),
            rng,
            profile,
            now_ms: 0,
            events: BinaryHeap::new(),
            asked: 0,
            peers,
            seats: Vec::new(),
            free: Vec::new(),
            serial: 0,
            letters: 0,
            house,
            down_until_ms: 0,
            disk_busy: false,
            look_asked: false,
            found: ending::Found::default(),
            report: FloodReport::default(),
            trace: 0xcbf2_9ce4_8422_2325,
            traced: std::env::var_os("POSTERN_SEED").is_some(),
        }
    }

    /// The whole life of the world.
    pub fn run(mut self) -> FloodReport {
        self.house.disk.faults = self.profile.faults;
        let faults = self.profile.faults.sync + self.profile.faults.full > 0;
        self.house.calm = self.profile.hostile == 0 && !self.profile.outages && !self.profile.crashes && !faults;
        for peer in 0..self.peers.len() {
            let at = self.rng.below(self.profile.flood_s * 500);
            self.at(at, Event::Connect(peer));
        }
        for (at, storm) in storms::forecast(&self.profile, &mut self.rng) {
            self.at(at, Event::Storm(storm));
        }
        self.at(TICK_MS, Event::Tick);
        let flood_ms = self.profile.flood_s * 1000;
        let mut quiet = false;
        while let Some(Reverse(At(at, _, event))) = self.events.pop() {
            if self.now_ms < flood_ms && at >= flood_ms {
                self.end_flood();
            }
            self.now_ms = at;
            self.house.now_ms = at;
            if matches!(event, Event::Tick) && at > flood_ms {
                quiet = self.is_quiet();
                if quiet || at > flood_ms + QUIET_MAX_MS || self.report.faults.len() > FAULTS_MAX {
                    break;
                }
            }
            self.handle(event);
            self.turn_machines();
        }
        self.report.quiet_after_ms = self.now_ms.saturating_sub(flood_ms);
        self.finish(quiet);
        self.report.trace = self.trace;
        self.report
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Connect(peer) => self.connect(peer),
            Event::Input(index, serial, bytes) => self.input(index, serial, &bytes),
            Event::Hangup(index, serial) => {
                if self.sits(index, serial) {
                    self.close(index, false);
                }
            }
            Event::Hear(peer, serial, bytes, closed) => self.hear(peer, serial, &bytes, closed),
            Event::Drip(peer, serial) => self.drip(peer, serial),
            Event::Tick => self.tick(),
            Event::Disk => {
                self.disk_busy = false;
                self.house.disk.step();
            }
            Event::Look => {
                self.look_asked = false;
                self.drain.ask_for_lanes(&mut self.house);
            }
            Event::Judged(id, flight) => self.drain_judged(id, flight),
            Event::Landed(id, flight) => self.drain_landed(id, flight),
            Event::Wanted => self.serve_wanted(),
            Event::Storm(storm) => self.storm(storm),
        }
    }

    fn at(&mut self, at_ms: u64, event: Event) {
        self.asked += 1;
        self.events.push(Reverse(At(at_ms.max(self.now_ms), self.asked, event)));
    }

    fn after(&mut self, ms: u64, event: Event) {
        self.at(self.now_ms + ms, event);
    }

    fn instant(&self) -> Instant {
        Instant(self.now_ms * 1000)
    }

    fn fault(&mut self, what: &str) {
        if self.report.faults.len() <= FAULTS_MAX {
            self.report.faults.push(format!("{} ms: {what}", self.now_ms));
        }
    }

    fn note(&mut self, what: &str, number: u64) {
        if self.traced {
            println!("{} {what} {number}", self.now_ms);
        }
        for byte in what.bytes().chain(self.now_ms.to_le_bytes()).chain(number.to_le_bytes()) {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Spool, disk and drain go on as far as they can without time passing.
    fn turn_machines(&mut self) {
        loop {
            self.house.turn();
            if !self.disk_busy && self.house.disk_waits() {
                self.disk_busy = true;
                let takes = 1 + self.rng.below(4);
                self.after(takes, Event::Disk);
            }
            let events = std::mem::take(&mut self.house.events);
            let replies = std::mem::take(&mut self.house.replies);
            if events.is_empty() && replies.is_empty() {
                break;
            }
            for (id, kind) in events {
                self.spool_says(id, kind);
            }
            for (token, reply) in replies {
                self.drain_hears(token, reply);
            }
        }
        if self.house.engine.take_changed() && !self.look_asked {
            self.look_asked = true;
            self.after(5, Event::Look);
        }
    }

    /// A client connects, unless it does already.
    fn connect(&mut self, number: usize) {
        let flood = self.now_ms < self.profile.flood_s * 1000;
        let peer = &mut self.peers[number];
        if peer.seat.is_some() || peer.left == 0 || (!flood && !peer.kind.is_honest()) {
            return;
        }
        if self.now_ms < self.down_until_ms {
            return self.come_again(number);
        }
        let ip = peer.ip;
        let class = self.house.class_of(ip);
        let thread = (self.serial % THREADS as u64) as usize;
        let admitted = self.knock(class, thread);
        self.note(if admitted { "in" } else { "turned away" }, number as u64);
        if !admitted {
            self.report.refused[class as usize] += 1;
            self.peers[number].failures += 1;
            return self.come_again(number);
        }
        self.report.admitted[class as usize] += 1;
        let (index, serial) = self.sit_down(number, class, thread);
        self.peers[number].seat = Some((index, serial));
        let act = self.peers[number].begin();
        self.perform(number, act);
        self.pump(index);
    }

    /// The usher decides; the checkers look at it.
    fn knock(&mut self, class: Class, thread: usize) -> bool {
        let before = self.house.crowd.standing();
        let max = self.profile.connections_max as u32;
        let told = ToldToGo::default();
        let mut admitted = self.house.ushers[thread].admit(class, &told, &self.house.stats);
        if self.profile.mistake == Some(Mistake::RefuseKnown) {
            admitted &= before.iter().sum::<u32>() < max;
        }
        let told = told.0.into_inner();
        self.check_entry(class, &before, admitted, &told);
        for (index, why) in told {
            self.send_away(index, why);
        }
        self.after(1, Event::Wanted);
        admitted
    }

    fn serve_wanted(&mut self) {
        for thread in 0..THREADS {
            let told = ToldToGo::default();
            self.house.ushers[thread].serve_wanted(&told);
            for (index, why) in told.0.into_inner() {
                self.send_away(index, why);
            }
        }
    }

    fn check_entry(&mut self, class: Class, before: &[u32; CLASSES], admitted: bool, told: &[(usize, Eviction)]) {
        let max = u64::from(self.profile.connections_max as u32);
        let shares = self.house.shares.connections;
        let above = |of: Class| u64::from(before[of as usize]) > shares.floor(of, max);
        let lesser = Class::ALL.into_iter().any(|of| of > class && above(of) && self.can_go(of));
        if !admitted && class <= Class::Known && lesser {
            self.fault("somebody known was refused while a lesser class was above its floor");
        }
        let below = u64::from(before[class as usize]) < shares.floor(class, max);
        let any = Class::ALL.into_iter().any(|of| of != class && above(of) && self.can_go(of));
        if !admitted && below && any && self.house.crowd.leaving() < LEAVING_MAX {
            self.fault("a class was refused below its floor");
        }
        for (index, _) in told {
            let Some(seat) = self.seats[*index].as_ref() else { continue };
            if seat.class != class && !above(seat.class) {
                self.fault("a class was pushed below its floor");
            }
        }
    }

    /// Whether anybody of a class could be sent away.
    fn can_go(&self, class: Class) -> bool {
        self.seats.iter().flatten().any(|seat| seat.class == class && seat.could_go())
    }

    /// Says what a client wants to say.
    fn perform(&mut self, number: usize, act: Act) {
        let Some((index, serial)) = self.peers[number].seat else { return };
        let delay = self.peers[number].delay_ms;
        match act {
            Act::Nothing => {}
            Act::Say(bytes) | Act::SayBody(bytes) => self.after(delay, Event::Input(index, serial, bytes)),
            Act::Drip => self.after(delay, Event::Drip(number, serial)),
            Act::Leave => {
                self.after(delay, Event::Hangup(index, serial));
                self.gone(number);
            }
        }
    }

    fn drip(&mut self, number: usize, serial: u64) {
        if let Some((index, sits)) = self.peers[number].seat
            && sits == serial
        {
            self.after(1, Event::Input(index, serial, b"x".to_vec()));
            let pause = 1000 + self.rng.below(4000);
            self.after(pause, Event::Drip(number, serial));
        }
    }

    fn hear(&mut self, number: usize, serial: u64, bytes: &[u8], closed: bool) {
        let peer = &mut self.peers[number];
        if peer.seat.is_none_or(|seat| seat.1 != serial) {
            return;
        }
        let acts = peer.hear(bytes, &mut self.rng, &mut self.letters);
        for act in acts {
            self.perform(number, act);
        }
        if closed && self.peers[number].seat.is_some_and(|seat| seat.1 == serial) {
            self.peers[number].failures += 1;
            self.gone(number);
        }
    }

    /// A client's connection is over; when it has more to say it comes again.
    fn gone(&mut self, number: usize) {
        self.peers[number].seat = None;
        self.come_again(number);
    }

    fn come_again(&mut self, number: usize) {
        let peer = &self.peers[number];
        let wait = if peer.kind.is_honest() {
            // As a mail server's queue does it, but faster.
            let tries = peer.failures.min(6);
            if peer.failures > TRIES_MAX {
                return;
            }
            500 + (1000 << tries) + self.rng.below(3000)
        } else {
            200 + self.rng.below(3000)
        };
        self.after(wait, Event::Connect(number));
    }
}

/// How often deadlines and pressure are looked at, as the doors and the weather do.
const TICK_MS: u64 = 250;
/// Threads of the door.
const THREADS: usize = 2;
/// As the doors' own limit.
const LEAVING_MAX: u32 = postern_doors::limits::LEAVING_MAX;
/// After so many failures an honest server gives up: it told its user.
const TRIES_MAX: u32 = 60;
/// All must be quiet by then: the promised delay of these worlds, and the longest storm.
const QUIET_MAX_MS: u64 = house::PROMISED_MS + postern_trust::weather::STORM_MAX_MS + 600_000;
/// More say nothing new.
const FAULTS_MAX: usize = 20;

/// Items on their way out.
type Flights = BTreeMap<ItemId, drain::Flight>;
