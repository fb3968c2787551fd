//! Why a door did not open, sorted by what the sender does about it.

use std::io;

use postern_proto::door::CloseCode;
use quinn::ConnectionError;

/// Why there is no connection or stream. None of them is a reason to give mail up: port 25 is left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DoorError {
    /// Nobody answered within the deadline, at any address. What follows is the downgrade rule's.
    #[error("the door is silent")]
    Silent,
    /// The door gave an appointment that is too far off to wait for. It is remembered: a connect after that time uses it.
    #[error("the door gave an appointment at {not_before_unix_s} (Unix time)")]
    Appointment {
        /// When, Unix seconds by our own clock.
        not_before_unix_s: u64,
    },
    /// The server will not have mail from us for a while.
    #[error("the server asks to come again in {retry_after_s} s")]
    Parked {
        /// From now.
        retry_after_s: u32,
    },
    /// The server has another key than was expected of it: an attack, or a roll-over that is not published.
    #[error("the server showed a key that is not its own")]
    WrongKey,
    /// The server closed, and said why.
    #[error("the server closed: {}", .0.as_str())]
    Refused(CloseCode),
    /// As many streams as the server allows are in use, and none became free in time.
    #[error("all streams of the connection are in use")]
    Busy,
    /// The address names no key to expect, or no address that can be reached.
    #[error("nothing to connect to: {0}")]
    Address(&'static str),
    /// TLS or QUIC failed, or the peer does not keep to the protocol.
    #[error("{0}")]
    Transport(String),
}

impl From<io::Error> for DoorError {
    fn from(error: io::Error) -> Self {
        Self::Transport(format!("no socket: {error}"))
    }
}

/// How a connection ended, in words of the door.
impl From<&ConnectionError> for DoorError {
    fn from(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => match CloseCode::from_code(close.error_code.into_inner()) {
                Some(code) => Self::Refused(code),
                None => Self::Transport(format!("the server closed with code {}", close.error_code)),
            },
            ConnectionError::TimedOut => Self::Silent,
            other => Self::Transport(other.to_string()),
        }
    }
}
