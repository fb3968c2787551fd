//! `cargo xtask test`, the README's second command: peers, every test, the fuzz corpus, and one line that sums up.
//!
//! Skipped tests are listed with their reasons at the very end, above `N passed, N failed, N skipped`: a test that did
//! not run must not look like one that passed.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, bail};

use crate::{fuzz, peers, run};

/// What the test binaries said, added up.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
    /// Names and reasons.
    skipped: Vec<String>,
    red: Vec<String>,
    ignored: usize,
}

/// Runs everything. `args` go to `cargo test` after `--workspace` (a package, a name).
pub(crate) fn run(args: &[String]) -> Result<()> {
    let mut tally = Tally::default();
    let mut command = run::cargo(["test", "--workspace", "--no-fail-fast"]);
    command.args(args);
    match peers::make() {
        Ok(dir) => {
            command.env("POSTERN_PEERS", dir);
            // Root is what Postfix needs to start; without it its tests are skipped, and say so.
            if rustix::process::geteuid().is_root() {
                command.env("POSTERN_REQUIRE_PEERS", "1");
            }
        }
        Err(why) if std::env::var_os("CI").is_none() => eprintln!("no real peers, their tests are skipped: {why:#}"),
        Err(why) => return Err(why),
    }
    let ended_well = tally.add_run(&mut command)?;
    if !ended_well && tally.failed == 0 {
        tally.red.push("cargo test (it did not build, or a test binary crashed)".to_owned());
        tally.failed += 1;
    }
    if args.is_empty() {
        for (target, outcome) in fuzz::replay_all()? {
            match outcome {
                Ok(()) => tally.passed += 1,
                Err(why) => {
                    tally.failed += 1;
                    tally.red.push(format!("fuzz corpus of {target}: {why:#}"));
                }
            }
        }
    }
    tally.print();
    if tally.failed > 0 {
        std::process::exit(1);
    }
    Ok(())
}

impl Tally {
    /// Runs `command`, passing on what it says, and adds its results. Whether it exited with 0.
    fn add_run(&mut self, command: &mut Command) -> Result<bool> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start cargo")?;
        let (sender, lines) = mpsc::channel::<(bool, String)>();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let to_channel = |is_error: bool, stream: Option<Box<dyn std::io::Read + Send>>| {
            let sender = sender.clone();
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.expect("both streams are piped"));
                let mut line = Vec::new();
                while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                    let _ = sender.send((is_error, String::from_utf8_lossy(&line).into_owned()));
                    line.clear();
                }
            });
        };
        to_channel(false, stdout.map(|stream| Box::new(stream) as _));
        to_channel(true, stderr.map(|stream| Box::new(stream) as _));
        drop(sender);
        for (is_error, line) in lines {
            self.add_line(&line);
            let bytes = line.as_bytes();
            if is_error {
                std::io::stderr().write_all(bytes)?;
            } else {
                std::io::stdout().write_all(bytes)?;
            }
        }
        Ok(child.wait()?.success())
    }

    fn add_line(&mut self, line: &str) {
        let line = line.trim_end();
        if let Some(result) = line.strip_prefix("test result: ") {
            let count = |what: &str| -> usize {
                let words: Vec<&str> = result.split([' ', ';']).collect();
                words.windows(2).find(|pair| pair[1] == what).and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
            };
            self.passed += count("passed");
            self.failed += count("failed");
            self.ignored += count("ignored");
        } else if let Some((_, why)) = line.split_once("SKIPPED: ") {
            self.skipped.push(why.to_owned());
        } else if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.red.push(name.to_owned());
        } else if let Some((name, why)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ignored")) {
            self.skipped.push(format!("{name}: {}", why.trim_start_matches([',', ' '])));
        }
    }

    fn print(&self) {
        println!();
        for why in &self.skipped {
            println!("skipped {why}");
        }
        for name in &self.red {
            println!("FAILED  {name}");
        }
        // A test that skips itself ended as passed.
        let by_themselves = self.skipped.len().saturating_sub(self.ignored);
        let passed = self.passed.saturating_sub(by_themselves);
        println!("{passed} passed, {} failed, {} skipped", self.failed, by_themselves + self.ignored);
    }
}

/// Prints a count in the form of the last line, for tasks that are no `cargo test`.
pub(crate) fn print_count(passed: usize, failed: usize) -> Result<()> {
    println!("{passed} passed, {failed} failed, 0 skipped");
    if failed > 0 {
        bail!("{failed} failed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn results_of_all_binaries_are_added_and_skipped_tests_are_not_passed_ones() {
        let mut tally = Tally::default();
        for line in [
            "test a::b ... ok",
            "test a::c ... FAILED",
            "test a::d ... ignored, needs a day",
            "SKIPPED: a::b: no real peers",
            "test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s",
        ] {
            tally.add_line(line);
        }
        let skipped = vec!["a::d: needs a day".to_owned(), "a::b: no real peers".to_owned()];
        assert_eq!(tally, Tally { passed: 41, failed: 1, skipped, red: vec!["a::c".to_owned()], ignored: 1 });
    }
}
