//! The server's end of `buffer export` and `import`: one item out with everything that brings it
//! back; items in, through the spool, durable when they are answered.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use postern_proto::envelope::Meta;
use postern_spool::{Body, BodySource, EventKind, ItemId, Lane, NewItem, Port, Spool, When};
use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use tokio::sync::Notify;

use super::{FRAME_LINE_BYTES_MAX, FRAMES_MAX, Frame};
use crate::exit::{Code, Failure};

/// One item as it is now. A tentative one is none of the buffer's: nobody was told 250 for it.
///
/// # Errors
/// It is not there.
pub(super) async fn get(spool: &Spool, id: ItemId) -> Result<(Value, BodySource), Failure> {
    let gone = || Failure::new(Code::Data, format!("{id} is not in the buffer"));
    let item = spool.show(id).await.filter(|item| !item.summary.tentative).ok_or_else(gone)?;
    let frame = Frame {
        id: id.to_string(),
        lane: item.summary.lane.key.to_string(),
        class: item.summary.lane.class,
        held: item.summary.held,
        meta: hex(&item.meta),
        octets: item.body.len(),
    };
    Ok((json!(frame), item.body))
}

/// What became of the items of one request.
#[derive(Default)]
struct Outcome {
    taken: usize,
    /// In the spool before.
    there: Vec<String>,
    failed: Vec<Value>,
    /// Answered 250 once, and now on their way to the disk; true: to be held.
    waiting: HashMap<u64, bool>,
}

/// Reads `frames` items and makes them durable, all in as few syncs as can be.
///
/// # Errors
/// The connection is of no use any more. What was committed until then stays; a repeated import
/// finds it there.
pub(super) async fn put(
    spool: &Spool,
    frames: usize,
    read: &mut (impl AsyncBufRead + Unpin),
) -> io::Result<Result<Value, Failure>> {
    if frames > FRAMES_MAX {
        return Err(io::Error::other("more frames than a request may have"));
    }
    let woken = Arc::new(Notify::new());
    let wake = woken.clone();
    let intake = Intake { spool, port: spool.port(Arc::new(move || wake.notify_one())), woken };
    let mut outcome = Outcome::default();
    for _ in 0..frames {
        let mut line = Vec::new();
        let mut limited = (&mut *read).take(FRAME_LINE_BYTES_MAX as u64);
        tokio::time::timeout(READ_WAIT, limited.read_until(b'\n', &mut line)).await??;
        let frame: Frame = serde_json::from_slice(&line)?;
        let mut body = (&mut *read).take(frame.octets);
        match intake.item(&frame).await {
            Ok(None) => {
                skip(&mut body).await?;
                outcome.there.push(frame.id);
            }
            Ok(Some((id, meta))) => intake.append(&frame, id, meta, &mut body, &mut outcome).await?,
            Err(what) => {
                skip(&mut body).await?;
                outcome.failed.push(json!({ "id": frame.id, "what": what }));
            }
        }
    }
    intake.settle(&mut outcome).await;
    tracing::info!(
        taken = outcome.taken,
        there_before = outcome.there.len(),
        failed = outcome.failed.len(),
        "buffer import"
    );
    Ok(Ok(json!({ "taken": outcome.taken, "there": outcome.there, "failed": outcome.failed })))
}

/// A way into the spool for the time of one request.
struct Intake<'a> {
    spool: &'a Spool,
    port: Port,
    woken: Arc<Notify>,
}

impl Intake<'_> {
    /// Under which id it comes in, and with what; `None` when it is there already.
    async fn item(&self, frame: &Frame) -> Result<Option<(ItemId, Vec<u8>)>, String> {
        let id: ItemId = frame.id.parse().map_err(|error| format!("{error}"))?;
        // An id of the future would be given to another message one day.
        if id >= self.spool.new_id() {
            return Err("this id was never given to a message".to_owned());
        }
        if frame.lane.is_empty() || frame.lane.len() > LANE_BYTES_MAX {
            return Err("no domain".to_owned());
        }
        if frame.class >= postern_drain::QUARANTINE_CLASS {
            return Err("not a class of the buffer".to_owned());
        }
        let bytes = unhex(&frame.meta).ok_or("its metadata is not hexadecimal")?;
        let mut meta = Meta::from_bytes(&bytes).map_err(|error| error.to_string())?;
        if self.spool.show(id).await.is_some() {
            return Ok(None);
        }
        meta.size = frame.octets;
        Ok(Some((id, meta.to_bytes())))
    }

    async fn append(
        &self,
        frame: &Frame,
        id: ItemId,
        meta: Vec<u8>,
        body: &mut (impl AsyncReadExt + Unpin),
        outcome: &mut Outcome,
    ) -> io::Result<()> {
        let stored = if frame.octets <= INLINE_BYTES_MAX {
            let mut bytes = Vec::new();
            tokio::time::timeout(READ_WAIT, body.read_to_end(&mut bytes)).await??;
            whole(bytes.len() as u64, frame.octets)?;
            Body::Inline(bytes)
        } else {
            self.stream(id, frame.octets, body, outcome).await?;
            Body::Streamed
        };
        let lane = Lane::new(frame.lane.as_str(), frame.class);
        // One that is to be held must not leave before it is.
        let due_unix_ms = crate::serve::now_unix_ms() + if frame.held { HOLD_WITHIN_MS } else { 0 };
        let item = NewItem { id, lane, meta, due_unix_ms, body: stored };
        outcome.waiting.insert(id.0, frame.held);
        self.port.append(item, When::Commit);
        Ok(())
    }

    /// A piece at a time: the next one when the last is taken.
    async fn stream(
        &self,
        id: ItemId,
        octets: u64,
        body: &mut (impl AsyncReadExt + Unpin),
        outcome: &mut Outcome,
    ) -> io::Result<()> {
        let mut left = octets;
        while left > 0 {
            let mut piece = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES)];
            tokio::time::timeout(READ_WAIT, body.read_exact(&mut piece)).await??;
            left -= piece.len() as u64;
            self.port.write_body(id, piece);
            while !self.events(outcome, Some(id)).await {}
        }
        Ok(())
    }

    /// Waits for answers and takes them in; true when the piece of `streaming` has been stored (or
    /// refused: the append that follows is then refused too).
    async fn events(&self, outcome: &mut Outcome, streaming: Option<ItemId>) -> bool {
        self.port.flush();
        self.woken.notified().await;
        let mut events = Vec::new();
        self.port.drain_events(&mut events);
        let mut stored = false;
        for event in events {
            let waited = outcome.waiting.remove(&event.id.0);
            match (event.kind, waited) {
                (EventKind::Committed(_), Some(held)) => {
                    outcome.taken += 1;
                    if held && let Err(error) = self.spool.hold(event.id, true).await {
                        let what = format!("taken, but not held: {error}");
                        outcome.failed.push(json!({ "id": event.id.to_string(), "what": what }));
                    }
                }
                (EventKind::Refused(why), Some(_)) => {
                    outcome.failed.push(json!({ "id": event.id.to_string(), "what": why.to_string() }));
                }
                (_, _) if streaming == Some(event.id) => stored = true,
                (_, Some(held)) => drop(outcome.waiting.insert(event.id.0, held)),
                (_, None) => {}
            }
        }
        stored
    }

    async fn settle(&self, outcome: &mut Outcome) {
        while !outcome.waiting.is_empty() {
            self.events(outcome, None).await;
        }
    }
}

async fn skip(body: &mut (impl AsyncReadExt + Unpin)) -> io::Result<()> {
    let mut sink = tokio::io::sink();
    tokio::time::timeout(READ_WAIT, tokio::io::copy(body, &mut sink)).await?.map(drop)
}

fn whole(octets: u64, announced: u64) -> io::Result<()> {
    if octets == announced { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Two digits an octet.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads [`hex`] back.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| if let [high, low] = pair { Some(digit(*high)? << 4 | digit(*low)?) } else { None }).collect()
}

/// The spool's own bound for bodies in the log.
const INLINE_BYTES_MAX: u64 = 128 << 10;
/// Far longer than a commit and the request to hold take.
const HOLD_WITHIN_MS: u64 = 60_000;
const PIECE_BYTES: usize = 64 << 10;
/// A domain of RFC 1035, or an address literal.
const LANE_BYTES_MAX: usize = 255;
/// A client that does not send what it has announced.
const READ_WAIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_survives_hexadecimal_and_what_is_none_is_refused() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&all)), Some(all));
        assert_eq!((unhex("0"), unhex("0g"), unhex("é")), (None, None, None));
    }
}
