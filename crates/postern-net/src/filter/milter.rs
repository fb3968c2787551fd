//! The pump between a milter's socket and `postern_proto::milter`. No rule of the protocol lives here.

use postern_proto::limits::SIZE_MAX_DEFAULT;
use postern_proto::milter::{Conversation, DATA_BYTES_MAX, Ending, Fault, Letter, Outcome, Step};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stream::{Source, broken, connect};
use super::{FilterError, Finding, Subject, Verdict};
use crate::client::Target;

pub(super) async fn judge(target: &Target, hostname: &str, subject: &Subject<'_>) -> Result<Finding, FilterError> {
    let source = Source::new(subject.body)?;
    let (header, mut at) = source.header().await?;
    let body_bytes_max = SIZE_MAX_DEFAULT.max(source.len());
    let letter = Letter { meta: subject.meta, hostname, id: subject.id, header: &header, body_bytes_max };
    let mut conversation = Conversation::new(letter);
    let mut stream = connect(target).await?;
    let (mut out, mut room) = (Vec::new(), vec![0; READ_BYTES]);
    loop {
        match conversation.poll(&mut out) {
            Step::Read => {
                stream.write_all(&out).await.map_err(broken)?;
                out.clear();
                stream.hurry();
                match stream.read(&mut room).await.map_err(broken)? {
                    0 => conversation.handle_closed(),
                    n => conversation.handle_bytes(&room[..n]),
                }
            }
            Step::Body => {
                let piece = source.piece(at, DATA_BYTES_MAX).await?;
                at += conversation.body(&piece, &mut out) as u64;
                if out.len() > DATA_BYTES_MAX {
                    // A filter that does not answer pieces must not make us hold them all.
                    stream.write_all(&out).await.map_err(broken)?;
                    out.clear();
                }
            }
            Step::Done(outcome) => {
                // It has judged; whether it hears the good-bye is its own affair.
                let _ = stream.write_all(&out).await;
                return Ok(finding(outcome));
            }
            Step::Failed(Fault::Closed) => return Err(FilterError::Unreachable(Fault::Closed.to_string())),
            Step::Failed(fault) => return Err(FilterError::Protocol(fault.to_string())),
        }
    }
}

fn finding(outcome: Outcome) -> Finding {
    let (verdict, reason) = match outcome.ending {
        Ending::Accept => (Verdict::Accept, None),
        Ending::Quarantine(reason) => (Verdict::Quarantine, Some(reason)),
        Ending::Reject(reply) => {
            let words = reply.to_string();
            (Verdict::Reject(reply), Some(words))
        }
        Ending::Tempfail(reply) => {
            let words = reply.to_string();
            (Verdict::Tempfail(reply), Some(words))
        }
        Ending::Discard => (Verdict::Discard, None),
    };
    Finding {
        reason: reason.filter(|words| !words.is_empty()),
        headers: outcome.headers,
        body: outcome.body,
        refused_recipients: outcome.refused,
        add_recipients: outcome.added,
        remove_recipients: outcome.deleted,
        sender: outcome.sender,
        ..Finding::new(verdict)
    }
}

/// Answers are a few octets; a new body comes in packets of 64 KiB.
const READ_BYTES: usize = 16 * 1024;
