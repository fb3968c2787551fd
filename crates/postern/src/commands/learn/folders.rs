//! Maildirs and mbox files: which messages, and what kind of folder they lie in. Only header
//! sections are read, nothing is changed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::UNIX_EPOCH;

use indicatif::ProgressBar;

use super::Site;
use super::gather::Gathered;
use super::mail::{self, Folder};
use crate::exit::{Code, Failure};

/// A Maildir with its folders, or a directory in which Maildirs lie, such as /home or /var/vmail.
pub(super) fn maildir(dir: &Path, site: &Site, gathered: &mut Gathered, progress: &ProgressBar) -> Result<(), Failure> {
    let mut found = 0;
    let mut left = vec![(dir.to_owned(), 0)];
    while let Some((dir, depth)) = left.pop() {
        if dir.join("cur").is_dir() {
            found += 1;
            if let Some(folder) = kind_of(&dir) {
                one_folder(&dir, folder, site, gathered, progress)?;
            }
        }
        if depth < DEPTH_MAX {
            // A directory that we may not read is somebody's own.
            let below = fs::read_dir(&dir).into_iter().flatten().flatten();
            let dirs =
                below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path());
            left.extend(dirs.filter(|path| !is_part(path)).map(|path| (path, depth + 1)));
        }
    }
    if found == 0 {
        let what = format!("{}: no Maildir is here or below (one has the directories cur, new and tmp)", dir.display());
        return Err(Failure::new(Code::Data, what));
    }
    Ok(())
}

/// A Sent folder, Maildir or mbox.
pub(super) fn sent(path: &Path, site: &Site, gathered: &mut Gathered, progress: &ProgressBar) -> Result<(), Failure> {
    if !path.is_dir() {
        return mbox(path, Folder::Sent, site, gathered, progress);
    }
    if !path.join("cur").is_dir() {
        return Err(Failure::new(Code::Data, format!("{}: not a Maildir folder", path.display())));
    }
    one_folder(path, Folder::Sent, site, gathered, progress)
}

/// An mbox file, of any dialect: only header sections matter.
pub(super) fn mbox(
    path: &Path,
    folder: Folder,
    site: &Site,
    gathered: &mut Gathered,
    progress: &ProgressBar,
) -> Result<(), Failure> {
    let failed = |error: &std::io::Error| Failure::io(Code::Io, path.display(), error);
    let file = File::open(path).map_err(|error| failed(&error))?;
    let modified_s = modified_s(&file);
    let mut read = BufReader::new(file);
    let (mut header, mut line) = (Vec::new(), Vec::new());
    let (mut in_header, mut after_empty) = (false, true);
    progress.set_message(path.display().to_string());
    loop {
        line.clear();
        let end = read.read_until(b'\n', &mut line).map_err(|error| failed(&error))? == 0;
        let empty = matches!(line.as_slice(), b"\n" | b"\r\n");
        if in_header && (end || empty) {
            take(&header, folder, modified_s, site, gathered, progress);
            in_header = false;
        }
        if end {
            return Ok(());
        }
        if after_empty && line.starts_with(b"From ") {
            in_header = true;
            header.clear();
        } else if in_header && header.len() < HEADER_BYTES_MAX {
            header.extend_from_slice(&line);
        }
        after_empty = empty;
    }
}

/// What a folder is by its name; `None` for what says nothing (drafts, trash). Only names of folders
/// count, below a Maildir (`.Sent`, or `Sent` in a layout with plain directories): sentry@ and spam-reports@
/// are mailboxes.
fn kind_of(dir: &Path) -> Option<Folder> {
    let name = dir.file_name()?.to_string_lossy().to_lowercase();
    let below_maildir = dir.parent().is_some_and(|above| above.join("cur").is_dir());
    if !name.starts_with('.') && !below_maildir {
        return Some(Folder::Kept);
    }
    let leaf = name.rsplit('.').next().unwrap_or(&name);
    let is = |words: &[&str]| {
        words.iter().any(|word| leaf.strip_prefix(word).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric)))
    };
    if is(&[
        "sent",
        "gesendet",
        "gesendete",
        "envoy\u{e9}s",
        "envoyes",
        "enviados",
        "inviata",
        "inviati",
        "verzonden",
        "skickat",
        "wys\u{142}ane",
    ]) {
        return Some(Folder::Sent);
    }
    if is(&["junk", "spam", "bulk mail", "ind\u{e9}sirables", "ind\u{e9}sirable", "no deseado"]) {
        return Some(Folder::Junk);
    }
    let silent = is(&[
        "draft",
        "drafts",
        "entw\u{fc}rfe",
        "brouillons",
        "borradores",
        "trash",
        "deleted",
        "papierkorb",
        "corbeille",
        "papelera",
    ]);
    (!silent).then_some(Folder::Kept)
}

/// `cur` for all, with the seen flag for what is to count as kept: unread mail has been judged by nobody.
fn one_folder(
    dir: &Path,
    folder: Folder,
    site: &Site,
    gathered: &mut Gathered,
    progress: &ProgressBar,
) -> Result<(), Failure> {
    progress.set_message(dir.display().to_string());
    let cur = dir.join("cur");
    let files = fs::read_dir(&cur).map_err(|error| Failure::io(Code::Io, cur.display(), &error))?;
    let new = fs::read_dir(dir.join("new")).into_iter().flatten().filter(|_| folder != Folder::Kept);
    for path in files.chain(new).flatten().map(|entry| entry.path()) {
        if folder == Folder::Kept && !is_seen(&path) {
            continue;
        }
        // Moved or deleted meanwhile: the next one.
        let Ok(file) = File::open(&path) else { continue };
        let modified_s = modified_s(&file);
        if let Some(header) = header_of(file) {
            take(&header, folder, modified_s, site, gathered, progress);
        }
    }
    Ok(())
}

fn take(header: &[u8], folder: Folder, modified_s: u64, site: &Site, gathered: &mut Gathered, progress: &ProgressBar) {
    let mut seeds = Vec::new();
    let believed = mail::message(header, folder, modified_s, site, &mut |seed| seeds.push(seed));
    gathered.count_message(believed || folder == Folder::Sent);
    seeds.into_iter().for_each(|seed| gathered.add(seed));
    progress.inc(1);
}

fn is_part(path: &Path) -> bool {
    path.file_name().is_some_and(|name| ["cur", "new", "tmp"].iter().any(|part| name == *part))
}

fn is_seen(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.rsplit_once(":2,").is_some_and(|(_, flags)| flags.contains('S') && !flags.contains('T'))
}

fn modified_s(file: &File) -> u64 {
    let modified = file.metadata().and_then(|facts| facts.modified()).ok();
    modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs())
}

/// Up to the empty line, and not more than any real header has.
fn header_of(file: File) -> Option<Vec<u8>> {
    let mut read = BufReader::new(file).take(HEADER_BYTES_MAX as u64);
    let (mut header, mut line) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        let octets = read.read_until(b'\n', &mut line).ok()?;
        header.extend_from_slice(&line);
        if octets == 0 || matches!(line.as_slice(), b"\n" | b"\r\n") {
            return Some(header);
        }
    }
}

/// Longer ones are read up to here.
const HEADER_BYTES_MAX: usize = 256 << 10;
/// `/var/vmail/domain/user/Maildir/.Folder`, and one more.
const DEPTH_MAX: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_told_by_its_name() {
        let check = |name: &str, expected: Option<Folder>| assert_eq!(kind_of(Path::new(name)), expected, "{name}");
        check("/home/ann/Maildir", Some(Folder::Kept));
        check("/home/ann/Maildir/.Sent", Some(Folder::Sent));
        check("/home/ann/Maildir/.INBOX.Sent Messages", Some(Folder::Sent));
        check("/home/ann/Maildir/.Junk", Some(Folder::Junk));
        check("/home/ann/Maildir/.Drafts", None);
        check("/home/ann/Maildir/.Trash", None);
        check("/home/ann/Maildir/.Friends", Some(Folder::Kept));
        check("/home/ann/Maildir/.Sentinels", Some(Folder::Kept));
        check("/home/ann/Maildir/.Spamalot", Some(Folder::Kept));
    }

    #[test]
    fn a_mailbox_called_sentry_or_spam_is_somebody_s_and_no_folder() {
        let dir = tempfile::tempdir().expect("scratch");
        let kind = |path: &str| kind_of(&dir.path().join(path));
        fs::create_dir_all(dir.path().join("ann/cur")).expect("made");
        for mailbox in ["sentry", "sent", "spam", "spam-reports", "trash", "ours.example/sent.reports"] {
            assert_eq!(kind(mailbox), Some(Folder::Kept), "{mailbox}");
        }
        assert_eq!((kind("ann/Sent"), kind("ann/Junk")), (Some(Folder::Sent), Some(Folder::Junk)));
    }

    #[test]
    fn unread_mail_and_deleted_mail_do_not_count_as_kept() {
        assert!(is_seen(Path::new("1.a:2,S")) && is_seen(Path::new("1.a:2,RS")));
        assert!(!is_seen(Path::new("1.a:2,")) && !is_seen(Path::new("1.a")) && !is_seen(Path::new("1.a:2,ST")));
    }
}
