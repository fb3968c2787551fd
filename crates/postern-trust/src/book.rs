//! The trust book.
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::class::Class;
use crate::evidence::Evidence;
use crate::explain::Explanation;
use crate::snapshot::SnapshotError;

/// Sizes and caps of a book.
#[derive(Debug, Clone)]
pub struct BookOptions {
    /// How many senders may become known by history alone in a day.
    pub promotions_a_day: u32,
    /// Records of good senders.
    pub good_entries: usize,
    /// Records of bad addresses, domains and prefixes.
    pub bad_entries: usize,
    /// Addresses that are remembered exactly, for steering.
    pub hot_entries: usize,
    /// Whether the list of large shared providers that comes with the program counts.
    pub well_known_providers: bool,
}

impl Default for BookOptions {
    fn default() -> Self {
        Self {
            promotions_a_day: 50,
            good_entries: 1 << 17,
            bad_entries: 1 << 20,
            hot_entries: 4096,
            well_known_providers: true,
        }
    }
}

/// What the operator declared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pins {
    /// Addresses that always come first.
    pub networks: Vec<IpNet>,
    /// Domains (with what is below them) that come first from an authorised address.
    pub domains: Vec<String>,
    /// Forwarders and lists: exempt from what would punish forwarding.
    pub forwarders: Vec<IpNet>,
    /// Domains of shared providers, beside those that come with the program.
    pub providers: Vec<String>,
}

/// The book.
#[derive(Debug)]
pub struct Book {}

#[allow(clippy::todo, unused_variables, missing_docs)]
impl Book {
    #[must_use]
    pub fn new(options: BookOptions, key: [u8; 16]) -> Arc<Self> {
        todo!()
    }
    #[must_use]
    pub fn class_of(&self, ip: IpAddr, now_s: u64) -> Class {
        todo!()
    }
    #[must_use]
    pub fn class_of_message(&self, ip: IpAddr, sender: Option<&str>, authorised: bool, now_s: u64) -> Class {
        todo!()
    }
    #[must_use]
    pub fn explain_address(&self, ip: IpAddr, now_s: u64) -> Explanation {
        todo!()
    }
    #[must_use]
    pub fn explain_domain(&self, domain: &str, now_s: u64) -> Explanation {
        todo!()
    }
    #[must_use]
    pub fn known_networks(&self, max: usize, now_s: u64) -> Vec<IpNet> {
        todo!()
    }
    pub fn set_pins(&self, pins: Pins) {
        todo!()
    }
    #[must_use]
    pub fn pins(&self) -> Pins {
        todo!()
    }
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        todo!()
    }
    pub fn restore(options: BookOptions, bytes: &[u8]) -> Result<Arc<Self>, SnapshotError> {
        todo!()
    }
}

/// The one that writes.
#[derive(Debug)]
pub struct Writer {
    book: Arc<Book>,
}

#[allow(clippy::todo, unused_variables, missing_docs)]
impl Writer {
    #[must_use]
    pub fn new(book: Arc<Book>) -> Self {
        Self { book }
    }
    pub fn apply(&mut self, evidence: &Evidence, now_s: u64) {
        todo!()
    }
    pub fn tick(&mut self, now_s: u64) {
        todo!()
    }
}
