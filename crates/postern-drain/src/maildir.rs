//! Final delivery into Maildirs: safe names, and files that are durable before they are counted.
//!
//! Owns the directories below a `maildir:` route. Everything here blocks; the worker calls it on a
//! file thread. A delivery is idempotent: the file's name is made from the item and the recipient,
//! so that a repeat after a crash finds what the first attempt left and adds no second copy.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use postern_proto::address::Address;
use postern_proto::reply::{Enhanced, Reply};
use postern_spool::BodySource;

use crate::limits::MAILBOX_NAME_BYTES_MAX;

/// What is known about the directories below each root, so that the common case makes no system
/// call but those of the file itself. One entry per mailbox used since start.
#[derive(Debug, Default)]
pub(crate) struct Maildirs {
    roots: Mutex<HashMap<PathBuf, Root>>,
}

#[derive(Debug)]
struct Root {
    /// Mailboxes on disk, plus those being made.
    mailboxes: usize,
    /// Those that exist and are known to be durable.
    ready: HashSet<String>,
}

/// One file to be delivered.
#[derive(Debug)]
pub(crate) struct Letter<'a> {
    pub(crate) root: &'a Path,
    /// From [`mailbox_name`].
    pub(crate) mailbox: &'a str,
    /// From [`file_name`].
    pub(crate) file_name: &'a str,
    /// Header fields added at delivery, each ending in CRLF.
    pub(crate) prefix: &'a [u8],
    /// Stands for the first `from` octets of the body.
    pub(crate) head: &'a [u8],
    pub(crate) body: &'a BodySource,
    pub(crate) from: u64,
    /// An earlier attempt may have delivered this very letter: look for it first.
    pub(crate) maybe_repeat: bool,
    pub(crate) mailboxes_max: usize,
}

/// Why a letter was not delivered; it is always worth another try.
#[derive(Debug)]
pub(crate) struct MaildirError {
    /// For the sender: bland.
    pub(crate) reply: Reply,
    /// For the log and the operator.
    pub(crate) detail: String,
}

impl Maildirs {
    /// Puts a letter into its mailbox. On return it is durable: the file was synced, and so was
    /// every directory that leads to it and was made here.
    pub(crate) fn deliver(&self, letter: &Letter<'_>) -> Result<(), MaildirError> {
        let mailbox = letter.root.join(letter.mailbox);
        self.prepare(letter)?;
        match put(&mailbox, letter) {
            // Somebody removed the directories under us: once more from the start.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.forget(letter);
                self.prepare(letter)?;
                put(&mailbox, letter).map_err(|error| failed(&mailbox, &error))
            }
            result => result.map_err(|error| failed(&mailbox, &error)),
        }
    }

    /// Makes the mailbox unless it is known to be there, within `mailboxes_max`. Directories that
    /// exist already are synced at their first use too: the process that made them may have died
    /// in between.
    fn prepare(&self, letter: &Letter<'_>) -> Result<(), MaildirError> {
        let path = letter.root.join(letter.mailbox);
        let known = self.lock().get(letter.root).map(|root| root.ready.contains(letter.mailbox));
        if known == Some(true) {
            return Ok(());
        }
        if known.is_none() {
            let mailboxes = open_root(letter.root).map_err(|error| failed(letter.root, &error))?;
            self.lock().entry(letter.root.to_owned()).or_insert(Root { mailboxes, ready: HashSet::new() });
        }
        let reserved = if path.is_dir() { false } else { self.reserve(letter)? };
        let made = make_mailbox(letter.root, &path);
        let mut roots = self.lock();
        if let Some(root) = roots.get_mut(letter.root) {
            if reserved && !matches!(made, Ok(true)) {
                root.mailboxes = root.mailboxes.saturating_sub(1);
            }
            if made.is_ok() {
                root.ready.insert(letter.mailbox.to_owned());
            }
        }
        made.map(drop).map_err(|error| failed(&path, &error))
    }

    /// Counts a mailbox that is about to be made.
    fn reserve(&self, letter: &Letter<'_>) -> Result<bool, MaildirError> {
        let mut roots = self.lock();
        match roots.get_mut(letter.root) {
            Some(root) if root.mailboxes >= letter.mailboxes_max => Err(MaildirError {
                reply: Reply::new(452, Enhanced(4, 3, 1), "No room for another mailbox"),
                detail: format!(
                    "{} holds {} mailboxes, the most allowed: raise mailboxes_max or name the recipients that exist",
                    letter.root.display(),
                    root.mailboxes
                ),
            }),
            Some(root) => {
                root.mailboxes += 1;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn forget(&self, letter: &Letter<'_>) {
        self.lock().remove(letter.root);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Root>> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The directory of an address: `local@domain`, lower-case letters, digits and `._+-` as they are,
/// every other byte as `%XX`; never with a dot in front. Case does not matter, as it does not when
/// recipients are looked up: RFC 5321 section 2.4 lets it, and nobody expects two mailboxes. Otherwise
/// distinct addresses get distinct names. An address without domain is one of `hostname`. A name too long for a file system ends in `%_` and a hash of the
/// whole, which no encoded name can hold.
pub(crate) fn mailbox_name(address: &Address, detail: Option<char>, hostname: &str) -> String {
    let local = address.local_without_detail(detail);
    let domain = if address.domain.is_empty() { hostname } else { &address.domain };
    let mut name = encoded(&local.to_lowercase());
    name.push('@');
    name.push_str(&encoded(&domain.to_lowercase()));
    if name.len() > MAILBOX_NAME_BYTES_MAX {
        let hash = fnv128(name.as_bytes());
        name.truncate(MAILBOX_NAME_BYTES_MAX - 34);
        let _ = write!(name, "%_{hash:032x}");
    }
    name
}

/// The unique name of a letter (<https://cr.yp.to/proto/maildir.html>): time of arrival, item,
/// recipient, host, and the size as Dovecot and Courier read it. Made from what does not change
/// between attempts, and of nothing else: the same letter always gets the same name.
pub(crate) fn file_name(item: &str, arrived_unix_ms: u64, recipient: &Address, hostname: &str, size: u64) -> String {
    let (seconds, micros) = (arrived_unix_ms / 1000, arrived_unix_ms % 1000 * 1000);
    let tag = fnv64(recipient.to_string().as_bytes());
    let host: String = hostname.chars().take(64).map(|c| if matches!(c, '/' | ':' | ',') { '_' } else { c }).collect();
    format!("{seconds}.M{micros}_{item}_{tag:016x}.{host},S={size}")
}

fn encoded(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for byte in part.bytes() {
        match byte {
            b'.' if out.is_empty() => out.push_str("%2E"),
            b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'+' | b'-' => out.push(char::from(byte)),
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
    out
}

/// FNV-1a. Not against an adversary: who could choose two addresses of one long name would only
/// share a mailbox with himself.
fn fnv128(bytes: &[u8]) -> u128 {
    let step =
        |hash: u128, byte: &u8| (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, step)
}

fn fnv64(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Makes the root when missing and counts its mailboxes.
fn open_root(root: &Path) -> io::Result<usize> {
    if !root.is_dir() {
        DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        sync_directory(root.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    }
    let mut mailboxes = 0;
    for entry in fs::read_dir(root)? {
        mailboxes += usize::from(entry?.file_type()?.is_dir());
    }
    Ok(mailboxes)
}

/// Returns whether the mailbox was not there before.
fn make_mailbox(root: &Path, path: &Path) -> io::Result<bool> {
    let made = make_directory(path)?;
    for part in ["tmp", "new", "cur"] {
        make_directory(&path.join(part))?;
    }
    sync_directory(path)?;
    sync_directory(root)?;
    Ok(made)
}

fn make_directory(path: &Path) -> io::Result<bool> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(false),
        Err(error) => Err(error),
    }
}

fn put(mailbox: &Path, letter: &Letter<'_>) -> io::Result<()> {
    let new = mailbox.join("new");
    let there = new.join(letter.file_name);
    if letter.maybe_repeat && (there.exists() || is_in(&new, letter)? || is_in(&mailbox.join("cur"), letter)?) {
        // The first attempt may have died between the rename and the sync.
        return sync_directory(&new);
    }
    let tmp = mailbox.join("tmp").join(letter.file_name);
    let written = write_file(&tmp, letter).and_then(|()| fs::rename(&tmp, &there));
    if let Err(error) = written {
        let _ = fs::remove_file(&tmp);
        return Err(error);
    }
    sync_directory(&new)
}

/// A reader moves letters to `cur` and adds `:2,flags` to their names. The size in the name does not
/// count: a letter that was judged once more may carry other marks, and is the same letter.
fn is_in(directory: &Path, letter: &Letter<'_>) -> io::Result<bool> {
    let unique = letter.file_name.rsplit_once(",S=").map_or(letter.file_name, |(unique, _)| unique);
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let rest = name.as_encoded_bytes().strip_prefix(unique.as_bytes());
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b":") || rest.starts_with(b",S=")) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn write_file(path: &Path, letter: &Letter<'_>) -> io::Result<()> {
    let mut file = match create(path) {
        // Left by an attempt that died: nobody else makes this name.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            create(path)?
        }
        result => result?,
    };
    file.write_all(letter.prefix)?;
    file.write_all(letter.head)?;
    let from = usize::try_from(letter.from).unwrap_or(usize::MAX);
    match letter.body {
        BodySource::Inline(bytes) => file.write_all(bytes.get(from..).unwrap_or_default())?,
        BodySource::File { file: body, len } => copy(body, letter.from, *len, &mut file)?,
    }
    file.sync_all()
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// By position: the descriptor is shared with other deliveries of the same body.
fn copy(from: &File, mut at: u64, len: u64, to: &mut File) -> io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    while at < len {
        let want = piece.len().min(usize::try_from(len - at).unwrap_or(usize::MAX));
        let n = from.read_at(&mut piece[..want], at)?;
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        to.write_all(&piece[..n])?;
        at += n as u64;
    }
    Ok(())
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn failed(path: &Path, error: &io::Error) -> MaildirError {
    let reply = match error.kind() {
        ErrorKind::StorageFull => Reply::new(452, Enhanced(4, 3, 1), "Insufficient storage"),
        ErrorKind::QuotaExceeded => Reply::new(452, Enhanced(4, 2, 2), "Mailbox is full"),
        _ => Reply::new(451, Enhanced(4, 3, 0), "Mailbox is not available now"),
    };
    MaildirError { reply, detail: format!("{}: {error}", path.display()) }
}

#[cfg(test)]
mod tests;
