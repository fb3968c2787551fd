//! What the desk's thread does: takes questions in the order of their classes, joins equal ones, asks,
//! answers, and sends what was found as evidence.
//!
//! Every question ends with an answer, whatever panics or is late: `Ticket::drop` gives it. Nothing here
//! decides about mail.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ipnet::IpNet;
use postern_proto::checks::{Listed, SpfResult};
use postern_trust::{Authority, Class, Evidence, EvidenceSender};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::desk::{Errand, IdentityError, Shared};
use crate::dns::{self, Dns};
use crate::limits;
use crate::lists::List;
use crate::lookups::{Lookups, Payer};
use crate::names;
use crate::networks;
use crate::options::{Budgets, IdentityOptions};
use crate::question::{Findings, OnAnswer, Question};
use crate::spf::{Claim, Evaluator, Outcome};
use crate::stats::{Unaffordable, count};

/// All that the thread needs; made before it starts, so that `start` can fail.
pub(crate) struct Setup {
    dns: Dns,
    evaluator: Evaluator,
    options: IdentityOptions,
    shared: Arc<Shared>,
    evidence: EvidenceSender,
}

/// What all questions share.
struct Office {
    lookups: Rc<Lookups>,
    evaluator: Evaluator,
    lists: Vec<Rc<List>>,
    budgets: Budgets,
    shared: Arc<Shared>,
    evidence: EvidenceSender,
    open: RefCell<HashMap<Same, Vec<OnAnswer>>>,
    /// Domains of shared providers.
    providers: watch::Receiver<Vec<String>>,
}

/// What makes questions equal: everything that DNS could be asked about.
type Same = (IpAddr, Option<Box<str>>, Option<Box<str>>);

impl Setup {
    pub(crate) fn new(
        options: IdentityOptions,
        dns: Dns,
        shared: Arc<Shared>,
        evidence: EvidenceSender,
    ) -> Result<Self, IdentityError> {
        for name in options.zones.iter().map(|zone| &zone.name).chain(&options.providers) {
            dns::domain(name).ok_or_else(|| IdentityError::Zone(name.clone()))?;
        }
        let evaluator = Evaluator::new(&options.hostname).map_err(IdentityError::Resolver)?;
        Ok(Self { dns, evaluator, options, shared, evidence })
    }

    /// Until the desk is stopped or its last front is gone.
    pub(crate) async fn run(
        self,
        mut lines: Vec<mpsc::Receiver<Errand>>,
        mut stopped: watch::Receiver<bool>,
        providers: watch::Receiver<Vec<String>>,
    ) {
        let Self { dns, evaluator, options, shared, evidence } = self;
        let lists = options.zones.into_iter().enumerate();
        let lists = lists.filter_map(|(index, zone)| List::new(index, zone, Arc::clone(&shared)).ok());
        let office = Rc::new(Office {
            lookups: Rc::new(Lookups::new(dns, options.budgets.clone(), Arc::clone(&shared))),
            evaluator,
            lists: lists.map(Rc::new).collect(),
            budgets: options.budgets,
            shared,
            evidence,
            open: RefCell::default(),
            providers: providers.clone(),
        });
        spawn_local(Rc::clone(&office).keep_networks(providers, options.networks_after));
        let room = Arc::new(Semaphore::new(limits::OPEN_MAX));
        loop {
            let next = async {
                let permit = Arc::clone(&room).acquire_owned().await.ok()?;
                Some((permit, first(&mut lines).await?))
            };
            let (permit, errand) = tokio::select! {
                biased;
                _ = stopped.changed() => return,
                next = next => match next {
                    Some(next) => next,
                    None => return,
                },
            };
            match errand {
                Errand::Question(question, answer) => {
                    if let Some(ticket) = office.open(question, answer) {
                        spawn_local(async move {
                            ticket.work().await;
                            drop(permit);
                        });
                    }
                }
                Errand::Networks(domain, answer) => {
                    let office = Rc::clone(&office);
                    spawn_local(async move {
                        answer(office.networks(&domain).await);
                        drop(permit);
                    });
                }
            }
        }
    }
}

/// The first errand of the best line that has one; `None` when nobody can send any more.
async fn first(lines: &mut [mpsc::Receiver<Errand>]) -> Option<Errand> {
    poll_fn(|cx| {
        let mut closed = 0;
        for line in lines.iter_mut() {
            match line.poll_recv(cx) {
                Poll::Ready(Some(errand)) => return Poll::Ready(Some(errand)),
                Poll::Ready(None) => closed += 1,
                Poll::Pending => {}
            }
        }
        if closed == lines.len() { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

impl Office {
    /// A ticket to work on, or nothing when an equal question is worked on already.
    fn open(self: &Rc<Self>, question: Question, answer: OnAnswer) -> Option<Ticket> {
        let same = (question.ip, question.helo.clone(), question.mail_from.clone());
        let mut open = self.open.borrow_mut();
        if let Some(waiting) = open.get_mut(&same) {
            if waiting.len() < limits::EQUAL_MAX {
                count(&self.shared.counters.equal);
                waiting.push(answer);
                return None;
            }
            drop(open);
            self.shared.counters.not_affordable(Unaffordable::QueueFull);
            answer(Findings::default());
            return None;
        }
        open.insert(same.clone(), vec![answer]);
        Some(Ticket { office: Rc::clone(self), same, question, findings: Findings::default() })
    }

    async fn find(&self, question: &Question) -> Findings {
        let until = Instant::now() + self.budgets.question;
        let payer = Payer { class: question.class, list: None };
        let mut asked = JoinSet::new();
        for (index, list) in self.lists.iter().enumerate() {
            let (list, lookups, ip, class) = (Rc::clone(list), Rc::clone(&self.lookups), question.ip, question.class);
            asked.spawn_local(async move { (index, timeout_at(until, list.ask(&lookups, class, ip)).await) });
        }
        let spf = async {
            let mail_from = question.mail_from.as_deref()?;
            let claim = Claim { ip: question.ip, helo: question.helo.as_deref(), mail_from };
            self.in_time(timeout_at(until, self.evaluator.check(&self.lookups, payer, claim)).await)?
        };
        let name =
            async { self.in_time(timeout_at(until, names::confirmed(&self.lookups, payer, question.ip)).await)? };
        let (spf, name, listed) = tokio::join!(spf, name, self.gather(&mut asked));
        let (listed, fresh) = listed;
        let authority = authority(question.ip, spf.as_ref(), name.as_deref());
        // First, so that the book knows a pool before a tenant of it may lend it credit.
        self.testify_to_pool(question.ip, name.as_deref());
        self.testify(question.ip, authority, fresh.then_some(&listed));
        let authority = authority.map(|(_, by)| by);
        Findings { spf: spf.map(|outcome| outcome.spf), name, listed, authority }
    }

    /// What the lists said, in their order; and whether any was asked just now.
    async fn gather(&self, asked: &mut JoinSet<(usize, Timed<Opinion>)>) -> (Vec<Listed>, bool) {
        let mut found = Vec::new();
        let mut any_fresh = false;
        while let Some(done) = asked.join_next().await {
            let Ok((index, timed)) = done else { continue };
            if let Some((listed, fresh)) = self.in_time(timed) {
                any_fresh |= fresh;
                found.extend(listed.map(|listed| (index, listed)));
            }
        }
        found.sort_by_key(|(index, _)| *index);
        (found.into_iter().map(|(_, listed)| listed).collect(), any_fresh)
    }

    /// Refusals were counted where they happened, but for those of time and greed.
    fn in_time<T>(&self, timed: Timed<T>) -> Option<T> {
        match timed {
            Ok(Ok(found)) => return Some(found),
            Ok(Err(Unaffordable::Greedy)) => self.shared.counters.not_affordable(Unaffordable::Greedy),
            Ok(Err(_)) => {}
            Err(_) => self.shared.counters.not_affordable(Unaffordable::Late),
        }
        None
    }

    /// Tells the trust book. The lists once per look-up, not once per connection: a bot that reconnects is
    /// not listed more often.
    fn testify(&self, ip: IpAddr, authority: Option<(&str, Authority)>, listed: Option<&Vec<Listed>>) {
        if let Some((domain, by)) = authority {
            self.evidence.send(Evidence::Authorised { ip, domain: domain.into(), by });
        }
        let sum: i32 = listed.into_iter().flatten().map(|listed| i32::from(listed.weight)).sum();
        if sum != 0 {
            let weight = sum.clamp(i8::MIN.into(), i8::MAX.into());
            self.evidence.send(Evidence::Listed { ip, weight: i8::try_from(weight).unwrap_or(0) });
        }
    }

    /// A machine with the name of a shared provider belongs to its pool, whoever's mail it brings and whether or not
    /// the provider's networks could be read. Any name will do, also one made from the address: it earns nothing
    /// here but that a tenant's spam is not all its own.
    fn testify_to_pool(&self, ip: IpAddr, name: Option<&str>) {
        let below = |name: &str, domain: &str| {
            name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let providers = self.providers.borrow();
        let Some(provider) = name.and_then(|name| providers.iter().find(|domain| below(name, domain))) else { return };
        self.evidence.send(Evidence::Authorised { ip, domain: provider.as_str().into(), by: Authority::Name });
    }

    async fn networks(&self, domain: &str) -> Option<Vec<IpNet>> {
        let payer = Payer { class: Class::Provider, list: None };
        // Eleven records one after the other.
        let until = Instant::now() + self.budgets.question * 4;
        timeout_at(until, networks::of_domain(&self.lookups, payer, domain)).await.ok().flatten()
    }

    /// Keeps the networks of the providers fresh, one provider at a time: a hundred look-ups an hour.
    async fn keep_networks(self: Rc<Self>, mut providers: watch::Receiver<Vec<String>>, after: Duration) {
        sleep(after).await;
        let mut due: HashMap<String, Instant> = HashMap::new();
        loop {
            let domains = providers.borrow_and_update().clone();
            due.retain(|domain, _| domains.contains(domain));
            let now = Instant::now();
            for domain in domains {
                due.entry(domain).or_insert(now);
            }
            // In the order of their names, so that a run can be repeated.
            let next =
                due.iter().min_by_key(|(domain, when)| (**when, *domain)).map(|(domain, when)| (domain.clone(), *when));
            let changed = async { providers.changed().await.is_ok() };
            let Some((domain, when)) = next else { if changed.await { continue } else { return } };
            tokio::select! {
                biased;
                goes_on = changed => if goes_on { continue } else { return },
                () = sleep_until(when) => {}
            }
            let wait = self.refresh(&domain).await;
            due.insert(domain, Instant::now() + wait);
        }
    }

    /// Reads one provider's networks; says how long they are good for.
    async fn refresh(&self, domain: &str) -> Duration {
        let networks = if self.shared.is_red() { None } else { self.networks(domain).await };
        match networks {
            Some(networks) if !networks.is_empty() => {
                self.evidence.send(Evidence::ProviderNetworks { domain: domain.into(), networks: networks.into() });
            }
            // Some of those that come with the program have none: they send by the servers of another.
            Some(_) => tracing::debug!(%domain, "a provider's SPF record names no networks"),
            None => {
                tracing::debug!(%domain, "the networks of a provider could not be read now");
                return limits::NETWORKS_RETRY;
            }
        }
        limits::NETWORKS_REFRESH
    }
}

/// An answer, a refusal, or out of time.
type Timed<T> = Result<Result<T, Unaffordable>, tokio::time::error::Elapsed>;

/// A list's, and whether it was asked just now.
type Opinion = (Option<Listed>, bool);

/// Whose credit the address may share.
///
/// SPF first, because it is what the domain itself says: a pass authorises (unless it passes everybody),
/// and any other word against the address stands, whatever it is called. Only where the domain says
/// nothing, and we know that, a confirmed name may speak; not for EHLO, which the client chooses.
fn authority<'a>(ip: IpAddr, spf: Option<&'a Outcome>, name: Option<&str>) -> Option<(&'a str, Authority)> {
    let Outcome { spf, everybody } = spf?;
    match spf.result {
        SpfResult::Pass => (!everybody).then_some((&*spf.domain, Authority::Spf)),
        SpfResult::None | SpfResult::Neutral => {
            let named = !spf.of_helo && name.is_some_and(|name| names::speaks_for(name, ip, &spf.domain));
            named.then_some((&*spf.domain, Authority::Name))
        }
        SpfResult::Fail | SpfResult::SoftFail | SpfResult::TempError | SpfResult::PermError => None,
    }
}

/// A question that is worked on, with everybody who asked it.
struct Ticket {
    office: Rc<Office>,
    same: Same,
    question: Question,
    findings: Findings,
}

impl Ticket {
    async fn work(mut self) {
        self.findings = self.office.find(&self.question).await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let waiting = self.office.open.borrow_mut().remove(&self.same).unwrap_or_default();
        for answer in waiting {
            count(&self.office.shared.counters.answered);
            answer(self.findings.clone());
        }
    }
}

#[cfg(test)]
mod tests;
