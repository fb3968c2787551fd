//! How a friend makes a connection: a link for mail by ticket or cookie, and a stranger's visit.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_net::door::Pulse;
use postern_proto::door::Challenge;
use quinn::{Connection, Endpoint};
use tokio::sync::mpsc;

use super::{Counted, Shared, bounded};
use crate::door::link::{self, Letter, LinkError, MailStream, Pass};
use crate::door::plan::Entry;
use crate::door::tls::RECEIVE_BYTES;
use crate::stats::sample;

impl Shared {
    pub(super) fn endpoint(&self, from: IpAddr) -> io::Result<Endpoint> {
        link::endpoint(from, Some(&self.tap))
    }

    pub(super) fn letter(&self) -> Letter<'_> {
        Letter { domain: &self.plan.domain, recipient: &self.plan.recipient, text: &self.text }
    }

    /// Handshake, IDENT, and a mail stream. The time to the end of the handshake is counted when somebody asks.
    pub(super) async fn link(
        &self,
        end: &Endpoint,
        timed: Option<(&Counted, Instant)>,
    ) -> Result<(Connection, MailStream), LinkError> {
        let from = end.local_addr()?.ip();
        let pass = match (self.plan.entry, self.tickets.of(from).take()) {
            (Entry::Plain, _) => Pass::None,
            (Entry::Door, Some(ticket)) => Pass::Ticket(ticket),
            (Entry::Door, None) => {
                if let Some((counted, _)) = timed {
                    crate::stats::count(&mut counted.lock().total.connect_errors, "without a ticket");
                }
                Pass::Cookie(self.cookie(from).await?)
            }
        };
        if let Some((counted, _)) = timed {
            counted.lock().total.attempts += 1;
        }
        let connection = match pass {
            Pass::Ticket(_) => {
                let taken = link::handshake(end, self.target, &self.tls, &pass);
                match tokio::time::timeout(TICKET_PATIENCE, taken).await {
                    Ok(done) => done?,
                    // Burnt, or lost twice: its owner is never locked out, he comes with a cookie.
                    Err(_) => {
                        if let Some((counted, _)) = timed {
                            crate::stats::count(&mut counted.lock().total.connect_errors, "ticket not taken");
                        }
                        let pass = Pass::Cookie(self.cookie(from).await?);
                        link::handshake(end, self.target, &self.tls, &pass).await?
                    }
                }
            }
            _ => link::handshake(end, self.target, &self.tls, &pass).await?,
        };
        if let Some((counted, since)) = timed {
            counted.lock().connect.push(sample(since.elapsed().as_micros() as u64));
        }
        link::identify(&connection, &self.plan.domain, Some(self.tickets.of(from))).await?;
        if let Some((counted, since)) = timed {
            counted.lock().greeted(since.elapsed().as_micros() as u64);
        }
        let stream = MailStream::open(&connection).await?;
        Ok((connection, stream))
    }

    /// A cookie whose time has come.
    async fn cookie(&self, from: IpAddr) -> Result<Challenge, LinkError> {
        let challenge = link::ask_for_cookie(self.target, from).await?;
        let wait = challenge.wait_s();
        if wait > 0 {
            // The server's clock has whole seconds: who comes at the first of them must not be a moment early.
            tokio::time::sleep(Duration::from_secs(u64::from(wait)) + Duration::from_millis(50)).await;
        }
        Ok(challenge)
    }

    pub(super) async fn visit(&self, from: IpAddr, counted: &Counted, due: Instant) -> Result<(), LinkError> {
        let end = link::endpoint(from, None)?;
        loop {
            let pass = match self.plan.entry {
                Entry::Plain => Pass::None,
                Entry::Door => Pass::Cookie(self.cookie(from).await?),
            };
            counted.lock().total.attempts += 1;
            let attempt = link::handshake(&end, self.target, &self.stranger_tls, &pass);
            // Not let in at his time, or lost on the way: as a real one he asks for another appointment.
            let Ok(Ok(connection)) = tokio::time::timeout(HANDSHAKE, attempt).await else { continue };
            counted.lock().connect.push(sample(due.elapsed().as_micros() as u64));
            let how = link::identify(&connection, "stranger.example", None).await;
            connection.close(0_u32.into(), b"");
            return match how {
                // Heard and judged: that nobody vouches for a made-up key is right.
                Err(error) if error.is_unproven() => Ok(()),
                Err(error) => Err(error),
                Ok(_) => Ok(()),
            };
        }
    }
}

/// A link that stands, and is made again when it falls.
pub(super) struct Standing {
    pub(super) shared: Arc<Shared>,
    pub(super) end: Endpoint,
    pub(super) counted: Counted,
}

impl Standing {
    pub(super) async fn serve(self, mut due: mpsc::Receiver<Instant>, connection: Connection, stream: MailStream) {
        let mut now = Some(Link::of(connection, stream));
        while let Some(due) = due.recv().await {
            let left = self.shared.patience.saturating_sub(due.elapsed());
            let how = bounded(self.deliver(&mut now), left).await;
            self.counted.ended(due, &how, self.shared.patience);
        }
    }

    async fn deliver(&self, now: &mut Option<Link>) -> Result<(), LinkError> {
        if now.as_ref().is_none_or(|link| link.connection.close_reason().is_some()) {
            *now = None;
            self.counted.lock().total.attempts += 1;
            let (connection, stream) = self.shared.link(&self.end, None).await?;
            *now = Some(Link::of(connection, stream));
        }
        let Some(Link { connection, stream, pulse }) = now else { return Ok(()) };
        let _awaited = pulse.awaits();
        // Taken out: a message that is given up in the middle leaves a stream that no other can use.
        let mut one = match stream.take() {
            Some(one) => one,
            None => MailStream::open(connection).await?,
        };
        one.deliver(&self.shared.letter()).await?;
        *stream = Some(one);
        Ok(())
    }
}

/// A connection of the kind that the real client keeps: its stream, and the watch over both.
struct Link {
    connection: Connection,
    /// `None` while it is used, or when a message was given up in the middle.
    stream: Option<MailStream>,
    pulse: Pulse,
}

impl Link {
    fn of(connection: Connection, stream: MailStream) -> Self {
        let pulse = Pulse::of(connection.clone(), RECEIVE_BYTES);
        Self { connection, stream: Some(stream), pulse }
    }
}

/// A handshake by ticket; then the ticket is given up for a cookie.
const TICKET_PATIENCE: Duration = Duration::from_secs(1);

/// A stranger's handshake, once he comes at his time.
const HANDSHAKE: Duration = Duration::from_secs(3);
