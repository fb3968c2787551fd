//! The decision about each datagram: ids of ours pass, callers are sent to their desk, and what the desks say is done.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use postern_proto::door::PeerClass;
use postern_proto::door::cid::{check_cid, make_cid};
use postern_proto::door::cookie::{Terms, challenge};
use postern_proto::door::keys::Keyring;
use postern_proto::door::limits::{CHALLENGE_BYTES, CID_BYTES, COOKIE_WINDOW_S};
use postern_proto::door::packet::{Shape, Token, shape};

use super::admissions::{Admission, Admissions};
use super::answers::{Answers, Shown};
use super::appointments::Turn;
use super::bindings::{Bindings, Bound};
use super::caller::{Caller, Say, address_of};
use super::grants::Grants;
use super::level::Level;
use super::load::Load;
use super::marks::Marks;
use super::now::Now;
use super::sketch::Hash;
use super::stats::GateStats;
use super::strangers::Strangers;
use super::tickets::Tickets;
use super::verdict::{DropReason, Verdict};
use super::young::Young;

/// What the operator, or a test, can set.
#[derive(Clone, Copy, Debug)]
pub struct GateOptions {
    /// In every connection id: tells apart the servers that share a master. The kernel sorts by it as well.
    pub worker: u8,
    /// The least strict level; a token is always needed by default.
    pub floor: Level,
    /// Strangers served a second, over all prefixes. 50: a handshake costs 0.3 ms, so they never take more than 15 ms of
    /// a second, the strangers' share.
    pub strangers_per_second: u32,
    /// HELLOs answered a second; beyond that silence. 20,000 CHALLENGEs of 40 octets are 6 Mbit/s. As
    /// many for those who showed a cookie, and a quarter for those who showed a ticket.
    pub answers_per_second: u32,
    /// Burnt at each datagram, in nanoseconds: for tests that want a slow gate.
    pub work_ns: u32,
}

impl Default for GateOptions {
    fn default() -> Self {
        Self { worker: 0, floor: Level::Cookie, strangers_per_second: 50, answers_per_second: 20_000, work_ns: 0 }
    }
}

/// The gate. Fixed memory; nothing is allocated after [`Gate::new`].
pub struct Gate {
    keys: Keyring,
    options: GateOptions,
    hash: Hash,
    tickets: Tickets,
    grants: Grants,
    strangers: Strangers,
    marks: Marks,
    bindings: Bindings,
    young: Young,
    admissions: Admissions,
    answers: Answers,
    /// Seconds that QUIC will work on what was let in since the last tick.
    work_s: f64,
    ticked_ms: u64,
    /// When something was decided last.
    now_s: u32,
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
            tickets: Tickets::new(),
            grants: Grants::new(),
            strangers: Strangers::new(options.floor, options.strangers_per_second),
            marks: Marks::new(MARKS_BITS),
            bindings: Bindings::new(BINDINGS_BITS),
            young: Young::new(),
            admissions: Admissions::new(),
            answers: Answers::new(options.answers_per_second),
            work_s: 0.0,
            ticked_ms: 0,
            now_s: 0,
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

    /// How many of the `wanted` tickets an organisation may be given now: a day has so many for it, and no more.
    pub fn grant_tickets(&mut self, org: &str, class: PeerClass, wanted: u16) -> u16 {
        self.grants.grant(self.hash.of(b'o', org.as_bytes()), class, wanted, self.now_s)
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
        let cid = make_cid(&self.keys, self.options.worker, part);
        self.young.note(&self.hash, &cid, self.now_s);
        cid
    }

    /// See [`GateOptions::work_ns`].
    pub fn work_ns(&self) -> u32 {
        self.options.work_ns
    }

    /// Counters and gauges.
    pub fn stats(&self) -> GateStats {
        self.stats.with(self.level(), self.strangers.gauges())
    }

    /// How strict it is.
    pub fn level(&self) -> Level {
        self.strangers.level()
    }

    /// What is known of the connection that began with this id.
    pub fn admission(&self, dcid: &[u8]) -> Option<Admission> {
        self.admissions.find(dcid)
    }

    /// Octets of all tables.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.tickets.bytes()
            + self.grants.bytes()
            + self.strangers.bytes()
            + self.marks.bytes()
            + self.bindings.bytes()
            + self.young.bytes()
            + self.admissions.bytes()
    }

    /// Each second, or so: keys roll, tables age, the level follows the load.
    pub fn tick(&mut self, now: Now, load: Load) {
        let passed = now.ms.saturating_sub(self.ticked_ms) as f64 / 1_000.0;
        (self.ticked_ms, self.now_s) = (now.ms, now.unix_s);
        self.stats.kernel_drops = load.kernel_drops;
        self.keys.roll(u64::from(now.unix_s));
        self.tickets.tick(now.unix_s, passed);
        self.answers.refill(passed);
        self.young.refill(passed);
        // The socket measures what it reads and drops; what QUIC does with the rest is done elsewhere on the thread.
        let work = std::mem::take(&mut self.work_s) / passed.max(f64::MIN_POSITIVE);
        self.strangers.tick(now, passed, load.cpu + work);
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
            Shape::Initial { dcid, token } => self.initial(&Caller { dcid, source, now }, token, answer),
            Shape::Hello { nonce } => {
                let turn = self.strangers.outlook(source.ip(), &self.hash, now);
                self.challenge(source.ip(), (nonce, Shown::Hello), turn, now, answer)
            }
        };
        self.stats.note(verdict);
        verdict
    }

    #[inline]
    fn established(&mut self, cid: &[u8; CID_BYTES], source: SocketAddr, now: Now) -> Verdict {
        if !self.is_ours(cid) {
            return Verdict::Drop(DropReason::BadId);
        }
        let verdict = self.bound(cid, source, now);
        self.stats.passed_known_id += u64::from(verdict == Verdict::Pass);
        verdict
    }

    /// An id of another worker is in use there if anywhere. QUIC would answer it with a stateless reset, and whoever has seen
    /// it on the wire would learn what ends that connection (RFC 9000 section 21.11).
    #[inline]
    fn is_ours(&self, cid: &[u8; CID_BYTES]) -> bool {
        cid[1] == self.options.worker && check_cid(&self.keys, cid)
    }

    #[inline]
    fn bound(&mut self, cid: &[u8; CID_BYTES], source: SocketAddr, now: Now) -> Verdict {
        match self.bindings.pass(&self.hash, cid, address_of(&self.hash, source), now.unix_s) {
            Bound::Here => Verdict::Pass,
            Bound::Elsewhere => Verdict::Drop(DropReason::IdElsewhere),
            Bound::TooMany => Verdict::Drop(DropReason::IdBudget),
        }
    }

    fn initial(&mut self, caller: &Caller<'_>, token: Token<'_>, answer: &mut [u8; CHALLENGE_BYTES]) -> Verdict {
        self.now_s = caller.now.unix_s;
        // Initials after our first answer carry our id, and repeat the token.
        if self.is_ours(caller.dcid) {
            return self.shaking(caller);
        }
        let secrets = (&self.keys, &self.hash);
        let said = match token {
            Token::Ticket(token) => self.tickets.decide(caller, token, secrets, &mut self.marks, &mut self.stats),
            Token::Cookie(token) => self.strangers.decide(caller, token, secrets, &mut self.marks, &mut self.stats),
            Token::None if self.level() == Level::Open => self.strangers.decide_bare(caller, &self.hash),
            Token::None | Token::Other => Say::Nothing(DropReason::NoToken),
        };
        match said {
            Say::Again => Verdict::Pass,
            Say::Enter(by) => {
                self.work_s += HANDSHAKE_S;
                self.admissions.note(caller.dcid, Admission { by, prefix: caller.prefixes(&self.hash).narrow });
                Verdict::Pass
            }
            Say::ComeBack { nonce, turn, shown } => {
                self.challenge(caller.ip(), (nonce, shown), turn, caller.now, answer)
            }
            Say::Nothing(why) => Verdict::Drop(why),
        }
    }

    /// An Initial under an id of ours: its handshake is under way.
    fn shaking(&mut self, caller: &Caller<'_>) -> Verdict {
        match self.bound(caller.dcid, caller.source, caller.now) {
            Verdict::Pass if self.young.pass(&self.hash, caller.dcid, caller.now.unix_s) => {
                self.stats.passed_known_id += 1;
                self.work_s += INITIAL_S;
                Verdict::Pass
            }
            Verdict::Pass => Verdict::Drop(DropReason::OldId),
            verdict => verdict,
        }
    }

    fn challenge(
        &mut self,
        source: IpAddr,
        (nonce, shown): ([u8; 8], Shown),
        turn: Turn,
        now: Now,
        answer: &mut [u8; CHALLENGE_BYTES],
    ) -> Verdict {
        if !self.answers.take(shown) {
            return Verdict::Drop(DropReason::Unanswered);
        }
        let wait_s = match turn {
            Turn::Now => 0,
            Turn::In(ms) => u32::try_from(ms.div_ceil(1_000)).unwrap_or(u32::MAX).max(1),
        };
        let not_before = now.unix_s.saturating_add(wait_s);
        let terms = Terms {
            server_time: now.unix_s,
            not_before,
            not_after: not_before.saturating_add(COOKIE_WINDOW_S),
            level: self.level().number(),
        };
        challenge(&self.keys, source, nonce, &terms, answer);
        Verdict::Answer
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// What a handshake costs the thread, most of it signatures.
const HANDSHAKE_S: f64 = 0.000_3;
/// What an Initial costs QUIC, if it begins an attempt that nobody wants.
const INITIAL_S: f64 = 0.000_02;
/// Ids in use: two of each connection, 32,768 places, 512 KiB.
const BINDINGS_BITS: u32 = 15;
/// 1,024 addresses with a burnt ticket at once, 64 KiB.
const MARKS_BITS: u32 = 10;

#[cfg(test)]
mod tests;
