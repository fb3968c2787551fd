//! What all threads of a door count together: connections and memory by class, and who is asked to
//! send somebody away.
//!
//! Everything is an atomic counter, read without locks at each accept. A thread that has no victim
//! of the class that must give way asks the thread that has most of them; that one answers within
//! one turn of its loop, and meanwhile the newcomer is served: a door may stand a little above its
//! limit, by [`limits::LEAVING_MAX`] at most.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use postern_trust::{CLASSES, Class};
use tokio::sync::Notify;

use crate::limits;

/// Counters of one door.
#[derive(Debug)]
pub struct Crowd {
    open: [AtomicU32; CLASSES],
    /// Of the open ones: told to go, and not gone yet.
    leaving: [AtomicU32; CLASSES],
    held: [AtomicU64; CLASSES],
    evicted: [AtomicU64; CLASSES],
    idled: AtomicU64,
    deferred: [AtomicU64; CLASSES],
    refused: [AtomicU64; CLASSES],
    threads: Box<[Desk]>,
}

/// One thread's side of it.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    evictable: [AtomicU32; CLASSES],
    wanted: [AtomicU32; CLASSES],
    /// How late the thread's last tick was, in milliseconds.
    lag_ms: AtomicU64,
    pub(crate) bell: Notify,
}

/// The crowd at one moment, by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrowdSnapshot {
    /// Connections.
    pub open: [u32; CLASSES],
    /// Octets of messages on their way in.
    pub held_bytes: [u64; CLASSES],
    /// Sent away to make room, since the start.
    pub evicted: [u64; CLASSES],
    /// Sent away because they moved nothing on for longer than the weather allows, since the start.
    pub idled: u64,
    /// Recipients deferred by admission, since the start.
    pub deferred: [u64; CLASSES],
    /// Connections refused by admission, since the start.
    pub refused: [u64; CLASSES],
    /// How late the worst thread is with what it has to do, in milliseconds.
    pub lag_ms: u64,
}

impl Crowd {
    /// Nobody is there, at a door of so many threads.
    pub fn new(threads: usize) -> Self {
        Self {
            open: Default::default(),
            leaving: Default::default(),
            held: Default::default(),
            evicted: Default::default(),
            idled: AtomicU64::new(0),
            deferred: Default::default(),
            refused: Default::default(),
            threads: (0..threads).map(|_| Desk::default()).collect(),
        }
    }

    /// For `status` and for the weather.
    pub fn snapshot(&self) -> CrowdSnapshot {
        CrowdSnapshot {
            open: self.open.each_ref().map(|count| count.load(Relaxed)),
            held_bytes: self.held.each_ref().map(|count| count.load(Relaxed)),
            evicted: self.evicted.each_ref().map(|count| count.load(Relaxed)),
            idled: self.idled.load(Relaxed),
            deferred: self.deferred.each_ref().map(|count| count.load(Relaxed)),
            refused: self.refused.each_ref().map(|count| count.load(Relaxed)),
            lag_ms: self.threads.iter().map(|desk| desk.lag_ms.load(Relaxed)).max().unwrap_or(0),
        }
    }

    /// Connections by class without those that were told to go.
    pub fn standing(&self) -> [u32; CLASSES] {
        std::array::from_fn(|class| self.open[class].load(Relaxed).saturating_sub(self.leaving[class].load(Relaxed)))
    }

    /// Connections that were told to go and are not gone yet.
    pub fn leaving(&self) -> u32 {
        self.leaving.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// One has come in.
    pub fn enter(&self, class: Class) {
        self.open[class as usize].fetch_add(1, Relaxed);
    }

    /// One is gone.
    pub fn leave(&self, class: Class, was_told: bool) {
        self.open[class as usize].fetch_sub(1, Relaxed);
        if was_told {
            self.leaving[class as usize].fetch_sub(1, Relaxed);
        }
    }

    pub(crate) fn told_to_go(&self, class: Class, idle: bool) {
        self.leaving[class as usize].fetch_add(1, Relaxed);
        if idle {
            self.idled.fetch_add(1, Relaxed);
        } else {
            self.evicted[class as usize].fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn deferred(&self, class: Class) {
        self.deferred[class as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn refused(&self, class: Class) {
        self.refused[class as usize].fetch_add(1, Relaxed);
    }

    /// A client's message grew or is gone.
    pub fn hold(&self, class: Class, before: usize, now: usize) {
        let held = &self.held[class as usize];
        match now.checked_sub(before) {
            Some(more) => held.fetch_add(more as u64, Relaxed),
            None => held.fetch_sub((before - now) as u64, Relaxed),
        };
    }

    pub(crate) fn held(&self) -> [u64; CLASSES] {
        self.held.each_ref().map(|count| count.load(Relaxed))
    }

    pub(crate) fn desk(&self, thread: usize) -> &Desk {
        &self.threads[thread]
    }

    /// Asks the thread that has most of this class to send one away. False: nobody has any.
    pub(crate) fn ask_another(&self, class: Class) -> bool {
        let most = self.threads.iter().max_by_key(|desk| desk.to_spare(class));
        match most {
            Some(desk) if desk.to_spare(class) > 0 => {
                desk.wanted[class as usize].fetch_add(1, Relaxed);
                desk.bell.notify_one();
                true
            }
            _ => false,
        }
    }
}

impl Desk {
    /// How many of this class the thread could send away now.
    pub(crate) fn publish(&self, class: Class, evictable: u32) {
        self.evictable[class as usize].store(evictable, Relaxed);
    }

    /// The thread's tick came so late.
    pub(crate) fn ticked_late(&self, lag: std::time::Duration) {
        self.lag_ms.store(u64::try_from(lag.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Places that others have asked for, once.
    pub(crate) fn take_wanted(&self, class: Class) -> u32 {
        self.wanted[class as usize].swap(0, Relaxed)
    }

    fn to_spare(&self, class: Class) -> u32 {
        let wanted = self.wanted[class as usize].load(Relaxed);
        self.evictable[class as usize].load(Relaxed).saturating_sub(wanted)
    }
}

/// Whether admission acts on what it thinks; see [`crate::Admission`]'s switches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Merit {
    /// Slots are kept by merit.
    #[default]
    On,
    /// As `Off`, and the log says what `On` would have done.
    Observe,
    /// First come, first served: what every other server does. The comparator of the bench, and
    /// the way out for an operator who wants admission out of the path.
    Off,
}

/// How many more messages may be taken in, by class, and how full the spool is: written by whoever
/// measures what leaves, counted down by the doors.
#[derive(Debug)]
pub struct Intake {
    room: [AtomicU64; CLASSES],
    spool_used_per_mille: AtomicU32,
}

impl Default for Intake {
    fn default() -> Self {
        Self { room: std::array::from_fn(|_| AtomicU64::new(u64::MAX)), spool_used_per_mille: AtomicU32::new(0) }
    }
}

impl Intake {
    /// Sets both.
    pub fn publish(&self, room: [u64; CLASSES], spool_used_per_mille: u64) {
        for (cell, room) in self.room.iter().zip(room) {
            cell.store(room, Relaxed);
        }
        self.spool_used_per_mille.store(u32::try_from(spool_used_per_mille).unwrap_or(u32::MAX), Relaxed);
    }

    pub(crate) fn room(&self) -> [u64; CLASSES] {
        self.room.each_ref().map(|cell| cell.load(Relaxed))
    }

    pub(crate) fn spool_used_per_mille(&self) -> u32 {
        self.spool_used_per_mille.load(Relaxed)
    }

    /// A message of this class was taken: it stands in the way of its own class and of those
    /// behind it, because what is better leaves first.
    pub fn taken(&self, class: Class) {
        for cell in &self.room[class as usize..] {
            // Lost updates beside a publish are made good by the next one, 250 ms later.
            let room = cell.load(Relaxed);
            if room != u64::MAX {
                cell.store(room.saturating_sub(1), Relaxed);
            }
        }
    }
}

const _: () = assert!(limits::LEAVING_MAX >= 64);
