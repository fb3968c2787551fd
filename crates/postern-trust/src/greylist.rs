//! Two small fixed-size keyed sketches: who came again, and who asks for unknown recipients.
use std::net::IpAddr;

use crate::class::Class;
use crate::pressure::Level;

/// What a message is known by when it comes again.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The domain that SPF has authorised the address for, where there is one.
    pub authorised_domain: Option<&'a str>,
    /// The client.
    pub ip: IpAddr,
    /// Envelope sender; empty for the null sender.
    pub sender: &'a str,
    /// One recipient.
    pub recipient: &'a str,
}

/// Whether the greylist is to be asked at all.
#[must_use]
pub fn is_wanted(class: Class, level: Level, listed_good: bool) -> bool {
    class == Class::Suspect && level > Level::Calm && !listed_good
}

/// Who came again.
#[derive(Debug)]
pub struct Greylist {}

impl Greylist {
    /// A table of 2^`bits` entries of 8 octets.
    #[must_use]
    pub fn new(_bits: u32, _key: [u8; 16]) -> Self {
        Self {}
    }
    /// Whether this attempt has to come again.
    pub fn is_deferred(&self, _attempt: &Attempt<'_>, _now_s: u64) -> bool {
        false
    }
}

/// Unknown recipients by prefix.
#[derive(Debug)]
pub struct BadRecipients {}

impl BadRecipients {
    /// A table of 2^`bits` cells.
    #[must_use]
    pub fn new(_bits: u32, _key: [u8; 16]) -> Self {
        Self {}
    }
    /// `n` unknown recipients were asked for.
    pub fn record(&self, _ip: IpAddr, _n: u32, _now_s: u64) {}
    /// Whether the budget is spent.
    #[must_use]
    pub fn is_over(&self, _class: Class, _ip: IpAddr, _now_s: u64) -> bool {
        false
    }
}
