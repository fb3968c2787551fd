//! One file per domain: a line with a digest, then JSON that an operator can read.
//!
//! Replaced whole (written beside, synced, renamed, the directory synced). The digest is against a torn or rotten file, not
//! against somebody who writes here: the directory is ours alone. Owns the format; the purse decides what is kept.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postern_proto::door::Mode;
use postern_proto::door::limits::{NAME_BYTES_MAX, PURSE_MAX};
use serde::{Deserialize, Serialize};

use super::{AltDoor, DoorMemory, Grant, Record};

/// A record has eight tickets of 200 octets, some keys and names. Larger: not a record.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Keys remembered of a door, and digests of keys. More than is taken from DNS: not a record.
const KEYS_MAX: usize = 16;
const HEADER: &str = "postern purse 1 ";
const SUFFIX: &str = "purse";
const BESIDE: &str = "new";

#[derive(Serialize, Deserialize)]
struct Stored {
    domain: String,
    #[serde(default)]
    tickets: Vec<StoredTicket>,
    #[serde(default)]
    offset_s: Option<i64>,
    #[serde(default)]
    alt: Option<StoredAlt>,
    #[serde(default)]
    door: Option<StoredDoor>,
}

#[derive(Serialize, Deserialize)]
struct StoredTicket {
    ticket: String,
    key: String,
    expires_s: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredAlt {
    host: String,
    port: u16,
}

#[derive(Serialize, Deserialize)]
struct StoredDoor {
    #[serde(default)]
    place: Option<StoredAlt>,
    keys: Vec<String>,
    #[serde(default)]
    digests: Vec<String>,
    enforce: bool,
    max_age_s: u64,
    learned_s: u64,
    secure: bool,
    silent_since_s: Option<u64>,
}

/// Why there is no record in a file.
#[derive(Debug)]
pub(super) enum Fault {
    /// The system did not give it to us: no right to, no descriptor left, a disk that fails. It may be good.
    Unread(io::Error),
    /// It is no record.
    Rotten(String),
}

/// What a directory holds.
pub(super) struct Found {
    /// The one written longest ago first.
    pub(super) records: Vec<(String, Record)>,
    /// Files that the system did not give to us.
    pub(super) unread: HashSet<PathBuf>,
}

/// All records. A file that is none is deleted; one that cannot be read stays: there may be a promise to enforce in it.
pub(super) fn read_all(dir: &Path) -> io::Result<Found> {
    let mut found: Vec<(SystemTime, String, Record)> = Vec::new();
    let mut unread = HashSet::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension == Some(BESIDE) {
            // Left by a crash before the rename.
            let _ = fs::remove_file(&path);
        }
        if extension != Some(SUFFIX) {
            continue;
        }
        match read(&path) {
            Ok((domain, record)) if path_of(dir, &domain) == path => {
                let written = fs::metadata(&path).and_then(|facts| facts.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
                found.push((written, domain, record));
            }
            Ok(_) => discard(&path, "it has the name of another domain"),
            Err(Fault::Rotten(why)) => discard(&path, &why),
            Err(Fault::Unread(error)) => {
                tracing::warn!(file = %path.display(), %error, "a record of the purse cannot be read; it is tried again");
                unread.insert(path);
            }
        }
    }
    found.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let records = found.into_iter().map(|(_, domain, record)| (domain, record)).collect();
    Ok(Found { records, unread })
}

/// One domain's record; none when there is no file, or one that is no record.
///
/// # Errors
/// The system's.
pub(super) fn read_one(dir: &Path, domain: &str) -> io::Result<Option<Record>> {
    match read(&path_of(dir, domain)) {
        Ok((of, record)) => Ok((of == domain).then_some(record)),
        Err(Fault::Unread(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(Fault::Unread(error)) => Err(error),
        Err(Fault::Rotten(_)) => Ok(None),
    }
}

/// Durable when it returns.
pub(super) fn write(dir: &Path, domain: &str, record: &Record) -> io::Result<()> {
    let body = serde_json::to_vec(&to_stored(domain, record))?;
    let path = path_of(dir, domain);
    let beside = path.with_extension(BESIDE);
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(format!("{HEADER}{}\n", digest(&body)).as_bytes())?;
    file.write_all(&body)?;
    file.sync_all()?;
    fs::rename(&beside, &path)?;
    sync(dir)
}

/// Durable when it returns. No file is fine.
pub(super) fn remove(dir: &Path, domain: &str) -> io::Result<()> {
    match fs::remove_file(path_of(dir, domain)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sync(dir),
    }
}

fn sync(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

fn discard(path: &Path, why: &str) {
    tracing::warn!(file = %path.display(), why, "a record of the purse is thrown away; tickets are lost, no mail");
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(file = %path.display(), %error, "it could not be deleted");
    }
}

/// Named by a digest, so that no name of a domain is too long or too strange for the file system.
pub(super) fn path_of(dir: &Path, domain: &str) -> PathBuf {
    dir.join(&digest(domain.as_bytes())[..32]).with_extension(SUFFIX)
}

fn digest(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for octet in ring::digest::digest(&ring::digest::SHA256, bytes).as_ref() {
        let _ = write!(text, "{octet:02x}");
    }
    text
}

fn read(path: &Path) -> Result<(String, Record), Fault> {
    let size = fs::metadata(path).map_err(Fault::Unread)?.len();
    if size > FILE_BYTES_MAX {
        return Err(Fault::Rotten(format!("it is {size} octets long")));
    }
    parse(&fs::read(path).map_err(Fault::Unread)?).map_err(Fault::Rotten)
}

fn parse(content: &[u8]) -> Result<(String, Record), String> {
    let end = content.iter().position(|octet| *octet == b'\n').ok_or("it has no header")?;
    let (header, body) = (&content[..end], &content[end + 1..]);
    if header != format!("{HEADER}{}", digest(body)).as_bytes() {
        return Err("its digest is wrong".to_owned());
    }
    let stored: Stored = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    from_stored(stored).ok_or_else(|| "a value in it is out of bounds".to_owned())
}

fn stored_place(place: &AltDoor) -> StoredAlt {
    StoredAlt { host: place.host.clone(), port: place.port }
}

fn to_stored(domain: &str, record: &Record) -> Stored {
    let ticket = |kept: &Grant| StoredTicket {
        ticket: STANDARD.encode(kept.ticket),
        key: STANDARD.encode(kept.key),
        expires_s: kept.expires_s,
    };
    let door = |door: &DoorMemory| StoredDoor {
        place: door.place.as_ref().map(stored_place),
        keys: door.keys.iter().map(ToString::to_string).collect(),
        digests: door.digests.iter().map(|digest| STANDARD.encode(digest)).collect(),
        enforce: door.mode == Mode::Enforce,
        max_age_s: door.max_age_s,
        learned_s: door.learned_s,
        secure: door.secure,
        silent_since_s: door.silent_since_s,
    };
    Stored {
        domain: domain.to_owned(),
        tickets: record.tickets.iter().map(ticket).collect(),
        offset_s: record.offset_s,
        alt: record.alt.as_ref().map(stored_place),
        door: record.door.as_ref().map(door),
    }
}

fn from_stored(stored: Stored) -> Option<(String, Record)> {
    let name = |text: &str| !text.is_empty() && text.len() <= NAME_BYTES_MAX;
    let host_ok = stored.alt.as_ref().is_none_or(|alt| name(&alt.host));
    let keys = stored.door.as_ref().map_or(0, |door| door.keys.len().max(door.digests.len()));
    if !name(&stored.domain) || !host_ok || stored.tickets.len() > PURSE_MAX || keys > KEYS_MAX {
        return None;
    }
    let ticket = |stored: StoredTicket| {
        let ticket = STANDARD.decode(stored.ticket).ok()?.try_into().ok()?;
        let key = STANDARD.decode(stored.key).ok()?.try_into().ok()?;
        Some(Grant { ticket, key, expires_s: stored.expires_s })
    };
    let digest = |text: &String| STANDARD.decode(text).ok()?.try_into().ok();
    let door = match stored.door {
        None => None,
        Some(door) => Some(DoorMemory {
            place: door.place.map(|place| AltDoor { host: place.host, port: place.port }),
            keys: door.keys.iter().map(|key| key.parse().ok()).collect::<Option<_>>()?,
            digests: door.digests.iter().map(digest).collect::<Option<_>>()?,
            mode: if door.enforce { Mode::Enforce } else { Mode::Prefer },
            max_age_s: door.max_age_s,
            learned_s: door.learned_s,
            secure: door.secure,
            silent_since_s: door.silent_since_s,
        }),
    };
    let record = Record {
        tickets: stored.tickets.into_iter().map(ticket).collect::<Option<_>>()?,
        offset_s: stored.offset_s,
        alt: stored.alt.map(|alt| AltDoor { host: alt.host, port: alt.port }),
        door,
    };
    Some((stored.domain, record))
}
