//! The ids of messages answered 250, one a line, as they are answered: a checker compares them with what arrived.
//!
//! Written to a file through a buffer that is emptied ten times a second, so that a killed generator has told of all
//! but the last 100 ms, and never of a message that was not answered.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::plan::FloodError;

/// A file of ids, or nothing.
pub(crate) struct Ledger(Option<BufWriter<File>>);

impl Ledger {
    pub(crate) fn create(path: Option<&Path>) -> Result<Self, FloodError> {
        let create = |path: &Path| {
            File::create(path)
                .map(BufWriter::new)
                .map_err(|error| FloodError::System(path.display().to_string(), error))
        };
        path.map(create).transpose().map(Self)
    }

    pub(crate) fn write(&mut self, id: &str) -> Result<(), FloodError> {
        match &mut self.0 {
            Some(file) => writeln!(file, "{id}").map_err(failed),
            None => Ok(()),
        }
    }

    pub(crate) fn flush(&mut self) -> Result<(), FloodError> {
        self.0.as_mut().map_or(Ok(()), |file| file.flush().map_err(failed))
    }
}

fn failed(error: std::io::Error) -> FloodError {
    FloodError::System("the ledger".to_owned(), error)
}
