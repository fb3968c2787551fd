//! `buffer on`, `off`, `export` and `import`.
//!
//! A message leaves the spool for a file of the site's own tools and comes back under the id that
//! its sender was given. One message is in memory at a time (a batch of at most 1 MiB on the way
//! back); what is kept per message is its id and a place in the second file, about 300 octets.

mod export;
mod import;
mod mbox;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::modes::set_mode;
use crate::args::{Buffer, ModeWord};
use crate::control::Frame;
use crate::exit::{Code, Failure};

/// `postern buffer …`.
pub(crate) fn buffer(action: Buffer) -> Result<(), Failure> {
    match action {
        Buffer::On(of) => set_mode(Some(ModeWord::Hold), of.domain, &of.server),
        Buffer::Off(of) => set_mode(Some(ModeWord::Auto), of.domain, &of.server),
        Buffer::Export(args) => export::export(&args),
        Buffer::Import(args) => import::import(&args),
    }
}

/// A line of the second file: what brings a message back, and what a person may want to read.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// Version of this form.
    v: u32,
    #[serde(flatten)]
    frame: Frame,
    /// Its lines ended with CRLF, all of them; in the file they end with LF.
    crlf: bool,
    /// Its last line had an end.
    final_newline: bool,
    /// The buffer was to let go of it: what is in the file is no copy.
    #[serde(default)]
    removed: bool,
    /// For people, and for tools that need an envelope.
    facts: Facts,
}

/// What is in [`Frame::meta`], readable. Not read back.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Facts {
    sender: Option<String>,
    recipients: Vec<String>,
    peer: String,
    helo: String,
    arrived: String,
    class: String,
    judged: bool,
}

/// `TARGET.postern.jsonl`.
fn sidecar_of(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".postern.jsonl");
    PathBuf::from(name)
}

/// `TARGET.postern.done`: ids that an import has taken, or that left the buffer by themselves; a line each.
fn done_of(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".postern.done");
    PathBuf::from(name)
}

/// Durable when it returns.
fn append_done(target: &Path, ids: &[&str]) -> Result<(), Failure> {
    if ids.is_empty() {
        return Ok(());
    }
    let path = done_of(target);
    let failed = |error: std::io::Error| Failure::io(Code::Io, path.display(), &error);
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(failed)?;
    // A line begins with its end: one that was torn by a crash spoils no other.
    let lines: String = ids.iter().map(|id| format!("\n{id}")).collect();
    file.write_all(lines.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    crate::serve::files::sync_dir_of(&path).map_err(failed)
}

/// The file of a message in a Maildir; flags may follow behind a colon.
fn maildir_name(id: &str, arrived_s: u64) -> String {
    format!("{arrived_s}.{id}.postern")
}

/// The id in such a name.
fn id_of_name(name: &str) -> Option<&str> {
    let base = name.split(':').next()?;
    base.strip_suffix(".postern")?.rsplit_once('.').map(|(_, id)| id)
}

const SIDECAR_VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_maildir_file_gives_the_id_with_and_without_flags() {
        let name = maildir_name("0G2K5ZC8T1Q7M", 1_700_000_000);
        assert_eq!(id_of_name(&name), Some("0G2K5ZC8T1Q7M"));
        assert_eq!(id_of_name(&format!("{name}:2,S")), Some("0G2K5ZC8T1Q7M"));
        assert_eq!(id_of_name("1700000000.M1P2.host:2,"), None);
    }
}
