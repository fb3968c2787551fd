//! The pulse of a connection: while an answer is awaited, a server that says nothing is asked whether it lives.
//!
//! QUIC repeats only what was not acknowledged. A message that was acknowledged and then not answered leaves a client
//! with nothing to send: of the server's death it would hear by the next keep-alive. A question is one small packet
//! that has to be acknowledged; a server that was killed and is back answers it with a stateless reset, and one that is
//! not back yet is asked again, more evenly than QUIC repeats (which doubles its wait, so that the silence would last
//! as long after the restart as before it). It decides nothing: QUIC ends the connection. Links use it, and whoever
//! stands for a client in a measurement.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quinn::VarInt;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// After so much silence the first question, and never more often: a server that answers within it is not asked at all,
/// and one that restarts as fast as ours is noticed within the 200 ms that a restart may cost. Two round trips where these
/// are longer: before them no answer can be missed.
const WAIT_MIN: Duration = Duration::from_millis(100);
/// The longest time between two questions, and so the longest that a server is back and a link that waits does not know
/// it. A link that waits for a slow next hop costs its server no more than that: one small packet and its answer.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// The next question comes when the silence has become longer by this part of it: who is back after three seconds is known
/// to be within 0.2. 27 questions in these three seconds, 68 in the 30 s after which QUIC gives up.
const PART: u32 = 16;

/// Watches a connection. Clones watch the same.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<Waiting>);

/// Who waits for an answer.
#[derive(Debug, Default)]
struct Waiting {
    count: AtomicUsize,
    begun: Notify,
}

/// An answer is awaited while this lives.
#[derive(Debug)]
pub struct Awaited(Arc<Waiting>);

/// What the watch sees of a connection.
struct Look {
    /// Frames of streams that came: any of them is more than an acknowledgement.
    answers: u64,
    rtt: Duration,
}

impl Pulse {
    /// Watches from now on until the connection ends, and holds it so long: who has it watched closes it. Must be called
    /// inside a tokio runtime.
    ///
    /// `window` is the connection's receive window, in octets, of which it must have one: a question is a MAX_DATA frame
    /// (RFC 9000 section 19.9) that grants one octet more, because quinn has no way to ask for a PING.
    pub fn of(connection: quinn::Connection, window: u32) -> Self {
        let waiting = Arc::new(Waiting::default());
        let pulse = Self(Arc::clone(&waiting));
        tokio::spawn(async move {
            let look = || Look { answers: connection.stats().frame_rx.stream, rtt: connection.rtt() };
            let mut granted = u64::from(window);
            let ask = || {
                granted += 1;
                connection.set_receive_window(VarInt::from_u64(granted).unwrap_or(VarInt::MAX));
            };
            tokio::select! {
                _ = connection.closed() => {}
                () = watch(&waiting, look, ask) => {}
            }
        });
        pulse
    }

    /// Says that an answer is awaited, until the value is dropped.
    pub fn awaits(&self) -> Awaited {
        if self.0.count.fetch_add(1, Ordering::Relaxed) == 0 {
            self.0.begun.notify_one();
        }
        Awaited(Arc::clone(&self.0))
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Waiting {
    fn is_any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }
}

/// Asks whenever it is time, for ever.
async fn watch(waiting: &Waiting, look: impl Fn() -> Look, mut ask: impl FnMut()) {
    loop {
        while !waiting.is_any() {
            waiting.begun.notified().await;
        }
        let (mut heard, mut since) = (look().answers, Instant::now());
        while waiting.is_any() {
            sleep(wait(since.elapsed(), look().rtt)).await;
            let answers = look().answers;
            if answers != heard {
                (heard, since) = (answers, Instant::now());
            } else if waiting.is_any() {
                ask();
            }
        }
    }
}

/// How long until the next question after such a silence.
fn wait(silence: Duration, rtt: Duration) -> Duration {
    (silence / PART).min(WAIT_MAX).max(WAIT_MIN).max(2 * rtt)
}

#[cfg(test)]
mod tests;
