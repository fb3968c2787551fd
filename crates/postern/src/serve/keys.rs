//! Our own key for the postern, on disk: `DATA/door/key`, the next one during a roll-over, the last one after it.
//!
//! Owns where the files are and the order in which they are replaced: at every moment, also after a crash, there is a
//! current key, and no key that was ever published is deleted here before another has taken its place.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use postern_net::door::KeyPair;

use super::{files, peers};
use crate::exit::{Code, Failure};

/// The files.
#[derive(Clone, Debug)]
pub(crate) struct KeyFiles {
    data: PathBuf,
    /// In use: PEM, PKCS #8, Ed25519, mode 0600.
    pub(crate) current: PathBuf,
    /// Published, and not in use yet.
    pub(crate) next: PathBuf,
    /// Not in use any more.
    pub(crate) old: PathBuf,
}

impl KeyFiles {
    /// Of a data directory.
    pub(crate) fn of(data: &Path) -> Self {
        let file = |name: &str| data.join("door").join(name);
        Self { data: data.to_owned(), current: file("key"), next: file("key.next"), old: file("key.old") }
    }

    /// The key in use; made when there is none.
    ///
    /// # Errors
    /// It can neither be read nor made.
    pub(crate) fn load(&self) -> Result<KeyPair, Failure> {
        self.load_or_make(&self.current)
    }

    /// The next key, while there is one, and since when (seconds since 1970).
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub(crate) fn load_next(&self) -> Result<Option<(KeyPair, u64)>, Failure> {
        let since = match std::fs::metadata(&self.next) {
            Ok(found) => u64::try_from(found.mtime()).unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::io(Code::Io, self.next.display(), &error)),
        };
        Ok(Some((KeyPair::load(&self.next).map_err(unusable)?, since)))
    }

    /// Makes the next key; the one that is there already stays.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn make_next(&self) -> Result<KeyPair, Failure> {
        self.load_or_make(&self.next)
    }

    /// The next key becomes the current one; the current one is kept as the old one.
    ///
    /// # Errors
    /// The system's; the current key is then still the current one.
    pub(crate) fn finish(&self) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::io(Code::Io, self.current.display(), &error);
        match std::fs::remove_file(&self.old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        // A second name first: the current key has one at every moment.
        std::fs::hard_link(&self.current, &self.old).map_err(failed)?;
        std::fs::rename(&self.next, &self.current).map_err(failed)?;
        files::sync_dir_of(&self.current).map_err(failed)
    }

    fn load_or_make(&self, file: &Path) -> Result<KeyPair, Failure> {
        let failed = |error: io::Error| Failure::io(Code::CannotCreate, file.display(), &error);
        peers::make_door_dir(&self.data).map_err(failed)?;
        let key = KeyPair::load_or_make(file).map_err(unusable)?;
        files::give_to_owner_of(&self.data, file).map_err(failed)?;
        Ok(key)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it ends here")]
fn unusable(error: postern_net::door::KeyError) -> Failure {
    Failure::new(Code::Io, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roll_over_never_leaves_the_server_without_its_key() {
        let dir = tempfile::tempdir().expect("scratch");
        let files = KeyFiles::of(dir.path());
        let first = files.load().expect("made").public().clone();
        assert_eq!(files.load().expect("read").public(), &first);
        assert!(files.load_next().expect("readable").is_none());
        // Nothing to finish with: the current key stays.
        assert!(files.finish().is_err());
        assert_eq!(files.load().expect("read").public(), &first);
        let next = files.make_next().expect("made").public().clone();
        assert_ne!(next, first);
        assert_eq!(files.make_next().expect("read").public(), &next, "a second call makes no third key");
        assert_eq!(files.load().expect("read").public(), &first);
        files.finish().expect("finished");
        assert_eq!(files.load().expect("read").public(), &next);
        assert!(files.load_next().expect("readable").is_none());
        assert_eq!(KeyPair::load(&files.old).expect("kept").public(), &first);
        files.make_next().expect("made");
        files.finish().expect("finished again");
        assert_eq!(KeyPair::load(&files.old).expect("kept").public(), &next);
    }
}
