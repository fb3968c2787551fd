//! Connections to filters, and the octets of a message on their way there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use postern_proto::limits::HEADER_BYTES_MAX;
use postern_proto::milter::split_message;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::{Content, FilterError};
use crate::client::Target;

/// What a filter is talked to over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {
    /// What is read next is acknowledged at once. A filter that answers in several small packets (a changed field, then
    /// its verdict) sends the second only when the first was acknowledged, and with nothing to send we would let it
    /// wait for 40 ms. The kernel forgets the wish now and then: to be said again before each such answer.
    fn hurry(&self);
}

impl Stream for TcpStream {
    fn hurry(&self) {
        let _ = sockopt::set_tcp_quickack(self, true);
    }
}

impl Stream for UnixStream {
    fn hurry(&self) {}
}

/// Connects; the caller bounds the time. All addresses of a name are tried.
pub(super) async fn connect(target: &Target) -> Result<Box<dyn Stream>, FilterError> {
    let failed = |error: io::Error| FilterError::Unreachable(format!("{target}: {error}"));
    match target {
        Target::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
            // Answers are awaited at every step; a delayed ACK would cost 40 ms each.
            let _ = stream.set_nodelay(true);
            Ok(Box::new(stream))
        }
        Target::Unix(path) => Ok(Box::new(UnixStream::connect(path).await.map_err(failed)?)),
    }
}

/// The connection broke: the filter was there and is gone.
pub(super) fn broken(error: io::Error) -> FilterError {
    FilterError::Unreachable(format!("the connection broke: {error}"))
}

/// All that comes up to the end, `bytes_max` at most.
pub(super) async fn read_all(stream: &mut dyn Stream, bytes_max: usize) -> Result<Vec<u8>, FilterError> {
    let mut answer = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    stream.take(limit).read_to_end(&mut answer).await.map_err(broken)?;
    if answer.len() > bytes_max {
        return Err(FilterError::Protocol(format!("an answer of more than {bytes_max} octets")));
    }
    Ok(answer)
}

/// A message that can be read piece by piece.
pub(super) enum Source<'a> {
    Bytes(&'a [u8]),
    File(Arc<File>, u64),
}

impl<'a> Source<'a> {
    pub(super) fn new(content: Content<'a>) -> Result<Self, FilterError> {
        Ok(match content {
            Content::Bytes(bytes) => Self::Bytes(bytes),
            Content::File(file, len) => Self::File(Arc::new(file.try_clone().map_err(unreadable)?), len),
        })
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, len) => *len,
        }
    }

    /// Up to `size` octets from `at`; fewer at the end only, and none behind it.
    pub(super) async fn piece(&self, at: u64, size: usize) -> Result<std::borrow::Cow<'a, [u8]>, FilterError> {
        match self {
            Self::Bytes(bytes) => {
                let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
                Ok(rest[..rest.len().min(size)].into())
            }
            Self::File(file, len) => {
                let size = usize::try_from(len.saturating_sub(at)).unwrap_or(usize::MAX).min(size);
                let file = Arc::clone(file);
                // A disk may be slow, and the thread serves others meanwhile.
                let read = tokio::task::spawn_blocking(move || {
                    let mut piece = vec![0; size];
                    file.read_exact_at(&mut piece, at).map(|()| piece)
                });
                let piece = read.await.map_err(io::Error::other).flatten().map_err(unreadable)?;
                Ok(piece.into())
            }
        }
    }

    /// The header as stored, and where the body begins.
    pub(super) async fn header(&self) -> Result<(Vec<u8>, u64), FilterError> {
        // The door took no more than this as a header.
        let mut header = self.piece(0, HEADER_BYTES_MAX + 4).await?.into_owned();
        let (end, body) = split_message(&header);
        header.truncate(end);
        Ok((header, body as u64))
    }
}

fn unreadable(error: io::Error) -> FilterError {
    FilterError::Content(error.to_string())
}
