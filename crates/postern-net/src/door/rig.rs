//! A door for tests: prelude and QUIC on one port of the loopback, with the checks of the specification and a script.
//!
//! Written against `postern_proto::door` alone, so that the client is held against the formats and not against the gate.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use postern_proto::door::limits::{CHALLENGE_BYTES, CID_BYTES};
use postern_proto::door::{
    CloseCode, Frame, FrameReader, Keyring, Kind, Master, PeerClass, Shape, Share, Terms, TicketBody, Token, challenge,
    check_cid, check_cookie, check_ticket, make_cid, mint, shape,
};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, ConnectionId, Endpoint, Runtime, TokioRuntime, UdpPoller, VarInt};

use super::clock::WallClock;
use super::key::KeyPair;
use super::profile::{ServerProfile, endpoint_config, peer_key};

/// What the door does with the next connection.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Accept {
        class: PeerClass,
        streams: u32,
        tickets: u16,
        alt: Option<(String, u16)>,
    },
    Park(u32),
    Close(CloseCode),
    /// Frames of a later version before and after ACCEPT.
    Later,
    /// Octets that are no frame.
    Raw(Vec<u8>),
    /// Nothing at all.
    Mute,
}

impl Act {
    pub(super) fn accept(tickets: u16) -> Self {
        Self::Accept { class: PeerClass::Proven, streams: 4, tickets, alt: None }
    }
}

/// How the door treats tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tickets {
    Taken,
    /// Answered with a CHALLENGE.
    Demoted,
    /// Not answered.
    Dropped,
}

/// What came to the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    Hello,
    /// A cookie that is good.
    Cookie,
    BadCookie,
    /// A cookie that is good, before its prefix's turn.
    EarlyCookie,
    /// A ticket that is good for its connection id and time.
    Ticket,
    BadTicket,
}

struct Gate {
    keys: Keyring,
    clock: WallClock,
    tickets: Tickets,
    wait_s: u32,
    /// How much later the next cookie is asked to come.
    put_off_s: u32,
    /// Answers to a HELLO that are withheld first.
    deaf: u32,
    came: Vec<Came>,
    seen: Vec<[u8; CID_BYTES]>,
    resets: usize,
}

pub(super) struct Rig {
    pub(super) key: KeyPair,
    pub(super) address: SocketAddr,
    gate: Arc<Mutex<Gate>>,
    acts: Arc<Mutex<VecDeque<Act>>>,
    idents: Arc<Mutex<Vec<(String, String)>>>,
    _endpoint: Endpoint,
}

impl Rig {
    /// Accepts everybody with no tickets, until told otherwise.
    pub(super) fn start() -> Self {
        Self::with_clock(WallClock::system())
    }

    pub(super) fn with_clock(clock: WallClock) -> Self {
        let key = KeyPair::from_pkcs8(&KeyPair::generate().expect("made")).expect("a key");
        let gate = Arc::new(Mutex::new(Gate {
            keys: Keyring::new(&Master::new([9; 32]), clock.now_s()),
            clock,
            tickets: Tickets::Taken,
            wait_s: 0,
            put_off_s: 0,
            deaf: 0,
            came: Vec::new(),
            seen: Vec::new(),
            resets: 0,
        }));
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let address = socket.local_addr().expect("bound");
        let inner = TokioRuntime.wrap_udp_socket(socket).expect("a socket");
        let for_cids = Arc::clone(&gate);
        let config = endpoint_config(&[3; 32], move || Box::new(Cids(Arc::clone(&for_cids))));
        let profile = ServerProfile::new(&key);
        let base = (*profile.of(PeerClass::Stranger)).clone();
        let socket = Arc::new(GateSocket { inner, gate: Arc::clone(&gate) });
        let endpoint = Endpoint::new_with_abstract_socket(config, Some(base), socket, Arc::new(TokioRuntime))
            .expect("an endpoint");
        let (acts, idents) = (Arc::default(), Arc::default());
        let at = Server { gate: Arc::clone(&gate), acts: Arc::clone(&acts), idents: Arc::clone(&idents) };
        tokio::spawn(at.serve(endpoint.clone(), profile));
        Self { key, address, gate, acts, idents, _endpoint: endpoint }
    }

    pub(super) fn next(&self, act: Act) {
        self.acts.lock().expect("acts").push_back(act);
    }

    pub(super) fn tickets(&self, tickets: Tickets) {
        self.gate.lock().expect("gate").tickets = tickets;
    }

    pub(super) fn wait_s(&self, wait_s: u32) {
        self.gate.lock().expect("gate").wait_s = wait_s;
    }

    pub(super) fn put_off_s(&self, put_off_s: u32) {
        self.gate.lock().expect("gate").put_off_s = put_off_s;
    }

    pub(super) fn deaf(&self, hellos: u32) {
        self.gate.lock().expect("gate").deaf = hellos;
    }

    /// What has come since the last call.
    /// Everything since it was asked last, without repetitions: HELLO and QUIC's Initial with its token are sent again as
    /// soon as an answer is late, which on a busy machine any may be, and QUIC says goodbye with an Initial too.
    pub(super) fn came(&self) -> Vec<Came> {
        let mut first = Vec::new();
        self.all_that_came().into_iter().for_each(|came| {
            if !first.contains(&came) {
                first.push(came);
            }
        });
        first
    }

    /// With repetitions.
    pub(super) fn all_that_came(&self) -> Vec<Came> {
        std::mem::take(&mut self.gate.lock().expect("gate").came)
    }

    /// Mail streams that ended without an end.
    pub(super) fn resets(&self) -> usize {
        self.gate.lock().expect("gate").resets
    }

    /// Domains and keys that have introduced themselves.
    pub(super) fn idents(&self) -> Vec<(String, String)> {
        self.idents.lock().expect("idents").clone()
    }
}

/// The listener's side.
#[derive(Clone)]
struct Server {
    gate: Arc<Mutex<Gate>>,
    acts: Arc<Mutex<VecDeque<Act>>>,
    idents: Arc<Mutex<Vec<(String, String)>>>,
}

impl Server {
    async fn serve(self, endpoint: Endpoint, profile: ServerProfile) {
        while let Some(incoming) = endpoint.accept().await {
            let act = self.acts.lock().expect("acts").pop_front().unwrap_or_else(|| Act::accept(0));
            let Ok(connecting) = incoming.accept_with(profile.of(PeerClass::Proven)) else { continue };
            let server = self.clone();
            tokio::spawn(async move {
                if let Ok(connection) = connecting.await {
                    server.play(connection, act).await;
                }
            });
        }
    }

    async fn play(&self, connection: quinn::Connection, act: Act) {
        let Ok((mut send, mut recv)) = connection.accept_bi().await else { return };
        let mut reader = FrameReader::new();
        let mut octets = [0; 1024];
        let ident = loop {
            if let Some(frame) = reader.next().expect("frames") {
                break frame;
            }
            let Ok(Some(length)) = recv.read(&mut octets).await else { return };
            reader.push(&octets[..length]);
        };
        let Frame::Ident { domain, .. } = ident else { panic!("{ident:?} came first") };
        let key = peer_key(&connection).expect("a key").to_string();
        self.idents.lock().expect("idents").push((domain, key));
        let mut out = Vec::new();
        match act {
            Act::Accept { class, streams, tickets, alt } => {
                self.accept(class, streams).encode(&mut out);
                (0..tickets).for_each(|_| self.ticket(class).encode(&mut out));
                if let Some((host, port)) = alt {
                    Frame::AltDoor { host, port }.encode(&mut out);
                }
            }
            Act::Later => {
                Frame::Unknown(99).encode(&mut out);
                self.accept(PeerClass::Proven, 4).encode(&mut out);
                Frame::Unknown(100).encode(&mut out);
                self.ticket(PeerClass::Proven).encode(&mut out);
            }
            Act::Raw(raw) => out = raw,
            Act::Park(retry_after_s) => Frame::Park { retry_after_s }.encode(&mut out),
            Act::Close(code) => return connection.close(VarInt::from_u32(code.code()), b""),
            Act::Mute => {
                connection.closed().await;
            }
        }
        if send.write_all(&out).await.is_err() {
            return;
        }
        // Mail streams: what comes goes back.
        while let Ok((mut send, mut recv)) = connection.accept_bi().await {
            let gate = Arc::clone(&self.gate);
            tokio::spawn(async move {
                loop {
                    match recv.read_chunk(64 * 1024, true).await {
                        Ok(Some(chunk)) => {
                            if send.write_all(&chunk.bytes).await.is_err() {
                                return;
                            }
                        }
                        Ok(None) => break,
                        Err(_) => return gate.lock().expect("gate").resets += 1,
                    }
                }
                let _ = send.finish();
            });
        }
    }

    fn accept(&self, class: PeerClass, streams: u32) -> Frame {
        let server_time = self.gate.lock().expect("gate").clock.now_s();
        Frame::Accept { class, server_time, streams, message_bytes: 1 << 20, hostname: "mx.rig.example".to_owned() }
    }

    fn ticket(&self, class: PeerClass) -> Frame {
        let gate = self.gate.lock().expect("gate");
        let expires_s = gate.clock.now_s() + 86_400;
        let body = TicketBody {
            domain_tag: gate.keys.domain_tag("sender.example"),
            prefix_tag: gate.keys.prefix_tag(Ipv4Addr::LOCALHOST.into()),
            expiry_min: u32::try_from(expires_s / 60).expect("this century"),
            class,
            share: Share::default(),
        };
        let ticket = mint(&gate.keys, Kind::Proven, super::prelude::random().expect("random"), &body);
        Frame::Ticket { ticket: ticket.bytes, key: ticket.key, expires_s }
    }
}

impl Gate {
    /// Whether quinn may have it; else perhaps an answer.
    fn judge(&mut self, from: SocketAddr, datagram: &[u8]) -> (bool, Option<[u8; CHALLENGE_BYTES]>) {
        let now_s = u32::try_from(self.clock.now_s()).expect("this century");
        let came = match shape(datagram) {
            Shape::Hello { nonce } => {
                self.came.push(Came::Hello);
                if self.deaf > 0 {
                    self.deaf -= 1;
                    return (false, None);
                }
                return (false, Some(self.challenge(from, nonce, now_s)));
            }
            Shape::Established { cid } => return (check_cid(&self.keys, cid), None),
            Shape::Garbage => return (false, None),
            Shape::Initial { dcid, .. } if check_cid(&self.keys, dcid) || self.seen.contains(dcid) => {
                return (true, None);
            }
            Shape::Initial { token: Token::Cookie(token), .. } => {
                match check_cookie(&self.keys, from.ip(), token, now_s) {
                    Ok(cookie) if self.put_off_s > 0 => {
                        self.came.push(Came::EarlyCookie);
                        self.wait_s = std::mem::take(&mut self.put_off_s);
                        return (false, Some(self.challenge(from, cookie.nonce, now_s)));
                    }
                    Ok(_) => Came::Cookie,
                    Err(_) => Came::BadCookie,
                }
            }
            Shape::Initial { dcid, token: Token::Ticket(token) } => {
                match (check_ticket(&self.keys, token, dcid, now_s), self.tickets) {
                    (_, Tickets::Dropped) => return (false, None),
                    (Err(_), _) => {
                        self.came.push(Came::BadTicket);
                        return (false, None);
                    }
                    (Ok(()), Tickets::Demoted) => {
                        self.came.push(Came::Ticket);
                        let nonce = *dcid.first_chunk().expect("16 octets");
                        return (false, Some(self.challenge(from, nonce, now_s)));
                    }
                    (Ok(()), Tickets::Taken) => Came::Ticket,
                }
            }
            Shape::Initial { .. } => return (false, None),
        };
        self.came.push(came);
        let good = came != Came::BadCookie;
        if let (true, Shape::Initial { dcid, .. }) = (good, shape(datagram)) {
            self.seen.push(*dcid);
        }
        (good, None)
    }

    fn challenge(&self, from: SocketAddr, nonce: [u8; 8], now_s: u32) -> [u8; CHALLENGE_BYTES] {
        let not_before = now_s + self.wait_s;
        let terms = Terms { server_time: now_s, not_before, not_after: not_before + 120, level: 1 };
        let mut answer = [0; CHALLENGE_BYTES];
        challenge(&self.keys, from.ip(), nonce, &terms, &mut answer);
        answer
    }
}

struct Cids(Arc<Mutex<Gate>>);

impl quinn::ConnectionIdGenerator for Cids {
    fn generate_cid(&mut self) -> ConnectionId {
        let random = super::prelude::random().expect("random");
        ConnectionId::new(&make_cid(&self.0.lock().expect("gate").keys, 0, random))
    }

    fn cid_len(&self) -> usize {
        CID_BYTES
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

#[derive(Debug)]
struct GateSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    gate: Arc<Mutex<Gate>>,
}

impl AsyncUdpSocket for GateSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let count = ready!(self.inner.poll_recv(cx, buffers, meta))?;
            let mut out = 0;
            for at in 0..count {
                let RecvMeta { addr, len, stride, .. } = meta[at];
                let mut kept = Vec::new();
                for datagram in buffers[at][..len].chunks(stride.max(1)) {
                    let (pass, answer) = self.gate.lock().expect("gate").judge(addr, datagram);
                    if pass {
                        kept.extend_from_slice(datagram);
                    }
                    if let Some(contents) = answer {
                        let contents = &contents[..];
                        let transmit =
                            Transmit { destination: addr, ecn: None, contents, segment_size: None, src_ip: None };
                        self.inner.try_send(&transmit).expect("sent");
                    }
                }
                if !kept.is_empty() {
                    buffers[out][..kept.len()].copy_from_slice(&kept);
                    meta[out] = RecvMeta { len: kept.len(), ..meta[at] };
                    out += 1;
                }
            }
            if out > 0 {
                return Poll::Ready(Ok(out));
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}
