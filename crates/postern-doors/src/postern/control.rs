//! The control stream: frames to and from one peer.

use postern_proto::door::{Frame, FrameReader};
use quinn::{Connection, RecvStream, SendStream};

use crate::limits;

/// Both halves of it, and what came on it so far.
pub(super) struct Control {
    send: SendStream,
    receive: RecvStream,
    frames: FrameReader,
    received: usize,
}

/// The peer has gone, or QUIC has given it up.
pub(super) struct Gone;

impl Control {
    /// The first stream that the client opens.
    pub(super) async fn accept(connection: &Connection) -> Result<Self, Gone> {
        let (send, receive) = connection.accept_bi().await.map_err(|_| Gone)?;
        Ok(Self { send, receive, frames: FrameReader::new(), received: 0 })
    }

    /// Frames, encoded.
    pub(super) async fn say(&mut self, frames: &[u8]) -> Result<(), Gone> {
        self.send.write_all(frames).await.map_err(|_| Gone)
    }

    /// Nothing more is said.
    pub(super) fn finish(&mut self) {
        let _gone = self.send.finish();
    }

    /// The next frame; `None` when the stream is at its end, broken, or says nonsense. Cancel-safe: what came is kept.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        let mut octets = [0; 1_024];
        loop {
            match self.frames.next() {
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => {}
                Err(_) => return None,
            }
            let read = self.receive.read(&mut octets).await.ok()??;
            self.received += read;
            if self.received > limits::CONTROL_BYTES_MAX {
                return None;
            }
            self.frames.push(&octets[..read]);
        }
    }

    /// Whether nothing is left half-said.
    pub(super) fn is_at_end(&self) -> bool {
        self.frames.is_between_frames() && self.received <= limits::CONTROL_BYTES_MAX
    }
}
