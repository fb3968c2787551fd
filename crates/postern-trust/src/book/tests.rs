//! One world for all tests of the book: a writer, a wall clock, and words for what senders do.

mod crowd;
mod known;
mod properties;
mod providers;
mod suspects;
mod time;

use std::net::IpAddr;
use std::sync::Arc;

use super::{Book, BookOptions, Pins, Writer};
use crate::class::Class;
use crate::evidence::{Authority, Evidence};

pub(super) const DAY: u64 = 86_400;

pub(super) fn small() -> BookOptions {
    BookOptions { good_entries: 1 << 14, bad_entries: 1 << 16, hot_entries: 256, ..BookOptions::default() }
}

pub(super) struct World {
    pub(super) book: Arc<Book>,
    pub(super) writer: Writer,
    pub(super) now_s: u64,
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(small())
    }

    pub(super) fn with(options: BookOptions) -> Self {
        Self::of(Book::new(options, *b"a key for tests."))
    }

    pub(super) fn of(book: Arc<Book>) -> Self {
        let mut writer = Writer::new(Arc::clone(&book));
        let now_s = 1_700_000_000;
        writer.tick(now_s);
        Self { book, writer, now_s }
    }

    pub(super) fn tell(&mut self, evidence: Evidence) {
        self.writer.apply(&evidence, self.now_s);
    }

    /// Time passes as it does in life: with a tick at least every few hours.
    pub(super) fn hours(&mut self, hours: u64) {
        for _ in 0..hours {
            self.now_s += 3_600;
            self.writer.tick(self.now_s);
        }
    }

    pub(super) fn days(&mut self, days: u64) {
        self.hours(24 * days);
    }

    pub(super) fn authorised(&mut self, from: &str, domain: &str) {
        self.tell(Evidence::Authorised { ip: ip(from), domain: domain.into(), by: Authority::Spf });
    }

    pub(super) fn ham(&mut self, from: &str, domain: &str) {
        self.tell(Evidence::Ham { ip: ip(from), domain: Some(domain.into()), n: 1 });
    }

    pub(super) fn spam(&mut self, from: &str, domain: &str, n: u16) {
        for _ in 0..n {
            self.tell(Evidence::Spam { ip: ip(from), domain: Some(domain.into()), n: 1 });
        }
    }

    pub(super) fn good_mail(&mut self, from: &str, domain: &str) {
        self.authorised(from, domain);
        self.ham(from, domain);
    }

    pub(super) fn wrote_to(&mut self, address: &str) {
        let domain = address.rsplit('@').next().expect("a domain");
        let whole = address.contains('@').then(|| address.into());
        self.tell(Evidence::WroteTo { domain: domain.into(), address: whole });
    }

    /// A letter and its answer: the shortest way to be known.
    pub(super) fn corresponds(&mut self, from: &str, address: &str) {
        self.wrote_to(address);
        self.good_mail(from, address);
    }

    pub(super) fn networks(&mut self, domain: &str, networks: &[&str]) {
        let networks = networks.iter().map(|net| net.parse().expect("a network")).collect();
        self.tell(Evidence::ProviderNetworks { domain: domain.into(), networks });
    }

    pub(super) fn class(&self, from: &str) -> Class {
        self.book.class_of(ip(from), self.now_s)
    }

    pub(super) fn message(&self, from: &str, sender: &str) -> Class {
        self.book.class_of_message(ip(from), Some(sender), false, self.now_s)
    }

    pub(super) fn pins(&self, pins: Pins) {
        self.book.set_pins(pins);
    }
}
