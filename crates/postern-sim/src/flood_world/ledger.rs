//! What was said about each message and what became of it: the books that the checkers read.

use std::collections::BTreeMap;

use postern_spool::ItemId;

/// One transaction: the same mail sent again is another.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    pub(super) recipients: Vec<String>,
    /// The first digit of our reply to its end.
    pub(super) told: Option<u8>,
    pub(super) told_ms: u64,
    /// All was well with disk, filter and next hop when we said so.
    pub(super) in_the_calm: bool,
    pub(super) copies: BTreeMap<String, u32>,
    /// Times that a copy may have been handed over without our noting it.
    pub(super) unsure: u32,
    pub(super) delivered_ms: u64,
}

/// Where a recipient's copy lies at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lies {
    /// It still is to leave.
    Queued,
    /// Quarantine or dead letter: an operator sees it.
    Aside,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) entries: BTreeMap<u64, Entry>,
    letters: BTreeMap<ItemId, u64>,
}

impl Ledger {
    pub(super) fn appended(&mut self, id: ItemId, letter: u64, recipients: Vec<String>) {
        self.letters.insert(id, letter);
        self.entries.insert(letter, Entry { recipients, ..Entry::default() });
    }

    pub(super) fn told(&mut self, id: ItemId, digit: u8, now_ms: u64, calm: bool) {
        let Some(entry) = self.letters.get(&id).and_then(|letter| self.entries.get_mut(letter)) else { return };
        entry.told = Some(digit);
        entry.told_ms = now_ms;
        entry.in_the_calm = calm;
    }

    pub(super) fn copied(&mut self, letter: u64, recipient: &str, now_ms: u64) {
        let entry = self.entries.entry(letter).or_default();
        *entry.copies.entry(recipient.to_owned()).or_default() += 1;
        entry.delivered_ms = now_ms;
    }

    pub(super) fn unsure(&mut self, letter: u64) {
        self.entries.entry(letter).or_default().unsure += 1;
    }

    pub(super) fn promised(&self) -> impl Iterator<Item = (&u64, &Entry)> {
        self.entries.iter().filter(|(_, entry)| entry.told == Some(b'2'))
    }

    /// Promised, and in no mailbox yet.
    pub(super) fn waiting_items(&self) -> Vec<ItemId> {
        let waits = |letter: &u64| {
            self.entries.get(letter).is_some_and(|entry| entry.told == Some(b'2') && entry.copies.is_empty())
        };
        self.letters.iter().filter(|(_, letter)| waits(letter)).map(|(id, _)| *id).collect()
    }

    /// Everything that is not as it was promised. `lies`: what the spool holds at the end.
    pub(super) fn faults(&self, lies: &BTreeMap<(u64, String), Lies>) -> Vec<String> {
        let mut faults = Vec::new();
        for (letter, entry) in &self.entries {
            for recipient in &entry.recipients {
                let copies = entry.copies.get(recipient).copied().unwrap_or(0);
                let place = lies.get(&(*letter, recipient.clone()));
                let mut fault = |what: &str| faults.push(format!("letter {letter} to {recipient}: {what}"));
                if entry.told == Some(b'2') && copies == 0 && place.is_none() {
                    fault("answered 250 and lost");
                }
                if copies > 1 + entry.unsure {
                    fault("more copies than SMTP's own ambiguity allows");
                }
                if entry.told == Some(b'5') && (copies > 0 || place.is_some()) {
                    fault("refused for good, and there all the same");
                }
                if entry.told == Some(b'2')
                    && entry.in_the_calm
                    && entry.copies.is_empty()
                    && place == Some(&Lies::Aside)
                {
                    fault("failed after a 250 in the calm");
                }
                if place == Some(&Lies::Queued) {
                    fault("never left");
                }
            }
        }
        faults
    }
}
