//! `postern flood --suite`: the cases as a table or JSON, and an exit code.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use indicatif::ProgressBar;
use postern_flood::suite::{self, Options, SuiteReport, Verdict};

use super::{FloodArgs, failure, print};
use crate::exit::{Code, Failure};

/// Flags of the suite.
#[derive(Debug, Args)]
#[command(next_help_heading = "Torture suite")]
pub(super) struct SuiteArgs {
    /// Play the torture suite instead: each attack with a verdict and a figure
    #[arg(long)]
    pub(super) suite: bool,
    /// Only cases whose name contains this
    #[arg(long, value_name = "NAME", requires = "suite")]
    only: Option<String>,
    /// Smaller crowds and shorter waits
    #[arg(long, requires = "suite")]
    quick: bool,
    /// A local part that the server does not know, where it checks recipients
    #[arg(long, value_name = "NAME", requires = "suite")]
    unknown: Option<String>,
}

pub(super) fn run(args: &FloodArgs, target: SocketAddr, stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    let options = Options {
        target,
        recipient: args.to.clone(),
        unknown: args.suite.unknown.clone(),
        only: args.suite.only.clone(),
        quick: args.suite.quick,
        seed: args.seed,
    };
    let bar = ProgressBar::new(1);
    let report = suite::run(&options, |name, number, of| {
        bar.set_length(of as u64);
        bar.set_position(number as u64);
        bar.set_message(name.to_owned());
        if stop.load(Ordering::Relaxed) {
            std::ops::ControlFlow::Break(())
        } else {
            std::ops::ControlFlow::Continue(())
        }
    });
    bar.finish_and_clear();
    let report = report.map_err(failure)?;
    if args.json {
        let line = serde_json::to_string(&report).map(|line| line + "\n").unwrap_or_default();
        print(&line)?;
    } else {
        print(&table(&report))?;
    }
    match report.cases.iter().filter(|case| case.verdict == Verdict::Fail).count() {
        0 => Ok(()),
        failed => Err(Failure::new(Code::Failed, format!("{failed} of {} cases fail", report.cases.len()))),
    }
}

fn table(report: &SuiteReport) -> String {
    let mut table = format!("{}: {}\n\n", report.target, report.greeting);
    for case in &report.cases {
        table.push_str(&format!("{:<8} {:<24} {}\n", case.verdict.as_str(), case.name, case.measured));
    }
    table
}
