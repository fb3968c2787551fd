//! Evidence with a date, as `postern learn` finds it in logs and mailboxes and as the control
//! socket carries it.

use std::net::IpAddr;

use postern_trust::{Authority, Evidence};
use serde::{Deserialize, Serialize};

/// One thing that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seed {
    /// When, in seconds since 1970; what is long ago is left out, or counts less, before it is sent.
    pub(crate) at: u64,
    /// What.
    #[serde(flatten)]
    pub(crate) seen: Seen,
}

/// What logs and mailboxes can show.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Seen {
    /// Somebody here wrote to this address.
    WroteTo(String),
    /// The client's confirmed name lies in this domain.
    Authorised(IpAddr, String),
    /// Mail from this address (or domain) was taken, and read or kept: client, sender, how many.
    Ham(IpAddr, String, u16),
    /// Mail was thrown into the junk folder: client, sender, how many.
    Spam(IpAddr, String, u16),
    /// The client spoke before the greeting.
    EarlyTalker(IpAddr),
    /// It asked for recipients that do not exist: how many.
    BadRecipients(IpAddr, u16),
}

impl Seed {
    /// As the book takes it; `None` when it is not what it should be.
    pub(crate) fn evidence(&self) -> Option<Evidence> {
        let boxed = |text: &str| text.to_owned().into_boxed_str();
        Some(match &self.seen {
            Seen::WroteTo(address) => {
                let (_, domain) = address.rsplit_once('@')?;
                Evidence::WroteTo { domain: boxed(domain), address: Some(boxed(address)) }
            }
            Seen::Authorised(ip, domain) => {
                Evidence::Authorised { ip: *ip, domain: boxed(domain), by: Authority::Name }
            }
            Seen::Ham(ip, sender, n) => Evidence::Ham { ip: *ip, domain: Some(boxed(sender)), n: *n },
            Seen::Spam(ip, sender, n) => Evidence::Spam { ip: *ip, domain: Some(boxed(sender)), n: *n },
            Seen::EarlyTalker(ip) => Evidence::EarlyTalker { ip: *ip },
            Seen::BadRecipients(ip, n) => Evidence::BadRecipients { ip: *ip, n: *n },
        })
    }
}
