//! The control socket: how commands speak to the running server.
//!
//! `DATA/control.sock`, mode 0600: whoever may open it may run the server. One JSON object a line
//! each way; every line carries the version of the protocol. `queue show --body` is answered by a
//! line with the number of octets and then those octets. Nothing here acts: the server side sends
//! messages to the owners of what is asked about.

pub(crate) mod client;
pub(crate) mod server;

use std::path::{Path, PathBuf};

use postern_proto::mode::Mode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::exit::{Code, Failure};

/// A request line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// [`VERSION`] of whoever asks.
    pub(crate) v: u32,
    /// What is asked.
    #[serde(flatten)]
    pub(crate) ask: Ask,
}

/// What a command may ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub(crate) enum Ask {
    /// Everything that `status` shows.
    Status,
    /// Modes: a command for one domain, or for all; `None` is `auto`.
    SetMode {
        /// Lower case; all when absent.
        domain: Option<String>,
        /// The mode now commanded.
        mode: Option<Mode>,
    },
    /// Let what is buffered leave.
    Drain {
        /// Lower case; all when absent.
        domain: Option<String>,
        /// Messages per second.
        rate: Option<u32>,
    },
    /// One page of the spool's content.
    QueueList {
        /// Only this domain.
        domain: Option<String>,
        /// Only dead letters.
        dead: bool,
        /// Behind this id.
        after: Option<String>,
        /// How many; the server gives at most [`PAGE_MAX`].
        limit: usize,
    },
    /// One item.
    QueueShow {
        /// Its id.
        id: String,
        /// Its octets follow.
        body: bool,
    },
    /// One item: an action.
    QueueDo {
        /// Its id.
        id: String,
        /// What to do with it.
        action: QueueAction,
    },
    /// Read the configuration again, as SIGHUP does.
    Reload,
}

/// What can be done to an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum QueueAction {
    /// Keep it.
    Hold,
    /// Let it leave again.
    Release,
    /// Drop it for good.
    Delete,
    /// Attempt it now.
    Retry,
}

/// A response line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Response {
    /// [`VERSION`] of the server.
    pub(crate) v: u32,
    /// The answer.
    #[serde(flatten)]
    pub(crate) answer: Answer,
}

/// How a request ended.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// As asked.
    Ok(Value),
    /// Not done.
    Error {
        /// Exit code of the command.
        code: u8,
        /// Why.
        what: String,
        /// What to do about it; may be empty.
        cure: String,
    },
}

/// The kernel takes no longer path for a socket.
///
/// # Errors
/// [`Code::Config`] with the cure.
pub(crate) fn refuse_long_path(data: &Path) -> Result<(), Failure> {
    let path = socket_path(data);
    let length = path.as_os_str().len();
    if length <= SOCKET_PATH_MAX {
        return Ok(());
    }
    let what = format!(
        "data directory {}: too long, {} would have {length} octets and a Unix socket's path has at most {SOCKET_PATH_MAX}",
        data.display(),
        path.display()
    );
    Err(Failure::new(Code::Config, what).cure("choose a shorter data directory, or a relative path to it"))
}

/// Where the socket of a data directory is.
pub(crate) fn socket_path(data: &Path) -> PathBuf {
    data.join("control.sock")
}

/// `sun_path` without its closing NUL.
const SOCKET_PATH_MAX: usize = 107;
/// Raised when a line changes its meaning.
pub(crate) const VERSION: u32 = 1;
/// Items in one answer: about 400 KiB of JSON.
pub(crate) const PAGE_MAX: usize = 1000;
/// A request line; the longest holds an id and two domains.
pub(crate) const REQUEST_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ask: &Ask, expected: &str) {
        let line = serde_json::to_string(&Request { v: VERSION, ask: ask.clone() }).expect("serializes");
        assert_eq!(line, expected);
        let back: Request = serde_json::from_str(&line).expect("reads back");
        assert_eq!(&back.ask, ask);
    }

    #[test]
    fn a_request_is_one_flat_object() {
        check(&Ask::Status, r#"{"v":1,"ask":"status"}"#);
        let ask = Ask::SetMode { domain: Some("a.example".into()), mode: Some(Mode::Hold) };
        check(&ask, r#"{"v":1,"ask":"set_mode","domain":"a.example","mode":"hold"}"#);
        let ask = Ask::QueueDo { id: "0".into(), action: QueueAction::Retry };
        check(&ask, r#"{"v":1,"ask":"queue_do","id":"0","action":"retry"}"#);
    }

    #[test]
    fn an_answer_says_ok_or_error() {
        let line =
            serde_json::to_string(&Response { v: VERSION, answer: Answer::Ok(Value::Null) }).expect("serializes");
        assert_eq!(line, r#"{"v":1,"ok":null}"#);
    }
}
