//! The control socket: how commands speak to the running server.
//!
//! `DATA/control.sock`, mode 0600: whoever may open it may run the server. One JSON object a line
//! each way; every line carries the version of the protocol. `queue show --body` is answered by a
//! line with the number of octets and then those octets. Nothing here acts: the server side sends
//! messages to the owners of what is asked about.

mod buffer;
pub(crate) mod client;
pub(crate) mod server;
mod trust;

pub(crate) use buffer::{hex, unhex};
pub(crate) use trust::class_word;

use std::path::{Path, PathBuf};

use postern_proto::mode::Mode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::exit::{Code, Failure};
use crate::serve::peers::PeerChange;
use crate::serve::trust::seed::Seed;

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
    /// Explain an address, a domain or an item.
    Why {
        /// Which.
        what: String,
    },
    /// The operator's word about an item or an address.
    Report {
        /// Spam, or not.
        spam: bool,
        /// Which.
        what: String,
    },
    /// Evidence from logs and mailboxes; [`SEEDS_MAX`] at most.
    Learn {
        /// With their dates.
        seeds: Vec<Seed>,
    },
    /// A pin: add or remove; nothing shows them all.
    Pin {
        /// Which, and whether it is added.
        change: Option<(String, bool)>,
    },
    /// A peer of the postern with its key: add or remove; nothing shows them all.
    Peer {
        /// What changes.
        change: Option<PeerChange>,
    },
    /// Which domains are ours, and so have a key to publish.
    Domains,
    /// Read our own keys again: the one in TLS, and the gate's secrets.
    OwnKeys,
    /// Make the postern's thread panic: no command asks for it, the bench does.
    PanicDoor,
    /// Take judgement out of the path; nothing shows whether it is.
    Bypass {
        /// From now on.
        on: Option<bool>,
    },
    /// One item with everything that brings it back; its octets follow.
    BufferGet {
        /// Its id.
        id: String,
    },
    /// Items come back: that many frames follow, each a line ([`Frame`]) and its octets. The answer
    /// says what became of each.
    BufferPut {
        /// At most [`FRAMES_MAX`].
        frames: usize,
    },
}

/// An item on its way out of the buffer or back into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Frame {
    /// Its id; kept.
    pub(crate) id: String,
    /// The lane's key.
    pub(crate) lane: String,
    /// The lane's class.
    pub(crate) class: u8,
    /// Held by the operator.
    #[serde(default)]
    pub(crate) held: bool,
    /// `Meta::to_bytes`, in hexadecimal: versioned, so that a later release reads it too.
    pub(crate) meta: String,
    /// Length of the body that follows.
    pub(crate) octets: u64,
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
/// A request line; the longest holds [`SEEDS_MAX`] seeds of 400 octets. With all connections in use 8 MiB.
pub(crate) const REQUEST_BYTES_MAX: usize = 256 * 1024;
/// Seeds in one request.
pub(crate) const SEEDS_MAX: usize = 500;
/// Items in one request: they share one sync.
pub(crate) const FRAMES_MAX: usize = 128;
/// The line of a frame: metadata with 1,000 recipients of 250 octets, in hexadecimal.
pub(crate) const FRAME_LINE_BYTES_MAX: usize = 1 << 20;

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
