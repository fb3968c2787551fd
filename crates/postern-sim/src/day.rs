//! A day of mail at the level of messages: who sends, what admission takes by the real usher, book, promise and weather, and
//! what a filter of given rate lets leave, in the drain's order. No sessions and no disk: those have worlds of their own.
//!
//! What is counted: how long legitimate mail takes from our 250 to the mailbox, and from its sender's first attempt; what
//! failed after a 250; that all that was promised is delivered, or lies where an operator sees it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use postern_doors::machine::{Applicant, Usher};
use postern_doors::{Admission, Crowd, Intake};
use postern_drain::machine::{Floor, same_class, sort};
use postern_spool::{Lane, LaneStats};
use postern_trust::greylist::{BadRecipients, Greylist};
use postern_trust::pressure::{Gauge, Marks, Pressure, PressureCell, Readings};
use postern_trust::promise::{DELAY_DEFAULT_MS, DrainSeen, Promise};
use postern_trust::shares::Shares;
use postern_trust::weather::{Answer, DomainSky, Sky, Weather, WeatherMarks};
use postern_trust::{Authority, Book, BookOptions, CLASSES, Class, Evidence, Writer};

use crate::rng::Rng;

mod figures;
mod queues;

pub use figures::{DayReport, Delays};
use queues::{Letter, Queues, Who};

/// What a day is like.
#[derive(Clone, Copy, Debug)]
pub struct DayProfile {
    /// Messages a second that the filter judges.
    pub filter_rate: u64,
    /// Messages a second that come, of the filter's rate, in tenths: 50 is five times as many.
    pub load_tenths: u64,
    /// Hostile addresses at a time; each hour one in fifty is replaced by a fresh one.
    pub bots: u64,
    /// The filter is away twice for half an hour, and the server is killed once.
    pub trouble: bool,
}

/// The day.
pub struct Day {
    profile: DayProfile,
    rng: Rng,
    now_s: u64,
    usher: Usher,
    admission: Admission,
    book: Arc<Book>,
    writer: Writer,
    gauge: Gauge,
    weather: Weather,
    promise: Promise,
    pressure: Pressure,
    queues: Queues,
    floor: Floor,
    turn: usize,
    left: [u64; CLASSES],
    filter_away_s: u64,
    born_s: u64,
    bots: Vec<IpAddr>,
    strangers: u64,
    /// Those that come again.
    again: BTreeMap<u64, Vec<Letter>>,
    report: DayReport,
}

impl Day {
    /// Before its first second.
    pub fn new(seed: u64, profile: DayProfile) -> Self {
        let mut rng = Rng::new(seed);
        let book = Book::new(BookOptions::default(), *b"the key of a day");
        let mut writer = Writer::new(Arc::clone(&book));
        writer.tick(WALL_S - 3600);
        for friend in 0..FRIENDS {
            let (ip, domain) = (friend_ip(friend), format!("friend{friend}.example").into_boxed_str());
            writer.apply(&Evidence::WroteTo { domain: domain.clone(), address: None }, WALL_S - 3600);
            writer.apply(&Evidence::Authorised { ip, domain: domain.clone(), by: Authority::Spf }, WALL_S - 3600);
            writer.apply(&Evidence::Ham { ip, domain: Some(domain), n: 1 }, WALL_S - 3600);
        }
        let admission = Admission {
            book: Arc::clone(&book),
            // The day writes its book itself.
            evidence: postern_trust::channel(8).0,
            identity: None,
            pressure: Arc::new(PressureCell::new()),
            intake: Arc::new(Intake::default()),
            bypass: Arc::default(),
            observe: Arc::default(),
            greylist: Arc::new(Greylist::new(18, *b"the grey of days")),
            bad_recipients: Arc::new(BadRecipients::new(16, *b"the lost of days")),
            shares: Shares::default(),
            held_bytes_max: 0,
            our_names: Vec::new(),
            spin: Duration::ZERO,
        };
        let bots = (0..profile.bots).map(|_| fresh_bot(&mut rng)).collect();
        Self {
            usher: Usher::new(Some(admission.clone()), Arc::new(Crowd::new(1)), 0, CONNECTIONS_MAX as usize),
            profile,
            rng,
            now_s: 0,
            admission,
            book,
            writer,
            gauge: Gauge::new(Marks::default()),
            weather: Weather::new(WeatherMarks::default()),
            promise: Promise::new(DELAY_DEFAULT_MS),
            pressure: Pressure::default(),
            queues: Queues::default(),
            floor: Floor::default(),
            turn: 0,
            left: [0; CLASSES],
            filter_away_s: 0,
            born_s: 0,
            bots,
            strangers: 0,
            again: BTreeMap::new(),
            report: DayReport::default(),
        }
    }

    /// The whole day, and what is left to do after it.
    pub fn run(mut self) -> DayReport {
        while self.now_s < DAY_S || self.is_something_left() {
            self.now_s += 1;
            if self.now_s > 10 * DAY_S {
                break;
            }
            self.one_second();
        }
        self.report.after_s = self.now_s.saturating_sub(DAY_S);
        self.report.left_over = self.queues.len() as u64;
        self.report.back_to_through =
            self.weather.whole().0 == Answer::Through && self.weather.answer_of(DOMAIN) == Answer::Through;
        self.report
    }

    fn is_something_left(&self) -> bool {
        !self.again.is_empty() || self.queues.len() > 0 || self.weather.answer_of(DOMAIN) == Answer::Collect
    }

    fn one_second(&mut self) {
        let now_s = self.now_s;
        self.writer.tick(WALL_S + now_s);
        self.trouble();
        for letter in self.again.remove(&now_s).unwrap_or_default() {
            self.arrive(letter);
        }
        if now_s < DAY_S {
            self.crowd();
        }
        self.queues.time_out(now_s, &mut self.report);
        self.drain();
        self.look();
    }

    /// Who comes in this second. In tenths of the filter's rate: one of people who are known, one of people who are not, and
    /// hostile ones for the rest.
    fn crowd(&mut self) {
        let rate = self.profile.filter_rate;
        for _ in 0..self.some(rate) {
            let friend = self.rng.below(FRIENDS);
            self.first(Who::Friend, friend_ip(friend), format!("friend{friend}.example"));
        }
        for _ in 0..self.some(rate) {
            self.strangers += 1;
            let n = self.strangers;
            // One in ten lives among bots.
            let ip = if self.rng.one_in(10) {
                let [a, b, c, _] = octets(self.bots[self.rng.below(self.bots.len() as u64) as usize]);
                Ipv4Addr::new(a, b, c, 250)
            } else {
                Ipv4Addr::new(44, (n >> 16) as u8, (n >> 8) as u8, n as u8)
            };
            self.first(Who::Stranger, ip.into(), format!("stranger{n}.example"));
        }
        for _ in 0..self.some(rate * self.profile.load_tenths.saturating_sub(2)) {
            let at = self.rng.below(self.bots.len() as u64) as usize;
            if self.rng.one_in(1800 * rate) {
                self.bots[at] = fresh_bot(&mut self.rng);
            }
            let ip = self.bots[at];
            let n = self.rng.below(1000);
            self.first(Who::Bot, ip, format!("bot{n}.example"));
        }
    }

    /// So many tenths of a message, on average.
    fn some(&mut self, tenths: u64) -> u64 {
        tenths / 10 + u64::from(self.rng.below(10) < tenths % 10)
    }

    fn first(&mut self, who: Who, ip: IpAddr, domain: String) {
        // One in two hundred goes to a mailbox that is full.
        let fails = who != Who::Bot && self.rng.one_in(200);
        self.report.sent[who as usize] += 1;
        self.report.doomed += u64::from(fails);
        let letter = Letter { who, ip, domain, fails, first_s: self.now_s, told_s: None, waits_s: 0, tries: 0 };
        self.arrive(letter);
    }

    /// One attempt.
    fn arrive(&mut self, mut letter: Letter) {
        let now_s = WALL_S + self.now_s;
        let class = self.book.class_of(letter.ip, now_s);
        let collecting = self.weather.answer_of(DOMAIN) == Answer::Collect;
        let waiting = self.queues.waiting() as u64;
        let applicant = Applicant {
            class,
            ip: letter.ip,
            sender: &letter.domain,
            recipient: "user@ours.example",
            authorised_domain: None,
            listed_good: false,
            collecting,
            now_s,
        };
        // Slots are kept by merit; here only their number counts.
        let no_slot = waiting >= CONNECTIONS_MAX && class > Class::Known;
        self.report.attempts[class as usize] += 1;
        if no_slot || self.usher.consider(&applicant).is_err() {
            self.report.deferred[class as usize] += 1;
            return self.defer(letter);
        }
        self.report.taken[class as usize] += 1;
        self.admission.intake.taken(class);
        if collecting {
            letter.told_s = Some(self.now_s);
            self.report.promised += 1;
        } else {
            letter.waits_s = self.now_s + OUTCOME_S;
        }
        self.queues.push(class, letter);
    }

    /// A mail server's queue tries again as Postfix does by default; a bot does not.
    fn defer(&mut self, mut letter: Letter) {
        if letter.who == Who::Bot {
            return;
        }
        let wait = (300_u64 << letter.tries.min(4)).min(4_000);
        letter.tries += 1;
        let at = self.now_s + wait - self.rng.below(wait / 5);
        self.again.entry(at).or_default().push(letter);
    }

    fn trouble(&mut self) {
        let away =
            self.profile.trouble && [6 * 3600, 15 * 3600].iter().any(|at| (*at..at + 1800).contains(&self.now_s));
        self.filter_away_s = if away { self.filter_away_s + 1 } else { 0 };
        if self.profile.trouble && self.now_s == 11 * 3600 {
            self.kill();
        }
    }

    /// What was only in memory is gone: rates, levels, and mail that nobody was promised.
    fn kill(&mut self) {
        self.weather = Weather::restore(WeatherMarks::default(), &self.weather.kept(), 0);
        (self.promise, self.gauge) = (Promise::new(DELAY_DEFAULT_MS), Gauge::new(Marks::default()));
        (self.floor, self.left, self.born_s) = (Floor::default(), [0; CLASSES], self.now_s);
        for letter in self.queues.drop_waiting() {
            self.defer(letter);
        }
    }

    /// What the filter judges in this second, in the drain's order.
    fn drain(&mut self) {
        if self.filter_away_s > 0 {
            self.queues.answer_waiting(self.now_s, &mut self.report);
            return;
        }
        for _ in 0..self.profile.filter_rate {
            let mut lanes = self.lanes();
            self.turn = self.turn.wrapping_add(1);
            sort(&mut lanes, self.turn);
            lanes.retain(|lane| lane.ready > 0);
            let owed = same_class(&lanes);
            let lower = self.floor.lanes(&lanes[owed..]);
            let lane = if let Some(at) = lower.first() {
                self.floor.served();
                &lanes[owed + at]
            } else if let Some(best) = lanes.first() {
                if lanes.len() > owed {
                    self.floor.pass_over(1);
                }
                best
            } else {
                return;
            };
            let class = Class::from_u8(lane.lane.class).unwrap_or(Class::Suspect);
            let Some(letter) = self.queues.pop(class) else { return };
            self.left[class as usize] += 1;
            self.leave(letter);
        }
    }

    fn lanes(&self) -> Vec<LaneStats> {
        let lane = |class: Class| {
            let (waiting, promised) = self.queues.of(class);
            LaneStats {
                lane: Lane::new(DOMAIN, class as u8),
                ready: waiting + promised,
                waiting: 0,
                leased: 0,
                held: 0,
                tentative: waiting,
                bytes: 0,
                oldest_unix_ms: None,
                next_due_unix_ms: None,
            }
        };
        Class::ALL.into_iter().map(lane).filter(|lane| lane.ready > 0).collect()
    }

    /// The filter has judged it, and the next hop has spoken.
    fn leave(&mut self, letter: Letter) {
        let (ip, domain) = (letter.ip, Some(letter.domain.clone().into_boxed_str()));
        let spam = letter.who == Who::Bot;
        let evidence = if spam { Evidence::Spam { ip, domain, n: 1 } } else { Evidence::Ham { ip, domain, n: 1 } };
        self.writer.apply(&evidence, WALL_S + self.now_s);
        self.report.left(&letter, self.now_s);
    }

    /// What the weather task does once a second.
    fn look(&mut self) {
        let now_ms = (self.now_s - self.born_s) * 1000;
        let by_class: [u64; CLASSES] = Class::ALL.map(|class| {
            let (waiting, promised) = self.queues.of(class);
            (waiting + promised) as u64
        });
        let (ready, awaited) = (by_class.iter().sum(), self.queues.waiting() as u64);
        let seen = DrainSeen {
            left: self.left.iter().sum(),
            arrived: std::array::from_fn(|class| self.left[class] + by_class[class]),
            backlog: by_class,
            ready: if self.filter_away_s > 0 { 0 } else { ready },
            healthy: self.filter_away_s == 0 || ready == 0,
        };
        self.promise.update(now_ms, &seen);
        let readings = Readings {
            connections: awaited,
            connections_max: CONNECTIONS_MAX,
            spool_items: ready,
            spool_items_max: 1_000_000,
            drain_backlog_s: self.promise.wait_s(awaited),
            ..Readings::default()
        };
        self.pressure = self.gauge.read_at(now_ms, &readings);
        self.admission.pressure.publish(self.pressure);
        self.admission.intake.publish(self.promise.room(), readings.spool_used_per_mille());
        let wait_s = self.promise.wait_s(awaited);
        let filter_down_s = self.filter_away_s;
        let sky = DomainSky { domain: DOMAIN.to_owned(), hop_down_s: 0, filter_down_s, wait_s, backlog: ready };
        let sky = Sky { pressure: self.pressure, rate_milli: self.promise.rate_milli(), domains: vec![sky] };
        self.report.changes += u64::from(self.weather.update(now_ms, &sky));
        self.report.collecting_s += u64::from(self.weather.answer_of(DOMAIN) == Answer::Collect);
        self.report.backlog_max = self.report.backlog_max.max(ready);
    }
}

fn friend_ip(friend: u64) -> IpAddr {
    Ipv4Addr::new(198, 18, (friend >> 8) as u8, friend as u8).into()
}

fn fresh_bot(rng: &mut Rng) -> IpAddr {
    let [a, b, c, ..] = rng.next().to_be_bytes();
    Ipv4Addr::new(60 + a % 60, b, c, 1 + (rng.next() % 200) as u8).into()
}

fn octets(ip: IpAddr) -> [u8; 4] {
    if let IpAddr::V4(ip) = ip { ip.octets() } else { [0; 4] }
}

const DOMAIN: &str = "ours.example";
const WALL_S: u64 = 1_700_000_000;
const DAY_S: u64 = 86_400;
const FRIENDS: u64 = 200;
/// Sessions that wait for their outcome at most.
const CONNECTIONS_MAX: u64 = 2_000;
/// A session waits so long for it.
const OUTCOME_S: u64 = 30;
