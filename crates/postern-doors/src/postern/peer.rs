//! One connection: handshake, control stream, proof, tickets, and then mail streams until it ends.
//!
//! Nothing of a peer is believed before its key is proven, and nothing it can do takes longer than a deadline or more
//! than its class may have.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postern_net::door::{PublicKey, peer_key, raise};
use postern_proto::door::limits::TICKET_LIFE_S;
use postern_proto::door::{CloseCode, Frame, FrameReader, Kind, PeerClass, Ticket, TicketBody, mint};
use postern_trust::Class;
use quinn::{Connection, Incoming, RecvStream, SendStream, VarInt};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::authority::Principal;
use super::house::{House, NoRoom, Window};
use super::prove::{Proof, Prover, Standing};
use super::stats::PosternStats;
use crate::deadlines::Slot;
use crate::gate::{Admission, AdmittedBy, SharedGate};
use crate::limits;
use crate::runtime::Core;
use crate::shell::Shell;
use crate::stats::count;

/// What all connections share.
pub(super) struct Threshold {
    pub(super) core: Rc<Core>,
    pub(super) house: Rc<House>,
    pub(super) gate: SharedGate,
    pub(super) prover: Arc<dyn Prover>,
    pub(super) stats: Arc<PosternStats>,
    /// Questions about keys that are open, by class at the gate.
    pub(super) proofs: Cell<[u32; PeerClass::ALL.len()]>,
    pub(super) stopped: watch::Receiver<Option<Duration>>,
    /// No connection lives longer.
    pub(super) lifetime_max: Option<Duration>,
}

/// A peer on its way in.
pub(super) struct Peer {
    pub(super) threshold: Rc<Threshold>,
    pub(super) admission: Admission,
    /// At the gate.
    pub(super) class: PeerClass,
    /// What QUIC may keep for it.
    pub(super) window: Window,
    /// For handshake and IDENT.
    pub(super) deadline: Instant,
}

/// A peer whose key is proven.
struct Guest {
    domain: Box<str>,
    org: Box<str>,
    above: Vec<String>,
    key: PublicKey,
    class: PeerClass,
    /// In the lanes of the spool, and in the queues of the thread.
    rank: Class,
}

/// Why a connection ended before it was let in.
enum Out {
    /// Closed with this code; counted already.
    Closed(CloseCode),
    /// The peer has gone, or QUIC has given it up.
    Gone,
}

/// Both halves of the control stream, and what came on it so far.
struct Control {
    send: SendStream,
    receive: RecvStream,
    frames: FrameReader,
    received: usize,
}

impl Peer {
    /// From the first packet to the last. `over` hears when its place in the pool is free again.
    pub(super) async fn serve(
        mut self,
        incoming: Incoming,
        profile: Arc<quinn::ServerConfig>,
        over: mpsc::UnboundedSender<PeerClass>,
    ) {
        let stats = Arc::clone(&self.threshold.stats);
        let shaken = self.shake(incoming, profile).await;
        // The listener may be gone: then nobody counts.
        let _nobody_counts = over.send(self.class);
        let Some((connection, control, domain, owner)) = shaken else { return };
        match self.admit(&connection, control, &domain, owner.as_deref()).await {
            Ok(()) => {}
            Err(Out::Closed(code)) => {
                tracing::debug!(peer = %connection.remote_address(), domain, why = code.as_str(), "the postern stays shut");
                close(&connection, code).await;
            }
            Err(Out::Gone) => count(&stats.failed),
        }
    }

    /// Handshake, control stream and IDENT, within one deadline.
    async fn shake(
        &self,
        incoming: Incoming,
        profile: Arc<quinn::ServerConfig>,
    ) -> Option<(Connection, Control, String, Option<String>)> {
        let stats = &self.threshold.stats;
        let Ok(connecting) = incoming.accept_with(profile) else {
            count(&stats.failed);
            return None;
        };
        let connection = match timeout_at(self.deadline, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a handshake of the postern failed");
                count(&stats.failed);
                return None;
            }
            Err(_) => {
                count(&stats.expired);
                return None;
            }
        };
        let ident = timeout_at(self.deadline, async {
            let (send, receive) = connection.accept_bi().await.ok()?;
            let mut control = Control { send, receive, frames: FrameReader::new(), received: 0 };
            match control.next().await {
                Some(Frame::Ident { domain, owner, .. }) => Some(Ok((control, domain, owner))),
                Some(_) | None => Some(Err(())),
            }
        });
        match ident.await {
            Ok(Some(Ok((control, domain, owner)))) => Some((connection, control, domain, owner)),
            Ok(Some(Err(()))) => {
                count(&stats.protocol_errors);
                close(&connection, CloseCode::Protocol).await;
                None
            }
            Ok(None) => {
                count(&stats.failed);
                None
            }
            Err(_) => {
                count(&stats.expired);
                close(&connection, CloseCode::TooSlow).await;
                None
            }
        }
    }

    async fn admit(
        &mut self,
        connection: &Connection,
        mut control: Control,
        domain: &str,
        owner: Option<&str>,
    ) -> Result<(), Out> {
        let threshold = Rc::clone(&self.threshold);
        let stats = &threshold.stats;
        // An introduction carries the tag of whoever introduced: it is the proof below that counts.
        if let AdmittedBy::Ticket { kind: Kind::Known | Kind::Proven, body } = self.admission.by
            && body.domain_tag != threshold.keys(|keys| keys.domain_tag(domain))
        {
            count(&stats.foreign_tickets);
            return Err(Out::Closed(CloseCode::ForeignTicket));
        }
        let Some(key) = peer_key(connection) else { return self.park(connection, control).await };
        let proof = tokio::select! {
            proof = self.prove(&key, domain, owner) => proof,
            _gone = connection.closed() => return Err(Out::Gone),
        };
        let Some(proof) = proof else { return self.park(connection, control).await };
        let guest = match proof {
            Proof::Pinned(standing) => Guest::new((domain, key), standing, PeerClass::Known, Class::Pinned),
            Proof::Known(standing) => Guest::new((domain, key), standing, PeerClass::Known, Class::Known),
            Proof::Proven(standing) => {
                let class = if self.class == PeerClass::Vouched { PeerClass::Vouched } else { PeerClass::Proven };
                let rank = threshold.rank_of(connection, domain, standing.secure);
                Guest::new((domain, key), standing, class, rank)
            }
            Proof::Unproven { why } => {
                tracing::info!(peer = %connection.remote_address(), domain, why, "an unproven key at the postern");
                count(&stats.unproven);
                return Err(Out::Closed(CloseCode::NoProof));
            }
            Proof::NotNow => return self.park(connection, control).await,
        };
        let _place = match threshold.house.enter(&guest.org, guest.class) {
            Ok(place) => place,
            Err(NoRoom::Domain) => {
                count(&stats.too_many);
                return Err(Out::Closed(CloseCode::TooMany));
            }
            Err(NoRoom::House) => return self.park(connection, control).await,
        };
        if self.window.grow(guest.class) {
            raise(connection, guest.class);
        } else {
            count(&stats.narrowed);
            connection.set_max_concurrent_bi_streams(VarInt::from_u32(guest.class.limits().streams + 1));
        }
        if control.send.write_all(&self.welcome(connection, &guest)).await.is_err() {
            return Err(Out::Gone);
        }
        count(&stats.accepted);
        count(match guest.class {
            PeerClass::Known => &stats.accepted_known,
            PeerClass::Vouched => &stats.accepted_vouched,
            PeerClass::Proven | PeerClass::Stranger => &stats.accepted_proven,
        });
        tracing::debug!(peer = %connection.remote_address(), domain, class = guest.class.as_str(), "in by the postern");
        self.host(connection, control, &guest).await;
        Ok(())
    }

    /// Asks whose key it is. `None`: nobody can say now.
    async fn prove(&self, key: &PublicKey, domain: &str, owner: Option<&str>) -> Option<Proof> {
        let _open = self.threshold.open_proof(self.class)?;
        let (tell, told) = oneshot::channel();
        self.threshold.prover.prove(domain, owner, key, Box::new(move |proof| drop(tell.send(proof))));
        timeout(limits::PROOF_TIMEOUT, told).await.ok()?.ok()
    }

    async fn park(&self, connection: &Connection, mut control: Control) -> Result<(), Out> {
        count(&self.threshold.stats.parked);
        let mut frame = Vec::new();
        Frame::Park { retry_after_s: limits::PARK_S }.encode(&mut frame);
        let _gone = control.send.write_all(&frame).await;
        let _gone = control.send.finish();
        close(connection, CloseCode::Done).await;
        Ok(())
    }

    /// ACCEPT and the tickets.
    fn welcome(&self, connection: &Connection, guest: &Guest) -> Vec<u8> {
        let threshold = &self.threshold;
        let session = &threshold.core.shared.session;
        let now_s = unix_s();
        let mut frames = Vec::new();
        let accept = Frame::Accept {
            class: guest.class,
            server_time: now_s,
            streams: guest.class.limits().streams,
            message_bytes: session.size_max,
            hostname: session.hostname.clone(),
        };
        accept.encode(&mut frames);
        let by_ticket = matches!(self.admission.by, AdmittedBy::Ticket { .. });
        let tickets = if by_ticket { limits::TICKETS_TO_HOLDER } else { limits::TICKETS_TO_NEWCOMER };
        for serial in 0..tickets {
            let Some(Ticket { bytes, key }) = threshold.ticket(guest, connection.remote_address(), serial, now_s)
            else {
                break;
            };
            count(&threshold.stats.tickets);
            Frame::Ticket { ticket: bytes, key, expires_s: now_s + TICKET_LIFE_S }.encode(&mut frames);
        }
        frames
    }

    /// Mail streams, until the connection ends, its life is over, or the door closes.
    async fn host(&self, connection: &Connection, mut control: Control, guest: &Guest) {
        let threshold = &self.threshold;
        let stats = &threshold.stats;
        let lifetime = Duration::from_secs(guest.class.limits().lifetime_s);
        let over = Instant::now() + threshold.lifetime_max.map_or(lifetime, |max| max.min(lifetime));
        let principal = Principal {
            domain: guest.domain.clone(),
            org: guest.org.clone(),
            above: guest.above.clone(),
            key: guest.key.clone(),
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
                    Ok(halves) => self.open_stream(connection, halves, guest, &mut streams),
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

    fn open_stream(
        &self,
        connection: &Connection,
        (mut send, mut receive): (SendStream, RecvStream),
        guest: &Guest,
        streams: &mut Streams,
    ) {
        let threshold = &self.threshold;
        let core = &threshold.core;
        if !core.usher.admit(guest.rank, &core.slots, &core.shared.stats) {
            count(&threshold.stats.streams_refused);
            let _gone = send.reset(REFUSED);
            let _gone = receive.stop(REFUSED);
            return;
        }
        let peer = connection.remote_address();
        let ip = connection.local_ip().unwrap_or_else(|| peer.ip());
        let local = SocketAddr::new(ip, 0);
        let floor = guest.class.limits().floor_bytes_per_second;
        let shell =
            Shell::on_stream(core, (send, receive), (peer, local), (guest.rank, Rc::clone(&streams.principal)), floor);
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

impl Guest {
    fn new((domain, key): (&str, PublicKey), standing: Standing, class: PeerClass, rank: Class) -> Self {
        let Standing { org, above, .. } = standing;
        Self { domain: domain.into(), org: org.into_boxed_str(), above, key, class, rank }
    }
}

/// A question about a key, while it is open.
struct OpenProof<'a>(&'a Cell<[u32; PeerClass::ALL.len()]>, usize);

impl Drop for OpenProof<'_> {
    fn drop(&mut self) {
        let mut open = self.0.get();
        open[self.1] -= 1;
        self.0.set(open);
    }
}

impl Threshold {
    fn keys<T>(&self, look: impl FnOnce(&postern_proto::door::Keyring) -> T) -> T {
        look(self.gate.lock().unwrap_or_else(PoisonError::into_inner).keys())
    }

    /// What the book says of a domain that is proven to be the peer's.
    fn rank_of(&self, connection: &Connection, domain: &str, secure: bool) -> Class {
        let Some(admission) = self.core.usher.admission() else { return Class::New };
        let ip = connection.remote_address().ip().to_canonical();
        admission.book.class_of_speaker(Some(ip), &format!("postmaster@{domain}"), secure, unix_s())
    }

    fn open_proof(&self, class: PeerClass) -> Option<OpenProof<'_>> {
        let mut open = self.proofs.get();
        let at = class as usize;
        if open[at] >= limits::PROOFS_UNDER_WAY[at] {
            return None;
        }
        open[at] += 1;
        self.proofs.set(open);
        Some(OpenProof(&self.proofs, at))
    }

    /// A ticket for this peer; none, when the system has no random octets.
    fn ticket(&self, guest: &Guest, address: SocketAddr, serial: u16, now_s: u64) -> Option<Ticket> {
        let mut nonce = [0; 12];
        if let Err(error) = getrandom::fill(&mut nonce) {
            tracing::error!(%error, "no random octets: no tickets are given");
            return None;
        }
        let kind = if guest.class == PeerClass::Known { Kind::Known } else { Kind::Proven };
        Some(self.keys(|keys| {
            let body = TicketBody {
                domain_tag: keys.domain_tag(&guest.domain),
                prefix_tag: keys.prefix_tag(address.ip().to_canonical()),
                expiry_min: u32::try_from((now_s + TICKET_LIFE_S) / 60).unwrap_or(u32::MAX),
                class: guest.class,
                rate_log: 0,
                serial,
            };
            mint(keys, kind, nonce, &body)
        }))
    }
}

impl Control {
    /// The next frame; `None` when the stream is at its end, broken, or says nonsense. Cancel-safe: what came is kept.
    async fn next(&mut self) -> Option<Frame> {
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
    fn is_at_end(&self) -> bool {
        self.frames.is_between_frames() && self.received <= limits::CONTROL_BYTES_MAX
    }
}

/// Closes when the peer has what was said, or shortly after.
async fn close(connection: &Connection, code: CloseCode) {
    let _gone = timeout(limits::LINGER, connection.closed()).await;
    connection.close(VarInt::from_u32(code.code()), code.as_str().as_bytes());
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// What a stream without room is told.
const REFUSED: VarInt = VarInt::from_u32(CloseCode::TooMany as u32);
