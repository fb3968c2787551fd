//! How the program ends: a message for the operator and a code of sysexits(3).
//!
//! Every command returns [`Failure`]; only `main` turns it into an exit.

use std::fmt;
use std::io;

/// The codes of sysexits(3) that this program uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// `check` found a fault; a command was refused by the server.
    Failed = 1,
    /// EX_USAGE: the command line.
    Usage = 64,
    /// EX_DATAERR: what was given is not what it should be, such as an unknown id.
    Data = 65,
    /// EX_UNAVAILABLE: no server answers on the control socket, or one already runs.
    Unavailable = 69,
    /// EX_SOFTWARE: a fault of this program.
    Software = 70,
    /// EX_OSERR: the system refused something it should grant.
    Os = 71,
    /// EX_CANTCREAT: a file or directory cannot be made.
    CannotCreate = 73,
    /// EX_IOERR: reading or writing failed.
    Io = 74,
    /// EX_NOPERM: not allowed.
    NoPermission = 77,
    /// EX_CONFIG: the configuration.
    Config = 78,
}

/// Why a command ended early.
#[derive(Debug)]
pub(crate) struct Failure {
    /// With what the process exits.
    pub(crate) code: Code,
    /// What went wrong.
    pub(crate) what: String,
    /// What to do about it; may be empty.
    pub(crate) cure: String,
}

impl Failure {
    /// A failure without a cure that we know.
    pub(crate) fn new(code: Code, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), cure: String::new() }
    }

    /// Adds what to do about it.
    #[must_use]
    pub(crate) fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = cure.into();
        self
    }

    /// From an I/O error while doing `what`: permission has a code of its own.
    pub(crate) fn io(code: Code, what: impl fmt::Display, error: &io::Error) -> Self {
        let code = if error.kind() == io::ErrorKind::PermissionDenied { Code::NoPermission } else { code };
        Self::new(code, format!("{what}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.cure.is_empty() { Ok(()) } else { write!(f, "\n  {}", self.cure) }
    }
}

impl std::error::Error for Failure {}

impl From<Box<crate::config::Fault>> for Failure {
    fn from(fault: Box<crate::config::Fault>) -> Self {
        Self::new(Code::Config, fault.to_string())
    }
}
