//! The pump of one mail stream: octets between messages, a stream and the flight machine.
//!
//! A task of its own for each stream. It writes messages back to back as they come, reads at the same
//! time, and tells each message's end to whoever waits for it. Which octets those are the machine says.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use postern_proto::client::{
    Capabilities, Failure, Flight, FlightEvent, FlightOptions, Phase, Readiness, RecipientResult, Transaction,
};
use postern_proto::time;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::{Burden, Job, Mail, MailBody, Octets};
use crate::client::SendError;

/// Of a body, per chunk and per read of a file; a stream holds two at most.
const PIECE_BYTES: usize = 64 * 1024;
/// Replies are short.
const READ_BYTES: usize = 8 * 1024;
/// A stream that carried nothing for so long says QUIT: a slot at the other side is worth more than the next
/// EHLO, which costs no round trip.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// The message whose octets are being written.
struct Writing {
    number: u64,
    mail: Arc<Mail>,
    /// Gone with this: the stream may be given more.
    _burden: Burden,
    /// Octets of the body given so far.
    at: u64,
    /// The prefix has not been given.
    prefix: bool,
    /// The next piece, being read from a file.
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

type Answer = oneshot::Sender<Result<Vec<RecipientResult>, SendError>>;

struct Stream {
    flight: Flight,
    epoch: Instant,
    out: Vec<u8>,
    writing: Option<Writing>,
    /// A message that cannot be begun yet.
    next: Option<Job>,
    answers: HashMap<u64, Answer>,
    idle_since: Instant,
}

/// Runs until the stream ends, or until nobody can send on it any more and all is answered.
pub(super) async fn run(
    octets: Box<dyn Octets>,
    options: FlightOptions,
    mut jobs: mpsc::Receiver<Job>,
    offers: Arc<OnceLock<Capabilities>>,
) {
    let (mut reader, mut writer) = tokio::io::split(octets);
    let epoch = Instant::now();
    let mut stream = Stream {
        flight: Flight::new(options, instant(epoch)),
        epoch,
        out: Vec::new(),
        writing: None,
        // EHLO goes out with the first message, not before it.
        next: jobs.recv().await,
        answers: HashMap::new(),
        idle_since: epoch,
    };
    let mut room = vec![0; READ_BYTES];
    let mut open = true;
    loop {
        stream.begin_next();
        stream.give_pieces();
        stream.flight.take_output(&mut stream.out);
        if stream.flight.over().is_some() {
            // Before anybody hears of it: who tries again is to find another stream.
            jobs.close();
        }
        stream.tell();
        if let Some(offered) = stream.flight.capabilities() {
            let _ = offers.set(offered.clone());
        }
        if let Some(failure) = stream.flight.over().cloned() {
            stream.fail_rest(&mut jobs, &failure).await;
            let _ = writer.shutdown().await;
            return;
        }
        let wants_job = open && stream.next.is_none() && stream.writing.is_none() && stream.out.len() < PIECE_BYTES;
        let deadline = stream.flight.next_timeout().map(|at| epoch + Duration::from_micros(at.0));
        let is_idle = stream.is_idle();
        let idle = pin!(sleep_until(stream.idle_since + IDLE_MAX));
        tokio::select! {
            read = reader.read(&mut room) => match read {
                Ok(0) => stream.flight.handle_closed(""),
                Ok(n) => stream.flight.handle_bytes(instant(epoch), &room[..n]),
                Err(error) => stream.flight.handle_closed(&error.to_string()),
            },
            written = writer.write(&stream.out), if !stream.out.is_empty() => match written {
                Ok(n) if n > 0 => {
                    stream.out.drain(..n);
                }
                // The other side may have said why before it closed.
                failed => {
                    let _ = tokio::time::timeout(LAST_WORDS_MAX, async {
                        while let Ok(n @ 1..) = reader.read(&mut room).await {
                            stream.flight.handle_bytes(instant(epoch), &room[..n]);
                        }
                    })
                    .await;
                    stream.flight.handle_closed(&failed.err().map(|error| error.to_string()).unwrap_or_default());
                }
            },
            job = jobs.recv(), if wants_job => match job {
                Some(job) => stream.next = Some(job),
                None => open = false,
            },
            piece = read_of(&mut stream.writing) => stream.handle_piece(piece),
            () = wait_until(deadline) => stream.flight.handle_timeout(instant(epoch)),
            () = idle, if is_idle => {
                // Who comes now opens another one.
                jobs.close();
                stream.flight.quit(instant(epoch));
                stream.idle_since = Instant::now() + IDLE_MAX;
            }
        }
        if !open && stream.is_idle() {
            stream.flight.quit(instant(epoch));
        }
    }
}

impl Stream {
    fn is_idle(&self) -> bool {
        self.answers.is_empty() && self.next.is_none() && self.writing.is_none()
    }

    /// Begins the message that waits, if it may begin.
    fn begin_next(&mut self) {
        let Some(Job { mail, burden, answer }) = self.next.take() else { return };
        self.idle_since = Instant::now();
        let transaction = Transaction {
            sender: mail.sender.as_ref(),
            recipients: &mail.recipients,
            eight_bit: mail.eight_bit,
            smtputf8: mail.smtputf8,
            dsn: &mail.dsn,
            size: mail.size(),
            probe: false,
        };
        if answer.is_closed() {
            // Nobody waits for it any more, and nothing of it was said.
            return;
        }
        match self.flight.readiness(&transaction) {
            // Over: it fails at once, with nothing said.
            Readiness::Now | Readiness::Over => {
                let number = self.flight.begin(instant(self.epoch), &transaction);
                self.answers.insert(number, answer);
                let mail = mail.clone();
                self.writing = Some(Writing { number, mail, _burden: burden, at: 0, prefix: true, reading: None });
            }
            Readiness::AfterHello | Readiness::AfterBody | Readiness::Full => {
                self.next = Some(Job { mail, burden, answer });
            }
        }
    }

    /// Gives the machine as much of the body as the wire may want.
    fn give_pieces(&mut self) {
        loop {
            self.flight.take_output(&mut self.out);
            let Some(writing) = &mut self.writing else { return };
            if self.answers.get(&writing.number).is_some_and(Answer::is_closed) {
                self.flight.abandon(Failure::Body("nobody waits for it any more".to_owned()));
            }
            if !self.flight.wants_body() {
                self.writing = None;
                return;
            }
            if self.out.len() >= PIECE_BYTES || writing.reading.is_some() {
                return;
            }
            match &writing.mail.body {
                MailBody::Bytes(bytes) => {
                    let at = usize::try_from(writing.at).unwrap_or(usize::MAX);
                    let at = at.min(bytes.len());
                    let piece = bytes.slice(at..(at + PIECE_BYTES).min(bytes.len()));
                    self.give(&piece);
                }
                MailBody::File { file, from, len } => {
                    let (file, at) = (file.clone(), from + writing.at);
                    let size = usize::try_from(len.saturating_sub(at)).unwrap_or(usize::MAX).min(PIECE_BYTES);
                    writing.reading = Some(tokio::task::spawn_blocking(move || {
                        let mut piece = vec![0; size];
                        file.read_exact_at(&mut piece, at).map(|()| piece)
                    }));
                }
            }
        }
    }

    fn give(&mut self, piece: &[u8]) {
        let Some(writing) = &mut self.writing else { return };
        let body_len = writing.mail.size() - writing.mail.prefix.len() as u64;
        writing.at += piece.len() as u64;
        let last = writing.at >= body_len || piece.is_empty();
        let now = instant(self.epoch);
        if std::mem::take(&mut writing.prefix) && !writing.mail.prefix.is_empty() {
            self.flight.give(now, &[&writing.mail.prefix, piece].concat(), last);
        } else {
            self.flight.give(now, piece, last);
        }
        if last {
            self.writing = None;
        }
    }

    fn handle_piece(&mut self, piece: io::Result<Vec<u8>>) {
        if let Some(writing) = &mut self.writing {
            writing.reading = None;
        }
        match piece {
            Ok(piece) => self.give(&piece),
            Err(error) => {
                self.flight.abandon(Failure::Body(error.to_string()));
                self.writing = None;
            }
        }
    }

    /// Tells what became of messages.
    fn tell(&mut self) {
        while let Some(event) = self.flight.poll_event() {
            let (number, result) = match event {
                FlightEvent::Done { number, results } => (number, Ok(results)),
                FlightEvent::Failed { number, failure, decided } => (number, Err(SendError { failure, decided })),
            };
            self.idle_since = Instant::now();
            if let Some(answer) = self.answers.remove(&number) {
                // Who gave up waiting hears nothing.
                let _ = answer.send(result);
            }
        }
    }

    /// What was never begun fails without doubt.
    async fn fail_rest(&mut self, jobs: &mut mpsc::Receiver<Job>, failure: &Failure) {
        self.writing = None;
        let failure = match failure {
            Failure::Refused(..) => failure.clone(),
            other => Failure::Closed(Phase::Idle, other.to_string()),
        };
        let mut next = self.next.take();
        while let Some(Job { answer, .. }) = next {
            let _ = answer.send(Err(SendError { failure: failure.clone(), decided: Vec::new() }));
            next = jobs.recv().await;
        }
    }
}

/// The piece that is being read, when one is.
async fn read_of(writing: &mut Option<Writing>) -> io::Result<Vec<u8>> {
    match writing.as_mut().and_then(|writing| writing.reading.as_mut()) {
        Some(reading) => reading.await.map_err(io::Error::other)?,
        None => std::future::pending().await,
    }
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn instant(epoch: Instant) -> time::Instant {
    time::Instant(u64::try_from(epoch.elapsed().as_micros()).unwrap_or(u64::MAX))
}

/// How long a side that no longer reads is heard out.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);
