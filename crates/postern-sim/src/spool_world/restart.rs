//! The crash, and what is found afterwards held against what was promised.

use std::collections::{BTreeMap, BTreeSet};

use postern_spool::Item;
use postern_spool::machine::{Engine, Request, recover};

use super::{Asked, Found, Is, SpoolWorld, options};

impl SpoolWorld {
    /// The power goes, or only the process; then the spool is opened again and looked through.
    pub(super) fn crash(&mut self) {
        self.trace(|| "restart".into());
        let recovered = loop {
            if self.rng.one_in(3) {
                self.disk.kill();
            } else {
                self.disk.power_cut();
            }
            let recovered = recover(&mut self.disk, &options());
            self.check(recovered.is_ok(), "recovery failed on a disk that can be read");
            // At times the power goes again right after: what recovery saw must have become durable.
            if !self.rng.one_in(4) {
                break recovered.expect("checked");
            }
            self.disk.power_cut();
        };
        self.restarts += 1;
        for id in &recovered.report.damaged {
            // A refused item's record may have been written in full after all; its body has been removed since.
            let refused = self.known.get(&id.0).is_some_and(|known| known.is == Is::Unsure);
            self.check(refused || self.bodiless.contains(&id.0), &format!("the body of item {} is gone", id.0));
            self.bodiless.insert(id.0);
        }
        self.engine = Engine::new(options(), recovered, self.rng.next(), self.now);
        self.leases.clear();
        self.streams.clear();
        self.awaited.clear();
        self.requests.clear();
        let faults = std::mem::take(&mut self.disk.faults);
        self.compare();
        self.disk.faults = faults;
    }

    /// Reads every item back and holds it against the model, which then takes over what is.
    fn compare(&mut self) {
        self.ask(Request::List { lane_key: None, after: None, n: usize::MAX }, Asked::Other);
        self.settle();
        for id in self.listed.take().unwrap_or_default() {
            self.ask(Request::Show(id), Asked::Other);
        }
        self.settle();
        let found: BTreeMap<u64, Item> =
            std::mem::take(&mut self.pages).into_iter().map(|item| (item.summary.id.0, item)).collect();
        for (&id, item) in &found {
            self.check_content(id, &item.meta, &item.body);
            let Some(known) = self.known.get(&id) else { continue };
            self.check(known.is != Is::Gone, "an item came back after its end");
            self.check(known.is != Is::Tentative, "a tentative item was on the disk");
            self.check(item.summary.lane == known.lane, "an item changed its lane");
            let (due, held) = (item.summary.due_unix_ms, item.summary.held);
            // An item that no descriptor was left for is put off by the spool itself.
            let put_off = self.profile.faults.full > 0 && due <= self.now + 1000;
            let set = known.any_due || put_off || known.states.iter().any(|state| state.due == due);
            self.check(set, &format!("item {id} is due at {due}, which nobody set: {:?}", known.states));
            self.check(known.states.iter().any(|state| state.held == held), "held by nobody");
        }
        for (id, known) in &self.known {
            let lost = known.is == Is::Promised && !found.contains_key(id);
            self.check(!lost, &format!("item {id} was promised and is lost"));
        }
        self.check_finishes(&found);
        for (id, known) in &mut self.known {
            known.birth = None;
            known.ends_alone = false;
            known.ending = false;
            known.any_due = false;
            known.is = if let Some(item) = found.get(id) {
                let (due, held) = (item.summary.due_unix_ms, item.summary.held);
                known.states = vec![Found { meta: item.meta.clone(), due, held }];
                Is::Promised
            } else {
                Is::Gone
            };
        }
    }

    /// A finish and its children are there together or not at all.
    fn check_finishes(&self, found: &BTreeMap<u64, Item>) {
        let mut families: BTreeMap<(u64, u64), [usize; 2]> = BTreeMap::new();
        for (id, known) in &self.known {
            if let (Some(birth), Is::Unsure) = (known.birth, known.is) {
                families.entry(birth).or_default()[usize::from(found.contains_key(id))] += 1;
            }
        }
        let mut carried_on = BTreeSet::new();
        for ((parent, _), [missing, there]) in families {
            self.check(missing == 0 || there == 0, "a finish was stored with some of its children");
            self.check(there == 0 || !found.contains_key(&parent), "children are there before their parent's finish");
            if there > 0 {
                carried_on.insert(parent);
            }
        }
        for (id, known) in &self.known {
            let ended = known.is == Is::Closing && !found.contains_key(id);
            self.check(
                !ended || known.ends_alone || carried_on.contains(id),
                "a finish was stored without its children",
            );
        }
    }
}
