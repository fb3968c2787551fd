//! The end of a world: when all is quiet, and what is found then.

use std::collections::BTreeMap;

use postern_drain::QUARANTINE_CLASS;
use postern_proto::envelope::Meta;
use postern_proto::mode::Mode;
use postern_spool::machine::{Reply, Request};
use postern_spool::{BodySource, Item, ItemId, Lane};

use super::ledger::Lies;
use super::peers::{DOMAINS, read_body};
use super::{FloodWorld, TRIES_MAX};

/// What the operator's questions brought.
#[derive(Default)]
pub(super) struct Found {
    listed: Vec<ItemId>,
    items: Vec<Item>,
}

impl FloodWorld {
    pub(super) fn is_quiet(&self) -> bool {
        let done = |peer: &super::Peer| !peer.kind.is_honest() || peer.left == 0 || peer.failures > TRIES_MAX;
        self.peers.iter().all(done)
            && self.seats.iter().all(Option::is_none)
            && self.sky.queued == 0
            && self.drain.is_idle()
            && self.house.engine.is_idle()
            && self.all_through()
    }

    fn all_through(&self) -> bool {
        DOMAINS.iter().all(|domain| self.house.modes.of(domain) == Mode::Through)
    }

    /// Looks through the whole spool and holds it against the books.
    pub(super) fn finish(&mut self, quiet: bool) {
        if !quiet {
            self.fault_of_unrest();
        }
        self.house.now_ms = self.now_ms;
        self.house.ask(Request::List { lane_key: None, after: None, n: usize::MAX });
        self.settle_disk();
        for id in std::mem::take(&mut self.found.listed) {
            self.house.ask(Request::Show(id));
        }
        self.settle_disk();
        let mut lies = BTreeMap::new();
        for item in std::mem::take(&mut self.found.items) {
            let place = match item.summary.lane.class {
                Lane::DEAD_CLASS | QUARANTINE_CLASS => Lies::Aside,
                _ => Lies::Queued,
            };
            self.report.aside += u64::from(place == Lies::Aside);
            let BodySource::Inline(bytes) = &item.body else { continue };
            let (Some((letter, _)), Ok(meta)) = (read_body(bytes), Meta::from_bytes(&item.meta)) else {
                self.fault("the spool holds what nobody wrote");
                continue;
            };
            for recipient in meta.recipients {
                lies.insert((letter, recipient.address.to_string()), place);
            }
        }
        self.report.promised = self.house.ledger.promised().count() as u64;
        let well = !self.profile.crashes && self.profile.faults.sync + self.profile.faults.full == 0;
        if well && self.house.ledger.entries.values().any(|entry| entry.unsure > 0) {
            self.fault("a delivery was not taken note of, though nothing crashed and no disk failed");
        }
        for fault in self.house.ledger.faults(&lies) {
            self.fault(&fault);
        }
    }

    fn fault_of_unrest(&mut self) {
        let seats = self.seats.iter().flatten().count();
        let (queued, flights) = (self.sky.queued, !self.drain.is_idle());
        let through = self.all_through();
        let waiting = self.peers.iter().filter(|peer| peer.kind.is_honest() && peer.left > 0).count();
        self.fault(&format!(
            "a wait did not end: {seats} connections, {queued} messages to leave (under way: {flights}), all \
             through: {through}, {waiting} honest clients with mail"
        ));
    }

    /// Everything the disk has to do is done.
    fn settle_disk(&mut self) {
        loop {
            self.turn_machines();
            if !self.house.disk.step() {
                self.turn_machines();
                if !self.house.disk_waits() {
                    return;
                }
            }
        }
    }

    pub(super) fn ending_hears(&mut self, _token: u64, reply: Reply) {
        match reply {
            Reply::Listed(items) => self.found.listed = items.into_iter().map(|item| item.id).collect(),
            Reply::Shown(item) => self.found.items.extend(item.map(|item| *item)),
            _ => {}
        }
    }

    /// A mistake: what was promised is thrown away.
    pub(super) fn lose_items(&mut self) {
        for id in self.house.ledger.waiting_items() {
            self.house.ask(Request::Delete(id));
        }
    }
}
