//! What arrived: reads Maildirs and compares messages byte for byte.

use std::fs;
use std::path::{Path, PathBuf};

/// Fields that a mail server puts before a message it passes on.
const TRACE: [&str; 4] = ["received", "return-path", "delivered-to", "x-original-to"];

/// Complete messages in a Maildir, sorted; none when it does not exist yet.
pub(crate) fn messages(maildir: &Path) -> Vec<Vec<u8>> {
    let mut found: Vec<Vec<u8>> = ["new", "cur"]
        .iter()
        .filter_map(|folder| fs::read_dir(maildir.join(folder)).ok())
        .flatten()
        .filter_map(|entry| fs::read(entry.ok()?.path()).ok())
        .collect();
    found.sort_unstable();
    found
}

/// The one Maildir below `dir`: a delivery names it after the address, in its own safe way.
pub(crate) fn only_one_below(dir: &Path) -> Option<PathBuf> {
    let found: Vec<PathBuf> =
        fs::read_dir(dir).ok()?.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    match found.as_slice() {
        [] => None,
        [one] if one.join("new").is_dir() => Some(one.clone()),
        [one] => only_one_below(one),
        // It is being made at this moment: its folders appear one after the other.
        many if many.iter().any(|path| path.ends_with("tmp") || path.ends_with("new")) => {
            dir.join("new").is_dir().then(|| dir.to_owned())
        }
        many => panic!("several Maildirs: {many:?}"),
    }
}

/// How many messages a Maildir has, without reading them.
pub(crate) fn count(maildir: &Path) -> usize {
    ["new", "cur"].iter().filter_map(|folder| fs::read_dir(maildir.join(folder)).ok()).flatten().count()
}

/// Splits a stored message into the trace fields put before it, and the rest, both with bare LF as line ends.
///
/// Mailboxes keep lines with LF. A file that mixes both kinds of line end was altered and fails the test.
pub(crate) fn split_trace(stored: &[u8]) -> (String, Vec<u8>) {
    let text = with_lf(stored);
    let mut at = 0;
    let mut in_trace = false;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let folded = line.starts_with(b" ") || line.starts_with(b"\t");
        if !folded {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default().to_ascii_lowercase();
            in_trace = TRACE.iter().any(|trace| trace.as_bytes() == name);
        }
        if !in_trace {
            break;
        }
        at += line.len();
    }
    (String::from_utf8_lossy(&text[..at]).into_owned(), text[at..].to_vec())
}

/// Asserts that `stored` is `sent`, byte for byte, below trace fields; returns those.
pub(crate) fn assert_same(stored: &[u8], sent: &[u8]) -> String {
    let (trace, rest) = split_trace(stored);
    let sent = with_lf(sent);
    if rest != sent {
        let at = rest.iter().zip(&sent).position(|(a, b)| a != b).unwrap_or(rest.len().min(sent.len()));
        let near = |bytes: &[u8]| {
            String::from_utf8_lossy(&bytes[at.saturating_sub(40)..bytes.len().min(at + 40)]).into_owned()
        };
        panic!(
            "differs at byte {at} of {} sent, {} stored\nsent   {:?}\nstored {:?}\ntrace {trace}",
            sent.len(),
            rest.len(),
            near(&sent),
            near(&rest)
        );
    }
    trace
}

fn with_lf(bytes: &[u8]) -> Vec<u8> {
    let crlf = bytes.windows(2).filter(|pair| pair == b"\r\n").count();
    let lf = bytes.iter().filter(|byte| **byte == b'\n').count();
    assert!(crlf == 0 || crlf == lf, "{crlf} CRLF but {lf} LF: the lines were altered");
    let mut text = Vec::with_capacity(bytes.len());
    for (at, byte) in bytes.iter().enumerate() {
        if !(*byte == b'\r' && bytes.get(at + 1) == Some(&b'\n')) {
            text.push(*byte);
        }
    }
    text
}
