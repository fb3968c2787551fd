//! The decision about each datagram.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use postern_proto::door::cid::{check_cid, make_cid};
use postern_proto::door::cookie::{CookieFault, Terms, challenge, check_cookie};
use postern_proto::door::keys::Keyring;
use postern_proto::door::limits::{
    CHALLENGE_BYTES, CID_BYTES, COOKIE_TOKEN_BYTES, COOKIE_WINDOW_S, PROOF_SKEW_S, TICKET_BYTES, TICKET_TOKEN_BYTES,
};
use postern_proto::door::packet::{Shape, Token, shape};
use postern_proto::door::ticket::{check_ticket, open_ticket};

use super::admissions::{Admission, Admissions, AdmittedBy};
use super::appointments::{Appointments, Prefixes, Turn};
use super::bindings::{Bindings, Bound};
use super::level::{Ladder, Level, Load};
use super::marks::Marks;
use super::seen::{By, Seen, Shown};
use super::sketch::Hash;
use super::stats::GateStats;

/// What the operator, or a test, can set.
#[derive(Clone, Copy, Debug)]
pub struct GateOptions {
    /// In every connection id: tells the threads of a machine apart.
    pub worker: u8,
    /// The least strict level; a token is always needed by default.
    pub floor: Level,
    /// Strangers served a second, over all prefixes. 50: a handshake costs 0.3 ms, so they never take more than 15 ms of
    /// a second, the strangers' share.
    pub strangers_per_second: u32,
    /// CHALLENGEs sent a second; beyond that silence. 20,000 of 40 octets are 6 Mbit/s.
    pub answers_per_second: u32,
    /// Burnt at each datagram, in nanoseconds: for tests that want a slow gate.
    pub work_ns: u32,
}

impl Default for GateOptions {
    fn default() -> Self {
        Self { worker: 0, floor: Level::Cookie, strangers_per_second: 50, answers_per_second: 20_000, work_ns: 0 }
    }
}

/// Both clocks: the wall's for cookies and tickets, the steady one for rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Seconds since 1970.
    pub unix_s: u32,
    /// Milliseconds since some moment.
    pub ms: u64,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Drop(DropReason),
    /// It is for QUIC.
    Pass,
    /// The CHALLENGE goes back to where it came from.
    Answer,
}

/// Why nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Of no shape that this door knows.
    Garbage,
    /// An id that we did not make.
    BadId,
    /// An id of ours from another address.
    IdElsewhere,
    /// An id of ours with too many packets.
    IdBudget,
    /// An Initial without a token that counts.
    NoToken,
    /// A ticket that is not ours, or whose proof is wrong or old.
    BadTicket,
    /// A cookie that is not ours, or not for this address.
    BadCookie,
    /// A ticket or cookie whose datagrams are used up, or a copy.
    Used,
    /// No more answers in this second.
    Unanswered,
    /// There is no room to remember it.
    Full,
}

/// The gate. Fixed memory; nothing is allocated after [`Gate::new`].
pub struct Gate {
    keys: Keyring,
    options: GateOptions,
    hash: Hash,
    ladder: Ladder,
    tickets: Seen,
    cookies: Seen,
    bindings: Bindings,
    marks: Marks,
    appointments: Appointments,
    admissions: Admissions,
    answers: f64,
    opens: f64,
    /// Strangers who asked to be served since the last tick.
    asked: u32,
    ticked_ms: u64,
    /// Connection ids made.
    ids: u64,
    stats: GateStats,
}

/// Shared by the socket, the listener and the maker of connection ids, all on one thread: never contended.
pub type SharedGate = Arc<Mutex<Gate>>;

impl Gate {
    /// `seed` must be secret and random: it decides who collides with whom in the tables.
    pub fn new(keys: Keyring, options: GateOptions, seed: [u8; 16]) -> Self {
        Self {
            keys,
            options,
            hash: Hash::new(&seed),
            ladder: Ladder::new(options.floor),
            tickets: Seen::new(TICKETS_BITS, 2 * PROOF_SKEW_S),
            cookies: Seen::new(COOKIES_BITS, COOKIE_WINDOW_S),
            bindings: Bindings::new(BINDINGS_BITS),
            marks: Marks::new(MARKS_BITS),
            appointments: Appointments::new(options.strangers_per_second),
            admissions: Admissions::new(),
            answers: f64::from(options.answers_per_second),
            opens: OPENS_PER_SECOND,
            asked: 0,
            ticked_ms: 0,
            ids: 0,
            stats: GateStats::default(),
        }
    }

    /// The keys, to mint tickets and ids with.
    pub fn keys(&self) -> &Keyring {
        &self.keys
    }

    /// Other keys from now on: the master was changed, and these still have what the one before made.
    pub fn set_keys(&mut self, keys: Keyring) {
        self.keys = keys;
    }

    /// The number in every connection id.
    pub fn worker(&self) -> u8 {
        self.options.worker
    }

    /// A connection id that nobody can guess: the random part is a keyed hash of a number that never comes again.
    pub fn new_cid(&mut self) -> [u8; CID_BYTES] {
        self.ids += 1;
        let random = self.hash.of(b'r', &self.ids.to_be_bytes()).to_be_bytes();
        let mut part = [0; 6];
        part.copy_from_slice(&random[..6]);
        make_cid(&self.keys, self.options.worker, part)
    }

    /// See [`GateOptions::work_ns`].
    pub fn work_ns(&self) -> u32 {
        self.options.work_ns
    }

    /// Counters and gauges.
    pub fn stats(&self) -> GateStats {
        self.stats.with(self.ladder.level(), self.appointments.gauges())
    }

    /// How strict it is.
    pub fn level(&self) -> Level {
        self.ladder.level()
    }

    /// What is known of the connection that began with this id.
    pub fn admission(&self, dcid: &[u8]) -> Option<Admission> {
        self.admissions.find(dcid)
    }

    /// Octets of all tables.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.tickets.bytes()
            + self.cookies.bytes()
            + self.bindings.bytes()
            + self.marks.bytes()
            + self.appointments.bytes()
            + self.admissions.bytes()
    }

    /// Each second, or so: keys roll, tables age, the level follows the load.
    pub fn tick(&mut self, now: Now, load: Load) {
        let passed = now.ms.saturating_sub(self.ticked_ms) as f64 / 1_000.0;
        self.ticked_ms = now.ms;
        self.stats.kernel_drops = load.kernel_drops;
        self.keys.roll(u64::from(now.unix_s));
        self.tickets.age(now.unix_s);
        self.cookies.age(now.unix_s);
        let refill = |left: f64, rate: f64| (left + passed * rate).min(rate);
        self.answers = refill(self.answers, f64::from(self.options.answers_per_second));
        self.opens = refill(self.opens, OPENS_PER_SECOND);
        let served = f64::from(self.options.strangers_per_second.max(1));
        if passed > 0.0 {
            self.ladder.note_second(f64::from(self.asked) / passed / served, load.cpu);
            self.asked = 0;
        }
        self.appointments.set_rate(match self.ladder.level() {
            Level::Open | Level::Cookie | Level::Appointments => served,
            Level::Quiet => served / 2.0,
            Level::Floor => served / 100.0,
        });
        self.appointments.tick(now.ms);
    }

    /// Decides. With [`Verdict::Answer`] the octets to send back are in `answer`.
    #[inline]
    pub fn handle(
        &mut self,
        datagram: &[u8],
        source: SocketAddr,
        now: Now,
        answer: &mut [u8; CHALLENGE_BYTES],
    ) -> Verdict {
        self.stats.received += 1;
        self.stats.received_bytes += datagram.len() as u64;
        let verdict = match shape(datagram) {
            Shape::Garbage => Verdict::Drop(DropReason::Garbage),
            Shape::Established { cid } => self.established(cid, source, now),
            Shape::Initial { dcid, token } => self.initial(dcid, token, source, now, answer),
            Shape::Hello { nonce } => self.challenge(source.ip(), nonce, self.outlook(source.ip(), now), now, answer),
        };
        self.count(verdict);
        verdict
    }

    fn count(&mut self, verdict: Verdict) {
        let stats = &mut self.stats;
        match verdict {
            Verdict::Pass => stats.passed += 1,
            Verdict::Answer => stats.answered += 1,
            Verdict::Drop(DropReason::Garbage) => stats.garbage += 1,
            Verdict::Drop(DropReason::BadId) => stats.bad_id += 1,
            Verdict::Drop(DropReason::IdElsewhere) => stats.id_elsewhere += 1,
            Verdict::Drop(DropReason::IdBudget) => stats.id_budget += 1,
            Verdict::Drop(DropReason::NoToken) => stats.no_token += 1,
            Verdict::Drop(DropReason::BadTicket) => stats.bad_ticket += 1,
            Verdict::Drop(DropReason::BadCookie) => stats.bad_cookie += 1,
            Verdict::Drop(DropReason::Used) => stats.used_cookie += 1,
            Verdict::Drop(DropReason::Unanswered) => stats.unanswered += 1,
            Verdict::Drop(DropReason::Full) => stats.full += 1,
        }
    }

    #[inline]
    fn established(&mut self, cid: &[u8; CID_BYTES], source: SocketAddr, now: Now) -> Verdict {
        if !check_cid(&self.keys, cid) {
            return Verdict::Drop(DropReason::BadId);
        }
        let address = self.address(source);
        match self.bindings.pass(&self.hash, cid, address, now.unix_s) {
            Bound::Here => {
                self.stats.passed_known_id += 1;
                Verdict::Pass
            }
            Bound::Elsewhere => Verdict::Drop(DropReason::IdElsewhere),
            Bound::TooMany => Verdict::Drop(DropReason::IdBudget),
        }
    }

    fn initial(
        &mut self,
        dcid: &[u8; CID_BYTES],
        token: Token<'_>,
        source: SocketAddr,
        now: Now,
        answer: &mut [u8; CHALLENGE_BYTES],
    ) -> Verdict {
        // Initials after our first answer carry our id, and repeat the token.
        if check_cid(&self.keys, dcid) {
            return self.established(dcid, source, now);
        }
        match token {
            Token::Ticket(token) => self.by_ticket(dcid, token, source, now, answer),
            Token::Cookie(token) => self.by_cookie(dcid, token, source, now, answer),
            Token::None if self.ladder.level() == Level::Open => self.by_nothing(dcid, source, now),
            Token::None | Token::Other => Verdict::Drop(DropReason::NoToken),
        }
    }

    fn by_ticket(
        &mut self,
        dcid: &[u8; CID_BYTES],
        token: &[u8; TICKET_TOKEN_BYTES],
        source: SocketAddr,
        now: Now,
        answer: &mut [u8; CHALLENGE_BYTES],
    ) -> Verdict {
        if check_ticket(&self.keys, token, dcid, now.unix_s).is_err() {
            return Verdict::Drop(DropReason::BadTicket);
        }
        let key = self.hash.of(b't', &token[..14]);
        let by = self.by(source, dcid);
        match self.tickets.show(key, by) {
            Shown::Again => return Verdict::Pass,
            Shown::Spent | Shown::Copied => return Verdict::Drop(DropReason::Used),
            Shown::Far => return self.challenge(source.ip(), nonce_of(dcid), Turn::Now, now, answer),
            // Only who has the ticket's key can prove it for another connection id: its owner, who does not know that it
            // was used up, is asked for a cookie and then passes those who wait.
            Shown::Other(nth) => {
                self.stats.burnt_ticket += 1;
                if nth <= OTHERS_MARKED_MAX
                    && let Some(held) = self.open(token, now)
                {
                    self.marks.put(&self.hash, source.ip(), held, now.unix_s);
                }
                return self.challenge(source.ip(), nonce_of(dcid), Turn::Now, now, answer);
            }
            Shown::First => {}
        }
        let Some((kind, body)) = self.open(token, now) else { return Verdict::Drop(DropReason::BadTicket) };
        let near = self.keys.is_prefix_tag(body.prefix_tag, source.ip().to_canonical());
        let remembered = if near { self.tickets.take(key, by) } else { self.tickets.take_far(key, by) };
        if !remembered {
            return Verdict::Drop(DropReason::Full);
        }
        if !near {
            self.stats.far_ticket += 1;
            self.marks.put(&self.hash, source.ip(), (kind, body), now.unix_s);
            return self.challenge(source.ip(), nonce_of(dcid), Turn::Now, now, answer);
        }
        self.stats.admitted_ticket += 1;
        self.admit(dcid, AdmittedBy::Ticket { kind, body }, source.ip());
        Verdict::Pass
    }

    /// The AEAD is thirty times as dear as the proof: bounded by the second.
    fn open(
        &mut self,
        token: &[u8; TICKET_TOKEN_BYTES],
        now: Now,
    ) -> Option<(postern_proto::door::ticket::Kind, postern_proto::door::TicketBody)> {
        if self.opens < 1.0 {
            self.stats.full += 1;
            return None;
        }
        self.opens -= 1.0;
        let ticket: &[u8; TICKET_BYTES] = token.first_chunk()?;
        open_ticket(&self.keys, ticket, now.unix_s).ok()
    }

    fn by_cookie(
        &mut self,
        dcid: &[u8; CID_BYTES],
        token: &[u8; COOKIE_TOKEN_BYTES],
        source: SocketAddr,
        now: Now,
        answer: &mut [u8; CHALLENGE_BYTES],
    ) -> Verdict {
        let ip = source.ip();
        let cookie = match check_cookie(&self.keys, ip, token, now.unix_s) {
            Ok(cookie) => cookie,
            Err(CookieFault::Early { .. } | CookieFault::Late) => {
                self.stats.untimely_cookie += 1;
                return Verdict::Drop(DropReason::BadCookie);
            }
            Err(CookieFault::Forged | CookieFault::UnknownKey) => return Verdict::Drop(DropReason::BadCookie),
        };
        // The whole token: two cookies of one nonce are two.
        let key = self.hash.of(b'c', token);
        let by = self.by(source, dcid);
        match self.cookies.show(key, by) {
            Shown::Again => return Verdict::Pass,
            Shown::Spent | Shown::Copied | Shown::Far | Shown::Other(_) => return Verdict::Drop(DropReason::Used),
            Shown::First => {}
        }
        // Before its turn is used up for nothing; whoever asks again has another cookie, and other places.
        if !self.cookies.has_room(key) {
            return Verdict::Drop(DropReason::Full);
        }
        let prefixes = Prefixes::of(&self.hash, ip.to_canonical());
        self.appointments.note_active(prefixes);
        let held = self.marks.take(&self.hash, ip, now.unix_s);
        if held.is_none() {
            self.asked = self.asked.saturating_add(1);
            let turn = if self.ladder.level() >= Level::Appointments {
                self.appointments.admit_in_turn(prefixes, now.ms)
            } else {
                self.appointments.admit(prefixes, now.ms)
            };
            if let Turn::In(ms) = turn {
                self.stats.appointments += 1;
                return self.challenge(ip, cookie.nonce, Turn::In(ms), now, answer);
            }
        }
        if !self.cookies.take(key, by) {
            return Verdict::Drop(DropReason::Full);
        }
        let by = held.map_or(AdmittedBy::Cookie, |(kind, body)| AdmittedBy::Ticket { kind, body });
        self.stats.admitted_cookie += 1;
        self.stats.admitted_both += u64::from(held.is_some());
        self.admit(dcid, by, ip);
        Verdict::Pass
    }

    fn by_nothing(&mut self, dcid: &[u8; CID_BYTES], source: SocketAddr, now: Now) -> Verdict {
        let key = self.hash.of(b'n', dcid);
        let by = self.by(source, dcid);
        match self.cookies.show(key, by) {
            Shown::Again => return Verdict::Pass,
            Shown::Spent | Shown::Copied | Shown::Far | Shown::Other(_) => return Verdict::Drop(DropReason::Used),
            Shown::First => {}
        }
        self.asked = self.asked.saturating_add(1);
        let prefixes = Prefixes::of(&self.hash, source.ip().to_canonical());
        let room = self.appointments.admit(prefixes, now.ms) == Turn::Now;
        if !room || !self.cookies.take(key, by) {
            return Verdict::Drop(DropReason::NoToken);
        }
        self.admit(dcid, AdmittedBy::Nothing, source.ip());
        Verdict::Pass
    }

    fn admit(&mut self, dcid: &[u8; CID_BYTES], by: AdmittedBy, source: IpAddr) {
        let prefix = Prefixes::of(&self.hash, source.to_canonical()).narrow;
        self.admissions.note(dcid, Admission { by, prefix });
    }

    /// When a stranger from there would be served; writes nothing, so that spoofed HELLOs change nothing.
    fn outlook(&self, source: IpAddr, now: Now) -> Turn {
        if self.ladder.level() < Level::Appointments {
            return Turn::Now;
        }
        self.appointments.outlook(Prefixes::of(&self.hash, source.to_canonical()), now.ms)
    }

    fn challenge(
        &mut self,
        source: IpAddr,
        nonce: [u8; 8],
        turn: Turn,
        now: Now,
        answer: &mut [u8; CHALLENGE_BYTES],
    ) -> Verdict {
        if self.answers < 1.0 {
            return Verdict::Drop(DropReason::Unanswered);
        }
        self.answers -= 1.0;
        let wait_s = match turn {
            Turn::Now => 0,
            Turn::In(ms) => u32::try_from(ms.div_ceil(1_000)).unwrap_or(u32::MAX).max(1),
        };
        let not_before = now.unix_s.saturating_add(wait_s);
        let terms = Terms {
            server_time: now.unix_s,
            not_before,
            not_after: not_before.saturating_add(COOKIE_WINDOW_S),
            level: self.ladder.level().number(),
        };
        challenge(&self.keys, source, nonce, &terms, answer);
        Verdict::Answer
    }

    #[inline]
    fn by(&self, source: SocketAddr, dcid: &[u8; CID_BYTES]) -> By {
        By { id: self.hash.of(b'd', dcid) as u32, source: self.address(source) as u16 }
    }

    /// Source, port included, as a table keeps it.
    #[inline]
    fn address(&self, source: SocketAddr) -> u32 {
        let mut bytes = [0; 18];
        match source.ip() {
            IpAddr::V4(v4) => bytes[..16].copy_from_slice(&v4.to_ipv6_mapped().octets()),
            IpAddr::V6(v6) => bytes[..16].copy_from_slice(&v6.octets()),
        }
        bytes[16..].copy_from_slice(&source.port().to_be_bytes());
        self.hash.of(b's', &bytes) as u32
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// The nonce of a CHALLENGE that no HELLO asked for: the client finds the first octets of its own connection id in it.
fn nonce_of(dcid: &[u8]) -> [u8; 8] {
    dcid.first_chunk().copied().unwrap_or_default()
}

/// 65,536 tickets in twenty minutes, 16 octets each, two generations: 2 MiB. Beyond: not let in by ticket.
const TICKETS_BITS: u32 = 16;
/// Only cookies that let somebody in are kept, fifty a second for two minutes: 6,000 of 32,768 places, 1 MiB in two
/// generations. At this load one in 30,000 finds its eight places taken, and asks again.
const COOKIES_BITS: u32 = 15;
/// Ids in use: two of each connection, 32,768 places, 512 KiB.
const BINDINGS_BITS: u32 = 15;
/// 1,024 addresses with a burnt ticket at once, 64 KiB.
const MARKS_BITS: u32 = 10;
/// Ticket bodies opened a second: each costs 1.5 µs.
const OPENS_PER_SECOND: f64 = 20_000.0;
/// Attempts with one burnt ticket that count: the owner's own, and copies of them from a thief's addresses.
const OTHERS_MARKED_MAX: u8 = 16;

#[cfg(test)]
mod tests;
