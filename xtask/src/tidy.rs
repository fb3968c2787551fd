//! Rules of the house that no compiler knows: an opening paragraph in each file, files of a readable length, nothing
//! left undone, no path of somebody's machine, no test named in the docs that is not there.
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
    let names = run::output(&mut git)?;
    let read = |name: &str| Some((name.to_owned(), fs::read_to_string(root.join(name)).ok()?));
    let files: Vec<(String, String)> = names.lines().filter_map(read).collect();
    let mut found: Vec<String> = files.iter().flat_map(|(name, text)| faults_of(name, text)).collect();
    let tests: Vec<&str> =
        files.iter().filter(|(name, _)| name.ends_with(".rs")).flat_map(|(_, text)| functions(text)).collect();
    for (name, text) in files.iter().filter(|(name, _)| name.starts_with("docs/") && name.ends_with(".md")) {
        let missing = named_tests(text).filter(|named| !tests.iter().any(|test| test.starts_with(named)));
        found.extend(missing.map(|named| format!("{name} names a test that is not there: {named}")));
    }
    Ok(found)
}

fn functions(text: &str) -> impl Iterator<Item = &str> {
    text.split("fn ").skip(1).filter_map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next())
}

/// What stands in backticks and reads like a sentence: a test's name, or its beginning as a filter has it.
fn named_tests(text: &str) -> impl Iterator<Item = &str> {
    let is_name = |word: &&str| word.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_');
    text.split('`').filter(is_name).filter(|word| word.matches('_').count() >= SENTENCE)
}

/// Underscores that make a name a sentence.
const SENTENCE: usize = 4;

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
    use super::{LINES_MAX, faults_of, functions, named_tests};

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

    #[test]
    fn names_of_tests_are_told_from_other_words() {
        let text = "It is shown by `a_test_that_says_so` and `--test x`, see `a_b_c` and `An_other_one_of_them`.";
        assert_eq!(named_tests(text).collect::<Vec<_>>(), ["a_test_that_says_so"]);
        let code = "#[test]\nfn a_test_that_says_so() {}\npub(crate) fn b<T>(f: impl Fn()) {}";
        assert_eq!(functions(code).collect::<Vec<_>>(), ["a_test_that_says_so", "b"]);
    }
}
