//! The deadlines of one runtime's connections, and how a connection is woken.
//!
//! One table that is walked every [`crate::limits::TICK`], and not a timer in each task: a tokio
//! timer costs about 100 octets and a lock for each re-arming, and a session re-arms with every
//! command. Walking 20,000 entries takes about 0.1 ms, four times a second.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

use postern_identity::Findings;
use postern_proto::session::{Eviction, RecipientVerdict};
use postern_proto::time::Instant;
use postern_spool::{EventKind, ItemId};
use postern_trust::Class;

use crate::admission::Places;
use crate::postern::authority::Principal;

/// What a connection shares with the rest of its runtime. Cheap to keep, never sent.
pub(crate) struct Slot {
    /// Tells this connection from others that had its place before.
    pub(crate) serial: u64,
    /// Who the client is to us; another once a PROXY header or XCLIENT has told who it really is.
    pub(crate) class: Cell<Class>,
    /// It spoke before it was greeted.
    pub(crate) early_talker: Cell<bool>,
    /// The name it gave cannot be its own.
    pub(crate) bad_helo: Cell<bool>,
    /// The question about it and its present transaction; zero when none is open. An answer to any
    /// other is not about this sender, and must not lend him another's credit.
    pub(crate) looked_into: Cell<u64>,
    /// What was found out about it and its present transaction, once that is known.
    pub(crate) findings: RefCell<Option<Box<Findings>>>,
    /// Whose mail it may bring, when it is a stream of the postern.
    pub(crate) principal: Option<Rc<Principal>>,
    told_to_go: Cell<Option<Eviction>>,
    called: Cell<bool>,
    deadline: Cell<Instant>,
    fired: Cell<bool>,
    stopping: Cell<bool>,
    /// The question that is open, by number; an answer to an earlier one is no answer.
    question: Cell<u64>,
    mail: Cell<Option<Letter>>,
    waker: RefCell<Option<Waker>>,
}

/// What others have to say to a waiting connection.
#[derive(Debug)]
pub(crate) enum Letter {
    /// The spool, about an item.
    Event(ItemId, EventKind),
    /// The callout.
    Recipient(RecipientVerdict),
}

impl Slot {
    pub(crate) fn new(serial: u64, class: Class, principal: Option<Rc<Principal>>) -> Self {
        Self {
            serial,
            principal,
            class: Cell::new(class),
            early_talker: Cell::default(),
            bad_helo: Cell::default(),
            looked_into: Cell::default(),
            findings: RefCell::default(),
            told_to_go: Cell::default(),
            called: Cell::default(),
            deadline: Cell::default(),
            fired: Cell::default(),
            stopping: Cell::default(),
            question: Cell::default(),
            mail: Cell::default(),
            waker: RefCell::default(),
        }
    }

    /// Why the connection must go, if it must.
    pub(crate) fn told_to_go(&self) -> Option<Eviction> {
        self.told_to_go.get()
    }

    /// It is its turn: it runs, whatever the quantum says.
    pub(crate) fn call(&self) {
        self.called.set(true);
        self.wake();
    }

    /// Whether it was called, once.
    pub(crate) fn was_called(&self) -> bool {
        self.called.replace(false)
    }

    /// Call with each poll.
    pub(crate) fn register(&self, context: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match waker.as_ref() {
            Some(waker) if waker.will_wake(context.waker()) => {}
            _ => *waker = Some(context.waker().clone()),
        }
    }

    /// The next moment at which the connection wants to be woken in any case.
    pub(crate) fn set_deadline(&self, deadline: Instant) {
        self.deadline.set(deadline);
        self.fired.set(false);
    }

    /// Whether the deadline has passed.
    pub(crate) fn has_fired(&self) -> bool {
        self.fired.get()
    }

    /// The door is to be closed, or the connection that this is a stream of.
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
        self.wake();
    }

    /// Whether the door is to be closed.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// A new question is open, and any before it is not: its number goes with it. Whoever gives
    /// up waiting calls this as well, because a late answer must never be taken for that to the
    /// next question: it may be a receipt, and the next message is not the one it is for.
    pub(crate) fn ask(&self) -> u64 {
        self.mail.set(None);
        self.question.set(self.question.get() + 1);
        self.question.get()
    }

    /// Puts the answer to a question in and wakes; drops it when the question is no longer open.
    pub(crate) fn deliver(&self, question: u64, letter: Letter) {
        if question == self.question.get() {
            self.mail.set(Some(letter));
            self.wake();
        }
    }

    /// Whether an answer is there.
    pub(crate) fn has_letter(&self) -> bool {
        let letter = self.mail.take();
        let there = letter.is_some();
        self.mail.set(letter);
        there
    }

    /// Takes the letter out.
    pub(crate) fn take_letter(&self) -> Option<Letter> {
        self.mail.take()
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// All slots of a runtime.
#[derive(Default)]
pub(crate) struct Slots {
    slots: RefCell<Vec<Option<Rc<Slot>>>>,
    free: RefCell<Vec<usize>>,
    serials: Cell<u64>,
}

impl Slots {
    /// A place for a new connection, or for a mail stream of a peer.
    pub(crate) fn insert_for(&self, class: Class, principal: Option<Rc<Principal>>) -> (usize, Rc<Slot>) {
        self.serials.set(self.serials.get() + 1);
        let slot = Rc::new(Slot::new(self.serials.get(), class, principal));
        let mut slots = self.slots.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(None);
            slots.len() - 1
        });
        slots[index] = Some(Rc::clone(&slot));
        (index, slot)
    }

    /// The connection is gone.
    pub(crate) fn remove(&self, index: usize) {
        self.slots.borrow_mut()[index] = None;
        self.free.borrow_mut().push(index);
    }

    /// The connection in a place.
    pub(crate) fn get(&self, index: usize) -> Option<Rc<Slot>> {
        self.slots.borrow().get(index).cloned().flatten()
    }

    /// Wakes those whose time has come.
    pub(crate) fn fire(&self, now: Instant) {
        for slot in self.slots.borrow().iter().flatten() {
            if slot.deadline.get() <= now && !slot.fired.replace(true) {
                slot.wake();
            }
        }
    }

    /// Whether nobody is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.borrow().len() == self.free.borrow().len()
    }

    /// Tells all that the door is to be closed.
    pub(crate) fn stop(&self) {
        for slot in self.slots.borrow().iter().flatten() {
            slot.stop();
        }
    }
}

impl Places for Slots {
    fn evict(&self, index: usize, why: Eviction) {
        if let Some(slot) = self.get(index) {
            slot.told_to_go.set(Some(why));
            slot.wake();
        }
    }
}

#[cfg(test)]
mod tests;
