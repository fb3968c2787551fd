//! Fuzzing on the stable compiler: libFuzzer with coverage, no sanitizer, no nightly, no clang.
//!
//! What cargo-fuzz passes for coverage are ordinary code generation flags; only the sanitizers need nightly, and our
//! code has no `unsafe` for them to watch. The corpus in `fuzz/corpus/TARGET` is committed and replayed by
//! `cargo xtask test`; what a run finds beyond it stays in `target/`, and a crash is written to `fuzz/artifacts/TARGET`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{run, suite};

/// Seconds per target unless said otherwise.
const SECONDS: u64 = 30;

/// An input larger than this is no better at finding a new path.
const INPUT_BYTES_MAX: &str = "4096";

/// One input may take this long: a machine that is slow on 4 KiB has a loop that grows too fast. By the clock, and so more
/// than a busy machine stands still.
const INPUT_SECONDS_MAX: &str = "60";

/// Faults that a release build would wrap round; one unit, since a function's coverage table must stay beside it.
const FLAGS: [&str; 4] = ["--cfg=fuzzing", "-Cdebug-assertions", "-Coverflow-checks", "-Ccodegen-units=1"];

/// How libFuzzer learns which branches ran.
const COVERAGE: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// `fuzz [--seconds N] [--replay] [TARGET …]`
pub(crate) fn run(args: &[String]) -> Result<()> {
    let mut seconds = SECONDS;
    let mut replay = false;
    let mut wanted = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => seconds = args.next().context("--seconds needs a number")?.parse()?,
            "--replay" => replay = true,
            name if !name.starts_with('-') => wanted.push(name.to_owned()),
            other => bail!("unknown option {other}"),
        }
    }
    if replay {
        let outcomes = replay_all()?;
        let failed = outcomes.iter().filter(|(_, outcome)| outcome.is_err()).count();
        for (target, outcome) in &outcomes {
            println!(
                "fuzz corpus of {target}: {}",
                outcome.as_ref().map_or_else(|why| why.to_string(), |()| "ok".into())
            );
        }
        return suite::print_count(outcomes.len() - failed, failed);
    }
    let targets: Vec<String> =
        targets()?.into_iter().filter(|name| wanted.is_empty() || wanted.contains(name)).collect();
    if targets.is_empty() {
        bail!("no such target in fuzz/fuzz_targets");
    }
    let built = build()?;
    let mut failed = 0;
    for target in &targets {
        println!("fuzz {target}: {seconds} s");
        if let Err(why) = fuzz(&built, target, seconds) {
            failed += 1;
            eprintln!("fuzz {target}: {why:#}");
        }
    }
    suite::print_count(targets.len() - failed, failed)
}

/// Runs each committed input once; one outcome per target.
pub(crate) fn replay_all() -> Result<Vec<(String, Result<()>)>> {
    let targets = targets()?;
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    let built = build()?;
    let replay = |target: &String| {
        let corpus = run::root().join("fuzz/corpus").join(target);
        if !fs::read_dir(&corpus).is_ok_and(|mut inputs| inputs.next().is_some()) {
            bail!("no corpus in {}", corpus.display());
        }
        let mut command = Command::new(built.join(target));
        let output = command.arg("-runs=0").arg(&corpus).output()?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    };
    Ok(targets.into_iter().map(|target| (target.clone(), replay(&target))).collect())
}

/// Names of all fuzz targets; none while there is no `fuzz/`.
fn targets() -> Result<Vec<String>> {
    let Ok(entries) = fs::read_dir(run::root().join("fuzz/fuzz_targets")) else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if let (Some(name), Some("rs")) = (path.file_stem(), path.extension().and_then(|end| end.to_str())) {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Builds all targets with coverage, for fuzzing and replaying alike, and returns the folder they are in.
fn build() -> Result<PathBuf> {
    let host = run::output(Command::new("rustc").arg("-vV"))?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names its host")?;
    let dir = run::target().join("fuzz");
    let flags = [&FLAGS[..], &COVERAGE[..]].concat();
    // `--target` keeps the flags away from build scripts and macros, which could not be linked with them.
    let mut command =
        run::cargo(["build", "--release", "--bins", "--target", host, "--manifest-path", "fuzz/Cargo.toml"]);
    command.env("CARGO_TARGET_DIR", &dir).env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    run::check(&mut command)?;
    Ok(dir.join(host).join("release"))
}

fn fuzz(built: &std::path::Path, target: &str, seconds: u64) -> Result<()> {
    let found = run::target().join("fuzz-corpus").join(target);
    let artifacts = run::root().join("fuzz/artifacts").join(target);
    fs::create_dir_all(&found)?;
    fs::create_dir_all(&artifacts)?;
    let mut command = Command::new(built.join(target));
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-max_len={INPUT_BYTES_MAX}")).arg(format!("-timeout={INPUT_SECONDS_MAX}"));
    command.arg(format!("-artifact_prefix={}/", artifacts.display())).arg("-print_final_stats=1");
    command.arg(&found).arg(run::root().join("fuzz/corpus").join(target));
    let output = command.output().with_context(|| format!("cannot start {target}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let coverage = |at: &str| text.lines().filter(|line| line.contains(at)).filter_map(covered).next_back();
    if !output.status.success() {
        let tail: Vec<&str> = text.lines().rev().take(60).collect();
        bail!("{}\n{}", output.status, tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
    let runs = text.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:")).unwrap_or(" ?");
    let (start, end) = (coverage("INITED"), coverage("DONE"));
    println!("fuzz {target}: {} runs, coverage {:?} -> {:?}", runs.trim(), start.unwrap_or(0), end.unwrap_or(0));
    if end.unwrap_or(0) == 0 {
        bail!("no coverage was counted: the flags no longer work, and this was no fuzzing");
    }
    Ok(())
}

/// The number behind `cov:` in a line of libFuzzer.
fn covered(line: &str) -> Option<u64> {
    line.split_once("cov: ")?.1.split(' ').next()?.parse().ok()
}
