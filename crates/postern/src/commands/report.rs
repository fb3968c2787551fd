//! `report spam|ham`: the operator's word about messages and addresses.

use super::{connect, print};
use crate::args::{ServerArgs, Verdict};
use crate::control::Ask;
use crate::exit::Failure;

/// `postern report spam|ham ID…`. Each is tried; the first failure decides the exit code.
pub(crate) fn report(verdict: Verdict, what: &[String], server: &ServerArgs) -> Result<(), Failure> {
    let mut client = connect(server)?;
    let mut failed = None;
    for what in what {
        match client.ask(Ask::Report { spam: verdict == Verdict::Spam, what: what.clone() }) {
            Ok(answer) => {
                let address = answer["address"].as_str().unwrap_or("?");
                let class = answer["class"].as_str().unwrap_or("?");
                let released = if answer["released"] == true { "; it leaves the quarantine" } else { "" };
                print(&format!("{what}: noted; {address} is now {class}{released}\n"))?;
            }
            Err(failure) => {
                eprintln!("postern: {failure}");
                failed.get_or_insert(failure);
            }
        }
    }
    match failed {
        None => Ok(()),
        Some(failure) => Err(Failure::new(failure.code, "not all could be reported, see above")),
    }
}
