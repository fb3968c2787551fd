//! One connection: octets between a socket, a message and the client machine.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use postern_proto::address::Address;
use postern_proto::client::{Capabilities, Client, ClientOptions, Failure, Phase, RecipientResult, Step, Transaction};
use postern_proto::envelope::{Arrival, DsnRequest, Recipient, TlsFacts};
use postern_proto::time;
use postern_proto::xclient::Xclient;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;

use super::{ClientAddress, Outgoing, OutgoingBody, SendError};

/// What a session can run over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A session with a next hop.
pub struct Connection {
    /// Gone after a failed handshake only.
    stream: Option<Box<dyn Stream>>,
    client: Client,
    epoch: Instant,
    handshake_timeout: time::Duration,
    out: Vec<u8>,
    tls: Option<TlsFacts>,
    client_address: ClientAddress,
    /// Whom the next hop believes to be talking.
    told: Option<Xclient>,
    /// At rest and sane. False while an order is under way: a caller that drops a future half-way
    /// leaves a dialogue that the next message must not inherit the answers of.
    usable: bool,
    /// The next hop answered before it was asked.
    hasty: bool,
}

impl Connection {
    pub(super) fn new(
        stream: Box<dyn Stream>,
        options: ClientOptions,
        header: Vec<u8>,
        client_address: ClientAddress,
        arrival: Option<&Arrival>,
    ) -> Self {
        let proxied = arrival.filter(|_| client_address == ClientAddress::ProxyV2);
        let handshake_timeout = options.deadlines.greeting;
        let mut client = Client::new(options, time::Instant(0));
        if let Some(arrival) = proxied {
            // The name goes with the address: filters behind compare the two.
            client.speak_for(&arrival.helo);
        }
        Self {
            stream: Some(stream),
            epoch: Instant::now(),
            handshake_timeout,
            client,
            out: header,
            tls: None,
            client_address,
            told: proxied.map(xclient_of),
            usable: false,
            hasty: false,
        }
    }

    /// What the next hop offers.
    pub fn capabilities(&self) -> &Capabilities {
        self.client.capabilities()
    }

    /// Facts of the TLS session, when there is one.
    pub fn tls(&self) -> Option<&TlsFacts> {
        self.tls.as_ref()
    }

    /// Whether another message, of any client, may be sent on this connection.
    ///
    /// Postfix offers XCLIENT again only when the client told is itself one of those who may use it:
    /// there a connection serves one client, as with PROXY.
    pub fn reusable(&self) -> bool {
        self.usable
            && match self.client_address {
                ClientAddress::None => true,
                ClientAddress::Xclient => self.capabilities().xclient.is_some(),
                ClientAddress::ProxyV2 => false,
            }
    }

    /// Whether a message of this client may be sent on this connection.
    pub fn reusable_for(&self, arrival: &Arrival) -> bool {
        self.reusable() || (self.usable && self.told.as_ref() == Some(&xclient_of(arrival)))
    }

    /// Hands a message over. One result per recipient, in their order.
    ///
    /// # Errors
    /// [`SendError`] when the session ended; the connection is of no more use.
    pub async fn send(&mut self, message: Outgoing<'_>) -> Result<Vec<RecipientResult>, SendError> {
        self.take_up()?;
        self.look_alive();
        if self.client_address == ClientAddress::Xclient {
            self.tell(message.arrival).await.map_err(|failure| self.give_up(failure))?;
        }
        let body_len = match &message.body {
            OutgoingBody::Bytes(bytes) => bytes.len() as u64,
            OutgoingBody::File(_, len) => *len,
            OutgoingBody::Rest { from, len, .. } => len.saturating_sub(*from),
        };
        let transaction = Transaction {
            sender: message.sender,
            recipients: message.recipients,
            eight_bit: message.eight_bit,
            smtputf8: message.smtputf8,
            dsn: message.dsn,
            size: message.header_prefix.len() as u64 + body_len,
            probe: false,
        };
        self.client.begin(self.now(), &transaction);
        match self.run(&message).await {
            Ok(results) => {
                self.lay_down();
                Ok(results)
            }
            Err(failure) => Err(self.give_up(failure)),
        }
    }

    /// Asks whether recipients would be taken: MAIL, RCPT, RSET.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn probe(
        &mut self,
        sender: Option<&Address>,
        recipients: &[Recipient],
    ) -> Result<Vec<RecipientResult>, SendError> {
        self.take_up()?;
        let dsn = DsnRequest::default();
        let transaction =
            Transaction { sender, recipients, eight_bit: false, smtputf8: false, dsn: &dsn, size: 0, probe: true };
        self.client.begin(self.now(), &transaction);
        match self.drive().await {
            Ok(Step::Outcome(results)) => {
                self.lay_down();
                Ok(results)
            }
            Ok(step) => Err(self.give_up(misplaced(&step))),
            Err(failure) => Err(self.give_up(failure)),
        }
    }

    /// RSET: whether the connection is still alive.
    ///
    /// # Errors
    /// [`Failure`] when it is not.
    pub async fn reset(&mut self) -> Result<(), Failure> {
        self.take_up().map_err(|error| error.failure)?;
        self.client.reset(self.now());
        self.drive().await?;
        self.lay_down();
        Ok(())
    }

    /// QUIT, politely; errors do not matter any more.
    pub async fn quit(mut self) {
        if self.usable {
            self.client.quit(self.now());
            let _ = self.drive().await;
        }
    }

    /// From the greeting to rest, through TLS when `tls` is given and it is offered.
    pub(super) async fn greet(&mut self, tls: Option<&Arc<ClientConfig>>, name: &str) -> Result<(), Failure> {
        loop {
            match (self.drive().await?, tls) {
                (Step::StartTls, Some(config)) => self.secure(config, name).await?,
                (Step::Idle, _) => {
                    self.lay_down();
                    return Ok(());
                }
                (step, _) => return Err(misplaced(&step)),
            }
        }
    }

    async fn secure(&mut self, config: &Arc<ClientConfig>, name: &str) -> Result<(), Failure> {
        let tls_failure = |why: &dyn std::fmt::Display| Failure::Tls(why.to_string());
        let plain = self.stream.take().ok_or_else(|| tls_failure(&"no stream"))?;
        let fallback = || ServerName::try_from("next-hop.invalid").map_err(|error| tls_failure(&error));
        let name = ServerName::try_from(name.to_owned()).or_else(|_| fallback())?;
        let handshake = TlsConnector::from(Arc::clone(config)).connect(name, plain);
        let stream = match timeout(self.handshake_timeout, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(tls_failure(&error)),
            Err(_) => return Err(tls_failure(&"the handshake took too long")),
        };
        self.tls = crate::tls::facts(stream.get_ref().1);
        self.stream = Some(Box::new(stream));
        self.client.handle_tls(self.now());
        Ok(())
    }

    async fn tell(&mut self, arrival: &Arrival) -> Result<(), Failure> {
        let told = xclient_of(arrival);
        if self.told.as_ref() != Some(&told) {
            self.client.xclient(self.now(), &told);
            self.drive().await?;
            self.told = Some(told);
        }
        Ok(())
    }

    async fn run(&mut self, message: &Outgoing<'_>) -> Result<Vec<RecipientResult>, Failure> {
        loop {
            match self.drive().await? {
                Step::Body => self.write_body(message).await?,
                Step::Outcome(results) => return Ok(results),
                step => return Err(misplaced(&step)),
            }
        }
    }

    /// Writes prefix, message and dot; ends early when the next hop has spoken meanwhile.
    async fn write_body(&mut self, message: &Outgoing<'_>) -> Result<(), Failure> {
        let mut at = 0;
        self.client.encode_body(self.now(), message.header_prefix, &mut self.out);
        loop {
            let read;
            let piece: &[u8] = match &message.body {
                OutgoingBody::Bytes(bytes) => {
                    let rest = bytes.get(at..).unwrap_or_default();
                    &rest[..rest.len().min(PIECE_BYTES)]
                }
                OutgoingBody::File(file, len) => {
                    read = read_piece(file, at as u64, *len).await?;
                    &read
                }
                OutgoingBody::Rest { file, from, len } => {
                    read = read_piece(file, at as u64 + from, *len).await?;
                    &read
                }
            };
            let now = self.now();
            if piece.is_empty() {
                self.client.end_body(now, &mut self.out);
                return Ok(());
            }
            at += piece.len();
            self.client.encode_body(now, piece, &mut self.out);
            if self.out.len() >= PIECE_BYTES {
                self.exchange(false).await;
                if !self.client.wants_body() {
                    return Ok(());
                }
            }
        }
    }

    /// Lets the machine and the socket talk until the machine wants something else.
    async fn drive(&mut self) -> Result<Step, Failure> {
        loop {
            match self.client.poll(&mut self.out) {
                Step::Read => self.exchange(true).await,
                Step::Failed(failure) => return Err(failure),
                // Output left over means that the next hop answered before it was asked.
                step => {
                    self.hasty |= !self.out.is_empty();
                    self.out.clear();
                    return Ok(step);
                }
            }
        }
    }

    /// Writes what is to be written and, meanwhile, reads; with `read` set, comes back after the
    /// next piece of input. What goes wrong is told to the machine.
    async fn exchange(&mut self, read: bool) {
        let deadline = self.client.next_timeout().map(|at| self.epoch + time::Duration::from_micros(at.0));
        let (client, out, epoch) = (&mut self.client, &mut self.out, self.epoch);
        let Some(stream) = &mut self.stream else { return client.handle_closed("") };
        let talk = poll_fn(|cx| poll_talk(stream.as_mut(), client, out, epoch, read, cx));
        let result = match deadline {
            None => talk.await,
            Some(deadline) => tokio::select! {
                biased;
                result = talk => result,
                () = sleep_until(deadline) => return client.handle_timeout(instant(epoch)),
            },
        };
        if let Err(error) = result {
            out.clear();
            client.handle_closed(&words(&error));
        }
    }

    /// Notices, without waiting, that an idle connection was closed or told 421.
    fn look_alive(&mut self) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let Some(stream) = &mut self.stream else { return };
        let (client, out) = (&mut self.client, &mut self.out);
        if let Poll::Ready(Err(error)) = poll_talk(stream.as_mut(), client, out, self.epoch, true, &mut cx) {
            self.client.handle_closed(&words(&error));
        }
    }

    /// Before an order.
    fn take_up(&mut self) -> Result<(), SendError> {
        if std::mem::replace(&mut self.usable, false) {
            return Ok(());
        }
        let failure = Failure::Closed(Phase::Idle, "it was given up before".to_owned());
        Err(SendError { failure, decided: Vec::new() })
    }

    /// After an order. What a large message needed is not kept for the idle time.
    fn lay_down(&mut self) {
        self.usable = !self.hasty && matches!(self.client.poll(&mut self.out), Step::Idle);
        self.out.shrink_to(READ_BYTES);
    }

    fn give_up(&mut self, failure: Failure) -> SendError {
        self.usable = false;
        SendError { failure, decided: self.client.take_decided() }
    }

    fn now(&self) -> time::Instant {
        instant(self.epoch)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("client", &self.client).field("tls", &self.tls).finish_non_exhaustive()
    }
}

/// Both directions at once: a next hop that answers while we write must not wait for us to finish,
/// nor we for it to read.
fn poll_talk(
    stream: &mut dyn Stream,
    client: &mut Client,
    out: &mut Vec<u8>,
    epoch: Instant,
    read: bool,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let mut stream = Pin::new(stream);
    let mut written = 0;
    let flushed = loop {
        if written == out.len() {
            break stream.as_mut().poll_flush(cx);
        }
        match stream.as_mut().poll_write(cx, &out[written..]) {
            Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(n)) => written += n,
            Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
            Poll::Pending => break Poll::Pending,
        }
    };
    out.drain(..written);
    if matches!(flushed, Poll::Ready(Ok(()))) && !read {
        return flushed;
    }
    // After a failed write too: the next hop may have said why before it closed.
    let mut room = [0; READ_BYTES];
    let mut input = ReadBuf::new(&mut room);
    match (stream.as_mut().poll_read(cx, &mut input), flushed) {
        (Poll::Ready(Ok(())), _) if !input.filled().is_empty() => {
            client.handle_bytes(instant(epoch), input.filled());
            Poll::Ready(Ok(()))
        }
        (_, Poll::Ready(Err(error))) | (Poll::Ready(Err(error)), _) => Poll::Ready(Err(error)),
        (Poll::Ready(Ok(())), _) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
        (Poll::Pending, _) => Poll::Pending,
    }
}

async fn read_piece(file: &Arc<File>, at: u64, len: u64) -> Result<Vec<u8>, Failure> {
    let size = usize::try_from(len.saturating_sub(at)).unwrap_or(usize::MAX).min(PIECE_BYTES);
    if size == 0 {
        return Ok(Vec::new());
    }
    let file = Arc::clone(file);
    let read = tokio::task::spawn_blocking(move || {
        let mut piece = vec![0; size];
        file.read_exact_at(&mut piece, at).map(|()| piece)
    });
    match read.await {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(error)) => Err(Failure::Body(error.to_string())),
        Err(error) => Err(Failure::Body(error.to_string())),
    }
}

fn xclient_of(arrival: &Arrival) -> Xclient {
    Xclient::of_client(arrival.peer, arrival.local, arrival.peer_name.as_deref(), &arrival.helo, arrival.esmtp)
}

/// A step that the order given cannot end in: the session was over before.
fn misplaced(step: &Step) -> Failure {
    Failure::Closed(Phase::Idle, format!("{step:?}"))
}

/// An end without an error needs no words.
fn words(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof { String::new() } else { error.to_string() }
}

fn instant(epoch: Instant) -> time::Instant {
    time::Instant(u64::try_from(epoch.elapsed().as_micros()).unwrap_or(u64::MAX))
}

/// Of a message, per write; also what a connection holds of one at most, twice over.
const PIECE_BYTES: usize = 64 * 1024;
/// Replies are short.
const READ_BYTES: usize = 4096;
