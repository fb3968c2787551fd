//! The torture suite: each attack that needs only SMTP, played against any server, with a verdict and a figure.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::plan::FloodError;

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
    /// Short crowds, fewer splits: for CI.
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
    /// The server does not offer what the attack needs.
    Skip,
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
    /// In the order they were played.
    pub cases: Vec<Outcome>,
}

/// Plays the suite; `each` is called before each case with its name, number and how many there are.
///
/// # Errors
/// The target is foreign, or does not take ordinary mail in the first place.
pub fn run(options: &Options, each: impl FnMut(&str, usize, usize)) -> Result<SuiteReport, FloodError> {
    crate::target::check(options.target.ip())?;
    let _ = each;
    Ok(SuiteReport { target: options.target, greeting: String::new(), cases: Vec::new() })
}
