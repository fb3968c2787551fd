//! The generator as a process of its own, so that neither its memory nor its descriptors are those of whoever
//! measures: `postern bench play` reads a plan from standard input and writes its report, both as JSON.

use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::process::{Command, Stdio};

use postern_flood::{Flood, Plan, Report};

use crate::exit::{Code, Failure};

/// Where it runs, where there is more than one.
pub(in crate::bench) const CORE: usize = 1;

/// Has a plan played by a child of this program.
pub(in crate::bench) fn play(plan: &Plan) -> Result<Report, Failure> {
    let failed = |error: io::Error| Failure::io(Code::Os, "generator", &error);
    let mut plan = plan.clone();
    plan.pin = plan.pin.filter(|core| *core < super::super::machine::cores_online());
    let text = serde_json::to_vec(&plan).map_err(|error| failed(error.into()))?;
    let program = std::env::current_exe().map_err(failed)?;
    let mut child = Command::new(program)
        .args(["bench", "play"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&text).map_err(failed)?;
    }
    // It ends by itself: a plan has an end.
    let output = child.wait_with_output().map_err(failed)?;
    serde_json::from_slice(&output.stdout).map_err(|error| {
        Failure::new(Code::Software, format!("the generator ended with {}: {error}", output.status))
            .cure("the line above says why; often it is `ulimit -n`, which should be 20000")
    })
}

/// The child's side.
///
/// # Errors
/// The plan is no plan, or was refused: loopback only, and every number within its limit.
pub(in crate::bench) fn child() -> Result<(), Failure> {
    let mut text = Vec::new();
    io::stdin().read_to_end(&mut text).map_err(|error| Failure::io(Code::Io, "standard input", &error))?;
    let plan: Plan =
        serde_json::from_slice(&text).map_err(|error| Failure::new(Code::Data, format!("no plan: {error}")))?;
    let report = Flood::run(&plan, |_| ControlFlow::Continue(()))
        .map_err(|error| Failure::new(Code::Unavailable, error.to_string()))?;
    let report = serde_json::to_string(&report).unwrap_or_default();
    println!("{report}");
    Ok(())
}
