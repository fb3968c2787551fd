//! Rules of the house that no compiler knows: an opening paragraph in each file, files of a readable length, nothing
//! left undone, no path of somebody's machine.
//!
//! Looks only at files that git would commit.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::run;

/// A file beyond this misses a noun. The aim is 600; the rest is room to finish a thought.
const LINES_MAX: usize = 700;

/// Marks of work left undone, and roots of somebody's machine. In two halves, so that this file is tidy too.
const UNDONE: [&str; 3] = [concat!("FIX", "ME"), concat!("todo", "!("), concat!("unimplemented", "!(")];
const MACHINE: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/Use", "rs/")];

/// What is untidy below `root`, one sentence each.
pub(crate) fn faults(root: &Path) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root);
    let mut found = Vec::new();
    for name in run::output(&mut git)?.lines() {
        if let Ok(text) = fs::read_to_string(root.join(name)) {
            found.extend(faults_of(name, &text));
        }
    }
    Ok(found)
}

fn faults_of(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let rust = name.ends_with(".rs");
    // `foo/tests.rs` belongs to `foo.rs`, whose paragraph speaks for both.
    if rust && !text.starts_with("//!") && !name.ends_with("/tests.rs") {
        found.push(format!("{name} does not open with a `//!` paragraph"));
    }
    let lines = text.lines().count();
    if rust && name.starts_with("crates/") && name.contains("/src/") && lines > LINES_MAX {
        found.push(format!("{name} has {lines} lines, {LINES_MAX} at most: look for the missing noun"));
    }
    let readable = rust || [".toml", ".md", ".sh", ".ci/run"].iter().any(|end| name.ends_with(end));
    for (number, line) in text.lines().enumerate().filter(|_| readable) {
        if rust && UNDONE.iter().any(|mark| line.contains(mark)) {
            found.push(format!("{name}:{}: left undone: {}", number + 1, line.trim()));
        }
        if MACHINE.iter().any(|path| line.contains(path)) {
            found.push(format!("{name}:{}: a path of somebody's machine: {}", number + 1, line.trim()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{LINES_MAX, faults_of};

    fn check(name: &str, text: &str, expected: &[&str]) {
        assert_eq!(faults_of(name, text), expected);
    }

    #[test]
    fn a_file_opens_with_what_it_owns() {
        check("crates/a/src/b.rs", "//! Owns b.\n", &[]);
        check("crates/a/src/b/tests.rs", "use a;\n", &[]);
        check("crates/a/src/b.rs", "use a;\n", &["crates/a/src/b.rs does not open with a `//!` paragraph"]);
    }

    #[test]
    fn a_file_that_is_too_long_is_found() {
        let long = "//! Owns too much.\n".repeat(LINES_MAX + 1);
        check("crates/a/src/b.rs", &long, &["crates/a/src/b.rs has 701 lines, 700 at most: look for the missing noun"]);
        check("crates/a/tests/b.rs", &long, &[]);
    }

    #[test]
    fn work_left_undone_and_paths_of_a_machine_are_found() {
        let undone = concat!("//! Owns b.\n// FIX", "ME later\n");
        check("crates/a/src/b.rs", undone, &[concat!("crates/a/src/b.rs:2: left undone: // FIX", "ME later")]);
        let path = concat!("Run /wo", "rk/x\n");
        check("README.md", path, &[concat!("README.md:1: a path of somebody's machine: Run /wo", "rk/x")]);
    }
}
