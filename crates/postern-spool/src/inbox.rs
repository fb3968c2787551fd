//! The one way into the engine thread: a list under a lock, taken over whole. Senders pay one lock for a flush and one
//! system call only when the engine sleeps.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::disk::Completion;
use crate::port::Outbox;
use crate::request::{PortRequest, Reply, Request};

pub(crate) enum Message {
    /// What a port has gathered.
    Port {
        port: u32,
        requests: Vec<PortRequest>,
    },
    OpenPort {
        port: u32,
        outbox: Arc<Outbox>,
    },
    ClosePort {
        port: u32,
    },
    Request {
        request: Request,
        reply: oneshot::Sender<Reply>,
    },
    /// From the disk thread.
    Completion(Completion),
    /// Finish what is queued and stop.
    Stop,
}

#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    messages: Vec<Message>,
    sleeping: bool,
    closed: bool,
}

impl Inbox {
    /// Puts a message in, or gives it back when the engine has stopped.
    #[expect(clippy::result_large_err, reason = "the message itself, once, when the spool has stopped")]
    pub(crate) fn push(&self, message: Message) -> Result<(), Message> {
        let mut state = self.lock();
        if state.closed {
            return Err(message);
        }
        state.messages.push(message);
        // Only a sleeping engine is rung: a busy one looks again by itself after its commit.
        if std::mem::take(&mut state.sleeping) {
            drop(state);
            self.bell.notify_one();
        }
        Ok(())
    }

    /// Takes all messages into `into`, which is empty; sleeps for the first one if `wait` says so.
    pub(crate) fn take(&self, into: &mut Vec<Message>, wait: Wait) {
        let mut state = self.lock();
        if state.messages.is_empty() {
            match wait {
                Wait::No => {}
                Wait::Forever => {
                    while state.messages.is_empty() {
                        state.sleeping = true;
                        state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
                    }
                }
                Wait::For(time) => {
                    state.sleeping = true;
                    state = self.bell.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
            state.sleeping = false;
        }
        std::mem::swap(&mut state.messages, into);
    }

    /// Nothing is taken any more; what is left is given back.
    pub(crate) fn close(&self) -> Vec<Message> {
        let mut state = self.lock();
        state.closed = true;
        std::mem::take(&mut state.messages)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Wait {
    No,
    For(Duration),
    Forever,
}
