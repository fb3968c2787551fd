//! What leaves: the drain's own decisions (order, gates, ruling, settlement, retries), asked in the order in which its worker
//! asks them; filters and next hops are a delay and an answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use postern_drain::machine::{
    Attempt, Floor, Gate, Gates, Handover, Hearing, Letter, Outcome, Retry, Ruling, Settlement, Sign, Verdict,
    same_class, settle, sort,
};
use postern_drain::{DrainOptions, FilterOptions, FilterTable, OnSpam, QUARANTINE_CLASS};
use postern_net::client::Target;
use postern_net::filter::{Filter, Finding, Kind, Verdict as Word};
use postern_proto::envelope::{Meta, Refusal};
use postern_proto::judgement::Action;
use postern_proto::reply::{Enhanced, Reply};
use postern_spool::machine::{Reply as SpoolReply, Request};
use postern_spool::{BodySource, Child, ChildBody, Fate, FinishError, ItemId, Lane, LaneStats, Lease};
use postern_trust::{CLASSES, Evidence};

use super::house::House;
use super::peers::{DOMAINS, read_body};
use super::{Event, Flights, FloodWorld, Mistake};
use crate::rng::Rng;

/// An item on its way.
#[derive(Debug)]
pub(super) struct Flight {
    number: u64,
    lease: Lease,
    meta: Meta,
    letter: u64,
    spam: bool,
    hearing: Option<Hearing>,
    outcomes: Vec<Outcome>,
    /// A next hop has it, and the spool does not know that yet.
    copied: bool,
    asked_ms: u64,
}

#[derive(Debug)]
enum Asked {
    Lanes,
    Lease { start: bool, n: usize, domain: String, wait_ms: u64 },
    Postpone(ItemId),
    Finish { id: ItemId, rules: bool },
    PutBack,
}

pub(super) struct Drain {
    options: DrainOptions,
    table: Arc<FilterTable>,
    gates: Gates,
    hops: BTreeMap<String, Gate>,
    retry: Retry,
    floor: Floor,
    turn: usize,
    asked: BTreeMap<u64, Asked>,
    flights: Flights,
    number: u64,
    /// Leases asked for and not given yet, in all and by domain.
    reserved: usize,
    reserved_of: BTreeMap<String, usize>,
    /// A judgement and a delivery take so long.
    pub(super) filter_ms: u64,
    hop_ms: u64,
    pub(super) filter_down: bool,
    pub(super) hops_down: BTreeMap<String, bool>,
    pub(super) filter_away_ms: Option<u64>,
    pub(super) hop_away_ms: BTreeMap<String, u64>,
    pub(super) left: [u64; CLASSES],
}

impl Drain {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let options = DrainOptions {
            retry_first: Duration::from_secs(10),
            retry_max: Duration::from_secs(60),
            backoff_max: Duration::from_secs(30),
            ..DrainOptions::default()
        };
        let filter = Filter {
            name: "judge".to_owned(),
            kind: Kind::Rspamd { target: Target::Unix("judge".into()) },
            timeout: Duration::from_secs(10),
        };
        let on_spam = if rng.one_in(2) { OnSpam::Mark } else { OnSpam::Quarantine };
        let table = Arc::new(FilterTable::new(vec![FilterOptions { filter, workers: 4, on_spam }]));
        Self {
            retry: Retry::new(&options),
            table,
            gates: Gates::default(),
            hops: BTreeMap::new(),
            floor: Floor::default(),
            turn: 0,
            asked: BTreeMap::new(),
            flights: BTreeMap::new(),
            number: 0,
            reserved: 0,
            reserved_of: BTreeMap::new(),
            filter_ms: 20 + rng.below(180),
            hop_ms: 1 + rng.below(40),
            filter_down: false,
            hops_down: BTreeMap::new(),
            filter_away_ms: None,
            hop_away_ms: BTreeMap::new(),
            left: [0; CLASSES],
            options,
        }
    }

    /// All that was in memory is gone. Returns letters that a next hop has and the spool may not know of.
    pub(super) fn start_again(&mut self) -> Vec<u64> {
        let copied = self.flights.values().filter(|flight| flight.copied).map(|flight| flight.letter).collect();
        (self.gates, self.floor, self.turn) = (Gates::default(), Floor::default(), 0);
        self.hops.clear();
        self.asked.clear();
        self.flights.clear();
        self.reserved = 0;
        self.reserved_of.clear();
        (self.filter_away_ms, self.left) = (None, [0; CLASSES]);
        self.hop_away_ms.clear();
        copied
    }

    pub(super) fn ask_for_lanes(&mut self, house: &mut House) {
        self.gates.set_table(&self.table, &self.options);
        let token = house.ask(Request::Lanes);
        self.asked.insert(token, Asked::Lanes);
    }

    fn hop(&mut self, domain: &str) -> &mut Gate {
        let options = &self.options;
        self.hops.entry(domain.to_owned()).or_insert_with(|| Gate::new(options))
    }

    /// One look, as the worker's: best class first, one in sixteen for the others.
    fn look(&mut self, house: &mut House, mut lanes: Vec<LaneStats>) {
        lanes.retain(|lane| !matches!(lane.lane.class, Lane::DEAD_CLASS | QUARANTINE_CLASS));
        self.turn = self.turn.wrapping_add(1);
        sort(&mut lanes, self.turn);
        let best = lanes.iter().position(|lane| lane.ready > 0).unwrap_or(lanes.len());
        let owed = best + same_class(&lanes[best..]);
        self.serve_lower(house, &mut lanes[owed..]);
        let mut rest = &mut lanes[..];
        while !rest.is_empty() {
            let (class, lower) = rest.split_at_mut(same_class(rest));
            let passes_over = lower.iter().any(|lane| lane.ready > 0);
            loop {
                let mut progress = false;
                for lane in &mut *class {
                    let leased = self.serve(house, lane, 16);
                    progress |= leased > 0;
                    if leased > 0 && passes_over {
                        self.floor.pass_over(leased);
                        self.serve_lower(house, lower);
                    }
                }
                if !progress {
                    break;
                }
            }
            rest = lower;
        }
    }

    fn serve_lower(&mut self, house: &mut House, lower: &mut [LaneStats]) {
        for at in self.floor.lanes(lower) {
            if self.serve(house, &mut lower[at], 1) > 0 {
                return self.floor.served();
            }
        }
    }

    fn serve(&mut self, house: &mut House, lane: &mut LaneStats, most: usize) -> usize {
        if lane.ready == 0 {
            return 0;
        }
        let (domain, now) = (lane.lane.key.to_string(), house.now_ms);
        let filter_wait = self.gates.keeps_waiting_at(now);
        if let Some(wait_ms) = self.hop(&domain).keeps_waiting_at(now).max(filter_wait) {
            let n = lane.tentative.min(lane.ready).min(64);
            lane.ready = 0;
            return if n > 0 { self.lease(house, &lane.lane, n, (false, wait_ms)) } else { 0 };
        }
        let of_domain = self.reserved_of.get(&domain).copied().unwrap_or(0);
        let room = (256 - self.flights.len().min(256))
            .min(self.hop(&domain).free_at(now).saturating_sub(of_domain))
            .min(self.gates.free_at(now).saturating_sub(self.reserved));
        let n = lane.ready.min(room).min(most);
        lane.ready -= n;
        if n > 0 { self.lease(house, &lane.lane, n, (true, 0)) } else { 0 }
    }

    fn lease(&mut self, house: &mut House, lane: &Lane, n: usize, (start, wait_ms): (bool, u64)) -> usize {
        let domain = lane.key.to_string();
        if start {
            self.reserved += n;
            *self.reserved_of.entry(domain.clone()).or_default() += n;
        }
        let until_unix_ms = house.unix_ms() + LEASE_MS;
        let token = house.ask(Request::Lease { lane: lane.clone(), n, until_unix_ms });
        self.asked.insert(token, Asked::Lease { start, n, domain, wait_ms });
        n
    }

    fn put_back(&mut self, house: &mut House, lease: Lease, wait_ms: u64) {
        let (meta, due_unix_ms) = (lease.meta.clone(), house.unix_ms() + wait_ms);
        let token = house.ask(Request::Postpone { lease, meta, due_unix_ms });
        self.asked.insert(token, Asked::PutBack);
    }

    fn finish(&mut self, house: &mut House, flight: &Flight, fate: Fate, children: Vec<Child>, rules: bool) {
        let id = flight.lease.id;
        let children = children.into_iter().map(|child| (house.new_id(), child)).collect();
        let token = house.ask(Request::Finish { lease: flight.lease.clone(), fate, children });
        self.asked.insert(token, Asked::Finish { id, rules });
    }

    /// The flight that an answer is for; one to an earlier flight of the item, before a restart, is for nobody.
    fn take_flight(&mut self, id: ItemId, number: u64) -> Option<Flight> {
        let is_it = self.flights.get(&id).is_some_and(|flight| flight.number == number);
        if is_it { self.flights.remove(&id) } else { None }
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }
}

impl FloodWorld {
    pub(super) fn drain_hears(&mut self, token: u64, reply: SpoolReply) {
        if self.sky_hears(token, &reply) {
            return;
        }
        let Some(asked) = self.drain.asked.remove(&token) else { return self.ending_hears(token, reply) };
        match (asked, reply) {
            (Asked::Lanes, SpoolReply::Lanes(lanes)) => self.drain.look(&mut self.house, lanes),
            (Asked::Lease { start, n, domain, wait_ms }, SpoolReply::Leased(leases)) => {
                if start {
                    self.drain.reserved -= n;
                    *self.drain.reserved_of.entry(domain).or_default() -= n;
                }
                for lease in leases {
                    if start {
                        self.start(lease);
                    } else {
                        self.drain.put_back(&mut self.house, lease, wait_ms);
                    }
                }
            }
            (Asked::Postpone(id), SpoolReply::Done(result)) => {
                if let Some(flight) = self.drain.flights.remove(&id)
                    && flight.copied
                    && result.is_err()
                {
                    self.house.ledger.unsure(flight.letter);
                }
                self.look_soon();
            }
            (Asked::Finish { id, rules }, SpoolReply::Finished(result)) => self.finished(id, rules, result),
            _ => {}
        }
    }

    fn look_soon(&mut self) {
        if !self.look_asked {
            self.look_asked = true;
            self.after(1, Event::Look);
        }
    }

    fn start(&mut self, lease: Lease) {
        if self.drain.flights.contains_key(&lease.id) {
            return;
        }
        let Ok(meta) = Meta::from_bytes(&lease.meta) else { return self.fault("metadata that nobody wrote") };
        let BodySource::Inline(bytes) = &lease.body else { return self.fault("the world has no files") };
        let Some((letter, spam)) = read_body(bytes) else { return self.fault("a body that nobody wrote") };
        self.drain.number += 1;
        let (id, number) = (lease.id, self.drain.number);
        let judge = self.drain.table.must_judge(&meta, &lease.lane.key);
        let now = self.now_ms;
        if judge && self.profile.mistake != Some(Mistake::ForgetJudged) && !self.drain.gates.try_start_at(now) {
            return self.drain.put_back(&mut self.house, lease, 1000);
        }
        let flight = Flight {
            number,
            lease,
            meta,
            letter,
            spam,
            hearing: None,
            outcomes: Vec::new(),
            copied: false,
            asked_ms: now,
        };
        self.drain.flights.insert(id, flight);
        if judge && self.profile.mistake != Some(Mistake::ForgetJudged) {
            let takes = if self.drain.filter_down { 2 } else { self.drain.filter_ms };
            self.after(takes, Event::Judged(id, number));
        } else {
            self.deliver(id);
        }
    }

    /// The filter has spoken, or nobody is there.
    pub(super) fn drain_judged(&mut self, id: ItemId, number: u64) {
        let Some(mut flight) = self.drain.take_flight(id, number) else { return };
        let (now, random) = (self.now_ms, self.rng.next());
        let sign = if self.drain.filter_down { Sign::Away } else { Sign::Answered };
        self.drain.gates.give_back_at("judge", sign, flight.asked_ms, now, random);
        if self.drain.filter_down {
            self.drain.filter_away_ms.get_or_insert(now);
            let wait = self.drain.gates.state_at("judge", now).0.unwrap_or(0);
            let not_tried = Outcome::NotTried { due_unix_ms: self.house.unix_ms() + wait, may_leave: false };
            flight.outcomes = vec![not_tried; flight.meta.recipients.len()];
            return self.settle(flight);
        }
        self.drain.filter_away_ms = None;
        // A filter errs now and then.
        let spam = flight.spam != self.rng.one_in(50);
        let word = match (spam, self.rng.one_in(3)) {
            (false, _) => Word::Accept,
            (true, true) => Word::Mark,
            (true, false) => Word::Reject(Reply::new(550, Enhanced(5, 7, 1), "Spam")),
        };
        let mut hearing = Hearing::new();
        hearing.hear(&self.drain.table.filters[0], Finding::new(word));
        let (ip, domain) = (flight.meta.arrival.peer.ip(), flight.meta.sender.as_ref());
        let domain = domain.map(|sender| sender.domain.to_string().into_boxed_str());
        let evidence = if spam { Evidence::Spam { ip, domain, n: 1 } } else { Evidence::Ham { ip, domain, n: 1 } };
        self.house.tell(evidence);
        flight.hearing = Some(hearing);
        self.rule(flight);
    }

    fn rule(&mut self, mut flight: Flight) {
        let Some(hearing) = flight.hearing.take() else { return };
        match hearing.rule(&flight.meta, flight.lease.tentative, |_| true) {
            Ruling::Refuse(reply) => {
                flight.hearing = Some(hearing);
                let fate = Fate::Refused(Refusal(reply).to_bytes().into_boxed_slice());
                self.drain.finish(&mut self.house, &flight, fate, Vec::new(), true);
                self.drain.flights.insert(flight.lease.id, flight);
            }
            Ruling::Defer(_) => self.fault("deferred by nobody"),
            Ruling::Judged(judged) => {
                let aside = judged.meta.judgement.as_ref().is_some_and(|j| j.action == Action::Quarantine);
                flight.meta = judged.meta;
                if !aside {
                    let id = flight.lease.id;
                    self.drain.flights.insert(id, flight);
                    return self.deliver(id);
                }
                let children = children_of(&flight.meta, self.house.unix_ms());
                self.drain.finish(&mut self.house, &flight, Fate::Delivered, children, false);
                self.drain.flights.insert(flight.lease.id, flight);
            }
        }
    }

    /// Takes places at its next hops; those that have none wait.
    fn deliver(&mut self, id: ItemId) {
        let Some(mut flight) = self.drain.flights.remove(&id) else { return };
        let unjudged = self.drain.table.must_judge(&flight.meta, &flight.lease.lane.key);
        if unjudged {
            self.fault("mail was to leave unjudged");
        }
        let (now, mut taken, mut outcomes) = (self.now_ms, BTreeMap::new(), Vec::new());
        for recipient in &flight.meta.recipients {
            let domain = recipient.address.domain.to_string();
            let gate = self.drain.hop(&domain);
            let place = *taken.entry(domain).or_insert_with(|| gate.try_start_at(now));
            let wait = gate.keeps_waiting_at(now).unwrap_or(0).max(1000);
            let due_unix_ms = self.house.unix_ms() + wait;
            let waits = Outcome::NotTried { due_unix_ms, may_leave: true };
            outcomes.push(if place { Outcome::Unreached(String::new()) } else { waits });
        }
        flight.outcomes = outcomes;
        let number = flight.number;
        self.drain.flights.insert(id, flight);
        self.after(self.drain.hop_ms, Event::Landed(id, number));
    }

    /// Next hops have spoken, or are not there.
    pub(super) fn drain_landed(&mut self, id: ItemId, number: u64) {
        let Some(mut flight) = self.drain.take_flight(id, number) else { return };
        let (now, mut asked) = (self.now_ms, BTreeMap::new());
        for at in 0..flight.outcomes.len() {
            if !matches!(flight.outcomes[at], Outcome::Unreached(_)) {
                continue;
            }
            let address = flight.meta.recipients[at].address.clone();
            let domain = address.domain.to_string();
            let down = self.drain.hops_down.get(&domain).copied().unwrap_or(false);
            asked.insert(domain, down);
            flight.outcomes[at] = if down {
                Outcome::Unreached("nobody is there".to_owned())
            } else if &*address.local == "full" {
                Outcome::Refused(Reply::new(552, Enhanced(5, 2, 2), "Over quota"))
            } else {
                flight.copied = true;
                let copies = if self.profile.mistake == Some(Mistake::DeliverTwice) { 2 } else { 1 };
                for _ in 0..copies {
                    self.house.ledger.copied(flight.letter, &address.to_string(), now);
                }
                Outcome::Delivered(Handover::Final)
            };
        }
        for (domain, down) in asked {
            let random = self.rng.next();
            if down {
                self.drain.hop(&domain).handle_unreached_at(now, random);
                self.drain.hop_away_ms.entry(domain).or_insert(now);
            } else {
                self.drain.hop(&domain).handle_reached();
                self.drain.hop_away_ms.remove(&domain);
            }
        }
        self.settle(flight);
    }

    fn settle(&mut self, flight: Flight) {
        let random = self.rng.next();
        let settlement = settle(&Attempt {
            meta: &flight.meta,
            outcomes: &flight.outcomes,
            lane_key: &flight.lease.lane.key,
            tentative: flight.lease.tentative,
            now_unix_ms: self.house.unix_ms(),
            retry: &self.drain.retry,
            random,
        });
        let id = flight.lease.id;
        match settlement {
            Settlement::Postpone(letter) => {
                let (lease, meta) = (flight.lease.clone(), letter.meta.to_bytes());
                let token = self.house.ask(Request::Postpone { lease, meta, due_unix_ms: letter.due_unix_ms });
                self.drain.asked.insert(token, Asked::Postpone(id));
            }
            Settlement::Finish { verdict, rest, dead, .. } => {
                let class = flight.lease.lane.class;
                let mut children: Vec<Child> = rest.into_iter().map(|letter| child(letter, class)).collect();
                children.extend(dead.into_iter().map(|letter| child(letter, Lane::DEAD_CLASS)));
                self.drain.finish(&mut self.house, &flight, fate(&verdict), children, false);
            }
        }
        self.drain.flights.insert(id, flight);
    }

    fn finished(&mut self, id: ItemId, rules: bool, result: Result<(), FinishError>) {
        self.look_soon();
        let Some(mut flight) = self.drain.flights.remove(&id) else { return };
        match result {
            Ok(()) => {
                let class = usize::from(flight.lease.lane.class).min(CLASSES - 1);
                self.drain.left[class] += 1;
                self.note("left", flight.letter);
            }
            Err(FinishError::CommittedMeanwhile(lease)) => {
                flight.lease = *lease;
                flight.lease.tentative = false;
                if rules { self.rule(flight) } else { self.settle(flight) }
            }
            Err(FinishError::Gone | FinishError::Spool(_)) => {
                if flight.copied {
                    self.house.ledger.unsure(flight.letter);
                }
            }
        }
    }
}

fn child(letter: Letter, class: u8) -> Child {
    Child {
        lane: Lane::new(letter.domain, class),
        meta: letter.meta.to_bytes(),
        due_unix_ms: letter.due_unix_ms,
        body: ChildBody::Parent,
    }
}

/// The same bytes for the quarantine, an item for each domain.
fn children_of(meta: &Meta, due_unix_ms: u64) -> Vec<Child> {
    let of = |domain: &&str| {
        let recipients: Vec<_> = meta.recipients.iter().filter(|to| &*to.address.domain == *domain).cloned().collect();
        (!recipients.is_empty()).then(|| Child {
            lane: Lane::new(*domain, QUARANTINE_CLASS),
            meta: Meta { recipients, ..meta.clone() }.to_bytes(),
            due_unix_ms,
            body: ChildBody::Parent,
        })
    };
    DOMAINS.iter().filter_map(of).collect()
}

fn fate(verdict: &Verdict) -> Fate {
    let bytes = |reply: &Reply| Refusal(reply.clone()).to_bytes().into_boxed_slice();
    match verdict {
        Verdict::Delivered => Fate::Delivered,
        Verdict::Refused(reply) => Fate::Refused(bytes(reply)),
        Verdict::Deferred(reply) => Fate::Deferred(bytes(reply)),
    }
}

/// As the drain leases.
const LEASE_MS: u64 = 20 * 60_000;
