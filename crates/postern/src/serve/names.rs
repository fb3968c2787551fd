//! Recipients from files and directories: read at start, on SIGHUP, and when they change.
//!
//! A file has one name or address a line, `#` begins a comment; a directory has one entry per
//! name. A source that cannot be read keeps the domain's last names, and one that never could be
//! read says nothing about anybody: a 550 loses mail, and only names that were read may cause one.

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
    /// Not read so far: nobody is known, and nobody unknown.
    Unreadable,
}

/// All domains with their names, and what tells whether they changed.
#[derive(Debug, Default)]
pub(crate) struct NameSources {
    sources: BTreeMap<String, Source>,
}

/// One domain.
#[derive(Debug)]
struct Source {
    setting: RecipientsSetting,
    /// As it was just before it was last read.
    stamp: Option<Stamp>,
    /// The last attempt to read it failed.
    failed: bool,
    /// What holds.
    names: Names,
}

/// A file or directory looks the same when these do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp(i64, i64, u64, u64);

impl NameSources {
    /// Reads every source. A domain whose source cannot be read keeps its last names, also when
    /// the setting is new: most likely that is misspelt. The complaints are for the log.
    pub(crate) fn load(&mut self, settings: &BTreeMap<String, RecipientsSetting>) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut sources = BTreeMap::new();
        for (domain, setting) in settings {
            let stamp = stamp(setting);
            let (failed, names) = match read(domain, setting) {
                Ok(names) => (false, names),
                Err(error) => {
                    let names = self.sources.get(domain).map_or(Names::Unreadable, |before| before.names.clone());
                    complaints.push(complaint(domain, &error, &names));
                    (true, names)
                }
            };
            sources.insert(domain.clone(), Source { setting: setting.clone(), stamp, failed, names });
        }
        self.sources = sources;
        complaints
    }

    /// Reads again what has changed, and what could not be read. `None`: nothing is new.
    pub(crate) fn poll(&mut self) -> Option<Vec<String>> {
        let mut complaints = Vec::new();
        let mut changed = false;
        for (domain, source) in &mut self.sources {
            let now = stamp(&source.setting);
            let looks_the_same = now == source.stamp;
            // A mode, an owner or a mount above it may have changed, which no stamp shows.
            if looks_the_same && !source.failed {
                continue;
            }
            source.stamp = now;
            match read(domain, &source.setting) {
                Ok(new) => {
                    changed |= source.failed || source.names != new;
                    source.failed = false;
                    source.names = new;
                }
                Err(error) => {
                    if !source.failed || !looks_the_same {
                        changed = true;
                        complaints.push(complaint(domain, &error, &source.names));
                    }
                    source.failed = true;
                }
            }
        }
        changed.then_some(complaints)
    }

    /// Every domain with its names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Names)> {
        self.sources.iter().map(|(domain, source)| (domain.as_str(), &source.names))
    }
}

fn complaint(domain: &str, error: &io::Error, names: &Names) -> String {
    let instead = match names {
        Names::Unreadable => "until it can be read its recipients are answered 450",
        _ => "the last names known stay in force",
    };
    format!("recipients of {domain}: {error}; {instead}")
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
