//! What a door tells its sessions once: names, offers, limits that an operator may set.

use alloc::string::String;

use crate::envelope::Via;
use crate::limits;
use crate::time::Duration;

/// Shared by all sessions of a door; replaced as a whole when the configuration changes.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Our name: in the greeting, behind EHLO, in Received.
    pub hostname: String,
    /// Which door this is.
    pub via: Via,
    /// The largest message, in octets (RFC 1870).
    pub size_max: u64,
    /// Recipients in one transaction.
    pub recipients_max: usize,
    /// Extensions that depend on what stands behind us.
    pub offers: Offers,
    /// This peer may use XCLIENT.
    pub xclient: bool,
    /// Read the author of each message, for a door to whose peers not everybody's mail is allowed;
    /// what was found is in [`super::Finished`].
    pub author: bool,
    /// Deadlines.
    pub limits: SessionLimits,
}

impl SessionOptions {
    /// The defaults of a door called `hostname`.
    pub fn new(hostname: String, via: Via) -> Self {
        Self {
            hostname,
            via,
            size_max: limits::SIZE_MAX_DEFAULT,
            recipients_max: limits::RECIPIENTS_MAX_DEFAULT,
            offers: Offers { dsn: via.is_reportable(), ..Offers::default() },
            xclient: false,
            author: false,
            limits: SessionLimits::default(),
        }
    }
}

/// Extensions that are offered only when they can be honoured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// 8BITMIME: every route carries it.
    pub eight_bit: bool,
    /// SMTPUTF8: every route carries it.
    pub smtputf8: bool,
    /// DSN: only where a report cannot be made to hit a stranger.
    pub dsn: bool,
    /// STARTTLS: there is a certificate.
    pub starttls: bool,
}

/// Deadlines of a session; see [`crate::limits`] for the reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// [`limits::COMMAND_TIMEOUT`].
    pub command: Duration,
    /// [`limits::BODY_TIMEOUT`].
    pub body: Duration,
    /// [`limits::BODY_BYTES_PER_SECOND_MIN`].
    pub body_bytes_per_second_min: u64,
    /// The allowance of a body is for the whole message, however it is cut: chunks do not renew it, and between them no
    /// time of a command's runs. Otherwise (RFC 5321 knows no such thing) each chunk has its own.
    pub body_per_message: bool,
    /// [`limits::SESSION_TIMEOUT`].
    pub session: Duration,
    /// [`limits::OUTCOME_TIMEOUT`].
    pub outcome: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            command: limits::COMMAND_TIMEOUT,
            body: limits::BODY_TIMEOUT,
            body_bytes_per_second_min: limits::BODY_BYTES_PER_SECOND_MIN,
            body_per_message: false,
            session: limits::SESSION_TIMEOUT,
            outcome: limits::OUTCOME_TIMEOUT,
        }
    }
}
