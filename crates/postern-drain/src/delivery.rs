//! One item, from lease to settlement: its recipients by destination, the deliveries, and the one
//! `postpone` or `finish` that makes the result durable. Called by the worker; decides nothing that
//! `settle` or the gates decide.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use postern_proto::address::Address;
use postern_proto::checks::Checks;
use postern_proto::envelope::{Arrival, DsnRequest, Meta, Notify, Recipient, Refusal, Via};
use postern_proto::header_edit::{BEGINNING_BYTES_MAX, Edited};
use postern_proto::mode::{Mode, Modes};
use postern_proto::received::received_field;
use postern_proto::reply::{Enhanced, Reply};
use postern_spool::{BodySource, Child, ChildBody, Fate, FinishError, Lane, Lease};
use tokio::time::{Instant, timeout, timeout_at};

use crate::filters::FilterTable;
use crate::judge::Places;
use crate::limits::{
    DELIVERY_MAX, NO_ROUTE_WAIT_MS, PLACE_WAIT, RELEASED_CLASS, REPORT_FULL_BYTES_MAX, REPORT_HEADER_BYTES_MAX,
};
use crate::maildir::{self, file_name, mailbox_name};
use crate::marks::{edited, marks};
use crate::parting::header_as_filters_see_it;
use crate::remote::{Parcel, Reach, Sent};
use crate::report::Report;
use crate::route::{Destination, Route, RouteTable};
use crate::settle::{Action, Attempt, Handover, Letter, Outcome, Settlement, Told, Verdict, settle};
use crate::worker::{Panicked, Worker, caught, mode_of, now_unix_ms};

/// One item on its way out.
pub(crate) struct Load {
    pub(crate) lease: Lease,
    pub(crate) meta: Meta,
    /// As it was before it was judged, when that happened just now.
    pub(crate) asked: Option<Meta>,
    /// All behind the blank line, as a filter wants it. Not kept: what is left of the item after this
    /// attempt counts as never judged, and is judged again.
    pub(crate) body: Option<Vec<u8>>,
}

/// Which recipients go where in this attempt.
pub(crate) struct Plan {
    /// With a place taken at each destination.
    groups: Vec<Group>,
    /// What is known of each recipient before anything was sent; `None` for those in a group.
    decided: Vec<Option<Outcome>>,
    detail: Option<char>,
    mailboxes_max: usize,
    /// A destination that can be reached had no place.
    busy: bool,
}

struct Group {
    permit: Permit,
    /// Positions in the item's recipients.
    members: Vec<usize>,
}

/// A place at a destination; given back without a judgement when dropped (panic, stop).
pub(crate) struct Permit {
    worker: Rc<Worker>,
    destination: Destination,
    judged: bool,
}

impl Permit {
    pub(crate) fn take(worker: &Rc<Worker>, destination: &Destination) -> Option<Self> {
        let now = worker.now_ms();
        let taken = worker.with_gate(destination, |gate| gate.try_start_at(now));
        taken.then(|| Self { worker: worker.clone(), destination: destination.clone(), judged: false })
    }

    pub(crate) fn give_back(mut self, reach: Reach) {
        let (now, random) = (self.worker.now_ms(), self.worker.random());
        self.judged = true;
        self.worker.with_gate(&self.destination, |gate| match reach {
            Reach::Reached => gate.handle_reached(),
            Reach::Unreached => gate.handle_unreached_at(now, random),
            Reach::Wait(ms) => gate.handle_wait_at(now, ms),
            Reach::Unknown => gate.handle_unknown(),
        });
        self.worker.place_free.notify_waiters();
        self.worker.note_state(&self.destination);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.judged {
            self.worker.with_gate(&self.destination, |gate| gate.handle_unknown());
            self.worker.place_free.notify_waiters();
        }
    }
}

impl Plan {
    /// Resolves every recipient by today's table. Those of another domain go along when that one
    /// may leave now, its destination has a place, and it is judged as this one is; otherwise they become
    /// an item in their lane.
    pub(crate) fn new(
        worker: &Rc<Worker>,
        lease: &Lease,
        meta: &Meta,
        table: &RouteTable,
        modes: &Modes,
        filters: &FilterTable,
    ) -> Self {
        let mut plan = Self {
            groups: Vec::new(),
            decided: Vec::with_capacity(meta.recipients.len()),
            detail: table.detail,
            mailboxes_max: table.mailboxes_max,
            busy: false,
        };
        let now = now_unix_ms();
        let kept = |due_unix_ms| Outcome::NotTried { due_unix_ms, may_leave: false };
        for (i, recipient) in meta.recipients.iter().enumerate() {
            let domain = &recipient.address.domain;
            let own = **domain == *lease.lane.key;
            let held = !own && mode_of(&Lane::new(&**domain, lease.lane.class), modes) == Mode::Hold;
            let marked_for_others = !own && meta.judgement.is_some() && filters.spares(domain);
            let decided = match table.destination(meta.arrival.via, domain) {
                // The last guard: nothing unjudged leaves to a domain with filters.
                _ if held || marked_for_others || filters.must_judge(meta, domain) => Some(kept(now)),
                None => Some(Outcome::Refused(no_route(domain))),
                Some(Destination { route: Route::None, .. }) if own => Some(kept(now + NO_ROUTE_WAIT_MS)),
                Some(Destination { route: Route::None, .. }) => Some(kept(now)),
                Some(destination) => plan.join(worker, &destination, i, meta.tried_since_unix_ms),
            };
            plan.decided.push(decided);
        }
        plan
    }

    /// Adds a recipient to its destination's group; says when to look again if there is no place.
    /// Mail that expires while its destination is away has been tried: others were, in its place.
    fn join(
        &mut self,
        worker: &Rc<Worker>,
        destination: &Destination,
        i: usize,
        tried_since: Option<u64>,
    ) -> Option<Outcome> {
        if let Some(group) = self.groups.iter_mut().find(|group| group.permit.destination == *destination) {
            group.members.push(i);
            return None;
        }
        if let Some(permit) = Permit::take(worker, destination) {
            self.groups.push(Group { permit, members: vec![i] });
            return None;
        }
        let (now_ms, now_unix_ms) = (worker.now_ms(), now_unix_ms());
        let wait = worker.with_gate(destination, |gate| gate.keeps_waiting_at(now_ms));
        self.busy |= wait.is_none();
        if wait.is_some() && tried_since.is_some_and(|since| worker.retry.is_expired(since, now_unix_ms)) {
            return Some(Outcome::Unreached(format!("{destination} could not be reached")));
        }
        Some(Outcome::NotTried { due_unix_ms: now_unix_ms + wait.unwrap_or(0).max(1000), may_leave: true })
    }
}

impl Worker {
    /// Asks the filters first.
    pub(crate) async fn judge_and_deliver(self: Rc<Self>, lease: Lease, meta: Meta, places: Places, released: bool) {
        let (id, again) = (lease.id, (lease.clone(), meta.clone()));
        match caught(self.judge(lease, meta, places, released)).await {
            Ok(None) => {}
            Ok(Some(load)) => {
                let plan = self.plan(&load).await;
                return self.deliver(load, plan, released).await;
            }
            Err(Panicked) => {
                self.counters.panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!(item = %id, "judging panicked; the item will be tried again");
                let (lease, meta) = again;
                self.settle_all(lease, &meta, Outcome::Unreached("internal error".to_owned()), released).await;
            }
        }
        self.landed();
    }

    /// For an item that was just judged: a sender may wait for it, so a destination that is only busy is
    /// given a moment.
    async fn plan(self: &Rc<Self>, load: &Load) -> Plan {
        let until = Instant::now() + PLACE_WAIT;
        loop {
            let mut free = pin!(self.place_free.notified());
            free.as_mut().enable();
            let (table, modes, filters) = (self.routes.load(), self.modes.load(), self.options.filters.load());
            let plan = Plan::new(self, &load.lease, &load.meta, &table, &modes, &filters);
            if !plan.busy || !plan.groups.is_empty() || timeout_at(until, free).await.is_err() {
                return plan;
            }
        }
    }

    /// Delivers and settles one item. `released`: a `drain` command let it go from hold.
    pub(crate) async fn deliver(self: Rc<Self>, load: Load, plan: Plan, released: bool) {
        let Load { lease, mut meta, asked, body } = load;
        let id = lease.id;
        let Plan { groups, decided, detail, mailboxes_max, .. } = plan;
        let outcomes = RefCell::new(decided);
        let tried = groups.iter().flat_map(|group| group.members.clone()).collect::<Vec<_>>();
        let body_is_new = body.is_some();
        let ended = match Content::of(&lease, &mut meta, body).await {
            Ok(content) => {
                let context = Context {
                    lease: &lease,
                    meta: &meta,
                    content: &content,
                    detail,
                    mailboxes_max,
                    outcomes: &outcomes,
                };
                caught(timeout(DELIVERY_MAX, self.deliver_groups(&context, groups))).await
            }
            Err(reply) => {
                drop(groups);
                let undecided = |outcome: &mut Option<Outcome>| {
                    outcome.get_or_insert_with(|| Outcome::Deferred(reply.clone()));
                };
                outcomes.borrow_mut().iter_mut().for_each(undecided);
                Ok(Ok(()))
            }
        };
        let why = match ended {
            Ok(Ok(())) => "nothing was said about this recipient",
            Ok(Err(_)) => "the delivery took too long",
            Err(_) => {
                self.counters.panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!(item = %id, "the delivery panicked; the item will be tried again");
                "internal error"
            }
        };
        let outcomes = outcomes.into_inner().into_iter();
        let outcomes: Vec<Outcome> =
            outcomes.map(|outcome| outcome.unwrap_or_else(|| Outcome::Unreached(why.to_owned()))).collect();
        log(&lease, &meta, &outcomes, &tried);
        self.tell_of_delivery(&meta, &lease.body, &outcomes).await;
        if body_is_new {
            let asked = asked.as_ref().unwrap_or(&meta);
            // The judgement stays: who judges again adds no recipients again, and tells the book nothing.
            meta.judged = asked.judged;
        }
        let settled = caught(self.settle(lease, &meta, &outcomes, released)).await;
        if settled.is_err() {
            self.counters.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!(item = %id, "settling panicked; the item will be tried again when its lease runs out");
        }
        self.landed();
    }

    async fn deliver_groups(self: &Rc<Self>, context: &Context<'_>, groups: Vec<Group>) {
        for Group { permit, members } in groups {
            let destination = permit.destination.clone();
            self.note_state(&destination);
            let (outcomes, reach) = match &destination {
                Destination { route: Route::Maildir(root), .. } => self.to_maildir(context, root, &members).await,
                Destination { domain: Some(domain), .. } => {
                    self.to_domain(context, &destination.route, domain, &members).await
                }
                Destination { route, .. } => self.to_hop(context, route, &members).await,
            };
            permit.give_back(reach);
            // Far domains are counted together, under the name of their route.
            let name = destination.route.to_string();
            for (i, outcome) in members.into_iter().zip(outcomes) {
                self.counters.note(&name, &outcome);
                context.outcomes.borrow_mut()[i] = Some(outcome);
            }
        }
    }

    async fn to_hop(&self, context: &Context<'_>, route: &Route, members: &[usize]) -> (Vec<Outcome>, Reach) {
        let (recipients, prefix) = context.envelope(members);
        let sent = self.send_to_hop(route, &context.parcel(&recipients, &prefix)).await;
        (sent.outcomes, sent.reach)
    }

    pub(crate) async fn send_to_hop(&self, route: &Route, parcel: &Parcel<'_>) -> Sent {
        let sent = self.remote.send(route, parcel).await;
        if let Some(offers) = &sent.offers {
            self.learn(route, offers);
        }
        sent
    }

    /// The servers of a far domain, or what stands in for them.
    async fn to_domain(
        self: &Rc<Self>,
        context: &Context<'_>,
        route: &Route,
        domain: &str,
        members: &[usize],
    ) -> (Vec<Outcome>, Reach) {
        let (recipients, prefix) = context.envelope(members);
        self.outward.deliver(self, route, domain, &context.parcel(&recipients, &prefix)).await
    }

    /// All recipients in one job: the files are small and a thread switch each would cost more.
    async fn to_maildir(&self, context: &Context<'_>, root: &Path, members: &[usize]) -> (Vec<Outcome>, Reach) {
        let Context { lease, meta, content, .. } = context;
        let jobs: Vec<_> = members.iter().map(|i| self.file_for(context, &meta.recipients[*i].address)).collect();
        let maybe_repeat = meta.attempts > 0 || lease.id.unix_ms() <= self.started_unix_ms;
        let (maildirs, root) = (self.maildirs.clone(), root.to_owned());
        let (head, body, from) = (content.head.clone(), content.body.clone(), content.from);
        let (id, mailboxes_max) = (lease.id, context.mailboxes_max);
        let done = tokio::task::spawn_blocking(move || {
            let deliver = |(mailbox, file_name, prefix): (String, String, Vec<u8>)| {
                let letter = maildir::Letter {
                    root: &root,
                    mailbox: &mailbox,
                    file_name: &file_name,
                    prefix: &prefix,
                    head: &head,
                    body: &body,
                    from,
                    maybe_repeat,
                    mailboxes_max,
                };
                match maildirs.deliver(&letter) {
                    Ok(()) => Outcome::Delivered(Handover::Final),
                    Err(error) => {
                        tracing::warn!(item = %id, detail = %error.detail, "not delivered to a Maildir");
                        Outcome::Deferred(error.reply)
                    }
                }
            };
            jobs.into_iter().map(deliver).collect::<Vec<_>>()
        });
        match done.await {
            Ok(outcomes) => (outcomes, Reach::Reached),
            Err(error) => {
                self.counters.panics.fetch_add(u64::from(error.is_panic()), Ordering::Relaxed);
                (vec![Outcome::Unreached("internal error".to_owned()); members.len()], Reach::Unknown)
            }
        }
    }

    /// Mailbox, file name and header fields of a recipient's copy. Final delivery adds Return-Path
    /// (RFC 5321 section 4.4) and, as mailbox readers expect, Delivered-To.
    fn file_for(&self, context: &Context<'_>, address: &Address) -> (String, String, Vec<u8>) {
        let Context { lease, meta, content, detail, .. } = context;
        let id = lease.id.to_string();
        let sender = meta.sender.as_ref().map(Address::to_string).unwrap_or_default();
        let mut prefix = format!("Return-Path: <{sender}>\r\nDelivered-To: {address}\r\n").into_bytes();
        prefix.extend_from_slice(&content.marks);
        prefix.extend_from_slice(received_field(meta, &id, Some(address)).as_bytes());
        let size = (prefix.len() + content.head.len()) as u64 + content.body.len() - content.from;
        let hostname = &self.options.hostname;
        let name = file_name(&id, meta.arrival.at_unix_ms, address, hostname, size);
        (mailbox_name(address, *detail, hostname), name, prefix)
    }

    /// Makes the result durable. A tentative item may be committed by its door at the same moment:
    /// then nobody waits for a verdict any more, and it is settled again as a committed one.
    pub(crate) async fn settle(&self, mut lease: Lease, meta: &Meta, outcomes: &[Outcome], released: bool) {
        let id = lease.id;
        self.settling(id);
        loop {
            let mut another_dead = false;
            let settlement = settle(&Attempt {
                meta,
                outcomes,
                lane_key: &lease.lane.key,
                tentative: lease.tentative,
                now_unix_ms: now_unix_ms(),
                retry: &self.retry,
                random: self.random(),
            });
            let class = lease.lane.class;
            let stays_until = match &settlement {
                Settlement::Postpone(letter) => Some(letter.due_unix_ms),
                Settlement::Finish { .. } => None,
            };
            let result = match settlement {
                Settlement::Postpone(letter) if released => {
                    let child = self.child(&lease, *letter, released);
                    self.spool.finish(lease, Fate::Delivered, vec![child]).await
                }
                Settlement::Postpone(letter) => {
                    let (bytes, due) = (letter.meta.to_bytes(), letter.due_unix_ms);
                    self.spool.postpone(lease, bytes, due).await.map_err(FinishError::from)
                }
                Settlement::Finish { verdict, rest, dead, report } => {
                    let fate = fate(&verdict);
                    let letters = rest.into_iter().map(|letter| self.child(&lease, letter, released));
                    let mut children: Vec<Child> = letters.collect();
                    another_dead = !dead.is_empty();
                    self.counters.dead_letters.fetch_add(dead.len() as u64, Ordering::Relaxed);
                    children.extend(dead.into_iter().map(dead_letter));
                    children.extend(self.report(&lease, meta, &report).await);
                    self.spool.finish(lease, fate, children).await
                }
            };
            match result {
                Err(FinishError::CommittedMeanwhile(again)) => {
                    lease = *again;
                    lease.tentative = false;
                }
                Err(error) => return tracing::warn!(item = %id, %error, "could not be settled"),
                Ok(()) => {
                    match stays_until {
                        Some(due) => self.put_off(due),
                        None => self.counters.note_left(class),
                    }
                    if another_dead {
                        self.bound_dead_letters().await;
                    }
                    return;
                }
            }
        }
    }

    /// The lane of what is left: an item that a `drain` let go stays free to leave.
    fn child(&self, lease: &Lease, mut letter: Letter, released: bool) -> Child {
        let own = letter.domain == *lease.lane.key;
        let class = match lease.lane.class {
            _ if released && own => RELEASED_CLASS,
            RELEASED_CLASS if !own => letter.meta.checks.class,
            class => class,
        };
        if !own && letter.meta.judgement.is_some() && self.options.filters.load().spares(&letter.domain) {
            // Judged for others on the same list; this domain wants none of it.
            (letter.meta.judged, letter.meta.judgement) = (false, None);
        }
        Child {
            lane: Lane::new(letter.domain, class),
            meta: letter.meta.to_bytes(),
            due_unix_ms: letter.due_unix_ms,
            body: ChildBody::Parent,
        }
    }

    /// The report on recipients whose sender is to be told, as an item of its own.
    async fn report(&self, lease: &Lease, meta: &Meta, told: &[Told]) -> Option<Child> {
        let sender = meta.sender.clone().filter(|_| !told.is_empty())?;
        let failed = told.iter().any(|told| matches!(told.what, Action::Failed(_)));
        let quote_all = failed && meta.dsn.full == Some(true) && lease.body.len() <= REPORT_FULL_BYTES_MAX;
        let most = if quote_all { REPORT_FULL_BYTES_MAX } else { REPORT_HEADER_BYTES_MAX as u64 };
        // A report without the header of the original is better than none.
        let original = beginning(&lease.body, most).await.unwrap_or_default();
        let now = now_unix_ms();
        let hostname = &self.options.hostname;
        let from = self.options.report_from.clone().unwrap_or_else(|| format!("MAILER-DAEMON@{hostname}"));
        let text = Report {
            meta,
            item: &lease.id.to_string(),
            told,
            original: &original,
            quote_all,
            hostname,
            from: &from,
            now_unix_ms: now,
            random: getrandom::u64().unwrap_or_else(|_| self.random()),
        }
        .text()?;
        self.counters.reports.fetch_add(1, Ordering::Relaxed);
        let lane = Lane::new(&*sender.domain, 0);
        let report = Meta {
            arrival: local_arrival(hostname, now),
            sender: None,
            recipients: vec![Recipient { address: sender, original: None, notify: Notify::default() }],
            eight_bit: text.eight_bit,
            smtputf8: text.smtputf8,
            dsn: DsnRequest::default(),
            size: text.bytes.len() as u64,
            judged: true,
            attempts: 0,
            tried_since_unix_ms: None,
            last_error: None,
            note: Some(format!("delivery report on {}", lease.id)),
            checks: Checks::default(),
            judgement: None,
        };
        Some(Child { lane, meta: report.to_bytes(), due_unix_ms: now, body: ChildBody::New(text.bytes) })
    }
}

/// What the groups of one item share.
struct Context<'a> {
    lease: &'a Lease,
    meta: &'a Meta,
    content: &'a Content,
    detail: Option<char>,
    mailboxes_max: usize,
    outcomes: &'a RefCell<Vec<Option<Outcome>>>,
}

impl Context<'_> {
    /// Those recipients, and what goes before the body.
    fn envelope(&self, members: &[usize]) -> (Vec<Recipient>, Vec<u8>) {
        let Context { lease, meta, content, .. } = self;
        let recipients = members.iter().map(|i| meta.recipients[*i].clone()).collect();
        let only = Some(&meta.recipients[0].address).filter(|_| meta.recipients.len() == 1);
        let received = received_field(meta, &lease.id.to_string(), only);
        (recipients, [&content.marks, received.as_bytes(), &content.head].concat())
    }

    fn parcel<'a>(&'a self, recipients: &'a [Recipient], prefix: &'a [u8]) -> Parcel<'a> {
        let Context { meta, content, .. } = self;
        Parcel { meta, recipients, prefix, body: &content.body, from: content.from }
    }
}

/// The octets of a message as they leave, but for the fields that depend on recipient and route.
struct Content {
    /// Our marks.
    marks: Vec<u8>,
    /// The message's own header, when it differs from the stored one.
    head: Arc<[u8]>,
    body: BodySource,
    /// Octets of `body` that `head` stands for.
    from: u64,
}

impl Content {
    /// What was never judged goes as it is stored. An unreadable message is not delivered: the reply says so.
    async fn of(lease: &Lease, meta: &mut Meta, new_body: Option<Vec<u8>>) -> Result<Self, Reply> {
        let Some(judgement) = meta.judgement.as_ref().filter(|_| meta.judged) else {
            return Ok(Self { marks: Vec::new(), head: Arc::default(), body: lease.body.clone(), from: 0 });
        };
        let unreadable = |error: std::io::Error| {
            tracing::warn!(item = %lease.id, %error, "a message cannot be read");
            Reply::new(451, Enhanced(4, 3, 0), "The message could not be read, try again later")
        };
        // Where the header ends, readers do not agree. What a filter replaced begins where it saw the body begin.
        let edited = |beginning: &[u8]| match &new_body {
            Some(_) => edited(&header_as_filters_see_it(beginning), judgement),
            None => edited(beginning, judgement),
        };
        let Edited { mut head, body_at } = match &lease.body {
            BodySource::Inline(bytes) => edited(&bytes[..bytes.len().min(BEGINNING_BYTES_MAX)]),
            file => edited(&beginning(file, BEGINNING_BYTES_MAX as u64).await.map_err(unreadable)?),
        };
        let marks = marks(judgement);
        meta.eight_bit |= !head.is_ascii() || !marks.is_ascii();
        let (body, from) = match new_body {
            None => (lease.body.clone(), body_at as u64),
            Some(new) => {
                meta.eight_bit |= !new.is_ascii();
                head.extend_from_slice(b"\r\n");
                (BodySource::Inline(new.into()), 0)
            }
        };
        Ok(Self { marks, head: head.into(), body, from })
    }
}

fn dead_letter(letter: Letter) -> Child {
    let lane = Lane::new(letter.domain, Lane::DEAD_CLASS);
    Child { lane, meta: letter.meta.to_bytes(), due_unix_ms: letter.due_unix_ms, body: ChildBody::Parent }
}

pub(crate) fn fate(verdict: &Verdict) -> Fate {
    let bytes = |reply: &Reply| Refusal(reply.clone()).to_bytes().into_boxed_slice();
    match verdict {
        Verdict::Delivered => Fate::Delivered,
        Verdict::Refused(reply) => Fate::Refused(bytes(reply)),
        Verdict::Deferred(reply) => Fate::Deferred(bytes(reply)),
    }
}

fn no_route(domain: &str) -> Reply {
    Reply::new(550, Enhanced(5, 4, 4), "").with_text(format!("No route to {domain}"))
}

/// A report did not arrive from anywhere.
fn local_arrival(hostname: &str, at_unix_ms: u64) -> Arrival {
    let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    Arrival {
        at_unix_ms,
        peer: nowhere,
        peer_name: None,
        local: nowhere,
        by: hostname.to_owned(),
        helo: hostname.to_owned(),
        esmtp: true,
        tls: None,
        via: Via::Local,
    }
}

/// The first `most` bytes of a body.
pub(crate) async fn beginning(body: &BodySource, most: u64) -> std::io::Result<Vec<u8>> {
    let n = usize::try_from(body.len().min(most)).unwrap_or(usize::MAX);
    match body {
        BodySource::Inline(bytes) => Ok(bytes[..n].to_vec()),
        BodySource::File { file, .. } => {
            let file = file.clone();
            let read = tokio::task::spawn_blocking(move || {
                let mut bytes = vec![0; n];
                file.read_exact_at(&mut bytes, 0).map(|()| bytes)
            });
            read.await.map_err(std::io::Error::other)?
        }
    }
}

/// One line per recipient that was tried.
fn log(lease: &Lease, meta: &Meta, outcomes: &[Outcome], tried: &[usize]) {
    let item = lease.id;
    for i in tried {
        let (Some(recipient), Some(outcome)) = (meta.recipients.get(*i), outcomes.get(*i)) else { continue };
        let to = &recipient.address;
        match outcome {
            Outcome::Delivered(_) => tracing::info!(%item, %to, "delivered"),
            Outcome::Refused(reply) => tracing::info!(%item, %to, %reply, "refused"),
            Outcome::Deferred(reply) => tracing::info!(%item, %to, %reply, "deferred"),
            Outcome::Unreached(why) => tracing::info!(%item, %to, why, "not reached"),
            Outcome::NotTried { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests;
