//! A peer whose key is proven: what it is told, and its mail streams until the connection ends.

use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use postern_net::door::PublicKey;
use postern_proto::door::limits::TICKET_LIFE_S;
use postern_proto::door::{CloseCode, Frame, PeerClass, Share, Ticket};
use postern_trust::Class;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::authority::Principal;
use super::control::Control;
use super::prove::{Prover, Standing};
use super::stats::PosternStats;
use super::threshold::{Threshold, unix_s};
use crate::deadlines::Slot;
use crate::limits;
use crate::shell::Shell;
use crate::stats::count;

/// A peer whose key is proven.
pub(super) struct Guest {
    pub(super) domain: Box<str>,
    pub(super) org: Box<str>,
    above: Vec<String>,
    key: PublicKey,
    /// A pin of the operator is all that proves it.
    by_pin: bool,
    pub(super) class: PeerClass,
    /// In the lanes of the spool, and in the queues of the thread.
    rank: Class,
}

impl Guest {
    pub(super) fn new((domain, key): (&str, PublicKey), standing: Standing, class: PeerClass, rank: Class) -> Self {
        let Standing { org, above, .. } = standing;
        Self { domain: domain.into(), org: org.into_boxed_str(), above, key, by_pin: false, class, rank }
    }

    /// One whom the operator has pinned.
    pub(super) fn pinned(who: (&str, PublicKey), standing: Standing) -> Self {
        Self { by_pin: true, ..Self::new(who, standing, PeerClass::Known, Class::Pinned) }
    }

    /// ACCEPT, and tickets: the first ones, or one for that which was used up and one more.
    pub(super) fn welcome(&self, threshold: &Threshold, connection: &Connection, by_ticket: bool) -> Vec<u8> {
        let session = &threshold.core.shared.session;
        let now_s = unix_s();
        let mut frames = Vec::new();
        let accept = Frame::Accept {
            class: self.class,
            server_time: now_s,
            streams: self.class.limits().streams,
            message_bytes: session.size_max,
            hostname: session.hostname.clone(),
        };
        accept.encode(&mut frames);
        let tickets = if by_ticket { limits::TICKETS_TO_HOLDER } else { limits::TICKETS_TO_NEWCOMER };
        // The operator's word is worth a turn more than the longest history.
        let weight = if self.by_pin { Share::WEIGHT_MAX } else { threshold.weight_of(&self.domain) };
        for _ in 0..threshold.grant(self, tickets) {
            let Some(Ticket { bytes, key }) = threshold.ticket(self, connection.remote_address(), weight, now_s) else {
                break;
            };
            count(&threshold.stats.tickets);
            Frame::Ticket { ticket: bytes, key, expires_s: now_s + TICKET_LIFE_S }.encode(&mut frames);
        }
        frames
    }

    /// Mail streams, until the connection ends, its life is over, its pin goes, or the door closes.
    pub(super) async fn stay(
        &self,
        threshold: &Rc<Threshold>,
        connection: &Connection,
        mut control: Control,
        mut pins: watch::Receiver<u64>,
    ) {
        let stats = &threshold.stats;
        let lifetime = Duration::from_secs(self.class.limits().lifetime_s);
        let over = Instant::now() + threshold.lifetime_max.map_or(lifetime, |max| max.min(lifetime));
        let principal = Principal {
            domain: self.domain.clone(),
            org: self.org.clone(),
            above: self.above.clone(),
            key: self.key.clone(),
            prover: Arc::clone(&threshold.prover),
            too_slow: Cell::default(),
        };
        let mut streams =
            Streams { principal: Rc::new(principal), open: Rc::default(), ended: Rc::default(), slots: Vec::new() };
        let mut stopped = threshold.stopped.clone();
        let mut speaks = true;
        let code = loop {
            tokio::select! {
                stream = connection.accept_bi() => match stream {
                    Ok(halves) => self.open_stream(threshold, connection, halves, &mut streams),
                    Err(_) => return,
                },
                () = streams.ended.notified() => if streams.principal.too_slow.get() {
                    count(&stats.too_slow);
                    return close(connection, CloseCode::TooSlow).await;
                },
                frame = control.next(), if speaks => match frame {
                    // The client has nothing more to say that is needed; what it asks for comes with introductions.
                    Some(Frame::IntroAsk { .. } | Frame::Unknown(_)) => {}
                    // Ended by the client: mail streams go on.
                    None if control.is_at_end() => speaks = false,
                    Some(_) | None => {
                        count(&stats.protocol_errors);
                        break CloseCode::Protocol;
                    }
                },
                () = sleep_until(over) => {
                    count(&stats.lifetimes_over);
                    break CloseCode::LifetimeOver;
                }
                Ok(()) = pins.changed() => if self.is_revoked(&*threshold.prover) {
                    tracing::info!(peer = %connection.remote_address(), domain = %self.domain, "its key is pinned no more");
                    count(&stats.revoked);
                    break CloseCode::NoProof;
                },
                _ = stopped.wait_for(Option::is_some) => break CloseCode::ShuttingDown,
            }
        };
        // Messages under way end first; streams that carry none are told at once.
        streams.slots.iter().for_each(|slot| slot.stop());
        let patience = Instant::now() + limits::LIFETIME_GRACE;
        while code != CloseCode::Protocol
            && streams.open.get() > 0
            && timeout_at(patience, streams.ended.notified()).await.is_ok()
        {}
        close(connection, code).await;
    }

    /// What the operator has said since then is against it: the pin that proved it is gone, or others came.
    fn is_revoked(&self, prover: &dyn Prover) -> bool {
        let unpinned = self.by_pin && !prover.is_pinned(&self.domain, &self.key);
        unpinned || prover.is_barred(&self.domain, &self.org, &self.key)
    }

    fn open_stream(
        &self,
        threshold: &Rc<Threshold>,
        connection: &Connection,
        (send, receive): (SendStream, RecvStream),
        streams: &mut Streams,
    ) {
        let core = &threshold.core;
        if !core.usher.admit(self.rank, &core.slots, &core.shared.stats) {
            count(&threshold.stats.streams_refused);
            return turn_away(send, receive);
        }
        let peer = connection.remote_address();
        let ip = connection.local_ip().unwrap_or_else(|| peer.ip());
        let local = SocketAddr::new(ip, 0);
        let floor = self.class.limits().floor_bytes_per_second;
        let shell =
            Shell::on_stream(core, (send, receive), (peer, local), (self.rank, Rc::clone(&streams.principal)), floor);
        // Those that are over are nobody else's any more.
        streams.slots.retain(|slot| Rc::strong_count(slot) > 1);
        streams.slots.push(Rc::clone(shell.slot()));
        streams.open.set(streams.open.get() + 1);
        threshold.stats.streams.fetch_add(1, Relaxed);
        let (open, ended) = (Rc::clone(&streams.open), Rc::clone(&streams.ended));
        let stats = Arc::clone(&threshold.stats);
        tokio::task::spawn_local(async move {
            let _closing = OpenStream { open, ended, stats };
            shell.await;
        });
    }
}

/// The mail streams of one connection.
struct Streams {
    principal: Rc<Principal>,
    open: Rc<Cell<u32>>,
    /// Rings when one is over.
    ended: Rc<Notify>,
    /// What they share with the thread; some may be over.
    slots: Vec<Rc<Slot>>,
}

/// Counts a stream for as long as it lives, also when its session panics.
struct OpenStream {
    open: Rc<Cell<u32>>,
    ended: Rc<Notify>,
    stats: Arc<PosternStats>,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
        self.stats.streams.fetch_sub(1, Relaxed);
        self.ended.notify_one();
    }
}

/// Says so, if the stream takes it at once, and reads nothing: as to a connection of port 25.
fn turn_away(mut send: SendStream, mut receive: RecvStream) {
    let mut nobody_waits = Context::from_waker(Waker::noop());
    match Pin::new(&mut send).poll_write(&mut nobody_waits, FULL) {
        Poll::Ready(Ok(written)) if written == FULL.len() => drop(send.finish()),
        _ => drop(send.reset(TOO_MANY)),
    }
    let _gone = receive.stop(TOO_MANY);
}

/// Closes when the peer has what was said, or shortly after.
pub(super) async fn close(connection: &Connection, code: CloseCode) {
    let _gone = timeout(limits::LINGER, connection.closed()).await;
    connection.close(VarInt::from_u32(code.code()), code.as_str().as_bytes());
}

/// The whole of a mail stream for which there is no room.
const FULL: &[u8] = b"421 4.3.2 Too many mail streams, try again later\r\n";
/// Its code in QUIC.
const TOO_MANY: VarInt = VarInt::from_u32(CloseCode::TooMany as u32);
