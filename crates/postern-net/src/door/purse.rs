//! The purse: what the client remembers of the doors of others, on disk, by domain.
//!
//! Tickets (each used once), how far the server's clock is from ours, the second door, and what the downgrade rule must
//! not forget. Bounded: 8 tickets a domain, 1,024 domains. Losing all of it costs quality, never mail, so a file
//! that is no record is thrown away with a warning; one that the system does not give to us is kept and tried again. It never speaks to a peer and decides nothing; the door client and
//! the sending side's downgrade rule call it. One process per directory.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postern_proto::door::Mode;
use postern_proto::door::limits::{NAME_BYTES_MAX, PURSE_MAX, TICKET_BYTES, TICKET_LIFE_S};

use super::key::PublicKey;

mod file;

/// Domains with a record. Each takes 4 KiB of disk and 1 KiB of memory at most: 4 MiB and 1 MiB. Full: the record written
/// longest ago goes, those without a promise to enforce first.
pub const DOMAINS_MAX: usize = 1024;

/// The purse could not be opened or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}; the directory must be ours to read and write; what is in it may be deleted, it only makes doors open faster", path.display())]
pub struct PurseError {
    path: PathBuf,
    error: io::Error,
}

/// A ticket with all that its bearer must know.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant {
    /// To be shown.
    pub ticket: [u8; TICKET_BYTES],
    /// To prove possession with; never shown.
    pub key: [u8; 16],
    /// Unix seconds, by the server's clock, after which it is of no use.
    pub expires_s: u64,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("expires_s", &self.expires_s).finish_non_exhaustive()
    }
}

/// A second door of a domain that is not published: told to the known, for the day the first is silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AltDoor {
    /// A name, or an address.
    pub host: String,
    /// Its UDP port.
    pub port: u16,
}

/// What was last known of a domain's door, for the downgrade rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorMemory {
    /// Where it was, when that was told.
    pub place: Option<AltDoor>,
    /// The keys it had.
    pub keys: Vec<PublicKey>,
    /// SHA-256 of further keys, from TLSA records that DNSSEC had validated.
    pub digests: Vec<[u8; 32]>,
    /// What it asked of senders who cannot reach it.
    pub mode: Mode,
    /// For how long, in seconds.
    pub max_age_s: u64,
    /// Since when, Unix seconds by our clock.
    pub learned_s: u64,
    /// Whether that was learnt where nobody can forge it (DNSSEC, HTTPS, the operator).
    pub secure: bool,
    /// The first silence since the door last answered, Unix seconds by our clock.
    pub silent_since_s: Option<u64>,
}

impl DoorMemory {
    /// Whether the memory still binds at `now_s`.
    pub fn is_fresh(&self, now_s: u64) -> bool {
        now_s < self.learned_s.saturating_add(self.max_age_s)
    }
}

/// All that is kept of one domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Record {
    /// Oldest first.
    tickets: Vec<Grant>,
    /// The server's clock less ours, in seconds.
    offset_s: Option<i64>,
    alt: Option<AltDoor>,
    door: Option<DoorMemory>,
}

impl Record {
    fn is_empty(&self) -> bool {
        self.tickets.is_empty() && self.offset_s.is_none() && self.alt.is_none() && self.door.is_none()
    }

    fn server_time(&self, now_s: u64) -> u64 {
        now_s.saturating_add_signed(self.offset_s.unwrap_or(0))
    }

    fn enforces(&self) -> bool {
        self.door.as_ref().is_some_and(|door| door.secure && door.mode == Mode::Enforce)
    }
}

/// Tickets and memories, by domain. Clones share them. Every change is on disk when the call returns, which takes two syncs:
/// call from where blocking is allowed.
#[derive(Clone, Debug)]
pub struct Purse {
    shelf: Arc<Mutex<Shelf>>,
}

#[derive(Debug)]
struct Shelf {
    dir: PathBuf,
    records: HashMap<String, (u64, Record)>,
    /// Files that could not be read so far: as many as there were.
    unread: HashSet<PathBuf>,
    /// Counts writes; the larger, the later.
    turn: u64,
}

impl Purse {
    /// Reads the directory, or makes it (0700). What is no record is deleted with a warning. A file that cannot be read
    /// stays, and is tried again whenever its domain is asked for; until then nothing is known of that domain, and nothing
    /// written.
    ///
    /// # Errors
    /// [`PurseError`] when the directory itself cannot be made or read.
    pub fn open(dir: &Path) -> Result<Self, PurseError> {
        let failed = |error| PurseError { path: dir.into(), error };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let found = file::read_all(dir).map_err(failed)?;
        let mut shelf = Shelf { dir: dir.into(), records: HashMap::new(), unread: found.unread, turn: 0 };
        for (domain, record) in found.records {
            shelf.turn += 1;
            shelf.records.insert(domain, (shelf.turn, record));
        }
        while shelf.records.len() > DOMAINS_MAX {
            shelf.make_room();
        }
        Ok(Self { shelf: Arc::new(Mutex::new(shelf)) })
    }

    /// Takes the oldest ticket that is still good out of the purse. It is gone from the disk before it is returned: after a crash
    /// it is lost, never used twice. Expired ones are thrown away. `now_s` is our own clock.
    ///
    /// # Errors
    /// [`PurseError`] when that cannot be written; then no ticket is to be used.
    pub fn take(&self, domain: &str, now_s: u64) -> Result<Option<Grant>, PurseError> {
        let mut shelf = self.lock();
        shelf.recall(domain)?;
        let Some((_, record)) = shelf.records.get(domain) else { return Ok(None) };
        if record.tickets.is_empty() {
            return Ok(None);
        }
        let mut record = record.clone();
        let server_s = record.server_time(now_s);
        record.tickets.retain(|kept| kept.expires_s > server_s);
        let taken = (!record.tickets.is_empty()).then(|| record.tickets.remove(0));
        shelf.store(domain, record)?;
        Ok(taken)
    }

    /// Puts a ticket in. The ninth pushes the oldest out; one that claims to live longer than tickets do is cut to that.
    ///
    /// # Errors
    /// [`PurseError`].
    pub fn put(&self, domain: &str, mut grant: Grant, now_s: u64) -> Result<(), PurseError> {
        self.change(domain, |record| {
            let server_s = record.server_time(now_s);
            grant.expires_s = grant.expires_s.min(server_s.saturating_add(TICKET_LIFE_S));
            record.tickets.retain(|kept| kept.expires_s > server_s && kept.ticket != grant.ticket);
            record.tickets.push(grant);
            let over = record.tickets.len().saturating_sub(PURSE_MAX);
            record.tickets.drain(..over);
        })
    }

    /// How many tickets there are, expired ones counted too.
    pub fn tickets(&self, domain: &str) -> usize {
        self.look(domain, |record| record.tickets.len()).unwrap_or(0)
    }

    /// How far the server's clock is ahead of ours, in seconds, as far as is known.
    pub fn clock_offset(&self, domain: &str) -> Option<i64> {
        self.look(domain, |record| record.offset_s).flatten()
    }

    /// Keeps the offset of the server's clock. A change of a few seconds is not written.
    ///
    /// # Errors
    /// [`PurseError`].
    pub fn set_clock_offset(&self, domain: &str, offset_s: i64) -> Result<(), PurseError> {
        if self.clock_offset(domain).is_some_and(|known| known.abs_diff(offset_s) <= OFFSET_NOISE_S) {
            return Ok(());
        }
        self.change(domain, |record| record.offset_s = Some(offset_s))
    }

    /// The second door, when one was told.
    pub fn alt(&self, domain: &str) -> Option<AltDoor> {
        self.look(domain, |record| record.alt.clone()).flatten()
    }

    /// Keeps a second door.
    ///
    /// # Errors
    /// [`PurseError`].
    pub fn set_alt(&self, domain: &str, alt: AltDoor) -> Result<(), PurseError> {
        if self.alt(domain).as_ref() == Some(&alt) || alt.host.len() > NAME_BYTES_MAX {
            return Ok(());
        }
        self.change(domain, |record| record.alt = Some(alt))
    }

    /// What was last known of the domain's door.
    pub fn memory(&self, domain: &str) -> Option<DoorMemory> {
        self.look(domain, |record| record.door.clone()).flatten()
    }

    /// Keeps, or with `None` forgets, what is known of the domain's door.
    ///
    /// # Errors
    /// [`PurseError`].
    pub fn set_memory(&self, domain: &str, memory: Option<DoorMemory>) -> Result<(), PurseError> {
        if self.memory(domain) == memory {
            return Ok(());
        }
        self.change(domain, |record| record.door = memory)
    }

    /// The domains that there is a record of, in no order.
    pub fn domains(&self) -> Vec<String> {
        self.lock().records.keys().cloned().collect()
    }

    fn look<T>(&self, domain: &str, read: impl FnOnce(&Record) -> T) -> Option<T> {
        let mut shelf = self.lock();
        // It was said at the start, and who changes something hears it.
        let _ = shelf.recall(domain);
        shelf.records.get(domain).map(|(_, record)| read(record))
    }

    fn change(&self, domain: &str, change: impl FnOnce(&mut Record)) -> Result<(), PurseError> {
        let mut shelf = self.lock();
        if domain.is_empty() || domain.len() > NAME_BYTES_MAX {
            return Ok(());
        }
        shelf.recall(domain)?;
        let mut record = shelf.records.get(domain).map(|(_, record)| record.clone()).unwrap_or_default();
        change(&mut record);
        shelf.store(domain, record)
    }

    /// A panic in the middle of a change leaves the record as it was: it is replaced whole.
    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    /// Tries the domain's file again when it could not be read before.
    fn recall(&mut self, domain: &str) -> Result<(), PurseError> {
        if self.unread.is_empty() {
            return Ok(());
        }
        let path = file::path_of(&self.dir, domain);
        if !self.unread.contains(&path) {
            return Ok(());
        }
        let record = match file::read_one(&self.dir, domain) {
            Ok(record) => record,
            Err(error) => return Err(PurseError { path, error }),
        };
        self.unread.remove(&path);
        let Some(record) = record else { return Ok(()) };
        while self.records.len() >= DOMAINS_MAX {
            self.make_room();
        }
        self.turn += 1;
        self.records.insert(domain.to_owned(), (self.turn, record));
        Ok(())
    }

    /// On disk first, then in memory: what could not be written is not known either.
    fn store(&mut self, domain: &str, record: Record) -> Result<(), PurseError> {
        let failed = |dir: &Path| {
            let path = dir.to_owned();
            move |error| PurseError { path, error }
        };
        if record.is_empty() {
            file::remove(&self.dir, domain).map_err(failed(&self.dir))?;
            self.records.remove(domain);
            return Ok(());
        }
        while self.records.len() >= DOMAINS_MAX && !self.records.contains_key(domain) {
            self.make_room();
        }
        file::write(&self.dir, domain, &record).map_err(failed(&self.dir))?;
        self.turn += 1;
        self.records.insert(domain.to_owned(), (self.turn, record));
        Ok(())
    }

    fn make_room(&mut self) {
        let goes = self.records.iter().min_by_key(|(_, (turn, record))| (record.enforces(), *turn));
        let Some(domain) = goes.map(|(domain, _)| domain.clone()) else { return };
        if let Err(error) = file::remove(&self.dir, &domain) {
            tracing::warn!(%error, domain, "a record of the purse could not be deleted");
        }
        self.records.remove(&domain);
    }
}

/// A clock offset that moves by this much is the same: rounding to seconds, and the way of the packet.
const OFFSET_NOISE_S: u64 = 5;

#[cfg(test)]
mod tests;
