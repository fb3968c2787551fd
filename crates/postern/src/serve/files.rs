//! Small files that must survive: replaced whole, readable for the server's user alone.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown, lchown};
use std::path::Path;

/// Written aside, synced, renamed, and the directory synced: after a crash the file is the old or
/// the new one. Mode 0600, and of the directory's owner: a command run as root must not lock the
/// server out.
///
/// # Errors
/// The system's; the old file is then still there.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    let (dir, now) = (std::fs::metadata(dir_of(path))?, file.metadata()?);
    if (dir.uid(), dir.gid()) != (now.uid(), now.gid()) && now.uid() == 0 {
        fchown(&file, Some(dir.uid()), Some(dir.gid()))?;
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    sync_dir_of(path)
}

/// What root has made belongs to the owner of `dir`; for anybody else it does already.
///
/// # Errors
/// The system's.
pub(crate) fn give_to_owner_of(dir: &Path, path: &Path) -> io::Result<()> {
    let (dir, now) = (std::fs::metadata(dir)?, std::fs::symlink_metadata(path)?);
    if (dir.uid(), dir.gid()) != (now.uid(), now.gid()) && now.uid() == 0 {
        lchown(path, Some(dir.uid()), Some(dir.gid()))?;
    }
    Ok(())
}

/// Makes a change of the directory that holds `path` durable.
///
/// # Errors
/// The system's.
pub(crate) fn sync_dir_of(path: &Path) -> io::Result<()> {
    File::open(dir_of(path))?.sync_all()
}

fn dir_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
