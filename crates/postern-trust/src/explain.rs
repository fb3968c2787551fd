//! Reasons in sentences, for `postern why`. It asks the same facts and the same class function as the doors, so it cannot say
//! anything else than what happens; it owns the words only.

use std::net::IpAddr;

use crate::book::Book;
use crate::book::clock::day;
use crate::class::Class;
use crate::class::judge::{self, AddressFacts, SenderFacts, suspicion, weight};
use crate::limits::{GOOD_DAY, PREFIX_MAX, PREFIX_WEIGHT, SUSPECT, SUSPECT_KNOWN};
use crate::sketch::credits::{ANSWERED, Credit, KNOWN, LENT, SHARED, WROTE};
use crate::sketch::marks::Mark;
use crate::sketch::{Name, Source};

/// A class and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The class as the doors would see it.
    pub class: Class,
    /// Sentences, the most weighty first.
    pub reasons: Vec<String>,
}

impl Book {
    /// Why an address has its class.
    #[must_use]
    pub fn explain_address(&self, ip: IpAddr, now_s: u64) -> Explanation {
        let clock_s = self.clock.at(now_s);
        let facts = self.address_facts(ip, clock_s);
        let class = judge::class(&facts, None);
        let mut reasons = Vec::new();
        if facts.pinned {
            reasons.push("The operator pinned a network that holds this address.".into());
            return Explanation { class, reasons };
        }
        if facts.forwarder {
            reasons.push(
                "It is a declared forwarder: spam, listings, bad recipients and its neighbourhood do not count against it."
                    .into(),
            );
        }
        self.explain_provider(ip, &facts, &mut reasons);
        let address = self.keys.address(Source::of(ip));
        if facts.provider.is_none() && self.is_pool(address, clock_s) {
            reasons.push(
                "It belongs to a shared provider by its name or SPF: it earns no credit, and a quarter of the blame for its mail sticks."
                    .into(),
            );
        }
        let credit = self.credits.get(address, day(clock_s));
        explain_address_credit(credit, &facts, day(clock_s), &mut reasons);
        explain_marks("This address", facts.marks, &mut reasons);
        let prefix = (u32::from(facts.prefix) / PREFIX_WEIGHT).min(PREFIX_MAX);
        if prefix > 0 {
            reasons.push(format!("Bad neighbourhood: its prefix adds {prefix} points (at most {PREFIX_MAX})."));
        }
        reasons.push(match (class, suspicion(&facts)) {
            (Class::New, 0) if !facts.trusted => "Nothing speaks for or against it.".into(),
            (_, 0) => "Nothing speaks against it.".into(),
            (_, points) if facts.trusted => format!(
                "{points} points speak against it; trust is suspended from {SUSPECT} on, suspect is from {SUSPECT_KNOWN} on."
            ),
            (_, points) => format!("{points} points speak against it; suspect is from {SUSPECT} on."),
        });
        Explanation { class, reasons }
    }

    /// Why a domain, or one mailbox (`local@domain`), has its class: that of a message from a strange address that is authorised
    /// for it.
    #[must_use]
    pub fn explain_domain(&self, domain: &str, now_s: u64) -> Explanation {
        let clock_s = self.clock.at(now_s);
        let Some(name) = Name::of(domain) else {
            return Explanation { class: Class::New, reasons: vec![format!("{domain:?} is no domain.")] };
        };
        let nowhere = IpAddr::from([0_u8; 16]);
        let sender = SenderFacts { tenant: Mark::default(), ..self.sender_facts(nowhere, &name, true, clock_s) };
        let class = judge::class(&AddressFacts::default(), Some(&sender));
        let mut reasons = Vec::new();
        if sender.pinned {
            reasons.push("The operator pinned the domain or one above it.".into());
        }
        if self.is_provider(domain) {
            reasons.push(
                "It is a shared provider: writing to one mailbox there proves nothing of the others, so only the mailbox is credited."
                    .into(),
            );
            self.explain_networks(&name, &mut reasons);
        }
        let today = day(clock_s);
        if let Some(credit) = self.mailbox(&name, clock_s) {
            explain_correspondence("this mailbox", credit, &mut reasons);
        }
        match self.credits.get(self.keys.domain(&name), today) {
            Some(credit) => {
                explain_correspondence("this domain", credit, &mut reasons);
                explain_history(credit, today, &mut reasons);
                if credit.count > 0 {
                    reasons.push(format!("It lent its credit to {} new addresses today.", credit.count));
                }
            }
            None => reasons.push("No authorised good mail and no letter of ours to the domain is remembered.".into()),
        }
        explain_marks("Authorised mail of this domain", sender.marks, &mut reasons);
        if weight(sender.marks) >= SUSPECT {
            reasons.push("So it lends its credit to no address.".into());
        }
        if class <= Class::Known {
            reasons.push("This counts only from an address that SPF or its confirmed name authorises.".into());
        }
        Explanation { class, reasons }
    }

    fn explain_provider(&self, ip: IpAddr, facts: &AddressFacts, reasons: &mut Vec<String>) {
        let Some(healthy) = facts.provider else { return };
        let roster = self.roster.load();
        let Some(place) = roster.declared(ip).provider.map(usize::from) else { return };
        let (ham, spam) = self.provider_mail(place);
        let domain = &roster.providers()[place].domain;
        reasons.push(format!(
            "It lies in the networks of the provider {domain} ({ham} good and {spam} spam of late): its messages are judged by their author's domain."
        ));
        if !healthy {
            reasons.push("A fifth or more of that provider's mail is spam, so for now it is treated as new.".into());
        }
    }

    fn explain_networks(&self, name: &Name, reasons: &mut Vec<String>) {
        let roster = self.roster.load();
        let known = roster.providers().iter().find(|provider| provider.domain.as_bytes() == name.domain());
        let networks = known.map_or(0, |provider| provider.networks.len());
        reasons.push(format!("{networks} of its networks are known and steered."));
    }
}

fn days(credit: u16) -> String {
    format!("{}.{}", credit / GOOD_DAY, u32::from(credit % GOOD_DAY) * 10 / u32::from(GOOD_DAY))
}

fn explain_address_credit(credit: Option<Credit>, facts: &AddressFacts, today: u16, reasons: &mut Vec<String>) {
    let Some(credit) = credit else { return };
    if facts.provider.is_some() {
        return;
    }
    if credit.has(LENT) {
        let state = if facts.trusted { "speaks" } else { "spoke, too long ago," };
        reasons.push(format!(
            "It {state} for a domain that is proven (credit of {} good days left).",
            days(credit.credit)
        ));
    }
    explain_history(credit, today, reasons);
    if credit.has(SHARED) {
        reasons.push("It speaks for many domains: its messages are judged by their author's domain.".into());
    }
}

fn explain_correspondence(whom: &str, credit: Credit, reasons: &mut Vec<String>) {
    if credit.has(WROTE | ANSWERED) {
        let state = if credit.corresponds() { "" } else { ", but too long ago" };
        reasons.push(format!(
            "This site wrote to {whom} and was answered{state} (credit of {} good days left).",
            days(credit.credit)
        ));
    } else if credit.has(WROTE) {
        reasons.push(format!("This site wrote to {whom}; no authorised answer has come yet."));
    }
}

fn explain_history(credit: Credit, today: u16, reasons: &mut Vec<String>) {
    let age = today.wrapping_sub(credit.first_day);
    if credit.has_history() {
        reasons.push(format!(
            "It has a long good history: {} good days (decayed), begun {age} days ago.",
            days(credit.credit)
        ));
    } else if !credit.has(WROTE) && !credit.has(LENT) {
        let why = if credit.has(KNOWN) { "it was known and fell silent" } else { "not yet enough to be known" };
        reasons.push(format!(
            "Its good history is {} good days (decayed), begun {age} days ago: {why}.",
            days(credit.credit)
        ));
    }
}

fn explain_marks(whose: &str, marks: Mark, reasons: &mut Vec<String>) {
    if marks.manner > 0 {
        reasons.push(format!("{whose} broke the protocol of late (early talk, abuse, HELO): {} points.", marks.manner));
    }
    if marks.content > 0 {
        reasons.push(format!("{whose} brought spam or bad recipients of late: {} points.", marks.content));
    }
    if marks.listed > 0 {
        reasons.push(format!("{whose} is listed as bad: {} points.", marks.listed));
    } else if marks.listed < 0 {
        reasons.push(format!("{whose} is listed as good: {} points off.", -marks.listed));
    }
}

#[cfg(test)]
mod tests;
