//! The torture suite: each attack that needs only SMTP, played against any server, with a verdict and a figure.
//!
//! Every case says what must hold and how it is judged by what can be seen over SMTP alone. An ordinary mail goes before
//! the first case and behind each: a server that is gone passes nothing. Attacks come from addresses of their own, one a
//! connection where they can, so that a server may hold them against the attacker without harm to the control.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::plan::FloodError;

mod bombs;
mod client;
mod crowds;
mod grammar;
mod recipients;
mod smuggling;
mod stage;
mod starttls;

use client::Lost;
use stage::Stage;

/// What to ask of which server.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server: loopback or a namespace of one's own.
    pub target: SocketAddr,
    /// Whom it takes mail for.
    pub recipient: String,
    /// A local part at the same domain that does not exist there; `None`: the server takes any.
    pub unknown: Option<String>,
    /// Only cases whose name contains this.
    pub only: Option<String>,
    /// Smaller crowds, fewer splits: for CI.
    pub quick: bool,
    /// Same seed, same run.
    pub seed: u64,
}

/// How a case went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// What must hold holds.
    Pass,
    /// It holds in part, or SMTP alone cannot show the rest.
    Partial,
    /// It does not hold.
    Fail,
    /// The server does not offer what the attack needs, or the options do not tell enough.
    Skip,
}

impl Verdict {
    /// As in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Partial => "partial",
            Self::Fail => "FAIL",
            Self::Skip => "skip",
        }
    }
}

/// One case against one server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Its name, for `--only`.
    pub name: String,
    /// What must hold.
    pub holds: String,
    /// How it went.
    pub verdict: Verdict,
    /// The figure or the words it is judged by.
    pub measured: String,
    /// How long it took.
    pub seconds: f64,
}

/// All cases against one server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SuiteReport {
    /// The server.
    pub target: SocketAddr,
    /// Its greeting.
    pub greeting: String,
    /// Somebody stopped it.
    pub stopped_early: bool,
    /// Small crowds, few splits.
    pub quick: bool,
    /// In the order they were played.
    pub cases: Vec<Outcome>,
}

/// A case: its name, what must hold, and the play that judges it.
struct Case {
    name: &'static str,
    holds: &'static str,
    play: fn(&mut Stage<'_>) -> Judged,
}

/// What a play found. Losing the server where it must answer is a finding too.
type Judged = Result<(Verdict, String), Lost>;

/// Names of all cases with what each holds a server to, in the order they are played.
pub fn cases() -> Vec<(&'static str, &'static str)> {
    all().iter().map(|case| (case.name, case.holds)).collect()
}

fn all() -> Vec<&'static Case> {
    let groups: [&[Case]; 6] =
        [&smuggling::CASES, &starttls::CASES, &grammar::CASES, &recipients::CASES, &bombs::CASES, &crowds::CASES];
    groups.into_iter().flatten().collect()
}

/// Plays the suite; `each` is called before each case with its name, number and how many there are, and may end it.
///
/// # Errors
/// The target is foreign, no case has such a name, or the server does not take ordinary mail in the first place.
pub fn run(
    options: &Options,
    mut each: impl FnMut(&str, usize, usize) -> ControlFlow<()>,
) -> Result<SuiteReport, FloodError> {
    crate::target::check(options.target.ip())?;
    let wanted = |name: &str| options.only.as_deref().is_none_or(|only| name.contains(only));
    let chosen: Vec<&Case> = all().into_iter().filter(|case| wanted(case.name)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = cases().iter().map(|(name, _)| *name).collect();
        return Err(FloodError::Plan(format!("no case has that name; there are {}", names.join(", "))));
    }
    let unreachable = |lost: Lost| FloodError::Unreachable(options.target, lost.to_string());
    let mut stage = Stage::meet(options).map_err(unreachable)?;
    stage.control().map_err(unreachable)?;
    let mut report = SuiteReport {
        target: options.target,
        greeting: stage.greeting.clone(),
        stopped_early: false,
        quick: options.quick,
        cases: Vec::new(),
    };
    for (number, case) in chosen.iter().enumerate() {
        if each(case.name, number, chosen.len()).is_break() {
            report.stopped_early = true;
            break;
        }
        report.cases.push(play(case, &mut stage));
    }
    Ok(report)
}

fn play(case: &Case, stage: &mut Stage<'_>) -> Outcome {
    let started = Instant::now();
    let (mut verdict, mut measured) = match (case.play)(stage) {
        Ok(judged) => judged,
        Err(lost) => (Verdict::Fail, format!("the server {lost} where it had to answer")),
    };
    if let Err(lost) = stage.control_patiently() {
        verdict = Verdict::Fail;
        measured = format!("{measured}; afterwards the server {lost} instead of taking an ordinary mail");
    }
    let seconds = started.elapsed().as_secs_f64();
    Outcome { name: case.name.to_owned(), holds: case.holds.to_owned(), verdict, measured, seconds }
}

#[cfg(test)]
mod tests;
