//! Mail for other domains: the steps that `outbound` decides, carried out.
//!
//! Looks at what is known of the domain's door, keeps a courier for each domain that has one, writes down what the
//! downgrade rule must not forget, and falls back to MX, or to the fixed hop, in the same attempt. Called by
//! `delivery` for destinations with a domain; runs on the drain's thread only.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use postern_net::client::{Deadlines, Failure, Protocol, SendError, TlsWanted};
use postern_net::door::courier::{Carried, Courier, CourierError};
use postern_net::mx::proven_by;
use postern_net::tls::authenticated_config;
use tokio::time::Instant;

use crate::delivery::Permit;
use crate::limits::{COURIER_IDLE, COURIERS_MAX};
use crate::outbound::{Closed, Facts, PROBE_S, RETRY_S, Source, Step, UseMx, Why, after, broke, first};
use crate::outbound::{is_lasting, says_use_mx};
use crate::remote::{Parcel, Reach, Sent, handover, outcome};
use crate::route::{Destination, Route};
use crate::settle::Outcome;
use crate::worker::{Worker, now_unix_ms};

mod known;
mod letter;
mod options;
mod place;
mod tlsa;
mod unanswered;

pub(crate) use known::Known;
use letter::{author_of, mail};
pub use options::{Doors, Opener, OutboundOptions, PinnedDoor, Speaker};
pub(crate) use place::Place;
use place::{dial, lock};

/// What the drain keeps of far domains.
pub(crate) struct Outward {
    options: Option<OutboundOptions>,
    hostname: String,
    posterns: RefCell<HashMap<Way, Rc<Postern>>>,
    use_mx: RefCell<UseMx>,
    unanswered: unanswered::Unanswered,
}

/// Whose door, and in whose name.
#[derive(PartialEq, Eq, Hash)]
struct Way {
    from: Box<str>,
    to: Box<str>,
}

/// A domain's door, opened in the name of one of ours.
struct Postern {
    courier: Courier<Closed>,
    /// Where it is, as of the last look.
    place: Arc<Mutex<Place>>,
    used: Cell<Instant>,
    tried_in_vain: Cell<Option<Instant>>,
    /// As the purse has it, or will have it in a moment.
    silent_since_s: Cell<Option<u64>>,
}

/// One message on its way out.
struct Errand<'a> {
    worker: &'a Rc<Worker>,
    options: &'a OutboundOptions,
    route: &'a Route,
    domain: &'a str,
    parcel: &'a Parcel<'a>,
}

impl Outward {
    pub(crate) fn new(options: Option<OutboundOptions>, hostname: String) -> Self {
        let (posterns, use_mx) = (RefCell::default(), RefCell::default());
        Self { options, hostname, posterns, use_mx, unanswered: unanswered::Unanswered::default() }
    }

    /// Delivers to recipients of one far domain: one outcome each, and how its servers are.
    pub(crate) async fn deliver(
        &self,
        worker: &Rc<Worker>,
        route: &Route,
        domain: &str,
        parcel: &Parcel<'_>,
    ) -> (Vec<Outcome>, Reach) {
        let sent = match &self.options {
            Some(options) => self.run(&Errand { worker, options, route, domain, parcel }).await,
            None if *route == Route::Mx => {
                let why = "the route `mx` needs DNS, and the drain was started without it".to_owned();
                Sent::failed(parcel, Outcome::Unreached(why), Reach::Unreached)
            }
            None => by_hop(worker, route, parcel).await,
        };
        (sent.outcomes, sent.reach)
    }

    /// Couriers that have had nothing to do, and their links, are given up.
    pub(crate) fn drop_idle(&self) {
        self.posterns.borrow_mut().retain(|_, postern| !postern.is_to_be_dropped());
    }

    async fn run(&self, errand: &Errand<'_>) -> Sent {
        let Some(doors) = &errand.options.doors else { return self.by_mx(errand, None, false, Why::NoDoor).await };
        let known = Known::look_up(doors, &*errand.options.mx.names, &self.unanswered, errand.domain).await;
        let Some(source) = known.source else { return self.by_mx(errand, None, false, Why::NoDoor).await };
        let author = author_of(errand.parcel).await;
        let author_domain = author.as_ref().map_or("", |author| &*author.domain);
        let speaker = author.as_ref().and_then(|author| doors.speaker_for(author));
        let now_s = now_unix_ms() / 1000;
        let postern = speaker.and_then(|speaker| self.postern(speaker, errand, &known.place));
        let mut facts = Facts {
            door: Some(source),
            mode: known.mode,
            own_author: speaker.is_some(),
            use_mx: self.use_mx.borrow().holds(errand.domain, author_domain, now_s),
            room: speaker.is_none() || postern.is_some(),
            silent_since_s: postern
                .as_ref()
                .and_then(|postern| postern.silent_since_s.get())
                .or(known.silent_since_s()),
            tried_ago_s: postern.as_ref().and_then(|postern| postern.tried_ago_s()),
            now_s,
        };
        let closed = match (first(&facts), &postern) {
            (Step::Door, Some(postern)) => match postern.send(errand.parcel).await {
                Ok(carried) => {
                    postern.tried_in_vain.set(None);
                    postern.silent_since_s.set(None);
                    known.note_answer(doors, errand.domain).await;
                    return self.settle(errand, &known, author_domain, carried).await;
                }
                Err(CourierError::Stream(error)) => {
                    facts.now_s = now_unix_ms() / 1000;
                    return self.broken(errand, &known, doors, postern, &facts, &error).await;
                }
                Err(CourierError::NoLink(closed)) => closed,
            },
            (step, _) => return self.carry_out(errand, &known, step).await,
        };
        facts.now_s = now_unix_ms() / 1000;
        let step = after(&facts, closed);
        let is_silent = closed == Closed::Silent;
        if is_silent {
            errand.count(|outbound| &outbound.silent, 1);
        }
        if let Some(postern) = &postern {
            // After waiting for long enough it is asked now and then, and not by each message. Said before anything is waited
            // for: others look at it meanwhile.
            if is_silent || matches!(step, Step::Mx { why: Why::Silent, .. }) {
                postern.tried_in_vain.set(Some(Instant::now()));
            }
            if is_silent || matches!(step, Step::Wait(_)) {
                postern.begin_silence(&known, doors, errand.domain, &facts).await;
            }
        }
        if let Closed::Refused(code) = closed
            && is_lasting(code)
        {
            self.use_mx.borrow_mut().remember(errand.domain, author_domain, facts.now_s);
        }
        tracing::info!(domain = errand.domain, ?closed, "the postern did not open");
        self.carry_out(errand, &known, step).await
    }

    /// The stream ended. What was certain stays so; a message that may have been taken is tried again as after any
    /// final dot (RFC 1047), and so are the others: through the door until waiting for it has had its time.
    async fn broken(
        &self,
        errand: &Errand<'_>,
        known: &Known,
        doors: &Doors,
        postern: &Postern,
        facts: &Facts,
        error: &SendError,
    ) -> Sent {
        let sent = Sent::from_error(errand.parcel, error, Protocol::Smtp, false);
        if let Failure::Body(_) = error.failure {
            // Our own disk. Port 25 would not read better.
            return sent;
        }
        postern.begin_silence(known, doors, errand.domain, facts).await;
        let tried_since_ms = errand.parcel.meta.tried_since_unix_ms.filter(|_| sent.reach == Reach::Unknown);
        let tried_for_s = tried_since_ms.map(|since| facts.now_s.saturating_sub(since / 1000));
        let Some(step) = broke(facts, tried_for_s) else { return sent };
        let rest: Vec<usize> =
            (0..sent.outcomes.len()).filter(|i| error.decided.get(*i).is_none_or(Option::is_none)).collect();
        self.carry_out_for(&rest, errand, known, step, sent.outcomes).await
    }

    /// The same for some of the recipients; the others have got what they have.
    async fn carry_out_for(
        &self,
        some: &[usize],
        errand: &Errand<'_>,
        known: &Known,
        step: Step,
        mut outcomes: Vec<Outcome>,
    ) -> Sent {
        let recipients: Vec<_> = some.iter().map(|i| errand.parcel.recipients[*i].clone()).collect();
        let parcel = Parcel { recipients: &recipients, ..*errand.parcel };
        let sent = self.carry_out(&Errand { parcel: &parcel, ..*errand }, known, step).await;
        for (i, outcome) in some.iter().zip(sent.outcomes) {
            outcomes[*i] = outcome;
        }
        Sent { outcomes, reach: sent.reach, offers: None }
    }

    /// A step that is not the door.
    async fn carry_out(&self, errand: &Errand<'_>, known: &Known, step: Step) -> Sent {
        match step {
            Step::Mx { proven, why } => self.by_mx(errand, Some(known), proven, why).await,
            Step::Door => self.by_mx(errand, Some(known), false, Why::Full).await,
            Step::Wait(seconds) => {
                errand.count(|outbound| &outbound.waits, 1);
                waiting(errand.parcel, seconds)
            }
        }
    }

    /// What the door said of each recipient. Those that it wants by port 25 go there now.
    async fn settle(&self, errand: &Errand<'_>, known: &Known, author: &str, carried: Carried) -> Sent {
        let offers = carried.offers.unwrap_or_default();
        let handover = handover(Protocol::Smtp, &offers);
        let outcomes: Vec<Outcome> = carried.results.iter().map(|result| outcome(result, handover)).collect();
        let sent_away = |outcome: &Outcome| match outcome {
            Outcome::Refused(reply) | Outcome::Deferred(reply) => says_use_mx(reply),
            _ => false,
        };
        let away: Vec<usize> = (0..outcomes.len()).filter(|i| sent_away(&outcomes[*i])).collect();
        let delivered = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Delivered(_))).count();
        errand.count(|outbound| &outbound.by_postern, delivered);
        if away.is_empty() {
            return Sent { outcomes, reach: Reach::Reached, offers: None };
        }
        errand.count(|outbound| &outbound.use_mx, away.len());
        self.use_mx.borrow_mut().remember(errand.domain, author, now_unix_ms() / 1000);
        let step = Step::Mx { proven: false, why: Why::UseMx };
        self.carry_out_for(&away, errand, known, step, outcomes).await
    }

    async fn by_mx(&self, errand: &Errand<'_>, known: Option<&Known>, proven: bool, why: Why) -> Sent {
        let Errand { worker, options, route, domain, parcel } = errand;
        if why == Why::Silent {
            errand.count(|outbound| &outbound.downgrades, 1);
            tracing::warn!(domain, proven, "the postern has been silent for too long: by port 25");
        }
        let sent = match (route, known.filter(|_| proven)) {
            (Route::Mx, None) => {
                worker.remote.send_mx(&options.mx, domain, &TlsWanted::WhenOffered, parcel, worker.random()).await
            }
            (Route::Mx, Some(known)) => {
                let expected = proven_by(&options.mx.names, &options.policies, known.expected(domain)).await;
                let config = authenticated_config(expected, &options.roots);
                let tls = TlsWanted::Authenticated(config);
                worker.remote.send_mx(&options.mx, domain, &tls, parcel, worker.random()).await
            }
            (route, None) => by_hop(worker, route, parcel).await,
            // What the hop does with it, nobody knows here.
            (route, Some(_)) => {
                let why = format!("the postern is silent, and {route} does not prove to be a server of {domain}");
                Sent::failed(parcel, Outcome::Unreached(why), Reach::Wait(RETRY_S * 1000))
            }
        };
        if proven && sent.reach != Reach::Reached {
            errand.count(|outbound| &outbound.unproven, 1);
        }
        let delivered = sent.outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Delivered(_))).count();
        errand.count(|outbound| &outbound.by_mx, delivered);
        sent
    }

    /// The courier between two domains; none when there are too many.
    fn postern(&self, speaker: &Speaker, errand: &Errand<'_>, place: &Place) -> Option<Rc<Postern>> {
        let mut posterns = self.posterns.borrow_mut();
        let way = Way { from: speaker.domain.as_str().into(), to: errand.domain.into() };
        if let Some(postern) = posterns.get(&way) {
            *lock(&postern.place) = place.clone();
            postern.used.set(Instant::now());
            return Some(postern.clone());
        }
        if posterns.len() >= COURIERS_MAX {
            posterns.retain(|_, postern| postern.courier.under_way() > 0);
        }
        if posterns.len() >= COURIERS_MAX {
            return None;
        }
        let place = Arc::new(Mutex::new(place.clone()));
        let dial = dial(speaker, errand.options, errand.domain, &place);
        let courier = Courier::new(dial, self.hostname.clone(), Deadlines::default());
        let used = Cell::new(Instant::now());
        let (tried_in_vain, silent_since_s) = (Cell::new(None), Cell::new(None));
        let postern = Rc::new(Postern { courier, place, used, tried_in_vain, silent_since_s });
        posterns.insert(way, postern.clone());
        Some(postern)
    }
}

impl Postern {
    async fn send(&self, parcel: &Parcel<'_>) -> Result<Carried, CourierError<Closed>> {
        self.courier.send(Arc::new(mail(parcel))).await
    }

    /// Mail waits for it from now on, or still; on disk when this returns.
    async fn begin_silence(&self, known: &Known, doors: &Doors, domain: &str, facts: &Facts) {
        let since_s = facts.silence_begins_s();
        self.silent_since_s.set(Some(since_s));
        known.note_silence(doors, domain, since_s).await;
    }

    fn tried_ago_s(&self) -> Option<u64> {
        self.tried_in_vain.get().map(|at| at.elapsed().as_secs())
    }

    fn is_to_be_dropped(&self) -> bool {
        let idle = self.courier.under_way() == 0 && self.used.get().elapsed() >= COURIER_IDLE;
        idle && self.tried_ago_s().is_none_or(|ago| ago >= PROBE_S)
    }
}

impl Errand<'_> {
    fn count(&self, counter: impl FnOnce(&crate::stats::Outbound) -> &AtomicU64, n: usize) {
        counter(&self.worker.counters.outbound).fetch_add(n as u64, Ordering::Relaxed);
    }
}

/// The fixed hop behind the doors: its places are its own, shared by all domains.
async fn by_hop(worker: &Rc<Worker>, route: &Route, parcel: &Parcel<'_>) -> Sent {
    let hop = Destination::hop(route);
    let Some(permit) = Permit::take(worker, &hop) else {
        let now = worker.now_ms();
        let wait_ms = worker.with_gate(&hop, |gate| gate.keeps_waiting_at(now));
        return match wait_ms {
            Some(wait_ms) => waiting(parcel, wait_ms.div_ceil(1000)),
            None => {
                let due_unix_ms = now_unix_ms() + BUSY_MS;
                Sent::failed(parcel, Outcome::NotTried { due_unix_ms, may_leave: true }, Reach::Unknown)
            }
        };
    };
    let sent = worker.send_to_hop(route, parcel).await;
    permit.give_back(sent.reach);
    sent
}

/// Nobody was asked, and nobody of this domain's mail is to be for so long.
fn waiting(parcel: &Parcel<'_>, seconds: u64) -> Sent {
    let wait_ms = seconds.max(1) * 1000;
    let outcome = Outcome::NotTried { due_unix_ms: now_unix_ms() + wait_ms, may_leave: true };
    Sent::failed(parcel, outcome, Reach::Wait(wait_ms))
}

/// When to look again after the fixed hop had no place, though it is there.
const BUSY_MS: u64 = 1_000;
