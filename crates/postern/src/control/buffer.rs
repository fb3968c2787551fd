//! The server's end of `buffer export` and `import`: one item out with everything that brings it
//! back; items in, through the spool, durable when they are answered.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use postern_proto::envelope::Meta;
use postern_spool::{Body, BodySource, EventKind, ItemId, Lane, NewItem, Port, Refusal, Spool, When};
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
    let mut value = json!(frame);
    // Asked for after the hold: from then on nobody begins to deliver it, but who had begun may end.
    value["leased"] = item.summary.leased.into();
    Ok((value, item.body))
}

/// What became of the items of one request.
#[derive(Default)]
struct Outcome {
    taken: Vec<String>,
    /// In the spool before.
    there: Vec<String>,
    failed: Vec<Value>,
    /// Under another id than they had: their old one names a body file that others still carry.
    renamed: Vec<Value>,
    /// Under their id in the spool: the id in the request; answered 250 once, and now on their way to the disk.
    waiting: HashMap<u64, String>,
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
    let ended = intake.all(frames, read, &mut outcome).await;
    // Also after a connection that broke: what has gone to the disk is settled before anybody asks again.
    intake.settle(&mut outcome).await;
    tracing::info!(
        taken = outcome.taken.len(),
        there_before = outcome.there.len(),
        failed = outcome.failed.len(),
        renamed = outcome.renamed.len(),
        "buffer import"
    );
    ended?;
    let Outcome { taken, there, failed, renamed, .. } = outcome;
    Ok(Ok(json!({ "taken": taken, "there": there, "failed": failed, "renamed": renamed })))
}

/// A way into the spool for the time of one request.
struct Intake<'a> {
    spool: &'a Spool,
    port: Port,
    woken: Arc<Notify>,
}

impl Intake<'_> {
    async fn all(
        &self,
        frames: usize,
        read: &mut (impl AsyncBufRead + Unpin),
        outcome: &mut Outcome,
    ) -> io::Result<()> {
        for _ in 0..frames {
            let mut line = Vec::new();
            let mut limited = (&mut *read).take(FRAME_LINE_BYTES_MAX as u64);
            tokio::time::timeout(READ_WAIT, limited.read_until(b'\n', &mut line)).await??;
            let frame: Frame = serde_json::from_slice(&line)?;
            let mut body = (&mut *read).take(frame.octets);
            match self.item(&frame).await {
                Ok(None) => outcome.there.push(frame.id),
                Ok(Some((id, meta))) => self.append(&frame, id, meta, &mut body, outcome).await?,
                Err(what) => outcome.failed.push(json!({ "id": frame.id, "what": what })),
            }
            // What nobody wanted of it.
            skip(&mut body).await?;
        }
        Ok(())
    }

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
        let (id, stored) = if frame.octets <= INLINE_BYTES_MAX {
            let mut bytes = Vec::new();
            tokio::time::timeout(READ_WAIT, body.read_to_end(&mut bytes)).await??;
            whole(bytes.len() as u64, frame.octets)?;
            (id, Body::Inline(bytes))
        } else {
            match self.stream(id, frame, body, outcome).await? {
                Some(id) => (id, Body::Streamed),
                None => return Ok(()),
            }
        };
        let lane = Lane::new(frame.lane.as_str(), frame.class);
        let item = NewItem { id, lane, meta, due_unix_ms: crate::serve::now_unix_ms(), body: stored };
        outcome.waiting.insert(id.0, frame.id.clone());
        // One that is to be held must not leave before it is.
        self.port.append(item, if frame.held { When::CommitHeld } else { When::Commit });
        Ok(())
    }

    /// A piece at a time: the next one when the last is taken. The id that it is under, which is a new one when the
    /// file of the old one has other owners (a dead letter, the rest for another domain); `None` when it was refused.
    async fn stream(
        &self,
        mut id: ItemId,
        frame: &Frame,
        body: &mut (impl AsyncReadExt + Unpin),
        outcome: &mut Outcome,
    ) -> io::Result<Option<ItemId>> {
        let mut left = frame.octets;
        while left > 0 {
            let mut piece = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES)];
            let read = tokio::time::timeout(READ_WAIT, body.read_exact(&mut piece)).await;
            if let Err(error) = read.map_err(io::Error::from).flatten() {
                self.port.abandon(id);
                return Err(error);
            }
            let mut stored = self.piece(id, piece.clone(), outcome).await;
            if stored == Err(Refusal::Taken) && left == frame.octets {
                id = self.spool.new_id();
                outcome.renamed.push(json!({ "id": frame.id, "now": id.to_string() }));
                stored = self.piece(id, piece.clone(), outcome).await;
            }
            if let Err(why) = stored {
                // The spool has dropped it; a piece behind a refused one would begin the file anew.
                outcome.failed.push(json!({ "id": frame.id, "what": why.to_string() }));
                return Ok(None);
            }
            left -= piece.len() as u64;
        }
        Ok(Some(id))
    }

    async fn piece(&self, id: ItemId, piece: Vec<u8>, outcome: &mut Outcome) -> Result<(), Refusal> {
        self.port.write_body(id, piece);
        loop {
            if let Some(stored) = self.events(outcome, Some(id)).await {
                return stored;
            }
        }
    }

    /// Waits for answers and takes them in; what became of the piece of `streaming`, when that is among them.
    async fn events(&self, outcome: &mut Outcome, streaming: Option<ItemId>) -> Option<Result<(), Refusal>> {
        self.port.flush();
        self.woken.notified().await;
        let mut events = Vec::new();
        self.port.drain_events(&mut events);
        let mut stored = None;
        for event in events {
            match (event.kind, outcome.waiting.remove(&event.id.0)) {
                (EventKind::Committed(_), Some(asked)) => outcome.taken.push(asked),
                (EventKind::Refused(why), Some(asked)) => {
                    outcome.failed.push(json!({ "id": asked, "what": why.to_string() }));
                }
                (EventKind::Refused(why), None) if streaming == Some(event.id) => stored = Some(Err(why)),
                (EventKind::Stored, None) if streaming == Some(event.id) => stored = Some(Ok(())),
                (_, Some(asked)) => drop(outcome.waiting.insert(event.id.0, asked)),
                (_, None) => {}
            }
        }
        stored
    }

    async fn settle(&self, outcome: &mut Outcome) {
        while !outcome.waiting.is_empty() {
            let _ = self.events(outcome, None).await;
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
