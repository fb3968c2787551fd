//! What the spool keeps beside a body: the envelope and the facts of arrival, versioned.
//!
//! The spool never looks inside; doors write it, drain reads it and renders the Received field
//! from it at delivery. Old versions stay readable for as long as a queue may hold them.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::checks::Checks;
use crate::judgement::Judgement;
use crate::reply::Reply;

/// Written first, so that a later release can tell what follows.
const META_VERSION: u8 = 2;
/// Without [`Meta::checks`] and [`Meta::judgement`].
const META_VERSION_BEFORE_CHECKS: u8 = 1;

/// Everything about a message but its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// How, when and from whom it came.
    pub arrival: Arrival,
    /// The reverse-path; `None` is `<>`.
    pub sender: Option<Address>,
    /// Recipients still to be served. Those done or failed leave with a `finish`.
    pub recipients: Vec<Recipient>,
    /// `BODY=8BITMIME` was declared (RFC 6152).
    pub eight_bit: bool,
    /// `SMTPUTF8` was declared (RFC 6531).
    pub smtputf8: bool,
    /// `RET=` and `ENVID=` (RFC 3461).
    pub dsn: DsnRequest,
    /// Octets of the body as stored.
    pub size: u64,
    /// A filter has spoken. Nothing that is buffered may leave a judging domain with this unset.
    pub judged: bool,
    /// Delivery attempts so far.
    pub attempts: u32,
    /// Milliseconds since 1970 of the first look at it when it was free to leave: an attempt, or a wait for
    /// its destination. Expiry counts from here; what `hold` keeps does not age.
    pub tried_since_unix_ms: Option<u64>,
    /// What the last attempt said, for `queue show` and for reports.
    pub last_error: Option<String>,
    /// Set on a dead letter or a delivery report: why it is there.
    pub note: Option<String>,
    /// What was known of the client when it came.
    pub checks: Checks,
    /// What the filters decided; set together with `judged`. Where `judged` is not set they must be asked again,
    /// because the body that they made was not kept: see [`Meta::was_judged_before`].
    pub judgement: Option<Judgement>,
}

/// Version 1, as a queue may still hold it.
#[derive(Deserialize)]
struct MetaBeforeChecks {
    arrival: Arrival,
    sender: Option<Address>,
    recipients: Vec<Recipient>,
    eight_bit: bool,
    smtputf8: bool,
    dsn: DsnRequest,
    size: u64,
    judged: bool,
    attempts: u32,
    tried_since_unix_ms: Option<u64>,
    last_error: Option<String>,
    note: Option<String>,
}

impl From<MetaBeforeChecks> for Meta {
    fn from(old: MetaBeforeChecks) -> Self {
        Self {
            arrival: old.arrival,
            sender: old.sender,
            recipients: old.recipients,
            eight_bit: old.eight_bit,
            smtputf8: old.smtputf8,
            dsn: old.dsn,
            size: old.size,
            judged: old.judged,
            attempts: old.attempts,
            tried_since_unix_ms: old.tried_since_unix_ms,
            last_error: old.last_error,
            note: old.note,
            checks: Checks::default(),
            judgement: None,
        }
    }
}

/// Through which door a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Via {
    /// The public door.
    Public,
    /// The relay listener: the local MTA's own mail; failures are reported to its sender.
    Relay,
    /// Made here: a delivery report.
    Local,
    /// The postern: a peer whose domain was proven, with mail of its own authors.
    Postern,
}

impl Via {
    /// Whether it came from elsewhere, for us: routed as mail for the domains of this site, judged by
    /// filters, and its client told to the next hop.
    #[must_use]
    pub const fn is_inbound(self) -> bool {
        matches!(self, Self::Public | Self::Postern)
    }

    /// Whether a failure may be reported to its sender. From the public door anybody names any sender,
    /// and a report would hit a stranger.
    #[must_use]
    pub const fn is_reportable(self) -> bool {
        matches!(self, Self::Relay | Self::Postern)
    }
}

/// The facts of arrival; enough to render a truthful Received field (RFC 5321 section 4.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// Wall clock, milliseconds since 1970.
    pub at_unix_ms: u64,
    /// The client, as the socket, PROXY or XCLIENT gave it.
    pub peer: SocketAddr,
    /// The client's name when XCLIENT told one; we look nothing up.
    pub peer_name: Option<String>,
    /// Our end of the connection.
    pub local: SocketAddr,
    /// Our name, as in the greeting.
    pub by: String,
    /// What the client called itself.
    pub helo: String,
    /// EHLO rather than HELO.
    pub esmtp: bool,
    /// Facts of the TLS session, when there is one.
    pub tls: Option<TlsFacts>,
    /// Which door.
    pub via: Via,
}

/// What is worth telling about a TLS session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFacts {
    /// `TLSv1.3`.
    pub version: String,
    /// `TLS13_AES_256_GCM_SHA384`.
    pub cipher: String,
}

/// One recipient and what was asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The forward-path.
    pub address: Address,
    /// `ORCPT=` as received, `rfc822;…` (RFC 3461 section 4.2).
    pub original: Option<String>,
    /// `NOTIFY=` (RFC 3461 section 4.1).
    pub notify: Notify,
}

/// `NOTIFY=`; the default is failure only, as RFC 3461 section 4.1 allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// Report success.
    pub success: bool,
    /// Report failure.
    pub failure: bool,
    /// Report delay.
    pub delay: bool,
    /// The parameter was given; all false then means `NEVER`.
    pub given: bool,
}

impl Default for Notify {
    fn default() -> Self {
        Self { success: false, failure: true, delay: false, given: false }
    }
}

/// `RET=` and `ENVID=` of MAIL (RFC 3461 sections 4.3 and 4.4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DsnRequest {
    /// `Some(true)` is `RET=FULL`, `Some(false)` is `RET=HDRS`.
    pub full: Option<bool>,
    /// `ENVID=`, decoded from xtext.
    pub envelope_id: Option<String>,
}

/// How a message ended; the small value that travels back through the spool to the door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal(pub Reply);

impl Refusal {
    /// The opaque form that the spool carries.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// Reads [`Self::to_bytes`] back.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

impl Meta {
    /// The filters have spoken and must speak again. They are not to add recipients again, nor to be heard as new evidence.
    #[must_use]
    pub const fn was_judged_before(&self) -> bool {
        !self.judged && self.judgement.is_some()
    }

    /// The versioned bytes that the spool stores.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        bytes.push(META_VERSION);
        postcard::to_extend(self, bytes).unwrap_or_default()
    }

    /// Reads [`Self::to_bytes`] back.
    ///
    /// # Errors
    /// [`MetaError`] when the version is unknown or the bytes are not what that version wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MetaError> {
        match bytes.split_first() {
            Some((&META_VERSION, rest)) => postcard::from_bytes(rest).map_err(|_| MetaError::Malformed),
            Some((&META_VERSION_BEFORE_CHECKS, rest)) => {
                postcard::from_bytes::<MetaBeforeChecks>(rest).map(Self::from).map_err(|_| MetaError::Malformed)
            }
            Some((&version, _)) => Err(MetaError::UnknownVersion(version)),
            None => Err(MetaError::Malformed),
        }
    }
}

/// Stored metadata that this build cannot read; the item stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaError {
    /// Written by a later release.
    UnknownVersion(u8),
    /// Not what its version says.
    Malformed,
}

impl fmt::Display for MetaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownVersion(version) => write!(f, "metadata version {version} is from a later release"),
            Self::Malformed => f.write_str("metadata is malformed"),
        }
    }
}

impl core::error::Error for MetaError {}

#[cfg(test)]
mod tests;
