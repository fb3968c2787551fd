//! The gate's master secret on disk: `DATA/door/master`, and `master.old` while what it made is still good.
//!
//! Owns the two files and the order in which they are replaced: at every moment, also after a crash, what was given out can be
//! checked. Lost, every ticket is void, and no mail.

use std::io;
use std::path::{Path, PathBuf};

use postern_proto::door::{Former, Keyring, Master};

use super::{files, peers};
use crate::exit::{Code, Failure};

/// What the keys of the gate are made from.
#[derive(Clone, Debug)]
pub(crate) struct Masters {
    /// Keys of epochs to come are this one's.
    pub(crate) current: Master,
    /// Keys of epochs gone by may be this one's.
    pub(crate) former: Option<Former>,
    /// What stateless resets come from: the first one. A process cannot change it, and one that used another than the
    /// process before would leave the links of that one to notice by half a minute of silence.
    pub(crate) reset: Master,
}

impl Masters {
    /// Reads them; the current one is made when there is none.
    ///
    /// # Errors
    /// They can neither be read nor made.
    pub(crate) fn load(data: &Path, now_s: u64) -> Result<Self, Failure> {
        let dir = peers::make_door_dir(data).map_err(|error| failed(&data.join("door"), &error))?;
        let (path, old) = (dir.join(CURRENT), dir.join(FORMER));
        let octets = match read(&path, &[MASTER_BYTES, 2 * MASTER_BYTES])? {
            Some(octets) => octets,
            None => {
                let octets = super::random::<MASTER_BYTES>()?.to_vec();
                write(&path, &octets)?;
                octets
            }
        };
        let master = |octets: &[u8]| Master::new(*octets.first_chunk().expect("the length was looked at"));
        let (current, reset) = (master(&octets), master(&octets[octets.len() - MASTER_BYTES..]));
        let former = read(&old, &[FORMER_BYTES])?.map(|octets| {
            let until = octets.last_chunk().expect("the length was looked at");
            Former { master: master(&octets), until_s: u64::from_be_bytes(*until) }
        });
        // The same secret twice: a change that a crash cut off before it was one.
        let former = former.filter(|former| former.master != current && now_s < former.until_s + Former::KEPT_S);
        Ok(Self { current, former, reset })
    }

    /// The keys that are good now.
    pub(crate) fn keyring(&self, now_s: u64) -> Keyring {
        Keyring::after(self.former.as_ref(), &self.current, now_s)
    }

    /// Puts another in place of the current one, which is kept beside it unless it is in other hands (`at_once`): then all
    /// that it made is void.
    ///
    /// # Errors
    /// The last change is too young: a third secret would make what the first gave out void. Or the system's; the current
    /// one is then still the current one.
    pub(crate) fn change(data: &Path, at_once: bool, now_s: u64) -> Result<(), Failure> {
        let before = Self::load(data, now_s)?;
        let dir = data.join("door");
        let (path, old) = (dir.join(CURRENT), dir.join(FORMER));
        if at_once {
            // First: what is void must not outlive a crash that keeps the new secret.
            match std::fs::remove_file(&old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&old, &error)),
                _ => {}
            }
        } else if let Some(former) = &before.former {
            let days = (former.until_s + Former::KEPT_S).saturating_sub(now_s).div_ceil(86_400);
            let what = format!("tickets of the secret before are still good: {days} days more");
            let cure = "wait for it; if the secret is in other hands, --now makes all tickets void";
            return Err(Failure::new(Code::Failed, what).cure(cure));
        } else {
            write(&old, &[&before.current.bytes()[..], &now_s.to_be_bytes()].concat())?;
        }
        let next: [u8; MASTER_BYTES] = super::random()?;
        let reset = if at_once { &[][..] } else { &before.reset.bytes()[..] };
        write(&path, &[&next[..], reset].concat())
    }
}

fn read(path: &Path, lengths: &[usize]) -> Result<Option<Vec<u8>>, Failure> {
    match std::fs::read(path) {
        Ok(octets) if lengths.contains(&octets.len()) => Ok(Some(octets)),
        Ok(octets) => {
            let what = format!("{}: {} octets are no secret of {}", path.display(), octets.len(), lengths[0]);
            let cure = "remove the file: a new one is made, and peers get new tickets";
            Err(Failure::new(Code::Data, what).cure(cure))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, &error)),
    }
}

fn write(path: &Path, octets: &[u8]) -> Result<(), Failure> {
    files::replace(path, octets).map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::io(Code::CannotCreate, PathBuf::from(path).display(), error)
}

const CURRENT: &str = "master";
const FORMER: &str = "master.old";
const MASTER_BYTES: usize = 32;
/// The secret, and until when it made keys, in seconds since 1970, big endian.
const FORMER_BYTES: usize = MASTER_BYTES + 8;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn a_change_keeps_the_secret_before_until_nothing_of_it_is_good() {
        let dir = tempfile::tempdir().expect("scratch");
        let first = Masters::load(dir.path(), NOW).expect("made");
        assert_eq!(Masters::load(dir.path(), NOW).expect("read").current, first.current);
        Masters::change(dir.path(), false, NOW).expect("changed");
        let second = Masters::load(dir.path(), NOW).expect("read");
        assert_ne!(second.current, first.current);
        let kept = Former { master: first.current.clone(), until_s: NOW };
        assert_eq!(second.former, Some(kept));
        assert_eq!(second.reset, first.reset, "links of the process before are told by the next");
        let days = Former::KEPT_S - 1;
        assert!(Masters::change(dir.path(), false, NOW + days).is_err(), "a third secret");
        assert!(Masters::load(dir.path(), NOW + days).expect("read").former.is_some());
        assert!(Masters::load(dir.path(), NOW + days + 1).expect("read").former.is_none());
        Masters::change(dir.path(), false, NOW + days + 1).expect("changed again");
        Masters::change(dir.path(), true, NOW + days + 2).expect("a theft does not wait");
        let last = Masters::load(dir.path(), NOW + days + 2).expect("read");
        assert!(last.former.is_none() && last.current != second.current && last.reset == last.current);
    }

    #[test]
    fn a_change_that_a_crash_cut_off_is_none() {
        let dir = tempfile::tempdir().expect("scratch");
        let first = Masters::load(dir.path(), NOW).expect("made");
        let half = [&first.current.bytes()[..], &NOW.to_be_bytes()].concat();
        write(&dir.path().join("door/master.old"), &half).expect("written");
        assert!(Masters::load(dir.path(), NOW).expect("read").former.is_none());
        Masters::change(dir.path(), false, NOW + 5).expect("made whole");
        assert_eq!(
            Masters::load(dir.path(), NOW + 5).expect("read").former.map(|former| former.until_s),
            Some(NOW + 5)
        );
    }
}
