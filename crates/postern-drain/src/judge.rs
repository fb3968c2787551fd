//! Asks the filters about one item, before it leaves, and carries out what they say short of delivery.
//!
//! Called by the worker for an item that has a place at every filter. What is not judged does not leave:
//! when a filter is away, slow or talks nonsense, the item is settled as it was, to be judged later. The
//! decision is `ruling`'s, whether a filter may be asked `gates`'.

use std::rc::Rc;
use std::sync::Arc;

use postern_net::filter::{self, Content, FilterError, Finding, Subject};
use postern_proto::envelope::Meta;
use postern_proto::judgement::Action;
use postern_proto::received::received_field;
use postern_proto::reply::{Enhanced, Reply};
use postern_spool::{BodySource, Fate, FinishError, Lease};
use tokio::time::{Instant, timeout_at};

use crate::delivery::{Load, fate};
use crate::filters::{FilterOptions, FilterTable};
use crate::gates::Sign;
use crate::limits::{JUDGING_MAX, QUARANTINE_CLASS, UNJUDGED_PAUSE_MS};
use crate::parting::{Parting, action_of};
use crate::ruling::{Hearing, Judged, Ruling};
use crate::settle::{Outcome, Verdict};
use crate::worker::{Worker, now_unix_ms};

/// A place at every filter; those not given back with a sign are given back without one.
pub(crate) struct Places {
    worker: Rc<Worker>,
    table: Arc<FilterTable>,
    /// Filters before this one have theirs back.
    given_back: usize,
    asked_ms: u64,
}

impl Places {
    pub(crate) fn take(worker: &Rc<Worker>, table: &Arc<FilterTable>) -> Option<Self> {
        let asked_ms = worker.now_ms();
        let mut gates = worker.gates_of_filters.borrow_mut();
        let taken = gates.try_start_at(asked_ms);
        if taken && gates.keeps_waiting_at(asked_ms).is_some() {
            // It finds out whether a filter is back, mostly at once: until then each look would cost its records for nothing.
            worker.unjudged_turns.borrow_mut().put_off(asked_ms + UNJUDGED_PAUSE_MS);
        }
        drop(gates);
        taken.then(|| Self { worker: worker.clone(), table: table.clone(), given_back: 0, asked_ms })
    }

    /// The next filter's.
    fn give_back(&mut self, sign: Sign) {
        let Some(options) = self.table.filters.get(self.given_back) else { return };
        self.given_back += 1;
        let (worker, name) = (&self.worker, &options.filter.name);
        let (now, random) = (worker.now_ms(), worker.random());
        worker.gates_of_filters.borrow_mut().give_back_at(name, sign, self.asked_ms, now, random);
        worker.note_filter(name);
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        while self.given_back < self.table.filters.len() {
            self.give_back(Sign::Nothing);
        }
    }
}

impl Worker {
    /// Judges an item. What is to be delivered comes back; everything else is settled here.
    pub(crate) async fn judge(&self, lease: Lease, meta: Meta, places: Places, released: bool) -> Option<Load> {
        let hearing = match self.hear(&lease, &meta, places).await {
            Ok(hearing) => hearing,
            Err(outcome) => {
                self.settle_all(lease, &meta, outcome, released).await;
                return None;
            }
        };
        if !meta.was_judged_before() {
            self.tell_of_judgement(&meta, &hearing);
        }
        self.carry_out(lease, meta, &hearing, released).await
    }

    /// One and the same outcome for every recipient.
    pub(crate) async fn settle_all(&self, lease: Lease, meta: &Meta, outcome: Outcome, released: bool) {
        let outcomes = vec![outcome; meta.recipients.len()];
        self.settle(lease, meta, &outcomes, released).await;
    }

    async fn hear(&self, lease: &Lease, meta: &Meta, mut places: Places) -> Result<Hearing, Outcome> {
        let id = lease.id.to_string();
        let received = received_field(meta, &id, None);
        let body = match &lease.body {
            BodySource::Inline(bytes) => Content::Bytes(bytes),
            BodySource::File { file, len } => Content::File(file, *len),
        };
        let subject = Subject { meta, id: &id, received: received.as_bytes(), body };
        let mut hearing = Hearing::new();
        let (table, until) = (places.table.clone(), Instant::now() + JUDGING_MAX);
        for options in &table.filters {
            self.note_filter(&options.filter.name);
            let asked_ms = self.now_ms();
            let judging = filter::judge(&options.filter, &self.options.hostname, &subject);
            let found = timeout_at(until, judging).await.unwrap_or(Err(FilterError::TimedOut));
            let took_ms = self.now_ms() - asked_ms;
            let finding = self.note_finding(options, found, took_ms, &id, &mut places)?;
            if !hearing.hear(options, finding) {
                break;
            }
        }
        Ok(hearing)
    }

    /// Gives the filter's place back and counts; what became of the item when there is no finding.
    fn note_finding(
        &self,
        options: &FilterOptions,
        found: Result<Finding, FilterError>,
        took_ms: u64,
        item: &str,
        places: &mut Places,
    ) -> Result<Finding, Outcome> {
        let name = &options.filter.name;
        let error = match found {
            Ok(finding) => {
                tracing::info!(%item, filter = %name, verdict = ?finding.verdict, took_ms, "judged");
                self.counters.note_verdict(name, &finding.verdict, took_ms);
                places.give_back(Sign::Answered);
                return Ok(finding);
            }
            Err(error) => error,
        };
        let words = format!("filter {name}: {error}");
        tracing::warn!(%item, filter = %name, %error, "not judged; it will be tried again");
        self.counters.note_filter_failure(name, &error.to_string());
        match error {
            FilterError::Unreachable(_) => {
                places.give_back(Sign::Away);
                // The message has done nothing: it waits for the filter, and does not age meanwhile.
                let (wait_ms, _) = self.gates_of_filters.borrow().state_at(name, self.now_ms());
                Err(Outcome::NotTried { due_unix_ms: now_unix_ms() + wait_ms.unwrap_or(0), may_leave: false })
            }
            FilterError::TimedOut | FilterError::Protocol(_) => {
                places.give_back(Sign::Silent);
                // It may be this message: it comes back less and less often, and never as the first for ever.
                Err(Outcome::Unreached(words))
            }
            FilterError::Content(_) => {
                places.give_back(Sign::Nothing);
                Err(Outcome::Deferred(Reply::new(451, Enhanced(4, 3, 0), UNREADABLE)))
            }
        }
    }

    async fn carry_out(&self, mut lease: Lease, meta: Meta, hearing: &Hearing, released: bool) -> Option<Load> {
        let table = self.routes.load_full();
        let ours =
            |domain: &str| table.is_local(domain) || meta.recipients.iter().any(|to| *to.address.domain == *domain);
        loop {
            match hearing.rule(&meta, lease.tentative, ours) {
                Ruling::Refuse(reply) => match self.refuse(lease, reply).await {
                    // It was promised at this very moment: then it is spam that was taken.
                    Some(again) => lease = again,
                    None => return None,
                },
                Ruling::Defer(reply) => {
                    self.settle_all(lease, &meta, Outcome::Deferred(reply), released).await;
                    return None;
                }
                Ruling::Judged(judged) => {
                    if judged.not_added > 0 {
                        tracing::warn!(
                            item = %lease.id, left_out = judged.not_added,
                            "a filter wanted recipients added that are not ours, or too many"
                        );
                    }
                    return self.part(lease, meta, *judged, released).await;
                }
            }
        }
    }

    /// The session's answer; nothing is kept. The lease comes back when the item was committed meanwhile.
    async fn refuse(&self, lease: Lease, reply: Reply) -> Option<Lease> {
        let (id, class) = (lease.id, lease.lane.class);
        self.settling(id);
        match self.spool.finish(lease, fate(&Verdict::Refused(reply.clone())), Vec::new()).await {
            Ok(()) => {
                self.counters.note_left(class);
                tracing::info!(item = %id, %reply, "refused by a filter");
                None
            }
            Err(FinishError::CommittedMeanwhile(mut again)) => {
                again.tentative = false;
                Some(*again)
            }
            Err(error) => {
                tracing::warn!(item = %id, %error, "could not be settled");
                None
            }
        }
    }

    /// What is delivered comes back; what is kept aside, or goes in parts, becomes items of their own.
    async fn part(&self, lease: Lease, asked: Meta, judged: Judged, released: bool) -> Option<Load> {
        let Judged { meta, body, apart, .. } = judged;
        if action_of(&meta) != Action::Quarantine && apart.is_none() {
            return Some(Load { lease, meta, asked: Some(asked), body });
        }
        let (id, class) = (lease.id, lease.lane.class);
        let parting = Parting { meta, apart, new_body: body, released };
        let filters = self.options.filters.load_full();
        let children = match parting.children(&lease.lane, &lease.body, &filters).await {
            Ok(children) => children,
            Err(error) => {
                tracing::warn!(item = %id, %error, "a message cannot be read");
                let outcome = Outcome::Deferred(Reply::new(451, Enhanced(4, 3, 0), UNREADABLE));
                self.settle_all(lease, &asked, outcome, released).await;
                return None;
            }
        };
        self.settling(id);
        let aside = children.iter().filter(|child| child.lane.class == QUARANTINE_CLASS).count();
        match self.spool.finish(lease, Fate::Delivered, children).await {
            Ok(()) => {
                self.counters.note_left(class);
                tracing::info!(item = %id, aside, "in quarantine, or parted by a filter");
            }
            Err(error) => tracing::warn!(item = %id, %error, "could not be settled"),
        }
        None
    }
}

const UNREADABLE: &str = "The message could not be read, try again later";
