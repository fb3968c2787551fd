//! A connection without its socket: session, recipients and spool put together, still pure.
//!
//! It turns the session's questions into requests to its surroundings and the spool's events into
//! the session's answers. It owns no socket, timer or thread; the shell in [`crate::shell`] pumps
//! it, the simulator and the tests drive it with surroundings of their own.

use std::borrow::Cow;
use std::net::IpAddr;

use postern_proto::address::Address;
use postern_proto::author::{Author, AuthorFault};
use postern_proto::checks::Checks;
use postern_proto::envelope::Refusal;
use postern_proto::mode::Mode;
use postern_proto::reply::{Enhanced, Reply};
use postern_proto::session::{Answer, Ask, Eviction, Finished, RecipientVerdict, Session, StoreFault, Then};
use postern_proto::time::Instant;
use postern_spool::{Body, EventKind, Fate, ItemId, Lane, NewItem, Refusal as SpoolRefusal, When};

/// What a connection needs of the world.
pub trait Surroundings {
    /// Looks a recipient up. `None`: it is being found out, [`Conn::handle_recipient`] will be
    /// called.
    fn recipient(&mut self, address: &Address, client: &Client<'_>) -> Option<RecipientVerdict>;
    /// What is known of the client whose message is whole: goes into its metadata, and its class
    /// into its lane.
    fn checks(&mut self, client: &Client<'_>) -> Checks;
    /// Whether this peer may bring a message of this author. Asked when the message is whole and
    /// before anything of it is promised or handed on; a streamed body is with the spool by then,
    /// and is given back when the answer is a refusal. Doors that take mail from anybody have not asked
    /// for the author and need no words of their own here; a door that has must.
    ///
    /// # Errors
    /// The reply that the client gets instead.
    fn may_bring(&mut self, author: Option<&Result<Author, AuthorFault>>, client: &Client<'_>) -> Result<(), Reply> {
        let _whoever = client;
        author.map_or(Ok(()), |_| Err(use_mx("this door cannot tell who may bring it")))
    }
    /// A name for a new item.
    fn new_id(&mut self) -> ItemId;
    /// Stores a piece of a large body.
    fn write_body(&mut self, id: ItemId, piece: Vec<u8>);
    /// Hands a whole message over.
    fn append(&mut self, item: NewItem, when: When);
    /// Makes a tentative message durable.
    fn commit(&mut self, id: ItemId);
    /// Drops what was handed over and not promised.
    fn abandon(&mut self, id: ItemId);
    /// Nobody waits for this item's events any more.
    fn forget(&mut self, id: ItemId);
    /// The wall clock, milliseconds since 1970.
    fn unix_ms(&mut self) -> u64;
}

/// Who asks for a recipient.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// As the socket, PROXY or XCLIENT gave it.
    pub ip: IpAddr,
    /// What it called itself.
    pub helo: Option<&'a str>,
    /// The reverse-path; `None` is `<>`.
    pub sender: Option<&'a Address>,
    /// No recipient of this transaction was asked about before.
    pub begins: bool,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Octets from the client.
    Input,
    /// An event of the spool, or word about a recipient.
    Answer,
    /// A TLS handshake, and [`Conn::handle_tls`].
    StartTls,
    /// Nothing: write what there is and close.
    Close,
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    session: Session,
    /// The message that the spool knows of, while it is under way.
    item: Option<ItemId>,
}

impl Conn {
    /// Around a fresh session.
    pub fn new(session: Session) -> Self {
        Self { session, item: None }
    }

    /// The session, to be asked about itself.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Writes the greeting.
    pub fn greet(&mut self, out: &mut Vec<u8>) {
        self.session.greet(out);
    }

    /// Feeds octets; says how many were used up and what is needed next.
    pub fn handle_bytes(
        &mut self,
        now: Instant,
        input: &[u8],
        out: &mut Vec<u8>,
        world: &mut impl Surroundings,
    ) -> (usize, Need) {
        let mut consumed = 0;
        loop {
            if self.session.awaits_answer() {
                return (consumed, Need::Answer);
            }
            let step = self.session.handle_bytes(now, &input[consumed..], out);
            consumed += step.consumed;
            if let Some(need) = self.act(now, step.then, out, world) {
                return (consumed, need);
            }
        }
    }

    /// An event of the spool about an item. Feed bytes (none, if there are none) afterwards.
    ///
    /// `Committed` carries a receipt, so the 250 that follows cannot be said without a sync. An
    /// event of another item than the one under way is ignored: it came after we had given up.
    pub fn handle_event(
        &mut self,
        now: Instant,
        (id, kind): (ItemId, EventKind),
        out: &mut Vec<u8>,
        world: &mut impl Surroundings,
    ) {
        if self.item != Some(id) {
            return;
        }
        let name = || id.to_string().into_boxed_str();
        let answer = match kind {
            EventKind::Stored => Answer::Stored,
            EventKind::Committed(_receipt) => Answer::Committed { id: name() },
            EventKind::Fate(Fate::Delivered) => Answer::Delivered { id: name() },
            EventKind::Fate(Fate::Unsettled) => Answer::Unsettled,
            EventKind::Fate(Fate::Refused(words) | Fate::Deferred(words)) => match Refusal::from_bytes(&words) {
                Some(Refusal(reply)) => Answer::Refused(reply),
                None => Answer::StoreFailed(StoreFault::Failed),
            },
            EventKind::Refused(SpoolRefusal::Failed) => Answer::StoreFailed(StoreFault::Failed),
            EventKind::Refused(_) => Answer::StoreFailed(StoreFault::Full),
        };
        self.answer(now, answer, out, world);
    }

    /// Word about the recipient that was looked up.
    pub fn handle_recipient(
        &mut self,
        now: Instant,
        verdict: RecipientVerdict,
        out: &mut Vec<u8>,
        world: &mut impl Surroundings,
    ) {
        self.answer(now, Answer::Recipient(verdict), out, world);
    }

    /// The handshake is done.
    pub fn handle_tls(&mut self, now: Instant, facts: postern_proto::envelope::TlsFacts) {
        self.session.handle_tls(now, facts);
    }

    /// A deadline has passed.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<u8>, world: &mut impl Surroundings) -> Need {
        let then = self.session.handle_timeout(now, out);
        self.after_interruption(now, then, out, world)
    }

    /// The door stops. Between transactions the client is told so; a message that waits for its
    /// outcome is committed now, so that its client gets an answer in time. `None`: the connection
    /// goes on with what it needed; ask again.
    pub fn handle_shutdown(&mut self, now: Instant, out: &mut Vec<u8>, world: &mut impl Surroundings) -> Option<Need> {
        if self.session.is_closed() {
            return None;
        }
        if self.session.handle_shutdown(out) {
            return Some(Need::Close);
        }
        match self.session.hurry(now) {
            Then::Read => None,
            then => Some(self.after_interruption(now, then, out, world)),
        }
    }

    /// See [`Session::set_body_rate_min`].
    pub fn set_body_rate_min(&mut self, bytes_per_second: u64) {
        self.session.set_body_rate_min(bytes_per_second);
    }

    /// The client must go. False: not now, a reply to its message is owed.
    pub fn handle_eviction(
        &mut self,
        now: Instant,
        why: Eviction,
        out: &mut Vec<u8>,
        world: &mut impl Surroundings,
    ) -> bool {
        let Some(then) = self.session.handle_eviction(why, out) else { return false };
        self.after_interruption(now, then, out, world);
        true
    }

    /// The client is gone: what is not promised is dropped.
    pub fn handle_eof(&mut self, world: &mut impl Surroundings) {
        if let Some(Ask::Abandon) = self.session.handle_eof() {
            self.abandon(world);
        }
    }

    fn answer(&mut self, now: Instant, answer: Answer, out: &mut Vec<u8>, world: &mut impl Surroundings) {
        let then = self.session.handle_answer(now, answer, out);
        // Should it want to close, it will say so again when it is fed.
        self.act(now, then, out, world);
        self.forget_settled_item(world);
    }

    fn after_interruption(
        &mut self,
        now: Instant,
        then: Then,
        out: &mut Vec<u8>,
        world: &mut impl Surroundings,
    ) -> Need {
        let need = self.act(now, then, out, world);
        self.forget_settled_item(world);
        match need {
            Some(need) => need,
            None if self.session.is_closed() => Need::Close,
            None => Need::Input,
        }
    }

    /// The next message gets a name of its own.
    fn forget_settled_item(&mut self, world: &mut impl Surroundings) {
        if self.session.is_between_transactions()
            && let Some(id) = self.item.take()
        {
            world.forget(id);
        }
    }

    /// Does what the session wants next. `None`: done at once, the session can go on.
    fn act(&mut self, now: Instant, then: Then, out: &mut Vec<u8>, world: &mut impl Surroundings) -> Option<Need> {
        match then {
            Then::Read => {}
            Then::StartTls => return Some(Need::StartTls),
            Then::Close => return Some(Need::Close),
            Then::Ask(Ask::Recipient(address)) => {
                let client = client_of(&self.session, self.session.sender().flatten());
                if let Some(verdict) = world.recipient(&address, &client) {
                    self.answer(now, Answer::Recipient(verdict), out, world);
                    return None;
                }
            }
            Then::Ask(Ask::Store(piece)) => {
                let id = *self.item.get_or_insert_with(|| world.new_id());
                world.write_body(id, piece);
            }
            Then::Ask(Ask::Finish(finished)) => {
                let client = client_of(&self.session, finished.meta.sender.as_ref());
                if let Err(reply) = world.may_bring(finished.author.as_ref(), &client) {
                    self.abandon(world);
                    self.answer(now, Answer::Refused(reply), out, world);
                    return None;
                }
                self.finish(*finished, world);
            }
            Then::Ask(Ask::Commit) => {
                if let Some(id) = self.item {
                    world.commit(id);
                }
            }
            Then::Ask(Ask::Abandon) => {
                self.abandon(world);
                return None;
            }
        }
        Some(if self.session.awaits_answer() { Need::Answer } else { Need::Input })
    }

    fn finish(&mut self, finished: Finished, world: &mut impl Surroundings) {
        let Finished { mut meta, mode, body, author: _ } = finished;
        let id = self.item.take().unwrap_or_else(|| world.new_id());
        let now_unix_ms = world.unix_ms();
        meta.arrival.at_unix_ms = now_unix_ms;
        meta.checks = world.checks(&client_of(&self.session, meta.sender.as_ref()));
        let domain = meta.recipients.first().map_or("", |recipient| &*recipient.address.domain);
        let item = NewItem {
            id,
            lane: Lane::new(domain, meta.checks.class),
            due_unix_ms: now_unix_ms,
            body: body.map_or(Body::Streamed, Body::Inline),
            meta: meta.to_bytes(),
        };
        let when = if mode == Mode::Through { When::Tentative } else { When::Commit };
        self.item = Some(id);
        world.append(item, when);
    }

    fn abandon(&mut self, world: &mut impl Surroundings) {
        if let Some(id) = self.item.take() {
            world.abandon(id);
        }
    }

    /// The item whose events this connection waits for.
    pub fn item(&self) -> Option<ItemId> {
        self.item
    }
}

/// The refusal of a message that may not come by this door: behind `USE-MX` the sender's side
/// delivers by port 25, so that the postern never delivers worse than that would.
pub fn use_mx(why: &str) -> Reply {
    Reply { code: 550, enhanced: Some(Enhanced(5, 7, 1)), text: Cow::Owned(format!("USE-MX: {why}")) }
}

fn client_of<'a>(session: &'a Session, sender: Option<&'a Address>) -> Client<'a> {
    let ip = session.peer().ip().to_canonical();
    Client { ip, helo: session.helo(), sender, begins: session.recipients_asked() == 1 }
}

#[cfg(test)]
mod tests;
