//! Clients of spam filters: milter, rspamd, spamd.
//!
//! Owns asking: a stored message and what was known at its arrival go to one filter, and what the
//! filter found comes back as a [`Finding`]. It never decides what becomes of mail: whoever calls
//! (the drain) knows whether its sender was already told 250, and turns a rejection into a mark or a
//! quarantine when it was. No connection outlives a judgement and nothing is retried: how many are
//! under way at once, and what a filter that is down means, is the caller's part too.

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use postern_proto::address::Address;
use postern_proto::envelope::Meta;
use postern_proto::judgement::HeaderChange;
use postern_proto::reply::Reply;

use crate::client::Target;

mod milter;
mod rspamd;
mod spamd;
mod stream;

use postern_proto::milter::clean_field;

/// One filter, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Names it in logs, in `status` and in what is written into mail.
    pub name: String,
    /// What is spoken, and where.
    pub kind: Kind,
    /// For a whole judgement, the connect included.
    pub timeout: Duration,
}

/// What is spoken to a filter, and where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The milter protocol, version 6 and what older filters negotiate down to.
    Milter {
        /// TCP or a socket file.
        target: Target,
    },
    /// HTTP to rspamd's normal worker (`/checkv2`).
    Rspamd {
        /// TCP or a socket file.
        target: Target,
    },
    /// SPAMC/1.5 to SpamAssassin's spamd.
    Spamd {
        /// TCP or a socket file.
        target: Target,
    },
}

/// A message to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The envelope and the facts of arrival.
    pub meta: &'a Meta,
    /// The name of the item, as in its Received field: the "queue id" of filters and their logs.
    pub id: &'a str,
    /// Our Received field with its CRLF: the header that filters see starts with it, as in mail that an MTA asks
    /// about.
    pub received: &'a [u8],
    /// The message as stored: CRLF, without dot-stuffing.
    pub body: Content<'a>,
}

/// The octets of a message.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// In memory.
    Bytes(&'a [u8]),
    /// A file and how many of its octets, from its start; its position is neither used nor moved.
    File(&'a File, u64),
}

/// What a filter says should become of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong with it.
    Accept,
    /// It is to be delivered and marked as spam.
    Mark,
    /// It is to be kept aside.
    Quarantine,
    /// 5yz.
    Reject(Reply),
    /// 4yz.
    Tempfail(Reply),
    /// Answered 250 and thrown away; the caller never does that.
    Discard,
}

/// What a filter found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What should become of it.
    pub verdict: Verdict,
    /// In hundredths of the filter's own points, when it gives any.
    pub score_hundredths: Option<i32>,
    /// The filter's words, or why nothing was asked. One line.
    pub reason: Option<String>,
    /// The filter has not seen the message: the verdict lets it pass and says nothing about it.
    pub unasked: bool,
    /// Changes to the header, in order. Positions count in the message as stored: our Received field is not there.
    pub headers: Vec<HeaderChange>,
    /// A new body (all behind the empty line).
    pub body: Option<Vec<u8>>,
    /// Recipients that the filter refuses by themselves: index in [`Meta::recipients`] and the reply.
    pub refused_recipients: Vec<(usize, Reply)>,
    /// Further recipients.
    pub add_recipients: Vec<Address>,
    /// Recipients that go, silently.
    pub remove_recipients: Vec<Address>,
    /// A new reverse-path; `Some(None)` is `<>`.
    pub sender: Option<Option<Address>>,
}

impl Finding {
    /// A verdict and nothing else.
    pub fn new(verdict: Verdict) -> Self {
        Self {
            verdict,
            score_hundredths: None,
            reason: None,
            unasked: false,
            headers: Vec::new(),
            body: None,
            refused_recipients: Vec::new(),
            add_recipients: Vec::new(),
            remove_recipients: Vec::new(),
            sender: None,
        }
    }
}

/// Why there is no finding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// It could not be connected to, or it hung up before it had judged.
    #[error("the filter cannot be reached: {0}")]
    Unreachable(String),
    /// No judgement within [`Filter::timeout`].
    #[error("the filter did not answer in time")]
    TimedOut,
    /// It answered something that the protocol does not have, or too much of it.
    #[error("the filter broke its protocol: {0}")]
    Protocol(String),
    /// The message could not be read from the disk.
    #[error("the message cannot be read: {0}")]
    Content(String),
}

/// The text of a configuration that names no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a filter is one of milter:inet:HOST:PORT, milter:unix:PATH, rspamd:HOST:PORT, rspamd:PATH, spamd:HOST:PORT, spamd:PATH"
)]
pub struct UnknownKind;

impl Kind {
    /// Reads the form of the configuration: `milter:inet:HOST:PORT`, `milter:unix:PATH`, `rspamd:HOST:PORT`,
    /// `rspamd:PATH`, `spamd:HOST:PORT`, `spamd:PATH`. A path is absolute; an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// [`UnknownKind`] when it is none of these.
    pub fn parse(text: &str) -> Result<Self, UnknownKind> {
        let (kind, place) = text.split_once(':').ok_or(UnknownKind)?;
        match kind {
            "milter" => {
                let target = match place.split_once(':') {
                    Some(("inet", place)) => inet(place),
                    Some(("unix", path)) => unix(path),
                    _ => None,
                };
                target.map(|target| Self::Milter { target })
            }
            "rspamd" => unix(place).or_else(|| inet(place)).map(|target| Self::Rspamd { target }),
            "spamd" => unix(place).or_else(|| inet(place)).map(|target| Self::Spamd { target }),
            _ => None,
        }
        .ok_or(UnknownKind)
    }
}

fn unix(path: &str) -> Option<Target> {
    path.starts_with('/').then(|| Target::Unix(PathBuf::from(path)))
}

fn inet(place: &str) -> Option<Target> {
    let (host, port) = place.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = bare.unwrap_or(host);
    let sound = !host.is_empty() && (bare.is_some() || !host.contains(':')) && !host.contains('/');
    let port = port.parse().ok().filter(|port| *port != 0)?;
    sound.then(|| Target::Tcp { host: host.to_owned(), port })
}

impl fmt::Display for Kind {
    /// As [`Kind::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Milter { target: target @ Target::Tcp { .. } } => write!(f, "milter:inet:{target}"),
            Self::Milter { target: target @ Target::Unix(_) } => write!(f, "milter:unix:{target}"),
            Self::Rspamd { target } => write!(f, "rspamd:{target}"),
            Self::Spamd { target } => write!(f, "spamd:{target}"),
        }
    }
}

/// Asks `filter` about a message, within [`Filter::timeout`]. `hostname` is our name, as in the greeting.
///
/// # Errors
/// [`FilterError`] says who failed. A message that is never judged is no finding: what it means is for the caller.
pub async fn judge(filter: &Filter, hostname: &str, subject: &Subject<'_>) -> Result<Finding, FilterError> {
    let judged = async {
        match &filter.kind {
            Kind::Milter { target } => milter::judge(target, hostname, subject).await,
            Kind::Rspamd { target } => rspamd::judge(target, hostname, subject).await,
            Kind::Spamd { target } => spamd::judge(target, hostname, subject).await,
        }
    };
    tokio::time::timeout(filter.timeout, judged).await.unwrap_or(Err(FilterError::TimedOut))
}

/// A message that is larger than this kind of filter takes: let through, and said so.
fn too_big(kind: &str, bytes: u64, bytes_max: u64) -> Finding {
    let mut finding = Finding::new(Verdict::Accept);
    finding.unasked = true;
    finding.reason = Some(format!("too big for {kind}: {bytes} octets, it is asked up to {bytes_max}"));
    finding
}

/// A filter's words in one bounded line, for logs and replies.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.trim().chars() {
        if line.len() + c.len_utf8() > WORDS_BYTES_MAX {
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    line
}

/// A score as it is kept. A filter's "1000" is a thousand points; what does not fit is the largest that does.
fn hundredths(score: f64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "a cast from float saturates, and NaN is 0")]
    let hundredths = (score * 100.0).round() as i32;
    hundredths
}

/// Header changes in one finding, as for milters.
const HEADER_CHANGES_MAX: usize = postern_proto::milter::HEADER_CHANGES_MAX;
/// The text of a reply line (RFC 5321 section 4.5.3.1.5 allows 512 with the code).
const WORDS_BYTES_MAX: usize = 480;

#[cfg(test)]
mod tests;
