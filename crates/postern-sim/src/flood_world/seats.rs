//! The connections: a thin pump round each [`Conn`], as the doors' shell is, with time and octets of the world's.

use std::net::{IpAddr, SocketAddr};

use postern_doors::conn::{Client, Conn, Need, Surroundings};
use postern_doors::machine::Applicant;
use postern_doors::policy::Lookup;
use postern_proto::address::Address;
use postern_proto::checks::Checks;
use postern_proto::envelope::Meta;
use postern_proto::mode::Mode;
use postern_proto::session::{Deferral, Eviction, RecipientVerdict, Session};
use postern_proto::time::{Duration, Instant};
use postern_spool::machine::PortRequest;
use postern_spool::{Body, EventKind, ItemId, NewItem, When};
use postern_trust::{Class, Evidence};

use super::house::House;
use super::peers::read_body;
use super::{Event, FloodWorld, Mistake, TICK_MS};

/// One connection.
pub(super) struct Seat {
    pub(super) serial: u64,
    pub(super) peer: usize,
    pub(super) class: Class,
    thread: usize,
    conn: Conn,
    facts: Facts,
    rest: Vec<u8>,
    need: Need,
    greeted: bool,
    greet_at: Instant,
    progress: u64,
    held: usize,
    born_ms: u64,
    leaving: bool,
}

/// What the world of one connection knows of it.
struct Facts {
    class: Class,
    ip: IpAddr,
    authorised: bool,
    early_talker: bool,
    thread: usize,
    /// The message that was handed over and not answered.
    pending: Option<ItemId>,
    /// What the beginning of a streamed body said.
    streamed: Option<(u64, bool)>,
}

struct Around<'a> {
    house: &'a mut House,
    facts: &'a mut Facts,
    index: usize,
}

impl Around<'_> {
    fn class(&self, client: &Client<'_>) -> Class {
        if self.facts.class == Class::Provider || self.facts.authorised {
            let sender = client.sender.map(Address::to_string);
            let now_s = self.house.unix_ms() / 1000;
            return self.house.book.class_of_message(client.ip, sender.as_deref(), self.facts.authorised, now_s);
        }
        self.facts.class
    }

    fn consider(&self, address: &Address, client: &Client<'_>, mode: Mode) -> Result<(), Deferral> {
        let domain = client.sender.map(|sender| sender.domain.to_string());
        self.house.ushers[self.facts.thread].consider(&Applicant {
            class: self.class(client),
            ip: client.ip,
            sender: &client.sender.map(Address::to_string).unwrap_or_default(),
            recipient: &address.to_string(),
            authorised_domain: domain.as_deref().filter(|_| self.facts.authorised),
            listed_good: false,
            collecting: mode != Mode::Through,
            now_s: self.house.unix_ms() / 1000,
        })
    }
}

impl Surroundings for Around<'_> {
    fn recipient(&mut self, address: &Address, client: &Client<'_>) -> Option<RecipientVerdict> {
        if client.begins {
            // The identity desk answers at once, or cannot.
            let domain = client.sender.map(|sender| sender.domain.to_string()).unwrap_or_default();
            self.facts.authorised = self.house.dns && !domain.is_empty() && !domain.starts_with("bot");
            if self.facts.authorised && self.facts.class > Class::Known {
                let (ip, by) = (client.ip, postern_trust::Authority::Spf);
                self.house.tell(Evidence::Authorised { ip, domain: domain.into(), by });
            }
        }
        let mode = self.house.modes.of(&address.domain);
        if let Err(why) = self.consider(address, client, mode) {
            return Some(RecipientVerdict::Defer(why));
        }
        let Lookup::Known(verdict) = self.house.policy.lookup(address, &self.house.modes) else { return None };
        if matches!(verdict, RecipientVerdict::Unknown(_)) {
            let now_s = self.house.unix_ms() / 1000;
            self.house.ushers[self.facts.thread].note_bad_recipient(client.ip, now_s);
        }
        Some(verdict)
    }

    fn checks(&mut self, client: &Client<'_>) -> Checks {
        let class = self.class(client);
        self.house.admission.intake.taken(class);
        Checks { class: class as u8, early_talker: self.facts.early_talker, ..Checks::default() }
    }

    fn new_id(&mut self) -> ItemId {
        self.house.new_id()
    }

    fn write_body(&mut self, id: ItemId, piece: Vec<u8>) {
        self.house.waiting.insert(id, self.index);
        self.facts.streamed = self.facts.streamed.or_else(|| read_body(&piece));
        self.house.port(PortRequest::WriteBody(id, piece));
    }

    fn append(&mut self, item: NewItem, when: When) {
        self.house.waiting.insert(item.id, self.index);
        self.facts.pending = Some(item.id);
        let streamed = self.facts.streamed.take();
        let letter = if let Body::Inline(bytes) = &item.body { read_body(bytes) } else { streamed };
        if let (Some((letter, _)), Ok(meta)) = (letter, Meta::from_bytes(&item.meta)) {
            let recipients = meta.recipients.iter().map(|to| to.address.to_string()).collect();
            self.house.ledger.appended(item.id, letter, recipients);
        }
        self.house.port(PortRequest::Append(item, when));
    }

    fn commit(&mut self, id: ItemId) {
        self.house.port(PortRequest::Commit(id));
    }

    fn abandon(&mut self, id: ItemId) {
        self.house.waiting.remove(&id);
        self.house.port(PortRequest::Abandon(id));
    }

    fn forget(&mut self, id: ItemId) {
        self.house.waiting.remove(&id);
    }

    fn unix_ms(&mut self) -> u64 {
        self.house.unix_ms()
    }
}

impl Seat {
    /// Whether it could be sent away.
    pub(super) fn could_go(&self) -> bool {
        !self.leaving && !self.conn.session().has_ended_message()
    }

    pub(super) fn held(&self) -> u64 {
        self.held as u64
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving
    }
}

impl FloodWorld {
    pub(super) fn sits(&self, index: usize, serial: u64) -> bool {
        self.seats.get(index).and_then(Option::as_ref).is_some_and(|seat| seat.serial == serial)
    }

    /// A place for a client that was let in.
    pub(super) fn sit_down(&mut self, peer: usize, class: Class, thread: usize) -> (usize, u64) {
        let now = self.instant();
        let ip = self.peers[peer].ip;
        let session = Session::new(
            self.house.session.clone(),
            SocketAddr::new(ip, 40_000),
            SocketAddr::from(([192, 0, 2, 1], 25)),
            false,
            now,
        );
        self.serial += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.seats.push(None);
            self.seats.len() - 1
        });
        let facts = Facts { class, ip, authorised: false, early_talker: false, thread, pending: None, streamed: None };
        let usher = &self.house.ushers[thread];
        usher.crowd().enter(class);
        usher.stand(index, class, now);
        self.seats[index] = Some(Seat {
            serial: self.serial,
            peer,
            class,
            thread,
            conn: Conn::new(session),
            facts,
            rest: Vec::new(),
            need: Need::Input,
            greeted: false,
            greet_at: now.after(usher.greet_wait(class)),
            progress: 0,
            held: 0,
            born_ms: self.now_ms,
            leaving: false,
        });
        (index, self.serial)
    }

    pub(super) fn input(&mut self, index: usize, serial: u64, bytes: &[u8]) {
        if !self.sits(index, serial) {
            return;
        }
        if let Some(seat) = self.seats[index].as_mut() {
            seat.rest.extend_from_slice(bytes);
            if !seat.greeted && !seat.facts.early_talker {
                seat.facts.early_talker = true;
                let ip = seat.facts.ip;
                seat.greet_at = Instant(0);
                self.house.tell(Evidence::EarlyTalker { ip });
            }
        }
        self.pump(index);
    }

    /// One step of a connection: as long as it can go on.
    pub(super) fn pump(&mut self, index: usize) {
        let now = self.instant();
        let Some(mut seat) = self.seats[index].take() else { return };
        let mut out = Vec::new();
        if !seat.greeted && now >= seat.greet_at {
            seat.greeted = true;
            seat.conn.greet(&mut out);
        }
        while seat.greeted && seat.need == Need::Input && !seat.rest.is_empty() {
            let usher = &self.house.ushers[seat.thread];
            if seat.conn.session().is_reading_body() && !usher.may_receive(seat.class) {
                break;
            }
            let rest = std::mem::take(&mut seat.rest);
            let bytes = &rest[..rest.len().min(64 << 10)];
            let around = &mut Around { house: &mut self.house, facts: &mut seat.facts, index };
            let (used, need) = seat.conn.handle_bytes(now, bytes, &mut out, around);
            seat.need = need;
            seat.rest = rest[used..].to_vec();
            if used == 0 && need == Need::Input && out.is_empty() {
                break;
            }
            self.speak(&mut seat, &mut out);
        }
        self.speak(&mut seat, &mut out);
        self.take_stand(&mut seat, index);
        let closes = seat.need == Need::Close;
        self.seats[index] = Some(seat);
        if closes {
            self.close(index, true);
        }
    }

    /// The spool says something about an item.
    pub(super) fn spool_says(&mut self, id: ItemId, kind: EventKind) {
        let now = self.instant();
        let Some(index) = self.house.waiting.get(&id).copied() else { return };
        let Some(mut seat) = self.seats[index].take() else { return };
        let mut out = Vec::new();
        let around = &mut Around { house: &mut self.house, facts: &mut seat.facts, index };
        seat.conn.handle_event(now, (id, kind), &mut out, around);
        // The question is closed: what has come meanwhile is fed by the pump.
        seat.need = if seat.conn.session().awaits_answer() { Need::Answer } else { Need::Input };
        self.speak(&mut seat, &mut out);
        if seat.need == Need::Input {
            let around = &mut Around { house: &mut self.house, facts: &mut seat.facts, index };
            seat.need = seat.conn.handle_bytes(now, &[], &mut out, around).1;
            self.speak(&mut seat, &mut out);
        }
        self.seats[index] = Some(seat);
        self.pump(index);
    }

    /// Sends what was written, and notes what it says about a message.
    fn speak(&mut self, seat: &mut Seat, out: &mut Vec<u8>) {
        if out.is_empty() {
            return;
        }
        if let Some(id) = seat.facts.pending
            && !seat.conn.session().awaits_answer()
        {
            seat.facts.pending = None;
            let calm = self.house.calm;
            self.house.ledger.told(id, out[0], self.now_ms, calm);
            self.note("told", u64::from(out[0]));
        }
        let bytes = std::mem::take(out);
        let digest = bytes.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        self.note("said", digest);
        let delay = self.peers[seat.peer].delay_ms;
        self.after(delay, Event::Hear(seat.peer, seat.serial, bytes, false));
    }

    /// After each step: where it stands, and what it holds.
    fn take_stand(&mut self, seat: &mut Seat, index: usize) {
        let session = seat.conn.session();
        let (progress, held, ended) = (session.progress(), session.held_bytes(), session.has_ended_message());
        let usher = &self.house.ushers[seat.thread];
        usher.crowd().hold(seat.class, seat.held, held);
        seat.held = held;
        if seat.leaving {
            return;
        }
        if ended && self.profile.mistake != Some(Mistake::EvictAfterDot) {
            if usher.stands(index) {
                usher.leave(index, seat.class);
            }
        } else if progress != seat.progress || !usher.stands(index) {
            usher.stand(index, seat.class, Instant(self.now_ms * 1000));
        }
        seat.progress = progress;
    }

    /// The usher has told it to go.
    pub(super) fn send_away(&mut self, index: usize, why: Eviction) {
        let now = self.instant();
        let Some(mut seat) = self.seats[index].take() else { return };
        seat.leaving = true;
        let mut out = Vec::new();
        let ended = seat.conn.session().has_ended_message();
        let around = &mut Around { house: &mut self.house, facts: &mut seat.facts, index };
        let went = seat.conn.handle_eviction(now, why, &mut out, around);
        self.speak(&mut seat, &mut out);
        self.seats[index] = Some(seat);
        self.note("sent away", index as u64);
        if ended {
            self.fault("somebody was to go between his dot and our reply");
        }
        if went {
            self.report.evicted += 1;
            self.close(index, true);
        }
    }

    /// A connection is over. `by_us`: its client hears of it.
    pub(super) fn close(&mut self, index: usize, by_us: bool) {
        let Some(mut seat) = self.seats[index].take() else { return };
        let around = &mut Around { house: &mut self.house, facts: &mut seat.facts, index };
        seat.conn.handle_eof(around);
        if let Some(id) = seat.conn.item() {
            self.house.waiting.remove(&id);
        }
        let usher = &self.house.ushers[seat.thread];
        usher.leave(index, seat.class);
        usher.crowd().hold(seat.class, seat.held, 0);
        usher.crowd().leave(seat.class, seat.leaving);
        let session = seat.conn.session();
        let ip = seat.facts.ip;
        if session.refused_recipients() > 0 {
            let n = u16::try_from(session.refused_recipients()).unwrap_or(u16::MAX);
            self.house.tell(Evidence::BadRecipients { ip, n });
        }
        if session.broke_the_rules() {
            self.house.tell(Evidence::Abuse { ip });
        }
        self.free.push(index);
        if by_us {
            let delay = self.peers[seat.peer].delay_ms;
            self.after(delay, Event::Hear(seat.peer, seat.serial, Vec::new(), true));
        }
    }

    /// Deadlines, as the table of the doors fires them; then whoever waits for room looks again.
    pub(super) fn fire(&mut self) {
        let now = self.instant();
        for index in 0..self.seats.len() {
            let Some(seat) = self.seats[index].as_ref() else { continue };
            let due = seat.conn.session().next_timeout() <= now;
            if due && self.profile.mistake != Some(Mistake::ForgetDeadlines) {
                self.time_out(index, now);
            } else if !seat.rest.is_empty() || !seat.greeted {
                self.pump(index);
            }
        }
    }

    fn time_out(&mut self, index: usize, now: Instant) {
        let Some(mut seat) = self.seats[index].take() else { return };
        let mut out = Vec::new();
        let around = &mut Around { house: &mut self.house, facts: &mut seat.facts, index };
        seat.need = seat.conn.handle_timeout(now, &mut out, around);
        self.note("timed out", index as u64);
        self.speak(&mut seat, &mut out);
        let closes = seat.need == Need::Close || seat.conn.session().is_closed();
        self.seats[index] = Some(seat);
        if closes {
            self.close(index, true);
        } else {
            self.pump(index);
        }
    }

    /// Nobody sits beyond what he was given, and what is counted is what is there.
    pub(super) fn check_seats(&mut self) {
        let now = self.instant();
        let grace = Duration::from_millis(2 * TICK_MS);
        let late = |seat: &Seat| now.since(seat.conn.session().next_timeout()) > grace;
        let too_old = |seat: &Seat| self.now_ms - seat.born_ms > SESSION_MAX_MS;
        if self.seats.iter().flatten().any(|seat| late(seat) || too_old(seat)) {
            self.fault("somebody sits beyond his deadline");
        }
        let snapshot = self.house.crowd.snapshot();
        let (mut open, mut held) = ([0; postern_trust::CLASSES], [0; postern_trust::CLASSES]);
        for seat in self.seats.iter().flatten() {
            open[seat.class as usize] += 1;
            held[seat.class as usize] += seat.held();
        }
        if snapshot.open != open || snapshot.held_bytes != held {
            self.fault("the crowd is not as it is counted");
        }
        let leaving = self.seats.iter().flatten().filter(|seat| seat.is_leaving()).count() as u32;
        if self.house.crowd.leaving() != leaving {
            self.fault("those who are to go are not as they are counted");
        }
        let (total, max) = (open.iter().sum::<u32>() as usize, self.profile.connections_max);
        if total > max + super::LEAVING_MAX as usize || held.iter().sum::<u64>() > 2 * super::house::HELD_BYTES_MAX {
            self.fault("a table is larger than it may be");
        }
    }

    /// The process is gone, and everybody with it.
    pub(super) fn drop_all(&mut self) {
        for index in 0..self.seats.len() {
            if let Some(seat) = self.seats[index].take() {
                let delay = self.peers[seat.peer].delay_ms;
                self.after(delay, Event::Hear(seat.peer, seat.serial, Vec::new(), true));
                self.free.push(index);
            }
        }
        self.house.waiting.clear();
    }
}

/// A session's own end; see the limits of the sessions.
const SESSION_MAX_MS: u64 = 4 * 3_600_000;
