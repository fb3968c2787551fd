//! The generator as a process of its own: `postern bench play-door` reads a plan from standard input and writes its
//! report, both as JSON.

use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::process::{Command, Stdio};

use postern_flood::door::{DoorFlood, DoorPlan, DoorReport};

use super::super::machine;
use super::super::storm::play::CORE;
use crate::exit::{Code, Failure};

/// Has a plan played by a child of this program, on the core of the generator.
pub(super) fn play(plan: &DoorPlan) -> Result<DoorReport, Failure> {
    let failed = |error: io::Error| Failure::io(Code::Os, "generator", &error);
    let mut plan = plan.clone();
    plan.pin = Some(CORE).filter(|core| *core < machine::cores_online());
    let text = serde_json::to_vec(&plan).map_err(|error| failed(error.into()))?;
    let program = std::env::current_exe().map_err(failed)?;
    let mut child = Command::new(program)
        .args(["bench", "play-door"])
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
/// The plan is no plan, or was refused.
pub(in crate::bench) fn child() -> Result<(), Failure> {
    let mut text = Vec::new();
    io::stdin().read_to_end(&mut text).map_err(|error| Failure::io(Code::Io, "standard input", &error))?;
    let plan: DoorPlan =
        serde_json::from_slice(&text).map_err(|error| Failure::new(Code::Data, format!("no plan: {error}")))?;
    let report = DoorFlood::run(&plan, |_| ControlFlow::Continue(()))
        .map_err(|error| Failure::new(Code::Unavailable, error.to_string()))?;
    println!("{}", serde_json::to_string(&report).unwrap_or_default());
    Ok(())
}
