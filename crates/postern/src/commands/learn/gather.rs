//! What the sources have shown, by whom it is about; bounded, and without repetitions.

use std::collections::HashMap;

use super::Site;
use crate::serve::trust::seed::{Seed, Seen};

/// One fact, seen once or often.
#[derive(Clone, Copy, Debug, Default)]
struct Sight {
    /// The last time.
    last_s: u64,
    /// How often.
    weight: u64,
}

/// Everything so far.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    facts: HashMap<Seen, Sight>,
    too_many: u64,
    log_lines: u64,
    foreign: u64,
    messages: u64,
    not_believed: u64,
}

impl Gathered {
    /// A fact. Counts are gathered, so `n` is left out of what tells facts apart.
    pub(super) fn add(&mut self, seed: Seed) {
        let (fact, n) = counted(seed.seen);
        if self.facts.len() >= FACTS_MAX && !self.facts.contains_key(&fact) {
            self.too_many += 1;
            return;
        }
        let sight = self.facts.entry(fact).or_default();
        sight.last_s = sight.last_s.max(seed.at);
        sight.weight = sight.weight.saturating_add(u64::from(n));
    }

    pub(super) fn count_log(&mut self, lines: u64, foreign: u64) {
        self.log_lines += lines;
        self.foreign += foreign;
    }

    pub(super) fn count_message(&mut self, believed: bool) {
        self.messages += 1;
        self.not_believed += u64::from(!believed);
    }

    /// In the order in which the book understands them: whom we wrote to, who is authorised, what they
    /// sent. What is older than a year is left out, and counts halve with each 90 days.
    pub(super) fn seeds(&self, now_s: u64) -> Vec<Seed> {
        let mut seeds: Vec<Seed> = self
            .facts
            .iter()
            .filter_map(|(fact, sight)| {
                let age_s = now_s.saturating_sub(sight.last_s);
                let n = sight.weight.checked_shr(u32::try_from(age_s / HALF_LIFE_S).ok()?)?;
                let seen = with_count(fact, u16::try_from(n).unwrap_or(u16::MAX))?;
                (age_s <= AGE_MAX_S).then_some(Seed { at: sight.last_s.min(now_s), seen })
            })
            .collect();
        seeds.sort_by(|a, b| a.seen.cmp(&b.seen));
        seeds
    }

    /// For the operator.
    pub(super) fn summary(&self, site: &Site) -> String {
        let addresses = self.facts.keys().filter_map(|fact| if let Seen::WroteTo(to) = fact { Some(to) } else { None });
        let domains: std::collections::HashSet<&str> =
            addresses.clone().filter_map(|to| Some(to.rsplit_once('@')?.1)).collect();
        let clients: std::collections::HashSet<_> = self
            .facts
            .keys()
            .filter_map(|fact| match fact {
                Seen::Authorised(ip, _) => Some(ip),
                _ => None,
            })
            .collect();
        let mut out = format!(
            "{} addresses in {} domains were written to; {} addresses of servers are proven\n",
            addresses.count(),
            domains.len(),
            clients.len()
        );
        let ours: Vec<&str> = site.domains.iter().take(8).map(String::as_str).collect();
        let mut say = |n: u64, words: &str| {
            if n > 0 {
                out.push_str(&format!("{n} {words}\n"));
            }
        };
        say(self.log_lines, "lines of mail logs understood");
        say(self.messages, "messages read");
        say(
            self.not_believed,
            "of them told nothing about their client: no Received field of our own host is on top (--our-host NAME)",
        );
        say(self.foreign, &format!("deliveries were not of our own users (ours: {}; --domain adds)", ours.join(", ")));
        say(self.too_many, "facts were left out: 400,000 are enough");
        out
    }
}

/// A fact without its count, and the count.
fn counted(seen: Seen) -> (Seen, u16) {
    match seen {
        Seen::Ham(ip, sender, n) => (Seen::Ham(ip, sender, 0), n),
        Seen::Spam(ip, sender, n) => (Seen::Spam(ip, sender, 0), n),
        Seen::BadRecipients(ip, n) => (Seen::BadRecipients(ip, 0), n),
        other => (other, 1),
    }
}

/// Back again; `None` when nothing is left of it.
fn with_count(fact: &Seen, n: u16) -> Option<Seen> {
    match fact {
        Seen::Ham(ip, sender, _) => (n > 0).then(|| Seen::Ham(*ip, sender.clone(), n)),
        Seen::Spam(ip, sender, _) => (n > 0).then(|| Seen::Spam(*ip, sender.clone(), n)),
        Seen::BadRecipients(ip, _) => (n > 0).then_some(Seen::BadRecipients(*ip, n)),
        Seen::EarlyTalker(ip) => (n > 0).then_some(Seen::EarlyTalker(*ip)),
        other => Some(other.clone()),
    }
}

/// About 150 octets each: 60 MiB.
const FACTS_MAX: usize = 400_000;
const DAY_S: u64 = 86_400;
/// A quarter of a year: who was good or bad before may be somebody else by now.
const HALF_LIFE_S: u64 = 90 * DAY_S;
/// People write to their accountant once a year.
const AGE_MAX_S: u64 = 400 * DAY_S;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000 * DAY_S;

    fn check(seeds: &[(u64, Seen)], expected: &[Seen]) {
        let mut gathered = Gathered::default();
        for (age_d, seen) in seeds {
            gathered.add(Seed { at: NOW - age_d * DAY_S, seen: seen.clone() });
        }
        let seen: Vec<Seen> = gathered.seeds(NOW).into_iter().map(|seed| seed.seen).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn counts_add_up_fade_with_their_age_and_letters_come_before_their_answers() {
        let ip = "192.0.2.7".parse().expect("address");
        let ham = |n| Seen::Ham(ip, "a.example".into(), n);
        let wrote = Seen::WroteTo("bob@a.example".into());
        check(&[(1, ham(3)), (2, ham(1)), (0, wrote.clone()), (5, wrote.clone())], &[wrote.clone(), ham(4)]);
        check(&[(100, ham(4))], &[ham(2)]);
        check(&[(300, ham(4)), (399, wrote.clone())], std::slice::from_ref(&wrote));
        check(&[(401, wrote)], &[]);
    }
}
