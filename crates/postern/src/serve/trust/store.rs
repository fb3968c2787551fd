//! `DATA/trust`: the book as it was at the last snapshot. Also used by `postern learn` when no
//! server runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postern_trust::{Book, BookOptions};

use crate::config::settings;
use crate::exit::{Code, Failure};
use crate::serve::files;

/// The book of the last server, or an empty one. One that cannot be read is put aside as
/// `DATA/trust.damaged`: it costs quality, never mail, and somebody may want to look at it.
///
/// # Errors
/// The system gives no random numbers for the key of a new book: with a known key a stranger could
/// choose addresses that share cells with good ones.
pub(crate) fn load(data: &Path, configured: &settings::Trust) -> Result<Arc<Book>, Failure> {
    let path = path(data);
    let complaint = match std::fs::read(&path) {
        Ok(bytes) => match Book::restore(options(configured), &bytes) {
            Ok(book) => return Ok(book),
            Err(error) => error.to_string(),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => return empty(configured),
        Err(error) => error.to_string(),
    };
    let aside = path.with_extension("damaged");
    let kept = std::fs::rename(&path, &aside).is_ok();
    tracing::error!(
        error = complaint,
        kept_as = kept.then(|| aside.display().to_string()),
        "the trust book cannot be read: starting with an empty one. `postern learn` fills it again"
    );
    empty(configured)
}

/// Durable when it returns.
///
/// # Errors
/// The system's; the old one is then still there.
pub(crate) fn save(data: &Path, snapshot: &[u8]) -> io::Result<()> {
    files::replace(&path(data), snapshot)
}

fn empty(configured: &settings::Trust) -> Result<Arc<Book>, Failure> {
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(|error| Failure::new(Code::Os, format!("no random numbers: {error}")))?;
    Ok(Book::new(options(configured), key))
}

fn options(configured: &settings::Trust) -> BookOptions {
    BookOptions { promotions_a_day: configured.promotions_a_day, ..BookOptions::default() }
}

fn path(data: &Path) -> PathBuf {
    data.join("trust")
}
