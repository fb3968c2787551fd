//! Recipients that only the next hop knows: asked once, remembered on disk.
//!
//! What is remembered is bounded and errs on the side of mail: a name that existed goes on being
//! accepted while the next hop drowns, and only a plain 5.1.1 is remembered as absence, because
//! every other refusal may mean something else (over quota, blocked, relaying).

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use postern_net::callout::{self, CalloutVerdict};
use postern_net::client::Connector;
use postern_proto::address::Address;
use postern_proto::mode::Mode;
use postern_proto::session::RecipientVerdict;
use postern_trust::Class;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use crate::deadlines::{Letter, Slot};
use crate::limits;
use crate::policy::CalloutTarget;

/// Address → whether it exists, and when that was found out (Unix milliseconds).
const RECIPIENTS: TableDefinition<'_, &str, (bool, u64)> = TableDefinition::new("recipients");

/// What callouts have found out, on disk.
#[derive(Clone, Debug)]
pub struct CalloutCache {
    database: Arc<Database>,
}

/// The cache could not be opened. Deleting the file is safe: it costs callouts, never mail.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {cause}; the file may be deleted, it only remembers what the next hop said")]
pub struct CacheError {
    path: String,
    cause: Box<redb::Error>,
}

/// What is remembered of a recipient, weighed by its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    /// Fresh enough to be used.
    Sure { exists: bool },
    /// Worth something only if the next hop cannot be asked.
    Stale,
    /// Nothing.
    Nothing,
}

impl CalloutCache {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// [`CacheError`] names the file and the cure.
    pub fn open(path: &Path) -> Result<Self, CacheError> {
        let failed = |cause: redb::Error| CacheError { path: path.display().to_string(), cause: Box::new(cause) };
        let database = Database::create(path).map_err(|error| failed(error.into()))?;
        let transaction = database.begin_write().map_err(|error| failed(error.into()))?;
        transaction.open_table(RECIPIENTS).map_err(|error| failed(error.into()))?;
        transaction.commit().map_err(|error| failed(error.into()))?;
        Ok(Self { database: Arc::new(database) })
    }

    fn recall(&self, address: &str, now_unix_ms: u64) -> Memory {
        let found = (|| {
            let table = self.database.begin_read().ok()?.open_table(RECIPIENTS).ok()?;
            Some(table.get(address).ok()??.value())
        })();
        found.map_or(Memory::Nothing, |(exists, at)| weigh(exists, now_unix_ms.saturating_sub(at)))
    }

    /// Remembers; blocks on the disk, so not on a door's thread. A recipient that exists is synced,
    /// because it is what mail goes on with after a crash while the next hop is away; losing an
    /// absence costs a callout.
    fn remember(&self, address: &str, exists: bool, now_unix_ms: u64) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(if exists { Durability::Immediate } else { Durability::None })?;
        {
            let mut table = transaction.open_table(RECIPIENTS)?;
            table.insert(address, (exists, now_unix_ms))?;
            if table.len()? > limits::CALLOUT_ENTRIES_MAX {
                make_room(&mut table)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

/// Drops absences first: a dictionary attack makes many of them, and must not drive out the
/// recipients that exist. Where that is not enough, the older half goes.
fn make_room(table: &mut redb::Table<'_, &str, (bool, u64)>) -> Result<(), redb::Error> {
    let before = table.len()?;
    table.retain(|_, (exists, _)| exists)?;
    if table.len()? <= before * 3 / 4 {
        return Ok(());
    }
    let mut ages: Vec<u64> = Vec::new();
    for entry in table.iter()? {
        ages.push(entry?.1.value().1);
    }
    ages.sort_unstable();
    let median = ages.get(ages.len() / 2).copied().unwrap_or(0);
    table.retain(|_, (_, at)| at > median)?;
    Ok(())
}

fn weigh(exists: bool, age_ms: u64) -> Memory {
    let within = |limit: std::time::Duration| u128::from(age_ms) <= limit.as_millis();
    match exists {
        true if within(limits::CALLOUT_FRESH) => Memory::Sure { exists },
        true if within(limits::CALLOUT_STALE) => Memory::Stale,
        false if within(limits::CALLOUT_NEGATIVE) => Memory::Sure { exists },
        _ => Memory::Nothing,
    }
}

/// Where the connections of one runtime ask.
pub(crate) struct CalloutDesk {
    office: Rc<Office>,
    under_way: Rc<Cell<usize>>,
}

/// What a callout under way needs.
struct Office {
    connector: Connector,
    cache: Option<CalloutCache>,
}

impl CalloutDesk {
    /// One that says `hostname` to next hops.
    pub(crate) fn new(hostname: &str, cache: Option<CalloutCache>) -> Self {
        Self { office: Rc::new(Office { connector: Connector::new(hostname), cache }), under_way: Rc::default() }
    }

    /// Answers from memory, or asks; then the slot gets a letter.
    pub(crate) fn ask(
        &self,
        target: CalloutTarget,
        address: &Address,
        (mode, class): (Mode, Class),
        now_unix_ms: u64,
        slot: &Rc<Slot>,
    ) -> Option<RecipientVerdict> {
        // Case of the local part is the next hop's business, so it is kept.
        let name = address.to_string();
        let memory = self.office.cache.as_ref().map_or(Memory::Nothing, |cache| cache.recall(&name, now_unix_ms));
        let unsure = match memory {
            Memory::Sure { exists: true } => return Some(RecipientVerdict::Accept(mode)),
            Memory::Sure { exists: false } => return Some(RecipientVerdict::Unknown(None)),
            Memory::Stale => RecipientVerdict::Accept(mode),
            Memory::Nothing => RecipientVerdict::Unsure,
        };
        let places = if class <= Class::Known { limits::CALLOUTS_MAX } else { limits::STRANGERS_CALLOUTS_MAX };
        if self.under_way.get() >= places {
            return Some(unsure);
        }
        let place = Place::take(&self.under_way);
        let question = slot.ask();
        let (office, address, slot) = (Rc::clone(&self.office), address.clone(), Rc::clone(slot));
        tokio::task::spawn_local(async move {
            let verdict =
                callout::check(&office.connector, &target.target, target.protocol, target.proxy, &address).await;
            drop(place);
            let exists = match &verdict {
                CalloutVerdict::Exists => Some(true),
                CalloutVerdict::Unknown(_) => Some(false),
                CalloutVerdict::Unsure(_) => None,
            };
            if let (Some(exists), Some(cache)) = (exists, office.cache.clone()) {
                tokio::task::spawn_blocking(move || {
                    if let Err(error) = cache.remember(&name, exists, now_unix_ms) {
                        tracing::warn!(%error, "what a callout found could not be remembered");
                    }
                });
            }
            slot.deliver(
                question,
                Letter::Recipient(match verdict {
                    CalloutVerdict::Exists => RecipientVerdict::Accept(mode),
                    CalloutVerdict::Unknown(reply) => RecipientVerdict::Unknown(Some(reply)),
                    CalloutVerdict::Unsure(why) => {
                        tracing::info!(recipient = %address, why, "callout without an answer");
                        unsure
                    }
                }),
            );
        });
        None
    }
}

/// One callout's place; given back when it ends, however it ends.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(under_way: &Rc<Cell<usize>>) -> Self {
        under_way.set(under_way.get() + 1);
        Self(Rc::clone(under_way))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests;
