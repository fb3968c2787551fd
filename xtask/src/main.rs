//! All automation of the project, so that a task has one name on every machine: `cargo xtask TASK`.
//!
//! Each task lives in a module of its own; this file only chooses. Nothing here is needed to build or run Postern,
//! and no task touches the machine outside the work tree, the temporary directory and 127.0.0.0/8.

mod arrows;
mod bench;
mod fuzz;
#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../../crates/postern/tests/peers/harness/mod.rs"]
mod harness;
mod licences;
mod mutants;
mod peers;
mod run;
mod suite;
mod tidy;
mod torture;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
cargo xtask TASK

  test                 everything: peers, all tests, the fuzz corpus; ends with `N passed, N failed, N skipped`
  peers                unpack real mail servers from Debian's packages into target/peers (never installs one)
  arrows               hold the table of allowed dependencies and the tidy rules against the tree
  licences             licences, sources and duplicates of all dependencies (by cargo-deny when it is there)
  mutants [NAME]       break a promise on purpose; the named test must turn red
  fuzz [--seconds N] [--replay] [TARGET]   fuzz each target for N seconds, or replay the committed corpus only
  torture [--quick] [--only CASE] [--server NAME] [--binary POSTERN] [--page]   the torture suite beside other servers
  bench [--quick] [--storm] [--binary POSTERN]   durable collect beside Postfix and smtp-sink in one run; or, with
                       --storm, friends under the same crowds at Postern, Postfix and postscreen
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match task(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn task(args: &[String]) -> Result<()> {
    let rest = args.get(1..).unwrap_or_default();
    match args.first().map(String::as_str) {
        Some("test") => suite::run(rest),
        Some("peers") => peers::make().map(|dir| println!("{}", dir.display())),
        Some("arrows") => arrows::run(),
        Some("licences" | "licenses") => licences::run(),
        Some("mutants") => mutants::run(rest),
        Some("fuzz") => fuzz::run(rest),
        Some("bench") => bench::run(rest),
        Some("torture") => torture::run(rest),
        Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            Ok(())
        }
        other => bail!("{}{USAGE}", other.map(|task| format!("unknown task `{task}`\n\n")).unwrap_or_default()),
    }
}
