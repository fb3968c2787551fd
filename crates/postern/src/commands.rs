//! The commands that speak to a running server, and those that only print.

mod buffer;
pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod flood;
mod identity;
mod learn;
mod man;
mod modes;
mod peer;
mod queue;
mod report;
mod screen;
mod status;
mod top;
mod why;

use std::io::Write;
use std::path::PathBuf;

pub(crate) use buffer::buffer;
pub(crate) use identity::identity;
pub(crate) use learn::learn;
pub(crate) use man::{completions, man};
pub(crate) use modes::{drain, set_mode};
pub(crate) use peer::{bypass, peer};
pub(crate) use queue::queue;
pub(crate) use report::report;
pub(crate) use status::status;
pub(crate) use top::top;
pub(crate) use why::why;

use crate::args::ServerArgs;
use crate::config::data_dir;
use crate::control::client::Client;
use crate::exit::{Code, Failure};

/// Connects to the server that the flags name.
fn connect(server: &ServerArgs) -> Result<Client, Failure> {
    let data: PathBuf = data_dir(server.data.as_deref(), server.config.as_deref())?;
    Client::connect(&data)
}

/// Prints; a reader that has gone away (`| head`) is no error.
fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::io(Code::Io, "standard output", &error))
        }
        _ => Ok(()),
    }
}
