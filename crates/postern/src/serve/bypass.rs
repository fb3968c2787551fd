//! The one command that takes judgement out of the path: `postern bypass on`.
//!
//! A flag that doors and drain read at each decision, kept over a restart as the file
//! `DATA/bypass`. While it is on, nobody is turned away, slowed or judged for what they are: the
//! public door is a plain queue in front of the next hop. See docs/bypass.md.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Owns the flag.
#[derive(Clone, Debug)]
pub(crate) struct Bypass {
    on: Arc<AtomicBool>,
    path: PathBuf,
}

impl Bypass {
    /// As the last server left it.
    pub(crate) fn load(data: &Path) -> Self {
        let path = data.join("bypass");
        Self { on: Arc::new(AtomicBool::new(path.exists())), path }
    }

    /// What doors and drain read.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        self.on.clone()
    }

    /// Whether it is on.
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Durable when it returns.
    ///
    /// # Errors
    /// Why it could not be kept; then nothing has changed.
    pub(crate) fn set(&self, on: bool) -> io::Result<()> {
        if on {
            super::files::replace(&self.path, b"`postern bypass off` ends it\n")?;
        } else {
            match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => super::files::sync_dir_of(&self.path)?,
            }
        }
        self.on.store(on, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bypass_survives_a_restart_and_ends_with_off() {
        let dir = tempfile::tempdir().expect("scratch");
        let bypass = Bypass::load(dir.path());
        let flag = bypass.flag();
        assert!(!bypass.is_on());
        bypass.set(true).expect("kept");
        assert!(flag.load(Ordering::Relaxed) && Bypass::load(dir.path()).is_on());
        bypass.set(false).expect("kept");
        bypass.set(false).expect("twice is no error");
        assert!(!flag.load(Ordering::Relaxed) && !Bypass::load(dir.path()).is_on());
    }
}
