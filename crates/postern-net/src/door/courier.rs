//! Mail for one domain, over the mail streams of its link: many senders at once, one link.
//!
//! Owns the link while it lasts, a few streams on it, and who writes on which: a message goes to the stream
//! with the least to write, and waits for nobody's answer but its own. It makes a new link when the old one
//! is gone. Which domains have a door, when it is tried and what a failure means are not decided here. Called by
//! the drain; how octets move is `stream`'s.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use postern_proto::address::Address;
use postern_proto::client::{
    Capabilities, Deadlines, FLIGHT_MESSAGES_MAX, Failure, FlightOptions, Phase, RecipientResult,
};
use postern_proto::envelope::{DsnRequest, Recipient};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::link::Link;
use super::pulse::Awaited;
use crate::client::SendError;

mod stream;

/// Streams of one link: a large body must not stand before small ones, and a lost packet not before all. More
/// would win nothing, each is a pipeline. Full: messages share the one with the least to write.
const STREAMS_MAX: usize = 4;
/// How long the other side may take to grant a stream that its class allows.
const OPEN_MAX: Duration = Duration::from_secs(5);

/// A message with all that it needs: it outlives its caller's wait.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The reverse-path; `None` is `<>`.
    pub sender: Option<Address>,
    /// At least one; results come in this order.
    pub recipients: Vec<Recipient>,
    /// `BODY=8BITMIME` where offered.
    pub eight_bit: bool,
    /// Needs SMTPUTF8.
    pub smtputf8: bool,
    /// Passed on where DSN is offered.
    pub dsn: DsnRequest,
    /// Goes before the body, each line ending in CRLF.
    pub prefix: Vec<u8>,
    /// The message as stored.
    pub body: MailBody,
}

/// The octets of a message.
#[derive(Clone, Debug)]
pub enum MailBody {
    /// In memory.
    Bytes(Bytes),
    /// In a file, read in pieces of 64 KiB; its position is neither used nor moved.
    File {
        /// Open for reading.
        file: Arc<std::fs::File>,
        /// Octets left out at its beginning.
        from: u64,
        /// Octets of the whole file.
        len: u64,
    },
}

impl Mail {
    /// Octets that go out.
    pub fn size(&self) -> u64 {
        self.prefix.len() as u64
            + match &self.body {
                MailBody::Bytes(bytes) => bytes.len() as u64,
                MailBody::File { from, len, .. } => len.saturating_sub(*from),
            }
    }
}

/// A future that may go from thread to thread.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a mail stream is made of.
pub trait Octets: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Octets for T {}

/// A link as the courier sees it.
pub trait Road: Send + Sync {
    /// Opens a mail stream; the error is in words.
    fn open(&self) -> Pending<Result<Box<dyn Octets>, String>>;
    /// Mail streams that the other side's class for us allows; one at least.
    fn streams_max(&self) -> usize;
    /// Whether streams may still be opened.
    fn is_open(&self) -> bool;
    /// Told that a message waits for its answer, while the value lives: for who can find out that the other side is gone.
    fn awaits(&self) -> Option<Awaited> {
        None
    }
}

impl Road for Link {
    fn open(&self) -> Pending<Result<Box<dyn Octets>, String>> {
        let link = self.clone();
        Box::pin(async move {
            let stream = Self::open(&link).await.map_err(|error| error.to_string())?;
            let octets: Box<dyn Octets> = Box::new(stream);
            Ok(octets)
        })
    }

    fn streams_max(&self) -> usize {
        usize::try_from(self.limits().streams).unwrap_or(usize::MAX)
    }

    fn is_open(&self) -> bool {
        Self::is_open(self)
    }

    fn awaits(&self) -> Option<Awaited> {
        Some(Self::awaits(self))
    }
}

/// Makes a link, or says why there is none.
pub type Dial<E> = Arc<dyn Fn() -> Pending<Result<Arc<dyn Road>, E>> + Send + Sync>;

/// Why a message got no answer.
#[derive(Clone, Debug)]
pub enum CourierError<E> {
    /// There is no link; nothing was sent.
    NoLink(E),
    /// The stream ended.
    Stream(SendError),
}

/// What a message got.
#[derive(Clone, Debug)]
pub struct Carried {
    /// One per recipient, in their order.
    pub results: Vec<RecipientResult>,
    /// What the other side offers, when it has said so.
    pub offers: Option<Capabilities>,
}

/// Carries mail to one domain. Shared by all who send there.
pub struct Courier<E> {
    dial: Dial<E>,
    helo: String,
    deadlines: Deadlines,
    state: Mutex<State<E>>,
    /// Messages under way.
    under_way: AtomicUsize,
}

struct State<E> {
    live: Option<Live>,
    /// The last failure to make a link: an answer to all who have been waiting for it.
    failed: Option<(Instant, E)>,
}

struct Live {
    road: Arc<dyn Road>,
    streams: Vec<StreamHandle>,
    streams_max: usize,
    offers: Arc<OnceLock<Capabilities>>,
}

/// Where a message goes, and what is known of the other side.
type Place = (StreamHandle, Arc<OnceLock<Capabilities>>, Option<Awaited>);

/// A stream's end for who sends on it.
#[derive(Clone)]
struct StreamHandle {
    jobs: mpsc::Sender<Job>,
    load: Arc<Load>,
}

/// What a stream has to do.
#[derive(Debug, Default)]
struct Load {
    /// Octets handed to it and not yet given to the wire.
    bytes: AtomicU64,
    /// Messages handed to it and not yet answered.
    messages: AtomicUsize,
}

/// A message on its way to a stream.
struct Job {
    mail: Arc<Mail>,
    burden: Burden,
    answer: oneshot::Sender<Result<Vec<RecipientResult>, SendError>>,
}

impl<E: Clone + Send + 'static> Courier<E> {
    /// No link is made before there is mail. `helo` is our name for EHLO.
    pub fn new(dial: Dial<E>, helo: String, deadlines: Deadlines) -> Self {
        let state = Mutex::new(State { live: None, failed: None });
        Self { dial, helo, deadlines, state, under_way: AtomicUsize::new(0) }
    }

    /// Messages under way.
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Hands a message over. A link that had died unnoticed is replaced, once, while it is certain that nothing
    /// was taken; from a stream for which the other side has no room the message goes to those that there are. Dropping the future gives the message up where no harm comes of it: before its last octet
    /// went out.
    ///
    /// # Errors
    /// [`CourierError`]; [`Failure::AfterFinalDot`] where the message may have been taken.
    pub async fn send(&self, mail: Arc<Mail>) -> Result<Carried, CourierError<E>> {
        let _under_way = UnderWay::of(&self.under_way);
        let mut again = true;
        loop {
            let asked = Instant::now();
            let (stream, offers, _awaited) = self.stream(asked).await?;
            match stream.send(mail.clone()).await {
                Ok(results) => return Ok(Carried { results, offers: offers.get().cloned() }),
                Err(error) if again && is_stale(&error) => again = false,
                Err(error) if again && says_full(&error) && self.make_do().await => again = false,
                Err(error) => return Err(CourierError::Stream(error)),
            }
        }
    }

    /// No more streams on this link than there are now; whether there are any.
    async fn make_do(&self) -> bool {
        let mut state = self.state.lock().await;
        let Some(live) = state.live.as_mut() else { return false };
        live.streams.retain(|stream| !stream.jobs.is_closed());
        live.streams_max = live.streams.len().max(1);
        !live.streams.is_empty()
    }

    /// The stream with the least to do, on a link that stands and knows that it is waited for.
    async fn stream(&self, asked: Instant) -> Result<Place, CourierError<E>> {
        let mut state = self.state.lock().await;
        loop {
            let live = match &mut state.live {
                Some(live) if live.road.is_open() => live,
                _ => {
                    if let Some((at, error)) = &state.failed
                        && *at > asked
                    {
                        return Err(CourierError::NoLink(error.clone()));
                    }
                    state.live = None;
                    match (self.dial)().await {
                        Ok(road) => {
                            let streams_max = road.streams_max().clamp(1, STREAMS_MAX);
                            state.live.insert(Live { road, streams: Vec::new(), streams_max, offers: Arc::default() })
                        }
                        Err(error) => {
                            state.failed = Some((Instant::now(), error.clone()));
                            return Err(CourierError::NoLink(error));
                        }
                    }
                }
            };
            live.streams.retain(|stream| !stream.jobs.is_closed());
            let idle = live.streams.iter().any(StreamHandle::is_idle);
            if !idle && live.streams.len() < live.streams_max {
                match timeout(OPEN_MAX, live.road.open()).await {
                    Ok(Ok(octets)) => {
                        let options = FlightOptions {
                            helo: self.helo.clone(),
                            deadlines: self.deadlines,
                            known: live.offers.get().cloned(),
                        };
                        live.streams.push(StreamHandle::start(octets, options, live.offers.clone()));
                    }
                    // What there is has to do. Without any the link is of no use.
                    _ if live.streams.is_empty() && live.road.is_open() => {
                        state.live = None;
                        let failure = Failure::Closed(Phase::Connect, "no mail stream was granted".to_owned());
                        return Err(CourierError::Stream(SendError { failure, decided: Vec::new() }));
                    }
                    _ => live.streams_max = live.streams.len().max(1),
                }
            }
            if let Some(stream) = live.streams.iter().min_by_key(|stream| stream.weight()) {
                return Ok((stream.clone(), live.offers.clone(), live.road.awaits()));
            }
            // The link died while a stream was opened: another one.
            state.live = None;
        }
    }
}

impl StreamHandle {
    fn start(octets: Box<dyn Octets>, options: FlightOptions, offers: Arc<OnceLock<Capabilities>>) -> Self {
        let (jobs, inbox) = mpsc::channel(FLIGHT_MESSAGES_MAX);
        let load = Arc::new(Load::default());
        tokio::spawn(stream::run(octets, options, inbox, offers));
        Self { jobs, load }
    }

    fn is_idle(&self) -> bool {
        self.load.messages.load(Ordering::Relaxed) == 0
    }

    /// Octets first: they stand in the way of the next message, answers do not.
    fn weight(&self) -> (u64, usize) {
        (self.load.bytes.load(Ordering::Relaxed), self.load.messages.load(Ordering::Relaxed))
    }

    async fn send(&self, mail: Arc<Mail>) -> Result<Vec<RecipientResult>, SendError> {
        let (answer, answered) = oneshot::channel();
        let _waits = UnderWay::of(&self.load.messages);
        let gone = || SendError {
            failure: Failure::Closed(Phase::Idle, "the stream was given up".to_owned()),
            decided: Vec::new(),
        };
        let burden = Burden::of(&self.load, mail.size());
        self.jobs.send(Job { mail, burden, answer }).await.map_err(|_| gone())?;
        // A stream answers each job before it ends; without an answer it panicked.
        answered.await.unwrap_or_else(|_| {
            let failure = Failure::AfterFinalDot("the stream broke off".to_owned());
            Err(SendError { failure, decided: Vec::new() })
        })
    }
}

/// Counts a message for as long as somebody waits for it.
struct UnderWay<'a>(&'a AtomicUsize);

impl<'a> UnderWay<'a> {
    fn of(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The octets of a message that a stream has not written yet.
struct Burden {
    load: Arc<Load>,
    bytes: u64,
}

impl Burden {
    fn of(load: &Arc<Load>, bytes: u64) -> Self {
        load.bytes.fetch_add(bytes, Ordering::Relaxed);
        Self { load: load.clone(), bytes }
    }
}

impl Drop for Burden {
    fn drop(&mut self) {
        self.load.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Nothing was taken, and not because of this message: another link may do better.
fn is_stale(error: &SendError) -> bool {
    error.decided.iter().all(Option::is_none)
        && match &error.failure {
            Failure::Closed(..) => true,
            Failure::Refused(phase, reply) => *phase != Phase::Hello && reply.code == 421,
            _ => false,
        }
}

/// The other side has no room for one more stream (`421` for a greeting): nothing was taken, and the link is as good
/// as before.
fn says_full(error: &SendError) -> bool {
    matches!(&error.failure, Failure::Refused(Phase::Hello, reply) if reply.code == 421)
}

impl<E> std::fmt::Debug for Courier<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Courier").field("under_way", &self.under_way).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
