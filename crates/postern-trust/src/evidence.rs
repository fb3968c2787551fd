//! What others saw of a sender, on its way to the one task that writes the book. This file owns the words of evidence and the
//! bounded channel. It never judges and never blocks: doors send from their hot path, and what finds no room is dropped and
//! counted (lost evidence costs a little quality, a waiting door costs slots).

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use ipnet::IpNet;

/// What says that an address may speak for a domain. DKIM will join here: it proves a message's author domain, not the
/// address, so it will credit domains only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// SPF passed for the envelope sender's domain.
    Spf,
    /// The reverse name of the address lies in the domain and resolves back to the address.
    Name,
}

/// One observation. `domain` is lower case or not, with or without its last dot; where a whole address `local@domain` is
/// given instead, the mailbox gets its share too (inside shared providers only the mailbox can).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// This site wrote to the domain, or to the one address there. Never to be sent for what a machine wrote by itself
    /// (null sender, `Auto-Submitted`, a list's explosion): a vacation reply to spam is no correspondence.
    WroteTo {
        /// The recipient's domain.
        domain: Box<str>,
        /// The recipient's whole address, where known. Without it nothing is learnt of a shared provider.
        address: Option<Box<str>>,
    },
    /// The address is authorised to speak for the domain. To be sent before the [`Evidence::Ham`] or [`Evidence::Spam`] of the message.
    Authorised {
        /// The client.
        ip: IpAddr,
        /// The domain it may speak for.
        domain: Box<str>,
        /// What says so.
        by: Authority,
    },
    /// Mail that the filter, or a person, called good.
    Ham {
        /// The client.
        ip: IpAddr,
        /// The envelope sender's domain or whole address.
        domain: Option<Box<str>>,
        /// How many messages.
        n: u16,
    },
    /// Mail that the filter, or a person, called spam.
    Spam {
        /// The client.
        ip: IpAddr,
        /// The envelope sender's domain or whole address.
        domain: Option<Box<str>>,
        /// How many messages.
        n: u16,
    },
    /// Mail of a domain whose key its client had shown, and what the filter called it. Domain and mailbox are credited and
    /// blamed wherever it came from; the address only as by [`Evidence::Ham`] and [`Evidence::Spam`], because a key says
    /// nothing about who else sends from there.
    OfKeyHolder {
        /// The client.
        ip: IpAddr,
        /// The envelope sender's domain or whole address.
        domain: Box<str>,
        /// How many messages.
        n: u16,
        /// What it was called: spam, or good.
        spam: bool,
    },
    /// It spoke before the greeting.
    EarlyTalker {
        /// The client.
        ip: IpAddr,
    },
    /// Recipients that do not exist.
    BadRecipients {
        /// The client.
        ip: IpAddr,
        /// How many.
        n: u16,
    },
    /// It broke the protocol as no mail server does (bare line ends, commands after the dot, an HTTP request).
    Abuse {
        /// The client.
        ip: IpAddr,
    },
    /// Its HELO is impossible: our own name or address, or no name at all.
    BadHelo {
        /// The client.
        ip: IpAddr,
    },
    /// A DNS list holds it.
    Listed {
        /// The client.
        ip: IpAddr,
        /// Greater than zero: listed as good; less: listed as bad.
        weight: i8,
    },
    /// It connected. Counted; who is trusted is steered by it. It makes nobody better or worse.
    Connected {
        /// The client.
        ip: IpAddr,
    },
    /// Its public mail was delivered, and no filter had judged it. It holds trust that is there and never makes
    /// any: where nothing judges, spam is delivered too, and would make spammers known. But a friend must not
    /// become a stranger for want of a filter.
    Delivered {
        /// The client.
        ip: IpAddr,
    },
    /// The networks in the SPF record of a shared provider, or of a domain that we know.
    ProviderNetworks {
        /// Whose record.
        domain: Box<str>,
        /// Its networks; replaces what was held for that domain.
        networks: Box<[IpNet]>,
    },
}

/// Evidence is spread over this many queues, so that a door that meets a lock goes on to the next one instead of waiting.
const QUEUES: usize = 8;

#[derive(Debug)]
struct Shared {
    queues: [Mutex<Vec<Evidence>>; QUEUES],
    each_max: usize,
    dropped: AtomicU64,
    homes: AtomicUsize,
}

/// The doors' end. Cloning it gives the clone another home queue: one clone a thread.
#[derive(Debug)]
pub struct EvidenceSender {
    shared: Arc<Shared>,
    home: usize,
}

/// The trust task's end.
#[derive(Debug)]
pub struct EvidenceReceiver {
    shared: Arc<Shared>,
}

/// A channel that holds at most about `capacity` observations (rounded up to a multiple of 8), all memory taken at once.
#[must_use]
pub fn channel(capacity: usize) -> (EvidenceSender, EvidenceReceiver) {
    let each_max = capacity.div_ceil(QUEUES).max(1);
    let shared = Arc::new(Shared {
        queues: core::array::from_fn(|_| Mutex::new(Vec::with_capacity(each_max))),
        each_max,
        dropped: AtomicU64::new(0),
        homes: AtomicUsize::new(1),
    });
    (EvidenceSender { shared: Arc::clone(&shared), home: 0 }, EvidenceReceiver { shared })
}

impl Clone for EvidenceSender {
    fn clone(&self) -> Self {
        let home = self.shared.homes.fetch_add(1, Ordering::Relaxed) % QUEUES;
        Self { shared: Arc::clone(&self.shared), home }
    }
}

impl EvidenceSender {
    /// Hands it over, or drops and counts it: at most eight tries of a lock, no waiting. Says whether it was taken.
    pub fn send(&self, evidence: Evidence) -> bool {
        for step in 0..QUEUES {
            let queue = &self.shared.queues[(self.home + step) % QUEUES];
            let mut guard: MutexGuard<'_, _> = match queue.try_lock() {
                Ok(guard) => guard,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => continue,
            };
            if guard.len() < self.shared.each_max {
                guard.push(evidence);
                return true;
            }
        }
        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// How many were dropped since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

impl EvidenceReceiver {
    /// Moves at most `max` observations to the end of `into`; says how many. Order holds within one sender, as long as it
    /// met no lock.
    pub fn drain(&mut self, into: &mut Vec<Evidence>, max: usize) -> usize {
        let mut taken = 0;
        for queue in &self.shared.queues {
            let mut guard = queue.lock().unwrap_or_else(PoisonError::into_inner);
            let n = guard.len().min(max - taken);
            into.extend(guard.drain(..n));
            taken += n;
        }
        taken
    }

    /// How many were dropped since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
