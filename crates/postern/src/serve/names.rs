//! Recipients from files and directories: read at start, on SIGHUP, and when they change.
//!
//! A file has one name or address a line, `#` begins a comment; a directory has one entry per
//! name. A source that cannot be read any more keeps its last names: a half-written file or an
//! unmounted /home must not make every recipient unknown.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use crate::config::values::RecipientsSetting;

/// Which recipients of a domain exist, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// Every one.
    Any,
    /// These local parts, lower case.
    Known(Arc<HashSet<Box<str>>>),
    /// The next hop knows.
    Callout,
}

/// All domains with their names, and what tells whether they changed.
#[derive(Debug, Default)]
pub(crate) struct NameSources {
    sources: BTreeMap<String, (RecipientsSetting, Option<Stamp>, Names)>,
}

/// A file or directory looks the same when these do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp(i64, i64, u64, u64);

impl NameSources {
    /// Reads every source; one that was read before and fails now keeps its names.
    /// The complaints are for the log.
    pub(crate) fn load(&mut self, settings: &BTreeMap<String, RecipientsSetting>) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut sources = BTreeMap::new();
        for (domain, setting) in settings {
            let stamp = stamp(setting);
            let names = read(domain, setting).unwrap_or_else(|error| {
                complaints.push(format!("recipients of {domain}: {error}"));
                let before = self.sources.get(domain).filter(|(known, ..)| known == setting);
                before.map_or_else(|| Names::Known(Arc::default()), |(.., names)| names.clone())
            });
            sources.insert(domain.clone(), (setting.clone(), stamp, names));
        }
        self.sources = sources;
        complaints
    }

    /// Reads again what has changed. `None`: nothing has.
    pub(crate) fn poll(&mut self) -> Option<Vec<String>> {
        let mut complaints = Vec::new();
        let mut changed = false;
        for (domain, (setting, seen, names)) in &mut self.sources {
            let now = stamp(setting);
            if now == *seen {
                continue;
            }
            *seen = now;
            match read(domain, setting) {
                Ok(new) => {
                    changed |= *names != new;
                    *names = new;
                }
                Err(error) => {
                    changed = true;
                    complaints.push(format!("recipients of {domain}: {error}; the last names known stay in force"));
                }
            }
        }
        changed.then_some(complaints)
    }

    /// Every domain with its names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Names)> {
        self.sources.iter().map(|(domain, (.., names))| (domain.as_str(), names))
    }
}

fn read(domain: &str, setting: &RecipientsSetting) -> io::Result<Names> {
    let mut names = HashSet::new();
    match setting {
        RecipientsSetting::Any => return Ok(Names::Any),
        RecipientsSetting::Callout => return Ok(Names::Callout),
        RecipientsSetting::List(list) => names.extend(list.iter().filter_map(|name| local_part(domain, name))),
        RecipientsSetting::File(path) => {
            let size = fs::metadata(path).map_err(|error| named(path, &error))?.len();
            if size > FILE_BYTES_MAX {
                return Err(named(path, &io::Error::other(format!("more than {FILE_BYTES_MAX} octets"))));
            }
            let text = fs::read_to_string(path).map_err(|error| named(path, &error))?;
            let lines = text.lines().map(|line| line.split('#').next().unwrap_or("").trim());
            names.extend(lines.filter_map(|line| local_part(domain, line)));
        }
        RecipientsSetting::Dir(path) => {
            for entry in fs::read_dir(path).map_err(|error| named(path, &error))?.take(NAMES_MAX) {
                if let Some(name) = entry?.file_name().to_str().filter(|name| !name.starts_with('.')) {
                    names.extend(local_part(domain, name));
                }
            }
        }
    }
    Ok(Names::Known(Arc::new(names)))
}

/// `ann` or `ann@example.com`; an address of another domain is not for this one.
fn local_part(domain: &str, name: &str) -> Option<Box<str>> {
    let local = match name.rsplit_once('@') {
        Some((local, other)) if other.eq_ignore_ascii_case(domain) => local,
        Some(_) => return None,
        None => name,
    };
    (!local.is_empty()).then(|| local.to_lowercase().into_boxed_str())
}

fn stamp(setting: &RecipientsSetting) -> Option<Stamp> {
    let (RecipientsSetting::File(path) | RecipientsSetting::Dir(path)) = setting else { return None };
    let meta = fs::metadata(path).ok()?;
    Some(Stamp(meta.mtime(), meta.mtime_nsec(), meta.len(), meta.ino()))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// A file of names: some two million of them.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Entries of a directory that are read.
const NAMES_MAX: usize = 2_000_000;

#[cfg(test)]
mod tests;
