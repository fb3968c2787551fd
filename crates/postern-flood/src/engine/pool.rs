//! All connections of a run, and what happens to each: events in, dialogue, octets out, notes into the counters.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::sockopt;
use rustix::time::Timespec;

use crate::ledger::Ledger;
use crate::limits::BATCH;
use crate::plan::{FloodError, Plan};
use crate::report::{CrowdReport, FriendsReport, Progress, Second};
use crate::stats::count;

use super::conn::{Conn, Owner, Taken};
use super::crowds::CrowdRun;
use super::dialog::{Dialog, Event, Next, Note, Role, Words};
use super::friends::FriendsRun;
use super::socket;
use super::wheel::Wheel;

/// What a timer is about. Connections are named by slot and generation: a timer for one that is gone is nothing.
#[derive(Clone, Copy, Debug)]
pub(super) enum Timer {
    /// The deadline of a reply may have come.
    Deadline(u64),
    /// A pause asked for by the dialogue is over.
    Tick(u64),
    /// A reply has come all the way.
    Reply(u64, u16),
    /// The other side's close has come all the way.
    Gone(u64),
    /// A member comes back.
    Return { crowd: u16, member: u32 },
    /// A friend's connect has come all the way, or its next attempt is due.
    Attempt { group: u16, message: u32, dial: bool },
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client was done.
    Done,
    /// The server closed it.
    Gone,
    /// No reply in time.
    TimedOut,
}

struct Slot {
    generation: u32,
    conn: Option<Box<Conn>>,
}

pub(super) struct Pool<'a> {
    pub(super) now_us: u64,
    pub(super) plan: &'a Plan,
    pub(super) ledger: Ledger,
    pub(super) wheel: Wheel<Timer>,
    pub(super) crowds: Vec<CrowdRun>,
    pub(super) friends: Vec<FriendsRun>,
    pub(super) connects_left: u64,
    /// The crowd whose member came last.
    pub(super) turn: usize,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Connections whose last write went through and that have more to say.
    ready: VecDeque<u64>,
    friends_epoll: OwnedFd,
    crowds_epoll: OwnedFd,
    events: Vec<(u64, EventFlags)>,
    fired: Vec<Timer>,
    scratch: Vec<u8>,
    out: Vec<u8>,
    codes: Vec<u16>,
}

impl<'a> Pool<'a> {
    pub(super) fn new(plan: &'a Plan) -> Result<Self, FloodError> {
        let create =
            || epoll::create(CreateFlags::CLOEXEC).map_err(|error| FloodError::System("epoll".into(), error.into()));
        let (friends_epoll, crowds_epoll) = (create()?, create()?);
        // Nested: a friend's event ends the wait for the crowd.
        epoll::add(&crowds_epoll, &friends_epoll, EventData::new_u64(FRIENDS), EventFlags::IN)
            .map_err(|error| FloodError::System("epoll".into(), error.into()))?;
        let crowds = plan.crowds.iter().zip(0..).map(|(crowd, n)| CrowdRun::new(crowd, n, plan.seed)).collect();
        let friends = plan.friends.iter().zip(0..).map(|(friends, n)| FriendsRun::new(friends, n, plan)).collect();
        Ok(Self {
            now_us: 0,
            plan,
            ledger: Ledger::create(plan.ledger.as_deref())?,
            wheel: Wheel::new(),
            crowds,
            friends,
            connects_left: plan.connects_max.unwrap_or(u64::MAX),
            turn: 0,
            slots: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            friends_epoll,
            crowds_epoll,
            events: Vec::new(),
            fired: Vec::new(),
            scratch: vec![0; 65_536],
            out: Vec::new(),
            codes: Vec::new(),
        })
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.now_us / 1_000
    }

    /// What friends' sockets have to say, handled at once.
    pub(super) fn poll_friends(&mut self) -> Result<(), FloodError> {
        self.events.clear();
        wait(&self.friends_epoll, 0, &mut self.events)?;
        self.handle_events()
    }

    /// Waits for the crowd's sockets; returns how many spoke.
    pub(super) fn poll_crowds(&mut self, wait_ms: u64) -> Result<usize, FloodError> {
        self.events.clear();
        wait(&self.crowds_epoll, wait_ms, &mut self.events)?;
        Ok(self.events.len())
    }

    /// Handles what [`Pool::poll_crowds`] found.
    pub(super) fn handle_crowds(&mut self, found: usize) -> Result<(), FloodError> {
        if found == 0 { Ok(()) } else { self.handle_events() }
    }

    fn handle_events(&mut self) -> Result<(), FloodError> {
        let events = std::mem::take(&mut self.events);
        for (token, flags) in &events {
            if *token != FRIENDS {
                self.handle_event(*token, *flags)?;
            }
        }
        self.events = events;
        Ok(())
    }

    /// Timers that are due.
    pub(super) fn fire_timers(&mut self) -> Result<(), FloodError> {
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel.advance(self.now_us / 1_000, &mut fired);
        for timer in fired.drain(..) {
            match timer {
                Timer::Deadline(token) => self.handle_deadline(token)?,
                Timer::Tick(token) => self.handle(token, Event::Timer)?,
                Timer::Reply(token, code) => self.handle(token, Event::Reply(code))?,
                Timer::Gone(token) => self.end(token, End::Gone),
                Timer::Return { crowd, member } => self.crowds[usize::from(crowd)].waiting.push_back(member),
                Timer::Attempt { group, message, dial } => self.attempt(group, message, dial),
            }
        }
        self.fired = fired;
        Ok(())
    }

    /// One more chunk for each of a batch of those that stream; true when some are left.
    pub(super) fn serve_ready(&mut self) -> Result<bool, FloodError> {
        for _ in 0..BATCH.min(self.ready.len()) {
            if let Some(token) = self.ready.pop_front() {
                self.handle(token, Event::Sent)?;
            }
        }
        Ok(!self.ready.is_empty())
    }

    /// How long the loop may wait.
    pub(super) fn quiet_ms(&self, horizon_ms: u64) -> u64 {
        let until =
            |due_us: Option<u64>| due_us.map_or(u64::MAX, |due| due.saturating_sub(self.now_us).div_ceil(1_000));
        let offers = self.friends.iter().map(|friends| until(friends.next_due_us())).min().unwrap_or(u64::MAX);
        let dials =
            self.crowds.iter().map(|crowd| until(crowd.next_dial_us(self.connects_left))).min().unwrap_or(u64::MAX);
        self.wheel.quiet_ms(horizon_ms).min(offers).min(dials)
    }

    /// Begins a connection and enters it; the caller has counted the attempt.
    pub(super) fn dial(
        &mut self,
        owner: Owner,
        role: Role,
        from: IpAddr,
        rtt_ms: u32,
        started_us: u64,
        serial: u64,
    ) -> Result<u64, String> {
        let socket = socket::dial(from, self.plan.target).map_err(|error| cause(&error))?;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, conn: None });
            (self.slots.len() - 1) as u32
        });
        let token = u64::from(self.slots[slot as usize].generation) << 32 | u64::from(slot);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let epoll = match owner {
            Owner::Member { .. } => &self.crowds_epoll,
            Owner::Friend { .. } => &self.friends_epoll,
        };
        if let Err(error) = epoll::add(epoll, &socket, EventData::new_u64(token), flags) {
            self.free.push(slot);
            return Err(cause(&error.into()));
        }
        let mut conn = Conn::new(socket, owner, Dialog::new(role, serial ^ self.plan.seed), rtt_ms, started_us);
        conn.serial = serial;
        self.slots[slot as usize].conn = Some(Box::new(conn));
        Ok(token)
    }

    fn conn(&mut self, token: u64) -> Option<&mut Conn> {
        let slot = self.slots.get_mut((token & 0xffff_ffff) as usize)?;
        if u64::from(slot.generation) != token >> 32 {
            return None;
        }
        slot.conn.as_deref_mut()
    }

    fn handle_event(&mut self, token: u64, flags: EventFlags) -> Result<(), FloodError> {
        let Some(conn) = self.conn(token) else { return Ok(()) };
        if !conn.connected {
            match sockopt::socket_error(&conn.socket) {
                Ok(Ok(())) if flags.contains(EventFlags::OUT) => {
                    conn.connected = true;
                    self.note_connected(token);
                    self.handle(token, Event::Connected)?;
                }
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) | Err(error) => {
                    self.note_connect_error(token, &cause(&error.into()));
                    self.end(token, End::Done);
                    return Ok(());
                }
            }
        }
        let Some(conn) = self.slots[(token & 0xffff_ffff) as usize].conn.as_deref_mut() else { return Ok(()) };
        let closing = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        if conn.dialog.reads() && flags.intersects(EventFlags::IN | closing) {
            let mut codes = std::mem::take(&mut self.codes);
            let taken = conn.read(&mut self.scratch, &mut codes);
            let rtt = u64::from(conn.rtt_ms);
            for code in codes.drain(..) {
                self.take_reply(token, code, rtt)?;
            }
            self.codes = codes;
            if taken == Taken::Gone || flags.intersects(closing) {
                match rtt {
                    0 => self.end(token, End::Gone),
                    _ => self.wheel.set(self.now_us / 1_000 + rtt, Timer::Gone(token)),
                }
                return Ok(());
            }
        } else if flags.intersects(closing) {
            self.end(token, End::Gone);
            return Ok(());
        }
        if flags.contains(EventFlags::OUT) { self.flush(token) } else { Ok(()) }
    }

    /// Measures a reply, and lets it travel when there is a round trip to play.
    fn take_reply(&mut self, token: u64, code: u16, rtt_ms: u64) -> Result<(), FloodError> {
        if rtt_ms == 0 {
            return self.handle(token, Event::Reply(code));
        }
        self.wheel.set(self.now_us / 1_000 + rtt_ms, Timer::Reply(token, code));
        Ok(())
    }

    /// One event of the dialogue, with all that follows from it.
    pub(super) fn handle(&mut self, token: u64, event: Event) -> Result<(), FloodError> {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        let Some(conn) = self
            .slots
            .get_mut((token & 0xffff_ffff) as usize)
            .and_then(|slot| slot.conn.as_deref_mut().filter(|_| u64::from(slot.generation) == token >> 32))
        else {
            self.out = out;
            return Ok(());
        };
        let (paper, id) = match conn.owner {
            Owner::Member { crowd, .. } => {
                let crowd = &self.crowds[usize::from(crowd)];
                (&crowd.paper, crowd.id(conn.serial))
            }
            Owner::Friend { group, message } => {
                let friends = &self.friends[usize::from(group)];
                (friends.paper(message), friends.id(message))
            }
        };
        let (next, note) = conn.dialog.handle(event, &Words { paper, id: &id }, &mut out);
        conn.queue(&out);
        self.out = out;
        if let Some(note) = note {
            self.note(token, note, &id)?;
        }
        self.follow(token, next)
    }

    fn follow(&mut self, token: u64, next: Next) -> Result<(), FloodError> {
        let now_ms = self.now_us / 1_000;
        let Some(conn) = self.conn(token) else { return Ok(()) };
        conn.deadline_ms = None;
        conn.wants_room = next == Next::Room;
        match next {
            Next::Wait | Next::Room => {}
            Next::ReplyWithin(ms) => {
                let due = now_ms + u64::from(ms);
                conn.deadline_ms = Some(due);
                if conn.armed_ms.is_none_or(|armed| armed > due) {
                    conn.armed_ms = Some(due);
                    self.wheel.set(due, Timer::Deadline(token));
                }
            }
            Next::Pause(ms) => self.wheel.set(now_ms + u64::from(ms), Timer::Tick(token)),
            Next::Close => {
                // What was said last goes out if the socket takes it.
                let _ = conn.flush();
                self.end(token, End::Done);
                return Ok(());
            }
            Next::Reset => {
                socket::close_with_reset(&conn.socket);
                self.end(token, End::Done);
                return Ok(());
            }
        }
        self.flush(token)
    }

    /// A friend's patience begins with the attempt, not with the connection.
    pub(super) fn expect_connection(&mut self, token: u64, patience_ms: u32) {
        let Some(conn) = self.conn(token) else { return };
        let due = conn.started_us / 1_000 + u64::from(patience_ms);
        conn.deadline_ms = Some(due);
        conn.armed_ms = Some(due);
        self.wheel.set(due, Timer::Deadline(token));
    }

    fn flush(&mut self, token: u64) -> Result<(), FloodError> {
        let Some(conn) = self.conn(token) else { return Ok(()) };
        match conn.flush() {
            Ok(true) if conn.wants_room => {
                conn.wants_room = false;
                self.ready.push_back(token);
            }
            Ok(_) => {}
            // What the server said before it closed is still to be read; the close comes as an event of its own.
            Err(_) if conn.dialog.reads() => {}
            Err(_) => self.end(token, End::Gone),
        }
        Ok(())
    }

    fn handle_deadline(&mut self, token: u64) -> Result<(), FloodError> {
        let now_ms = self.now_us / 1_000;
        let Some(conn) = self.conn(token) else { return Ok(()) };
        conn.armed_ms = None;
        match conn.deadline_ms {
            Some(due) if due <= now_ms => self.end(token, End::TimedOut),
            Some(due) => {
                conn.armed_ms = Some(due);
                self.wheel.set(due, Timer::Deadline(token));
            }
            None => {}
        }
        Ok(())
    }

    fn note_connected(&mut self, token: u64) {
        let now_us = self.now_us;
        let Some(conn) = self.conn(token) else { return };
        let (owner, started_us, rtt_ms) = (conn.owner, conn.started_us, conn.rtt_ms);
        match owner {
            Owner::Member { crowd, .. } => self.crowds[usize::from(crowd)].tally.total.connected += 1,
            Owner::Friend { group, .. } => {
                // The pretended connect took one and a half round trips; its client knew after one.
                let took_us = (now_us - started_us).saturating_sub(u64::from(rtt_ms) * 500);
                self.friends[usize::from(group)].tally.connect.push(crate::stats::sample(took_us));
            }
        }
    }

    fn note_connect_error(&mut self, token: u64, cause: &str) {
        let Some(owner) = self.conn(token).map(|conn| conn.owner) else { return };
        match owner {
            Owner::Member { crowd, .. } => {
                count(&mut self.crowds[usize::from(crowd)].tally.total.connect_errors, cause);
            }
            Owner::Friend { group, .. } => {
                count(&mut self.friends[usize::from(group)].tally.total.connect_errors, cause);
            }
        }
    }

    fn note(&mut self, token: u64, note: Note, id: &str) -> Result<(), FloodError> {
        let Some(conn) = self.conn(token) else { return Ok(()) };
        let (owner, started_us, rtt_us) = (conn.owner, conn.started_us, u64::from(conn.rtt_ms) * 1_000);
        if note == Note::Accepted {
            self.ledger.write(id)?;
        }
        match owner {
            Owner::Member { crowd, .. } => {
                let tally = &mut self.crowds[usize::from(crowd)].tally;
                match note {
                    Note::Greeted => tally.total.greeted += 1,
                    Note::RecipientAccepted => tally.total.recipients_accepted += 1,
                    Note::Accepted => tally.accepted(),
                    Note::Refused(code) => tally.refused(code),
                }
            }
            Owner::Friend { group, message } => {
                // A reply is handled a round trip after it was sent; its reader had it after half of that.
                let seen_us = self.now_us.saturating_sub(rtt_us / 2);
                self.friends[usize::from(group)].note(message, note, started_us, seen_us);
            }
        }
        Ok(())
    }

    pub(super) fn end(&mut self, token: u64, end: End) {
        let Some(slot) = self.slots.get_mut((token & 0xffff_ffff) as usize) else { return };
        if u64::from(slot.generation) != token >> 32 {
            return;
        }
        let Some(conn) = slot.conn.take() else { return };
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push((token & 0xffff_ffff) as u32);
        match conn.owner {
            Owner::Member { crowd, member } => self.member_ended(crowd, member, &conn, end),
            Owner::Friend { group, message } => self.friend_ended(group, message, end),
        }
        // Dropped last: closing also takes it out of epoll.
        drop(conn);
    }

    pub(super) fn close_second(&mut self, at_s: u32) -> Second {
        Second {
            at_s,
            crowds: self.crowds.iter_mut().map(|crowd| crowd.tally.close_second()).collect(),
            friends: self.friends.iter_mut().map(|friends| friends.tally.close_second()).collect(),
        }
    }

    pub(super) fn add_to(&self, progress: &mut Progress) {
        for crowd in &self.crowds {
            progress.open += crowd.tally.open;
            progress.attempts += crowd.tally.total.attempts;
            progress.hostile_accepted += crowd.tally.total.accepted;
        }
        for friends in &self.friends {
            progress.friends_offered += friends.tally.total.offered;
            progress.friends_accepted += friends.tally.total.accepted;
            progress.friends_failed += friends.tally.total.failed;
        }
    }

    pub(super) fn reports(&mut self) -> (Vec<CrowdReport>, Vec<FriendsReport>) {
        // What still stands has sent octets too.
        for slot in &self.slots {
            if let Some(conn) = &slot.conn
                && let Owner::Member { crowd, .. } = conn.owner
            {
                self.crowds[usize::from(crowd)].tally.total.bytes_sent += conn.sent;
            }
        }
        (
            self.crowds.iter_mut().map(|crowd| std::mem::take(&mut crowd.tally.total)).collect(),
            self.friends.iter_mut().map(|friends| friends.tally.report()).collect(),
        )
    }
}

/// Adds what is ready, at most a batch of it.
fn wait(epoll: &OwnedFd, wait_ms: u64, found: &mut Vec<(u64, EventFlags)>) -> Result<(), FloodError> {
    let timeout = Timespec { tv_sec: (wait_ms / 1_000) as i64, tv_nsec: (wait_ms % 1_000 * 1_000_000) as i64 };
    let mut buffer = [MaybeUninit::<epoll::Event>::uninit(); BATCH];
    match epoll::wait(epoll, &mut buffer, Some(&timeout)) {
        Ok((events, _)) => {
            found.extend(events.iter().map(|event| (event.data.u64(), event.flags)));
            Ok(())
        }
        Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(FloodError::System("epoll".to_owned(), error.into())),
    }
}

/// A short name for a failed connect.
fn cause(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "refused by the kernel".to_owned(),
        std::io::ErrorKind::ConnectionReset => "reset".to_owned(),
        std::io::ErrorKind::TimedOut => "connect timed out".to_owned(),
        std::io::ErrorKind::AddrNotAvailable => "no port left".to_owned(),
        _ => error.to_string(),
    }
}

/// The token of the friends' epoll instance inside the crowd's.
const FRIENDS: u64 = u64::MAX;
