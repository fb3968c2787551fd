//! LMTP and SMTP next hops: connections, their reuse, and what a failure means for a message.
//!
//! Owns the idle connections. The dialogue itself is `postern_net::client`; when and how often a
//! hop is tried is the worker's. Called by the worker, on its thread only.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use postern_net::client::{
    Capabilities, ClientAddress, Connection, Connector, Failure, Outgoing, OutgoingBody, Phase, Protocol,
    RecipientResult, SendError, Target, TlsWanted,
};
use postern_net::mx::{MxFault, MxFinder};
use postern_proto::envelope::{Meta, Recipient};
use postern_proto::reply::{Enhanced, Reply};
use postern_spool::BodySource;
use tokio::time::{Instant, timeout};

use crate::limits::{IDLE_CONNECTION, IDLE_CONNECTIONS_ALL_MAX, IDLE_CONNECTIONS_MAX, MESSAGES_PER_CONNECTION_MAX};
use crate::route::{Destination, Route};
use crate::settle::{Handover, Outcome};

/// How long a connection that is no longer wanted may take to say goodbye.
const QUIT_MAX: Duration = Duration::from_secs(2);

/// All next hops.
pub(crate) struct Remote {
    connector: Connector,
    idle: RefCell<HashMap<Way, Vec<Idle>>>,
    /// Hops with `trust_loopback` that were seen to offer no XCLIENT.
    without_xclient: RefCell<HashSet<Route>>,
}

/// Connections of one way are alike, but for the client that a PROXY header told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Way {
    destination: Destination,
    client_address: ClientAddress,
    /// The server proved to be the domain's.
    proven: bool,
}

impl Way {
    /// Whether the hop is told whose message this is.
    fn tells_client(&self, meta: &Meta) -> bool {
        self.client_address != ClientAddress::None && meta.arrival.via.is_inbound()
    }
}

struct Idle {
    connection: Connection,
    since: Instant,
    messages: u32,
}

/// What an attempt showed.
pub(crate) struct Sent {
    /// One per recipient.
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) reach: Reach,
    /// What the hop offers, when it said so.
    pub(crate) offers: Option<Capabilities>,
}

/// What an attempt says about the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It answers.
    Reached,
    /// It does not, or not in a way that mail could be given to it.
    Unreached,
    /// It is to be left alone for so many milliseconds.
    Wait(u64),
    /// The attempt failed for a reason of our own, or perhaps for one of the message.
    Unknown,
}

/// A message for one hop.
pub(crate) struct Parcel<'a> {
    pub(crate) meta: &'a Meta,
    pub(crate) recipients: &'a [Recipient],
    pub(crate) prefix: &'a [u8],
    pub(crate) body: &'a BodySource,
    /// Octets of the body that are left out: `prefix` has them in another form.
    pub(crate) from: u64,
}

impl Remote {
    pub(crate) fn new(connector: Connector) -> Self {
        Self { connector, idle: RefCell::default(), without_xclient: RefCell::default() }
    }

    /// Hands a message to a hop. A connection that was idle may have been closed at the other end:
    /// then, and only while nothing was decided, it is tried once more on a new one.
    pub(crate) async fn send(&self, route: &Route, parcel: &Parcel<'_>) -> Sent {
        let Some((target, protocol)) = address_of(route) else {
            return Sent::failed(parcel, Outcome::Unreached("not a next hop".to_owned()), Reach::Unknown);
        };
        let client_address = self.client_address(route, parcel.meta);
        let mut way = Way { destination: Destination::hop(route), client_address, proven: false };
        if let Some(mut idle) = self.take_idle(&way, parcel.meta) {
            match idle.connection.send(outgoing(parcel)).await {
                Ok(results) => return self.sent(way, protocol, idle, &results),
                Err(error) if is_stale(&error) => {}
                Err(error) => return Sent::from_error(parcel, &error, protocol, way.tells_client(parcel.meta)),
            }
        }
        loop {
            let arrival = Some(&parcel.meta.arrival).filter(|arrival| arrival.via.is_inbound());
            // XCLIENT comes after the first EHLO: until then the hop has seen nobody but us.
            let mut told = way.client_address == ClientAddress::ProxyV2 && way.tells_client(parcel.meta);
            let connected = self.connector.connect(target, protocol, way.client_address, arrival).await;
            let failure = match connected {
                Err(failure) => failure,
                Ok(connection) => {
                    told = way.tells_client(parcel.meta);
                    let mut idle = Idle { connection, since: Instant::now(), messages: 0 };
                    match idle.connection.send(outgoing(parcel)).await {
                        Ok(results) => return self.sent(way, protocol, idle, &results),
                        Err(error) if matches!(error.failure, Failure::XclientNotOffered) => error.failure,
                        Err(error) => return Sent::from_error(parcel, &error, protocol, told),
                    }
                }
            };
            if failure == Failure::XclientNotOffered && self.may_go_without(&way) {
                way.client_address = ClientAddress::None;
                continue;
            }
            return Sent::from_failure(parcel, &failure, told);
        }
    }

    /// Hands a message to one of the servers of a far domain; with `expected` only to one that proves to be it.
    pub(crate) async fn send_mx(
        &self,
        mx: &MxFinder,
        domain: &str,
        tls: &TlsWanted,
        parcel: &Parcel<'_>,
        random: u64,
    ) -> Sent {
        let destination = Destination { route: Route::Mx, domain: Some(domain.into()) };
        let proven = matches!(tls, TlsWanted::Authenticated(_));
        let way = Way { destination, client_address: ClientAddress::None, proven };
        if let Some(mut idle) = self.take_idle(&way, parcel.meta) {
            match idle.connection.send(outgoing(parcel)).await {
                Ok(results) => return self.sent(way, Protocol::Smtp, idle, &results),
                Err(error) if is_stale(&error) => {}
                Err(error) => return Sent::from_error(parcel, &error, Protocol::Smtp, false),
            }
        }
        match mx.connect(&self.connector, domain, tls, random).await {
            Err(MxFault::Refused(reply)) => Sent::failed(parcel, Outcome::Refused(reply), Reach::Reached),
            Err(MxFault::Failed(failure)) => Sent::from_failure(parcel, &failure, false),
            Ok(connection) => {
                let mut idle = Idle { connection, since: Instant::now(), messages: 0 };
                match idle.connection.send(outgoing(parcel)).await {
                    Ok(results) => self.sent(way, Protocol::Smtp, idle, &results),
                    Err(error) => Sent::from_error(parcel, &error, Protocol::Smtp, false),
                }
            }
        }
    }

    /// Asks a hop what it offers.
    pub(crate) async fn ask(&self, route: &Route) -> Result<Capabilities, String> {
        let Some((target, protocol)) = address_of(route) else { return Err("not a next hop".to_owned()) };
        // A hop that expects a PROXY header takes anything else for nonsense; without a client it
        // says LOCAL.
        let client_address = match route {
            Route::Smtp { client_address: ClientAddress::ProxyV2, .. } => ClientAddress::ProxyV2,
            _ => ClientAddress::None,
        };
        let connected = self.connector.connect(target, protocol, client_address, None).await;
        let connection = connected.map_err(|failure| words(&failure))?;
        let offers = connection.capabilities().clone();
        if offers.xclient.is_some() {
            self.without_xclient.borrow_mut().remove(route);
        }
        let _ = timeout(QUIT_MAX, connection.quit()).await;
        Ok(offers)
    }

    /// What is wrong with what a hop offers; nothing is delivered to it until that is cured.
    pub(crate) fn complaint(route: &Route, offers: &Capabilities) -> Option<String> {
        match route {
            Route::Smtp { client_address: ClientAddress::Xclient, trust_loopback: false, .. }
                if offers.xclient.is_none() =>
            {
                Some(words(&Failure::XclientNotOffered))
            }
            _ => None,
        }
    }

    /// Connections that have been idle for too long, to be closed by [`goodbye`].
    pub(crate) fn take_expired(&self) -> Vec<Connection> {
        self.take_idle_where(|idle| idle.since.elapsed() >= IDLE_CONNECTION)
    }

    /// Every idle connection.
    pub(crate) fn take_all(&self) -> Vec<Connection> {
        self.take_idle_where(|_| true)
    }

    fn take_idle_where(&self, wanted: impl Fn(&Idle) -> bool) -> Vec<Connection> {
        let mut taken = Vec::new();
        self.idle.borrow_mut().retain(|_, idle| {
            taken.extend(idle.extract_if(.., |idle| wanted(idle)).map(|idle| idle.connection));
            !idle.is_empty()
        });
        taken
    }

    /// Mail of the local MTA and our own is local mail and told as such (`Via`).
    fn client_address(&self, route: &Route, meta: &Meta) -> ClientAddress {
        match (route, meta.arrival.via) {
            (Route::Smtp { client_address, .. }, via)
                if via.is_inbound() && !self.without_xclient.borrow().contains(route) =>
            {
                *client_address
            }
            // The header is expected on every connection; without a client it says LOCAL.
            (Route::Smtp { client_address: ClientAddress::ProxyV2, .. }, _) => ClientAddress::ProxyV2,
            _ => ClientAddress::None,
        }
    }

    fn may_go_without(&self, way: &Way) -> bool {
        let trusted = matches!(way.destination.route, Route::Smtp { trust_loopback: true, .. });
        trusted && way.client_address == ClientAddress::Xclient && {
            self.without_xclient.borrow_mut().insert(way.destination.route.clone());
            true
        }
    }

    fn take_idle(&self, way: &Way, meta: &Meta) -> Option<Idle> {
        let mut idle = self.idle.borrow_mut();
        let idle = idle.get_mut(way)?;
        let fits = |idle: &Idle| idle.since.elapsed() < IDLE_CONNECTION && idle.connection.reusable_for(&meta.arrival);
        let at = idle.iter().rposition(fits)?;
        Some(idle.swap_remove(at))
    }

    fn sent(&self, way: Way, protocol: Protocol, mut idle: Idle, results: &[RecipientResult]) -> Sent {
        let offers = idle.connection.capabilities().clone();
        let handover = handover(protocol, &offers);
        let outcomes = results.iter().map(|result| outcome(result, handover)).collect();
        idle.messages += 1;
        idle.since = Instant::now();
        let keep = idle.connection.reusable() && idle.messages < MESSAGES_PER_CONNECTION_MAX;
        let refused = {
            let mut all = self.idle.borrow_mut();
            let in_all: usize = all.values().map(Vec::len).sum();
            let room = all.entry(way).or_default();
            if keep && room.len() < IDLE_CONNECTIONS_MAX && in_all < IDLE_CONNECTIONS_ALL_MAX {
                room.push(idle);
                None
            } else {
                Some(idle.connection)
            }
        };
        if let Some(connection) = refused {
            goodbye(connection);
        }
        Sent { outcomes, reach: Reach::Reached, offers: Some(offers) }
    }
}

impl Sent {
    pub(crate) fn failed(parcel: &Parcel<'_>, outcome: Outcome, reach: Reach) -> Self {
        Self { outcomes: vec![outcome; parcel.recipients.len()], reach, offers: None }
    }

    fn from_failure(parcel: &Parcel<'_>, failure: &Failure, told: bool) -> Self {
        let (outcome, reach) = meaning(failure, told);
        Self::failed(parcel, outcome, reach)
    }

    /// What was certain before the session ended stays certain.
    pub(crate) fn from_error(parcel: &Parcel<'_>, error: &SendError, protocol: Protocol, told: bool) -> Self {
        let (rest, reach) = meaning(&error.failure, told);
        let handover = handover(protocol, &Capabilities::default());
        let decided = |i: usize| error.decided.get(i).and_then(Option::as_ref);
        let outcomes = (0..parcel.recipients.len())
            .map(|i| decided(i).map_or_else(|| rest.clone(), |result| outcome(result, handover)))
            .collect();
        Self { outcomes, reach, offers: None }
    }
}

/// Closes a connection in the background, politely and briefly.
pub(crate) fn goodbye(connection: Connection) {
    tokio::task::spawn_local(timeout(QUIT_MAX, connection.quit()));
}

fn address_of(route: &Route) -> Option<(&Target, Protocol)> {
    match route {
        Route::Lmtp(target) => Some((target, Protocol::Lmtp)),
        Route::Smtp { target, .. } => Some((target, Protocol::Smtp)),
        Route::Maildir(_) | Route::Mx | Route::None => None,
    }
}

fn outgoing<'a>(parcel: &Parcel<'a>) -> Outgoing<'a> {
    Outgoing {
        arrival: &parcel.meta.arrival,
        sender: parcel.meta.sender.as_ref(),
        recipients: parcel.recipients,
        eight_bit: parcel.meta.eight_bit,
        smtputf8: parcel.meta.smtputf8,
        dsn: &parcel.meta.dsn,
        header_prefix: parcel.prefix,
        body: match parcel.body {
            BodySource::Inline(bytes) => {
                let from = usize::try_from(parcel.from).unwrap_or(usize::MAX);
                OutgoingBody::Bytes(bytes.get(from..).unwrap_or_default())
            }
            BodySource::File { file, len } => OutgoingBody::Rest { file: file.clone(), from: parcel.from, len: *len },
        },
    }
}

/// The hop closed an idle connection, or says 421 because it is about to: it never saw the message.
fn is_stale(error: &SendError) -> bool {
    let early = |phase| !matches!(phase, Phase::Body | Phase::FinalDot);
    error.decided.iter().all(Option::is_none)
        && match &error.failure {
            Failure::Closed(phase, _) => early(*phase),
            Failure::Refused(phase, reply) => early(*phase) && reply.code == 421,
            _ => false,
        }
}

pub(crate) fn outcome(result: &RecipientResult, handover: Handover) -> Outcome {
    match result {
        RecipientResult::Delivered(_) => Outcome::Delivered(handover),
        RecipientResult::Refused(reply) => Outcome::Refused(reply.clone()),
        RecipientResult::Deferred(reply) => Outcome::Deferred(reply.clone()),
    }
}

pub(crate) fn handover(protocol: Protocol, offers: &Capabilities) -> Handover {
    match (offers.dsn, protocol) {
        (true, _) => Handover::WithNotify,
        (false, Protocol::Lmtp) => Handover::Final,
        (false, Protocol::Smtp) => Handover::WithoutNotify,
    }
}

/// Without a verdict of the hop about the message there is none: it is tried again. A reply lost
/// after the final dot is tried again too: a duplicate is better than a loss (RFC 1047).
///
/// Nothing that one sender can cause may close the route for the others. A hop that was `told` the
/// client may refuse that client before there is a message (postscreen, Exim's connect ACL, Postfix's
/// limits per client): that is the answer to this message. One that answered us and then fails in a
/// transaction may fail over this message alone (a filter that crashes, Exim's `drop`). Only a wait
/// at MAIL or RCPT counts as away: no bytes of the message were seen, and twenty places filled with
/// such waits of 5 minutes stop everybody.
fn meaning(failure: &Failure, told: bool) -> (Outcome, Reach) {
    let at_the_door = |phase| matches!(phase, Phase::Greeting | Phase::Hello | Phase::Xclient);
    let in_the_message = |phase| matches!(phase, Phase::Data | Phase::Body | Phase::FinalDot);
    let in_the_envelope = |phase| matches!(phase, Phase::Mail | Phase::Rcpt);
    match failure {
        Failure::Refused(phase, reply) if told && at_the_door(*phase) && reply.is_permanent() => {
            (Outcome::Refused(reply.clone()), Reach::Reached)
        }
        Failure::Refused(phase, reply) if told && at_the_door(*phase) => {
            (Outcome::Deferred(reply.clone()), Reach::Reached)
        }
        Failure::AfterFinalDot(_) => (Outcome::Unreached(words(failure)), Reach::Unknown),
        Failure::Closed(phase, _) | Failure::Protocol(phase, _)
            if in_the_message(*phase) || in_the_envelope(*phase) =>
        {
            (Outcome::Unreached(words(failure)), Reach::Unknown)
        }
        Failure::Timeout(phase) if in_the_message(*phase) => (Outcome::Unreached(words(failure)), Reach::Unknown),
        Failure::Body(_) => {
            let reply = Reply::new(451, Enhanced(4, 3, 0), "The message could not be read, try again later");
            (Outcome::Deferred(reply), Reach::Unknown)
        }
        _ => (Outcome::Unreached(words(failure)), Reach::Unreached),
    }
}

fn words(failure: &Failure) -> String {
    match failure {
        Failure::XclientNotOffered => "the next hop offers us no XCLIENT and would take every sender for a local one: \
             allow it there (Postfix: smtpd_authorized_xclient_hosts), or use PROXY, or set trust_loopback = true"
            .to_owned(),
        Failure::Connect(why) | Failure::Tls(why) => why.clone(),
        other => other.reply().to_string(),
    }
}
