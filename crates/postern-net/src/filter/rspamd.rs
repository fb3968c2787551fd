//! Asks rspamd's normal worker over HTTP (`POST /checkv2`) and reads its JSON.
//!
//! What is known of the arrival goes into the request's header, so that rspamd judges a buffered message by the
//! address, the name and the envelope it came with. The mail itself goes piece by piece.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;

use super::stream::{Source, Stream, connect};
use super::{FilterError, Finding, Subject};
use crate::client::Target;

mod answer;

/// rspamd's own default for `max_message`. A larger message is not sent: it would be refused unread.
const MESSAGE_BYTES_MAX: u64 = 50 * 1024 * 1024;
/// An answer with every symbol of a long newsletter is 60 KiB. Longer: a protocol error.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Of a message, per piece.
const PIECE_BYTES: usize = 64 * 1024;

pub(super) async fn judge(target: &Target, hostname: &str, subject: &Subject<'_>) -> Result<Finding, FilterError> {
    let source = Source::new(subject.body)?;
    let len = source.len() + subject.received.len() as u64;
    if len > MESSAGE_BYTES_MAX {
        return Ok(super::too_big("rspamd", len, MESSAGE_BYTES_MAX));
    }
    let (header, _) = source.header().await?;
    let (pieces, body) = mpsc::channel(1);
    let request = request(target, hostname, subject, Pieces { body, left: len })?;
    let stream = connect(target).await?;
    let answer = tokio::select! {
        answer = ask(stream, request) => answer?,
        error = feed(pieces, subject.received, &source) => return Err(error),
    };
    answer::read(&answer, &header)
}

/// Hands the message over. Ends with an error only: that it is all there says nothing yet.
async fn feed(pieces: mpsc::Sender<Bytes>, received: &[u8], source: &Source<'_>) -> FilterError {
    let mut at = 0;
    let mut piece = Bytes::copy_from_slice(received);
    // A closed channel: the request is over before its end, and its answer says why.
    while pieces.send(piece).await.is_ok() {
        piece = match source.piece(at, PIECE_BYTES).await {
            Ok(next) if next.is_empty() => break,
            Ok(next) => next.into_owned().into(),
            Err(error) => return error,
        };
        at += piece.len() as u64;
    }
    drop(pieces);
    std::future::pending().await
}

async fn ask(stream: Box<dyn Stream>, request: Request<Pieces>) -> Result<Vec<u8>, FilterError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let exchange = async {
        let response: Response<_> = sender.send_request(request).await.map_err(failed)?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let answer = answer.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => failed(*error),
            Err(_) => FilterError::Protocol(format!("an answer of more than {ANSWER_BYTES_MAX} octets")),
        })?;
        let answer = answer.to_bytes().to_vec();
        if status == StatusCode::OK {
            return Ok(answer);
        }
        let words = String::from_utf8_lossy(&answer);
        Err(FilterError::Protocol(format!("HTTP {}: {}", status.as_u16(), super::one_line(&words))))
    };
    // Driven here and nowhere else: when the caller loses patience, the connection goes with the question.
    let driver = async {
        let _ = connection.await;
        std::future::pending::<std::convert::Infallible>().await
    };
    tokio::select! {
        biased;
        answer = exchange => answer,
        never = driver => match never {},
    }
}

fn failed(error: hyper::Error) -> FilterError {
    if error.is_parse() {
        FilterError::Protocol(error.to_string())
    } else {
        FilterError::Unreachable(format!("the connection broke: {error}"))
    }
}

fn request(
    target: &Target,
    hostname: &str,
    subject: &Subject<'_>,
    body: Pieces,
) -> Result<Request<Pieces>, FilterError> {
    let (meta, arrival) = (subject.meta, &subject.meta.arrival);
    let mut request = Request::post("/checkv2").body(body).map_err(|error| FilterError::Protocol(error.to_string()))?;
    let mut tell = |name: &'static str, value: &str| {
        // What cannot stand in a header (an octet below 32) is left out; rspamd treats it as not known.
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            request.headers_mut().append(HeaderName::from_static(name), value);
        }
    };
    tell("ip", &arrival.peer.ip().to_canonical().to_string());
    tell("helo", &arrival.helo);
    if let Some(name) = meta.checks.name.as_ref().or(arrival.peer_name.as_ref()) {
        tell("hostname", name);
    }
    tell("from", &meta.sender.as_ref().map_or_else(|| "<>".to_owned(), |sender| format!("<{sender}>")));
    for recipient in &meta.recipients {
        tell("rcpt", &format!("<{}>", recipient.address));
    }
    tell("queue-id", subject.id);
    tell("mta-name", hostname);
    if let Some(tls) = &arrival.tls {
        tell("tls-version", &tls.version);
        tell("tls-cipher", &tls.cipher);
    }
    let host = match target {
        Target::Tcp { .. } => target.to_string(),
        Target::Unix(_) => "localhost".to_owned(),
    };
    tell("host", &host);
    Ok(request)
}

/// A body whose length is known and whose octets come over a channel.
struct Pieces {
    body: mpsc::Receiver<Bytes>,
    left: u64,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.body.poll_recv(cx).map(|piece| {
            piece.map(|piece| {
                self.left = self.left.saturating_sub(piece.len() as u64);
                Ok(Frame::data(piece))
            })
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
