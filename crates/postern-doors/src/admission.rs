//! Who comes in, who must go, who waits: one thread's side of admission.
//!
//! It gathers facts (class of the client, crowd, pressure) and does what
//! [`postern_trust::admission`] decides from them; it holds no rule itself. Connections call it at
//! accept and after each step. A door without admission (the relay listener) serves everybody
//! alike up to its limit.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use postern_identity::IdentityDesk;
use postern_proto::session::{Deferral, Eviction};
use postern_proto::time::Instant;
use postern_trust::admission::{Entry, MessageFacts, Take, Why};
use postern_trust::greylist::{BadRecipients, Greylist};
use postern_trust::pressure::{Level, PressureCell};
use postern_trust::shares::Shares;
use postern_trust::{Book, CLASSES, Class, Evidence, EvidenceSender, admission};

use crate::crowd::{Crowd, Intake, Merit};
use crate::limits;
use crate::ranks::Ranks;
use crate::stats::{DoorStats, count};

/// What admission is made of; shared by all threads of a door.
#[derive(Clone)]
pub struct Admission {
    /// Who is known.
    pub book: Arc<Book>,
    /// What clients did goes there.
    pub evidence: EvidenceSender,
    /// Who is asked about strangers; nobody, when it is not there.
    pub identity: Option<IdentityDesk>,
    /// How things stand.
    pub pressure: Arc<PressureCell>,
    /// How much more may be taken in.
    pub intake: Arc<Intake>,
    /// Nobody is judged: first come, first served. Read at each decision.
    pub bypass: Arc<AtomicBool>,
    /// As with `bypass`, and the log says what would have been done. Read at each decision.
    pub observe: Arc<AtomicBool>,
    /// Suspects that come again.
    pub greylist: Arc<Greylist>,
    /// Who asks for recipients that are not there.
    pub bad_recipients: Arc<BadRecipients>,
    /// Floors and ceilings.
    pub shares: Shares,
    /// Octets of messages on their way in, over all connections; [`limits::HELD_BYTES_MAX_DEFAULT`].
    pub held_bytes_max: u64,
    /// Names that only we have: a client that uses one lies.
    pub our_names: Vec<String>,
    /// Burnt at each accept of a stranger; for measurements only.
    pub spin: Duration,
}

impl Admission {
    fn merit(&self) -> Merit {
        match (self.bypass.load(Relaxed), self.observe.load(Relaxed)) {
            (true, _) => Merit::Off,
            (false, true) => Merit::Observe,
            (false, false) => Merit::On,
        }
    }
}

/// One thread's side.
pub struct Usher {
    admission: Option<Admission>,
    crowd: Arc<Crowd>,
    thread: usize,
    ranks: RefCell<Ranks>,
    connections_max: u32,
    /// Handshakes under way.
    handshakes: Cell<[u64; CLASSES]>,
    /// Whom we know and has connected lately: a hash and when.
    connected: RefCell<Vec<(u64, u64)>>,
    hasher: RandomState,
}

/// What a transaction looks like to admission.
pub struct Applicant<'a> {
    /// Of this transaction.
    pub class: Class,
    /// The client.
    pub ip: IpAddr,
    /// The reverse-path; empty for `<>`.
    pub sender: &'a str,
    /// One recipient.
    pub recipient: &'a str,
    /// What SPF lets it speak for.
    pub authorised_domain: Option<&'a str>,
    /// On more good lists than bad ones.
    pub listed_good: bool,
    /// Its mail would be answered at the receipt.
    pub collecting: bool,
    /// Wall clock.
    pub now_s: u64,
}

/// Where connections sit, as far as it is the usher's business.
pub trait Places {
    /// Tells a connection to go, and wakes it.
    fn evict(&self, index: usize, why: Eviction);
}

impl Usher {
    /// For one thread of a door.
    pub fn new(admission: Option<Admission>, crowd: Arc<Crowd>, thread: usize, connections_max: usize) -> Self {
        let connections_max = u32::try_from(connections_max).unwrap_or(u32::MAX);
        Self {
            admission,
            crowd,
            thread,
            ranks: RefCell::default(),
            connections_max,
            handshakes: Cell::default(),
            connected: RefCell::new(vec![(0, 0); limits::CONNECTED_KEPT]),
            hasher: RandomState::new(),
        }
    }

    pub(crate) fn admission(&self) -> Option<&Admission> {
        self.admission.as_ref()
    }

    /// Who is in, over all threads.
    pub fn crowd(&self) -> &Crowd {
        &self.crowd
    }

    /// The class of an address. Without admission all are alike.
    pub(crate) fn class_of(&self, ip: IpAddr, now_s: u64) -> Class {
        self.admission.as_ref().map_or(Class::Pinned, |admission| admission.book.class_of(ip, now_s))
    }

    pub(crate) fn merit(&self) -> Merit {
        self.admission.as_ref().map_or(Merit::Off, Admission::merit)
    }

    pub(crate) fn level(&self) -> Level {
        self.admission.as_ref().map_or(Level::Calm, |admission| admission.pressure.level())
    }

    /// Whether this class needs no leave to run.
    pub(crate) fn runs_freely(&self, class: Class) -> bool {
        class <= Class::Known || self.merit() != Merit::On
    }

    /// A client has connected: may it stay? Somebody else may be told to go for it.
    pub fn admit(&self, class: Class, slots: &impl Places, stats: &DoorStats) -> bool {
        if let Some(admission) = self.admission.as_ref().filter(|_| class > Class::Known) {
            spin(admission.spin);
        }
        let admitted = self.decide(class, slots);
        if !admitted {
            count(&stats.turned_away);
            self.crowd.refused(class);
        }
        admitted
    }

    fn decide(&self, class: Class, slots: &impl Places) -> bool {
        let standing = self.crowd.standing();
        let in_turn = standing.iter().sum::<u32>() < self.connections_max;
        let Some(admission) = &self.admission else { return in_turn };
        let entry = admission::connection(class, &standing, self.connections_max, &admission.shares);
        match admission.merit() {
            Merit::Off => return in_turn,
            Merit::Observe => {
                if let (Entry::Evict(victim), false) = (entry, in_turn) {
                    tracing::info!(%class, %victim, "would have sent one away to let this one in");
                }
                return in_turn;
            }
            Merit::On => {}
        }
        match entry {
            Entry::Admit => true,
            Entry::Refuse => false,
            Entry::Evict(_) if self.crowd.leaving() >= limits::LEAVING_MAX => class <= Class::Known,
            Entry::Evict(_) => {
                let mut victims = admission::victims(class, &standing, self.connections_max, &admission.shares);
                let made_room = victims.any(|victim| self.make_room(victim, slots));
                // The known are let in even when everybody is between a message's end and our
                // reply: those go on their own, soon.
                made_room || class <= Class::Known
            }
        }
    }

    fn make_room(&self, victim: Class, slots: &impl Places) -> bool {
        self.send_away(victim, Eviction::Place, slots) || self.crowd.ask_another(victim)
    }

    /// Tells the longest idle of a class to go.
    fn send_away(&self, class: Class, why: Eviction, slots: &impl Places) -> bool {
        let Some((index, _)) = self.ranks.borrow().longest_idle(class) else { return false };
        self.leave(index, class);
        self.crowd.told_to_go(class, why == Eviction::Idle);
        slots.evict(index, why);
        true
    }

    /// Rings when another thread needs places.
    pub(crate) async fn bell(&self) {
        self.crowd.desk(self.thread).bell.notified().await;
    }

    /// The thread's tick came so late.
    pub(crate) fn note_lag(&self, lag: Duration) {
        self.crowd.desk(self.thread).ticked_late(lag);
    }

    /// Places that other threads have asked for.
    pub fn serve_wanted(&self, slots: &impl Places) {
        let desk = self.crowd.desk(self.thread);
        for class in Class::ALL {
            for _ in 0..desk.take_wanted(class) {
                self.send_away(class, Eviction::Place, slots);
            }
        }
    }

    /// Descriptors are used up although the limit is not reached: a few of the worst go.
    /// False: nobody can.
    pub(crate) fn make_room_at_once(&self, slots: &impl Places) -> bool {
        let mut gone = false;
        if self.merit() == Merit::On && self.crowd.leaving() < limits::LEAVING_MAX {
            let worst = Class::ALL.into_iter().rev().find(|class| self.ranks.borrow().len(*class) > 0);
            for class in worst.into_iter().cycle().take(limits::EVICTED_AT_ONCE) {
                gone |= self.send_away(class, Eviction::Place, slots);
            }
        }
        gone
    }

    /// Sends away whoever has moved nothing on for longer than the weather allows. In the calm
    /// that is the session's own timer's business.
    pub fn send_idle_away(&self, now: Instant, slots: &impl Places) {
        let level = self.level();
        if level == Level::Calm || self.merit() != Merit::On {
            return;
        }
        for class in Class::ALL.into_iter().rev() {
            let idle_max = Duration::from_millis(admission::patience(class, level).idle_ms);
            for _ in 0..limits::IDLED_PER_TICK {
                let longest = self.ranks.borrow().longest_idle(class);
                if longest.is_none_or(|(_, since)| now.since(since) < idle_max) {
                    break;
                }
                self.send_away(class, Eviction::Idle, slots);
            }
        }
    }

    /// The connection has moved on: it is the last of its class to go.
    pub fn stand(&self, index: usize, class: Class, now: Instant) {
        let mut ranks = self.ranks.borrow_mut();
        ranks.stand(index, class, now);
        self.crowd.desk(self.thread).publish(class, ranks.len(class));
    }

    /// Whether the connection could be sent away.
    pub fn stands(&self, index: usize) -> bool {
        self.ranks.borrow().stands(index)
    }

    /// The connection must not be sent away now, or is gone.
    pub fn leave(&self, index: usize, class: Class) {
        let mut ranks = self.ranks.borrow_mut();
        ranks.leave(index);
        self.crowd.desk(self.thread).publish(class, ranks.len(class));
    }

    /// How long the greeting waits, to see who speaks first.
    pub fn greet_wait(&self, class: Class) -> Duration {
        match self.merit() {
            Merit::On => Duration::from_millis(admission::patience(class, self.level()).greet_wait_ms),
            _ => Duration::ZERO,
        }
    }

    /// Whether a client of this class may send more of its message now.
    pub fn may_receive(&self, class: Class) -> bool {
        let Some(admission) = self.admission.as_ref().filter(|admission| admission.merit() == Merit::On) else {
            return true;
        };
        let held = self.crowd.held();
        let piece = postern_proto::limits::BODY_PIECE_BYTES as u64;
        let (max, memory) = (admission.held_bytes_max, &admission.shares.memory);
        // Strangers may have gone a step beyond the whole; what is kept for friends is theirs all the
        // same. And it is kept before they hold anything, or there would be nothing to begin with.
        let own = class <= Class::Known && held[class.index()] + piece <= memory.floor(class, max);
        own || admission::allot(class, piece, &held, max, &[true; CLASSES], memory)
    }

    /// Whether a client of this class may begin a handshake; a place is taken then.
    pub(crate) fn may_shake_hands(&self, class: Class) -> bool {
        let mut used = self.handshakes.get();
        let on = self.admission.as_ref().filter(|admission| admission.merit() == Merit::On);
        let may = on.is_none_or(|admission| {
            let shares = &admission.shares.handshakes;
            admission::allot(class, 1, &used, limits::HANDSHAKES_MAX, &[true; CLASSES], shares)
        });
        used[class.index()] += u64::from(may);
        self.handshakes.set(used);
        may
    }

    /// The place is free again.
    pub(crate) fn end_handshake(&self, class: Class) {
        let mut used = self.handshakes.get();
        used[class.index()] = used[class.index()].saturating_sub(1);
        self.handshakes.set(used);
    }

    /// The slowest that a message of this class may come, in octets a second.
    pub(crate) fn body_rate_min(&self, class: Class) -> u64 {
        match self.merit() {
            Merit::On => admission::patience(class, self.level()).min_bytes_per_s,
            _ => 0,
        }
    }

    /// Somebody we know has connected: steering wants to hear of it, now and then.
    pub(crate) fn note_connected(&self, class: Class, ip: IpAddr, now_s: u64) {
        if class > Class::Provider {
            return;
        }
        let key = self.hasher.hash_one(ip);
        let mut connected = self.connected.borrow_mut();
        let place = &mut connected[usize::try_from(key % limits::CONNECTED_KEPT as u64).unwrap_or(0)];
        if place.0 != key || now_s.abs_diff(place.1) >= limits::CONNECTED_EVERY_S {
            *place = (key, now_s);
            drop(connected);
            self.tell(Evidence::Connected { ip });
        }
    }

    /// Whether mail is taken from this client for this recipient now.
    pub fn consider(&self, applicant: &Applicant<'_>) -> Result<(), Deferral> {
        let Some(admission) = &self.admission else { return Ok(()) };
        let merit = admission.merit();
        if merit == Merit::Off {
            return Ok(());
        }
        let (class, level) = (applicant.class, admission.pressure.level());
        let facts = MessageFacts {
            level,
            bytes: 0,
            bytes_in_flight: self.crowd.held(),
            bytes_max: admission.held_bytes_max,
            collecting: applicant.collecting,
            room: admission.intake.room(),
            spool_used_per_mille: u64::from(admission.intake.spool_used_per_mille()),
            greylisted: greylisted(admission, applicant, level),
            bad_recipients: admission.bad_recipients.is_over_at(class, level, applicant.ip, applicant.now_s),
        };
        let why = match admission::message(class, &facts, &admission.shares) {
            Take::Yes => return Ok(()),
            Take::Defer(why) | Take::Refuse(why) => why,
        };
        if merit == Merit::Observe {
            tracing::info!(client = %applicant.ip, %class, why = why.as_str(), "would have deferred");
            return Ok(());
        }
        tracing::debug!(client = %applicant.ip, %class, why = why.as_str(), "deferred");
        self.crowd.deferred(class);
        Err(match why {
            Why::Disk | Why::Memory => Deferral::NoRoom,
            Why::Promise => Deferral::Busy,
            Why::BadRecipients => Deferral::Harvesting,
            Why::Greylisted => Deferral::Greylisted,
        })
    }

    /// A client asked for recipients that are not there.
    pub fn note_bad_recipient(&self, ip: IpAddr, now_s: u64) {
        if let Some(admission) = &self.admission {
            admission.bad_recipients.record(ip, 1, now_s);
        }
    }

    /// What a client did.
    pub fn tell(&self, evidence: Evidence) {
        if let Some(admission) = &self.admission {
            admission.evidence.send(evidence);
        }
    }
}

fn greylisted(admission: &Admission, applicant: &Applicant<'_>, level: Level) -> bool {
    postern_trust::greylist::is_wanted(applicant.class, level, applicant.listed_good)
        && admission.greylist.is_deferred(
            &postern_trust::greylist::Attempt {
                authorised_domain: applicant.authorised_domain,
                ip: applicant.ip,
                sender: applicant.sender,
                recipient: applicant.recipient,
            },
            applicant.now_s,
        )
}

/// Stands for the work that admission costs on a slower machine, so that the bench can show what
/// happens when there is more of it than time.
fn spin(time: Duration) {
    if !time.is_zero() {
        let until = std::time::Instant::now() + time;
        while std::time::Instant::now() < until {
            std::hint::spin_loop();
        }
    }
}
