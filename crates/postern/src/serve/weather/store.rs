//! The forecast on disk: `DATA/weather`, JSON, replaced whole.

use std::io;
use std::path::Path;

use postern_trust::weather::Kept;
use serde::{Deserialize, Serialize};

use crate::serve::files;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    #[serde(flatten)]
    kept: Kept,
}

/// What the last server left. What cannot be read is the calm: nothing is lost by answering at the
/// outcome until the sky has been seen.
pub(super) fn load(path: &Path) -> Kept {
    let read = std::fs::read(path).and_then(|bytes| parse(&bytes));
    match read {
        Ok(kept) => kept,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
        Err(error) => {
            tracing::warn!(%error, "{} is put aside: the modes begin in the calm", path.display());
            Kept::default()
        }
    }
}

fn parse(bytes: &[u8]) -> io::Result<Kept> {
    let stored: Stored = serde_json::from_slice(bytes)?;
    if stored.version != FORMAT_VERSION {
        return Err(io::Error::other(format!("version {} is from another release", stored.version)));
    }
    Ok(stored.kept)
}

/// Durable when it returns.
pub(super) fn save(path: &Path, kept: &Kept) -> io::Result<()> {
    let stored = Stored { version: FORMAT_VERSION, kept: kept.clone() };
    files::replace(path, &serde_json::to_vec(&stored)?)
}

const FORMAT_VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use postern_trust::weather::Answer;

    use super::*;

    #[test]
    fn what_was_saved_is_loaded_and_what_cannot_be_read_is_the_calm() {
        let dir = tempfile::tempdir().expect("scratch");
        let path = dir.path().join("weather");
        assert_eq!(load(&path), Kept::default());
        let kept = Kept { whole: Answer::Collect, collecting: vec!["a.example".to_owned()] };
        save(&path, &kept).expect("saved");
        assert_eq!(load(&path), kept);
        std::fs::write(&path, br#"{"version":2,"whole":"collect","collecting":[]}"#).expect("written");
        assert_eq!(load(&path), Kept::default());
        std::fs::write(&path, b"rain").expect("written");
        assert_eq!(load(&path), Kept::default());
    }
}
