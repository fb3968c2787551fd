//! What a door asks, and what it is told.

use std::net::IpAddr;

use ipnet::IpNet;
use postern_proto::checks::{Listed, Spf};
use postern_trust::pressure::Level;
use postern_trust::{Authority, Class};

use crate::limits;

/// Asked by a door: at connect with nothing but the address, after MAIL with all of it. What both have in
/// common is cached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The client's address.
    pub ip: IpAddr,
    /// Its name behind EHLO.
    pub helo: Option<Box<str>>,
    /// The reverse-path: `None` before MAIL, empty for `<>`.
    pub mail_from: Option<Box<str>>,
    /// Of the client, as known now.
    pub class: Class,
    /// The pressure now.
    pub level: Level,
}

/// What was found; `None` and missing entries: not affordable, not answered in time, or nothing there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Of the reverse-path's domain, or of EHLO's when the reverse-path is empty.
    pub spf: Option<Spf>,
    /// The client's name, when it leads back to the client. Lower case, no final dot.
    pub name: Option<String>,
    /// Lists that have the address, in the order of the configuration.
    pub listed: Vec<Listed>,
    /// What says that the address may speak for the domain of the reverse-path (EHLO's when that is empty);
    /// only then does the domain's credit reach it. A pass that passes everybody does not count, nor does a
    /// customer's name below his provider's domain.
    pub authority: Option<Authority>,
}

/// Called once on the desk's thread; it must not wait. Dropped uncalled when the desk stops.
pub type OnAnswer = Box<dyn FnOnce(Findings) + Send>;

/// As [`OnAnswer`]; `None`: not affordable or not answered.
pub type OnNetworks = Box<dyn FnOnce(Option<Vec<IpNet>>) + Send>;

impl Question {
    /// One address, one spelling; what is too long is not looked at.
    pub(crate) fn normalised(mut self) -> Self {
        self.ip = self.ip.to_canonical();
        self.helo = self.helo.filter(|helo| helo.len() <= limits::HELO_OCTETS_MAX);
        self.mail_from = self.mail_from.filter(|path| path.len() <= limits::MAIL_FROM_OCTETS_MAX);
        self
    }
}
