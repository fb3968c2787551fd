//! The pump of one connection: socket on one side, [`Conn`] on the other. It holds no rule of
//! mail.
//!
//! A future by hand, for three reasons: an idle connection must own no buffer (input and output
//! are the runtime's, borrowed for a step), a wake-up may come from socket, spool, callout,
//! deadline or shutdown alike, and a step must end after a bounded amount of work.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use postern_proto::limits::REPLY_BYTES_MAX;
use postern_proto::session::{Eviction, Session};
use postern_proto::time::Instant;
use postern_trust::{Class, Evidence};
use quinn::{RecvStream, SendStream};
use tokio::net::TcpStream;

use crate::conn::{Conn, Need};
use crate::deadlines::{Letter, Slot};
use crate::limits;
use crate::postern::authority::Principal;
use crate::runtime::{Core, World, now_unix_ms};
use crate::stats::count;
use crate::wire::Wire;

/// One connection, from accept to close.
pub(crate) struct Shell {
    core: Rc<Core>,
    slot: Rc<Slot>,
    index: usize,
    conn: Conn,
    wire: Wire,
    need: Need,
    /// Input that the session has not taken yet, because an answer came between.
    rest: Vec<u8>,
    /// Output that the socket has not taken yet.
    unsent: Vec<u8>,
    /// Since when the socket takes nothing.
    stalled: Option<Instant>,
    greeted: bool,
    /// The greeting waits until then, to see who speaks first.
    greet_at: Instant,
    /// The slowest that messages may come, in octets a second.
    floor: u64,
    /// What the session's progress was when this connection last stood up in its row.
    progress: u64,
    /// Octets of its message that are counted.
    held: usize,
    /// The client, canonical.
    ip: IpAddr,
    /// Counted among the handshakes under way, since then.
    shaking: Option<Instant>,
    /// Waits for the next turn of strangers.
    queued: bool,
    /// Waits until others give memory or a handshake's place back.
    short_of_room: bool,
    /// Its message was not read for want of memory, and nothing of it was since.
    starved: bool,
    /// The client has closed its side.
    gone: bool,
    /// A message is on its way in.
    arriving: bool,
}

impl Shell {
    /// Around a socket.
    pub(crate) fn new(
        core: &Rc<Core>,
        stream: TcpStream,
        (peer, local): (SocketAddr, SocketAddr),
        class: Class,
    ) -> Self {
        let now = core.now();
        let address = peer.ip().to_canonical();
        let among = |nets: &[ipnet::IpNet]| nets.iter().any(|net| net.contains(&address));
        // Who begins with a PROXY header speaks for others; XCLIENT is for the peer itself only.
        let proxied = among(&core.shared.proxy_from);
        let options = core.session_options(!proxied && among(&core.shared.xclient_from));
        let session = Session::new(options, peer, local, proxied, now);
        let mut shell = Self::around(core, session, Wire::tcp(stream), (class, None));
        // A balancer says its PROXY header at once, and must.
        shell.greet_at = if proxied { now } else { now.after(core.usher.greet_wait(class)) };
        shell
    }

    /// What it shares with its thread.
    pub(crate) fn slot(&self) -> &Rc<Slot> {
        &self.slot
    }

    /// Around a mail stream of the postern. It was greeted by ACCEPT, and TLS is on; messages come no slower than
    /// `floor` octets a second.
    pub(crate) fn on_stream(
        core: &Rc<Core>,
        (send, receive): (SendStream, RecvStream),
        (peer, local): (SocketAddr, SocketAddr),
        (class, principal): (Class, Rc<Principal>),
        floor: u64,
    ) -> Self {
        let now = core.now();
        let mut session = Session::new(core.session_options(false), peer, local, false, now);
        session.handle_tls(now, postern_net::door::tls_facts());
        let mut shell = Self::around(core, session, Wire::quic(send, receive), (class, Some(principal)));
        (shell.greeted, shell.floor) = (true, floor);
        shell
    }

    fn around(
        core: &Rc<Core>,
        session: Session,
        wire: Wire,
        (class, principal): (Class, Option<Rc<Principal>>),
    ) -> Self {
        let now = core.now();
        let ip = session.peer().ip().to_canonical();
        let (index, slot) = core.slots.insert_for(class, principal);
        count(&core.shared.stats.open);
        core.usher.crowd().enter(class);
        core.usher.stand(index, class, now);
        Self {
            core: Rc::clone(core),
            slot,
            index,
            conn: Conn::new(session),
            wire,
            need: Need::Input,
            rest: Vec::new(),
            unsent: Vec::new(),
            stalled: None,
            greeted: false,
            greet_at: now,
            floor: core.shared.session.limits.body_bytes_per_second_min,
            progress: 0,
            held: 0,
            ip,
            shaking: None,
            queued: false,
            short_of_room: false,
            starved: false,
            gone: false,
            arriving: false,
        }
    }

    fn pump(&mut self, context: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<()> {
        if let Some(why) = self.slot.told_to_go()
            && self.go(why, context, out)
        {
            return Poll::Ready(());
        }
        self.short_of_room = false;
        if !self.greeted {
            ready!(self.poll_greet(context, out));
        }
        self.handle_interruptions(out);
        let mut steps = 0;
        loop {
            self.heed_stop(out);
            if ready!(self.poll_send(context, out)).is_err() {
                return Poll::Ready(());
            }
            match self.need {
                Need::Close => {
                    self.wire.say_goodbye();
                    if !self.gone && !self.conn.session().has_quit() {
                        let core = Rc::clone(&self.core);
                        self.wire.read_away(context, &mut core.input.borrow_mut());
                    }
                    return Poll::Ready(());
                }
                Need::Answer => match self.slot.take_letter() {
                    Some(letter) => self.open(letter, out),
                    None => return Poll::Pending,
                },
                Need::StartTls => {
                    if !self.wire.is_tls() {
                        // The place is taken with the client's first octet, not with its word.
                        ready!(self.wire.poll_first_octet(context));
                        if !self.may_shake_hands() {
                            self.short_of_room = true;
                            return Poll::Pending;
                        }
                    }
                    ready!(self.poll_handshake(context));
                }
                Need::Input
                    if self.conn.session().is_reading_body() && !self.core.usher.may_receive(self.slot.class.get()) =>
                {
                    // The minimum rate goes on counting: memory that is used up by those who do not
                    // finish comes back.
                    self.short_of_room = true;
                    self.starved = true;
                    return Poll::Pending;
                }
                Need::Input if steps == limits::STEPS_BEFORE_YIELD => {
                    // Behind the others that are ready, and behind the sockets: a plain wake would
                    // come round again before anybody looks at them.
                    let mut yielding = std::pin::pin!(tokio::task::yield_now());
                    let _pending = yielding.as_mut().poll(context);
                    return Poll::Pending;
                }
                Need::Input => {
                    steps += 1;
                    ready!(self.poll_input(context, out));
                }
            }
        }
    }

    /// The door stops: as soon as nothing is under way the client is told so.
    fn heed_stop(&mut self, out: &mut Vec<u8>) {
        if self.slot.is_stopping() {
            let world = &mut World { core: &self.core, slot: &self.slot, index: self.index };
            if let Some(need) = self.conn.handle_shutdown(self.core.now(), out, world) {
                self.need = need;
            }
        }
    }

    /// The place is wanted. The client is told when that costs nothing: whoever waits until an enemy
    /// reads has given him the slot.
    fn go(&mut self, why: Eviction, context: &mut Context<'_>, out: &mut Vec<u8>) -> bool {
        if self.conn.session().is_closed() {
            // It has had its last word, and only does not read it.
            return true;
        }
        let world = &mut World { core: &self.core, slot: &self.slot, index: self.index };
        if !self.conn.handle_eviction(self.core.now(), why, out, world) {
            return false;
        }
        if self.unsent.is_empty() {
            let _untold = self.wire.try_write(context, out);
        }
        self.wire.say_goodbye();
        let core = Rc::clone(&self.core);
        self.wire.read_away(context, &mut core.input.borrow_mut());
        true
    }

    /// Greets when it is time. Whoever speaks before that is no mail server (RFC 5321 section
    /// 4.3.1): that is noted, and then it is greeted.
    fn poll_greet(&mut self, context: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<()> {
        if self.core.now() < self.greet_at && !self.slot.is_stopping() {
            let core = Rc::clone(&self.core);
            let mut input = core.input.borrow_mut();
            match ready!(self.wire.poll_read(context, &mut input)) {
                Ok(0) | Err(_) => {
                    self.gone = true;
                    self.need = Need::Close;
                }
                Ok(n) => {
                    // What it said is kept, up to a step's worth; it was read by a connection that
                    // has nothing else yet.
                    self.rest = input[..n].to_vec();
                    self.slot.early_talker.set(true);
                    count(&core.shared.stats.early_talkers);
                    core.usher.tell(Evidence::EarlyTalker { ip: self.ip });
                }
            }
        }
        self.greeted = true;
        self.conn.greet(out);
        Poll::Ready(())
    }

    /// Handshakes are bounded in number, by class; who may not yet looks again at the next tick.
    fn may_shake_hands(&mut self) -> bool {
        let class = self.slot.class.get();
        let may = self.core.usher.may_shake_hands(class);
        if may {
            self.shaking = Some(self.core.now());
        }
        may
    }

    fn end_handshake(&mut self) {
        if self.shaking.take().is_some() {
            self.core.usher.end_handshake(self.slot.class.get());
        }
    }

    /// After each step: who the client is, where it stands, what it holds.
    fn take_stand(&mut self) {
        let session = self.conn.session();
        let held = session.held_bytes() + self.rest.len() + self.unsent.len();
        let (progress, ended) = (session.progress(), session.has_ended_message());
        let ip = session.peer().ip();
        let usher = &self.core.usher;
        let class = self.slot.class.get();
        usher.crowd().hold(class, self.held, held);
        self.held = held;
        if self.slot.told_to_go().is_some() {
            return;
        }
        if ended {
            if usher.stands(self.index) {
                usher.leave(self.index, class);
            }
        } else if progress != self.progress || !usher.stands(self.index) {
            usher.stand(self.index, class, self.core.now());
        }
        self.progress = progress;
        if ip != self.ip && ip.to_canonical() != self.ip {
            self.become_another(ip.to_canonical());
        }
    }

    /// A PROXY header or XCLIENT has told who the client really is.
    fn become_another(&mut self, ip: IpAddr) {
        self.ip = ip;
        self.end_handshake();
        let usher = &self.core.usher;
        let (before, now) = (self.slot.class.get(), usher.class_of(ip, now_unix_ms() / 1000));
        if before != now {
            let stands = usher.stands(self.index);
            usher.leave(self.index, before);
            usher.crowd().hold(before, self.held, 0);
            usher.crowd().leave(before, false);
            self.slot.class.set(now);
            usher.crowd().enter(now);
            usher.crowd().hold(now, 0, self.held);
            if stands {
                usher.stand(self.index, now, self.core.now());
            }
        }
    }

    /// The deadline.
    fn handle_interruptions(&mut self, out: &mut Vec<u8>) {
        let now = self.core.now();
        if self.shaking.is_some_and(|since| now.since(since) >= limits::HANDSHAKE_PLACE) {
            self.end_handshake();
        }
        let world = &mut World { core: &self.core, slot: &self.slot, index: self.index };
        // An answer that is here already is worth more than the end of waiting for it.
        if self.slot.has_fired() && !self.slot.has_letter() {
            if self.stalled.is_some_and(|since| now.since(since) >= limits::WRITE_TIMEOUT) {
                self.unsent = Vec::new();
                self.need = Need::Close;
            } else if now >= self.conn.session().next_timeout() {
                count(&self.core.shared.stats.timeouts);
                // The message ends in any case; its connection only when the slowness is the peer's, not our
                // memory's or our disk's.
                let session = self.conn.session();
                if let Some(peer) = &self.slot.principal
                    && session.is_receiving()
                    && !session.awaits_answer()
                    && !self.starved
                {
                    peer.too_slow.set(true);
                }
                self.need = self.conn.handle_timeout(now, out, world);
                if !self.conn.session().awaits_answer() {
                    // A verdict about a recipient that comes now is for nobody.
                    self.slot.ask();
                }
            }
        }
    }

    fn open(&mut self, letter: Letter, out: &mut Vec<u8>) {
        let now = self.core.now();
        let world = &mut World { core: &self.core, slot: &self.slot, index: self.index };
        match letter {
            Letter::Event(id, kind) => self.conn.handle_event(now, (id, kind), out, world),
            Letter::Recipient(verdict) => {
                world.note_unknown(Some(&verdict), self.ip);
                self.conn.handle_recipient(now, verdict, out, world);
            }
        }
        // It waited for us: that was not idleness.
        if self.core.usher.stands(self.index) {
            self.core.usher.stand(self.index, self.slot.class.get(), now);
        }
        let rest = std::mem::take(&mut self.rest);
        self.feed(&rest, out);
    }

    fn poll_input(&mut self, context: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<()> {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            self.feed(&rest, out);
            return Poll::Ready(());
        }
        let core = Rc::clone(&self.core);
        let mut input = core.input.borrow_mut();
        match ready!(self.wire.poll_read(context, &mut input)) {
            Ok(0) | Err(_) => {
                self.gone = true;
                self.need = Need::Close;
            }
            Ok(n) => {
                self.starved = false;
                self.feed(&input[..n], out);
            }
        }
        Poll::Ready(())
    }

    fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let world = &mut World { core: &self.core, slot: &self.slot, index: self.index };
        let (consumed, need) = self.conn.handle_bytes(self.core.now(), input, out, world);
        self.need = need;
        self.note_arriving(self.conn.session().is_receiving());
        // What was sent in the clear behind STARTTLS must not be taken for what comes after it.
        if consumed < input.len() && need != Need::StartTls {
            self.rest = input[consumed..].to_vec();
        }
    }

    /// Writes `out`; what the socket does not take is kept, and goes first next time.
    fn poll_send(&mut self, context: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<std::io::Result<()>> {
        if self.unsent.is_empty() {
            if out.is_empty() && !self.wire.owes() {
                self.stalled = None;
                return Poll::Ready(Ok(()));
            }
            std::mem::swap(&mut self.unsent, out);
        } else {
            self.unsent.append(out);
        }
        let mut sent = 0;
        let result = loop {
            if sent == self.unsent.len() {
                match self.wire.try_flush() {
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    other => break Poll::Ready(other),
                }
            } else {
                match self.wire.try_write(context, &self.unsent[sent..]) {
                    Ok(n) => {
                        sent += n;
                        continue;
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => break Poll::Ready(Err(error)),
                }
            }
            match self.wire.poll_writable(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        if result.is_pending() {
            self.unsent.drain(..sent);
            self.stalled.get_or_insert_with(|| self.core.now());
        } else {
            self.stalled = None;
            self.unsent.clear();
            // The buffer goes back to the runtime: an idle connection owns none.
            std::mem::swap(&mut self.unsent, out);
        }
        result
    }

    fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.wire.is_tls() {
            let started = self.core.shared.tls.clone().map(|config| self.wire.start_tls(config));
            if !matches!(started, Some(Ok(()))) {
                self.need = Need::Close;
                return Poll::Ready(());
            }
        }
        let shaken = ready!(self.wire.poll_handshake(context));
        self.end_handshake();
        match shaken {
            Ok(Some(facts)) => {
                count(&self.core.shared.stats.tls);
                self.conn.handle_tls(self.core.now(), facts);
                self.need = Need::Input;
            }
            Ok(None) | Err(_) => {
                count(&self.core.shared.stats.tls_failed);
                self.need = Need::Close;
            }
        }
        Poll::Ready(())
    }

    /// Strangers share a quantum of the thread's time; when it is used up they wait to be called.
    /// Who was told to go, or stops with the door, needs none.
    fn must_wait_its_turn(&mut self) -> bool {
        if self.slot.was_called() || self.slot.told_to_go().is_some() || self.slot.is_stopping() {
            self.queued = false;
            return false;
        }
        if !self.queued {
            if self.core.turns.is_open() {
                return false;
            }
            self.queued = true;
            self.core.turns.wait(self.index, self.slot.class.get());
        }
        true
    }

    /// The connection is over: what it did is told, what it held is given back.
    fn leave(&mut self) {
        let (usher, class) = (&self.core.usher, self.slot.class.get());
        usher.leave(self.index, class);
        usher.crowd().hold(class, self.held, 0);
        usher.crowd().leave(class, self.slot.told_to_go().is_some());
        let session = self.conn.session();
        let ip = self.ip;
        if session.refused_recipients() > 0 {
            let n = u16::try_from(session.refused_recipients()).unwrap_or(u16::MAX);
            usher.tell(Evidence::BadRecipients { ip, n });
        }
        if session.broke_the_rules() {
            usher.tell(Evidence::Abuse { ip });
        }
    }

    fn note_arriving(&mut self, arriving: bool) {
        if arriving != std::mem::replace(&mut self.arriving, arriving) {
            self.core.note_arriving(arriving);
            if arriving {
                self.conn.set_body_rate_min(self.core.usher.body_rate_min(self.slot.class.get()).max(self.floor));
            }
        }
    }

    fn next_deadline(&self) -> Instant {
        if !self.greeted {
            return self.greet_at;
        }
        if self.short_of_room {
            // Looked at again at the next tick.
            return self.core.now();
        }
        let session = self.conn.session().next_timeout();
        let deadline = self.stalled.map_or(session, |since| session.min(since.after(limits::WRITE_TIMEOUT)));
        self.shaking.map_or(deadline, |since| deadline.min(since.after(limits::HANDSHAKE_PLACE)))
    }
}

impl Future for Shell {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let shell = &mut *self;
        shell.slot.register(context);
        let core = Rc::clone(&shell.core);
        let stranger = !core.usher.runs_freely(shell.slot.class.get());
        let started = core.now();
        if stranger && shell.must_wait_its_turn() {
            return Poll::Pending;
        }
        let mut out = core.output.take();
        let result = shell.pump(context, &mut out);
        out.clear();
        // One that was grown by a greedy client is not kept for ever.
        if out.capacity() <= REPLY_BYTES_MAX * 4 {
            core.output.replace(out);
        }
        if result.is_pending() {
            shell.take_stand();
            shell.slot.set_deadline(shell.next_deadline());
        }
        if stranger {
            core.turns.took(core.now().since(started));
        }
        core.flush_if_old();
        result
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let stats = &self.core.shared.stats;
        if std::thread::panicking() {
            count(&stats.panics);
        }
        stats.open.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        self.note_arriving(false);
        self.end_handshake();
        self.leave();
        self.conn.handle_eof(&mut World { core: &self.core, slot: &self.slot, index: self.index });
        if let Some(id) = self.conn.item() {
            self.core.forget(id);
        }
        self.core.slots.remove(self.index);
    }
}

// What an idle connection costs us besides its socket: the task with this future in it. A change
// that doubles it should be made knowingly.
const _: () = assert!(size_of::<Shell>() <= 640);

#[cfg(test)]
pub(crate) mod tests;
