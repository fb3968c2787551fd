//! The one that writes the book: it turns evidence into credits and marks. It owns who is credited and blamed for what, and the
//! caps of a day. It never judges an address for a door, and it never waits. The trust task owns it and feeds it in batches.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};

use ipnet::IpNet;

use super::clock::day;
use super::roster::{Declared, Roster};
use super::{Book, Promotions};
use crate::class::judge::weight;
use crate::evidence::Evidence;
use crate::limits::{
    ABUSE, BAD_HELO, BAD_RECIPIENT, BAD_RECIPIENTS_MAX, EARLY_TALKER, GOOD_DAY, HAM, HISTORY_AGE_D, HISTORY_HIGH,
    HISTORY_LOW, HOLD_MAX, HOT_SIGHT, LENT_A_DAY, LENT_CREDIT, LISTING, LISTING_MAX, PREFIX_SHARE, PROMOTABLE,
    PROMOTIONS_A_PREFIX, PROVIDERS_MAX, SHARED_BLAME, SHARED_DOMAINS, SPAM, SPAM_COSTS, SPAM_MAX, TRUST_LOW,
    WIDE_SHARE, WROTE_CREDIT,
};
use crate::sketch::credits::{ANSWERED, Credit, DOMAIN, GOOD_TODAY, KNOWN, LENT, SHARED, WROTE, WROTE_TODAY};
use crate::sketch::marks::Mark;
use crate::sketch::{Name, Source};

/// Writes a book. There is one at a time.
#[derive(Debug)]
pub struct Writer {
    book: Arc<Book>,
    /// For replacement in full buckets; from the book's secret, so nobody foresees it and a run can be repeated.
    dice: u64,
    clock_s: u64,
    cursor: [usize; 4],
}

/// A sender that is about to be credited.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    hash: u64,
    prefix: u64,
    flags: u8,
}

impl Writer {
    /// Takes the pen of the book.
    ///
    /// # Panics
    /// When another holds it: two writers would undo each other's work.
    #[must_use]
    pub fn new(book: Arc<Book>) -> Self {
        assert!(!book.written.swap(true, AcqRel), "a trust book has one writer");
        let dice = book.keys.link(0, 0) | 1;
        Self { dice, clock_s: book.clock.both() >> 32, cursor: [0; 4], book }
    }

    /// The book it writes.
    #[must_use]
    pub const fn book(&self) -> &Arc<Book> {
        &self.book
    }

    /// Writes one observation. Well under a microsecond for most; [`Evidence::ProviderNetworks`] rebuilds the roster.
    pub fn apply(&mut self, evidence: &Evidence, now_s: u64) {
        self.move_clock(now_s);
        self.book.counts.evidence.fetch_add(1, Relaxed);
        match evidence {
            Evidence::WroteTo { domain, address } => self.wrote_to(domain, address.as_deref()),
            Evidence::Authorised { ip, domain, by: _ } => self.authorised(*ip, domain),
            Evidence::Ham { ip, domain, n } => self.ham(*ip, domain.as_deref().and_then(Name::of).as_ref(), *n),
            Evidence::Spam { ip, domain, n } => self.spam(*ip, domain.as_deref().and_then(Name::of).as_ref(), *n),
            Evidence::OfKeyHolder { ip, domain, n, spam } => self.of_key_holder(*ip, domain, *n, *spam),
            Evidence::EarlyTalker { ip } => self.behaved(*ip, EARLY_TALKER),
            Evidence::Abuse { ip } => self.behaved(*ip, ABUSE),
            Evidence::BadHelo { ip } => self.behaved(*ip, BAD_HELO),
            Evidence::BadRecipients { ip, n } => self.bad_recipients(*ip, *n),
            Evidence::Listed { ip, weight } => self.listed(*ip, *weight),
            Evidence::Connected { ip } => self.connected(*ip),
            Evidence::Delivered { ip } => self.delivered(*ip),
            Evidence::ProviderNetworks { domain, networks } => self.provider_networks(domain, networks),
        }
    }

    /// To be called some times a second, also without evidence: moves the clock, starts the new day, clears what has decayed.
    pub fn tick(&mut self, now_s: u64) {
        self.move_clock(now_s);
        let book = &self.book;
        self.cursor[0] = book.credits.sweep(self.cursor[0], day(self.clock_s));
        self.cursor[1] = book.marks.sweep(self.cursor[1], self.clock_s);
        self.cursor[2] = book.prefixes.sweep(self.cursor[2], self.clock_s);
        self.cursor[3] = book.links.sweep(self.cursor[3], self.clock_s);
    }

    fn move_clock(&mut self, now_s: u64) {
        self.clock_s = self.book.clock.advance(now_s);
        let today = self.today();
        let mut desk = self.book.desk();
        if desk.promotions.day == today {
            return;
        }
        let days = today.wrapping_sub(desk.promotions.day).min(64);
        desk.promotions.day = today;
        desk.promotions.prefixes.clear();
        for _ in 0..days {
            desk.hot.cool();
        }
        drop(desk);
        for mail in &self.book.provider_mail {
            let both = mail.load(Relaxed);
            let (mut ham, mut spam) = (both >> 32, both & 0xffff_ffff);
            for _ in 0..days {
                // A tenth a day is a half-life of a week.
                ham -= ham.div_ceil(10);
                spam -= spam.div_ceil(10);
            }
            mail.store(ham << 32 | spam, Relaxed);
        }
    }

    fn today(&self) -> u16 {
        day(self.clock_s)
    }

    fn declared(&self, ip: IpAddr) -> Declared {
        self.book.roster.load().declared_pool(ip)
    }

    fn is_provider_domain(&self, name: &Name) -> bool {
        self.book.roster.load().is_provider_domain(name.domain())
    }

    fn roll(&mut self) -> u32 {
        // xorshift64*: replacement needs no better dice.
        self.dice ^= self.dice >> 12;
        self.dice ^= self.dice << 25;
        self.dice ^= self.dice >> 27;
        (self.dice.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    fn mark(&mut self, hash: u64, f: impl FnOnce(&mut Mark)) {
        let dice = self.roll();
        self.book.marks.change(hash, self.clock_s, dice, f);
    }

    // ---- what is good -------------------------------------------------------------------------------------------------

    /// Our own letter: the mailbox is credited, and the domain unless many strangers share it. Only our own users can fill the
    /// table this way. It proves nothing until it is answered.
    fn wrote_to(&mut self, domain: &str, address: Option<&str>) {
        let today = self.today();
        let wrote = |credit: &mut Credit| {
            if !credit.has(WROTE_TODAY) {
                credit.add(WROTE_CREDIT);
            }
            // They wrote first, in good mail from an authorised address, and this is our answer.
            if credit.first_day != credit.day || credit.has(GOOD_TODAY) {
                credit.flags |= if credit.has(WROTE) { 0 } else { ANSWERED };
            }
            credit.flags |= WROTE | WROTE_TODAY;
        };
        if let Some(name) = address.and_then(Name::of)
            && let Some(hash) = self.book.keys.mailbox(&name)
        {
            self.keep(hash, today, wrote);
        }
        if let Some(name) = Name::of(domain)
            && !self.is_provider_domain(&name)
        {
            self.keep(self.book.keys.domain(&name), today, |credit| {
                credit.flags |= DOMAIN;
                wrote(credit);
            });
        }
    }

    fn keep(&self, hash: u64, today: u16, f: impl FnOnce(&mut Credit)) -> Option<Credit> {
        let kept = self.book.credits.change(hash, today, f);
        if kept.is_none() {
            self.book.counts.crowded_out.fetch_add(1, Relaxed);
        }
        kept
    }

    /// The address may speak for the domain. That alone credits nobody: any stranger can publish an SPF record. But it answers a
    /// letter of ours, and a proven domain lends its credit to the address.
    fn authorised(&mut self, ip: IpAddr, domain: &str) {
        let Some(name) = Name::of(domain) else { return };
        let address = self.book.keys.address(Source::of(ip));
        let domain = self.book.keys.domain(&name);
        let dice = self.roll();
        let link = self.book.keys.link(address, domain);
        let before = self.book.links.change(link, self.clock_s, dice, |seen| seen.add_manner(8));
        let today = self.today();
        self.answered(&name, domain);
        let declared = self.declared(ip);
        if self.is_provider_domain(&name) {
            let dice = self.roll();
            self.book.links.change(self.book.keys.pool(address), self.clock_s, dice, |seen| seen.add_manner(8));
            return;
        }
        if declared.provider.is_some() || declared.forwarder || self.book.is_pool(address, self.clock_s) {
            return;
        }
        // Proven domains are not counted: their addresses are theirs. So no flood that washes a link away makes a friend shared.
        if before.is_empty() && !self.book.domain_is_proven(domain, self.clock_s) {
            self.book.credits.change_existing(address, today, |credit| {
                credit.count = credit.count.saturating_add(1);
                if credit.count >= SHARED_DOMAINS {
                    credit.flags |= SHARED;
                }
            });
        }
        self.lend(address, domain);
    }

    /// Authorised mail came from a domain or mailbox to which we wrote.
    fn answered(&self, name: &Name, domain: u64) {
        let today = self.today();
        for hash in [Some(domain), self.book.keys.mailbox(name)].into_iter().flatten() {
            self.book.credits.change_existing(hash, today, |credit| {
                if credit.has(WROTE) {
                    credit.flags |= ANSWERED;
                }
            });
        }
    }

    /// A proven domain lends its credit to an address that it authorised, to so many new ones a day.
    fn lend(&self, address: u64, domain: u64) {
        let (book, today) = (&self.book, self.today());
        if !book.domain_lends(domain, self.clock_s) {
            return;
        }
        let has = book.credits.get(address, today).is_some_and(|credit| credit.has(LENT) && credit.credit >= TRUST_LOW);
        if !has {
            let lent = book.credits.get(domain, today).map_or(u8::MAX, |credit| credit.count);
            if lent >= LENT_A_DAY {
                return;
            }
            book.credits.change_existing(domain, today, |credit| credit.count += 1);
            book.counts.lent.fetch_add(1, Relaxed);
        }
        self.keep(address, today, |credit| {
            credit.credit = credit.credit.max(LENT_CREDIT);
            credit.flags |= LENT;
        });
    }

    /// Good mail. It counts for domain and address only where the address is authorised for the domain.
    fn ham(&mut self, ip: IpAddr, name: Option<&Name>, n: u16) {
        let source = Source::of(ip);
        let declared = self.declared(ip);
        let address = self.book.keys.address(source);
        self.wash(address, n);
        if let Some(place) = declared.provider {
            self.count_provider_mail(place, u64::from(n), 0);
        }
        let Some(name) = name else {
            self.hold(ip, source);
            return;
        };
        let domain = self.book.keys.domain(name);
        let authorised = self.is_linked(address, domain);
        let landlord = self.book.landlord(address, declared.provider);
        if let Some(tenant) = self.book.tenant(landlord, name, authorised) {
            self.wash(tenant, n);
        }
        if !authorised {
            self.hold(ip, source);
            return;
        }
        if !self.credit_domain(name, n, source) {
            return;
        }
        let prefix = self.book.keys.prefix(source);
        if declared.provider.is_none() && !declared.forwarder && !self.book.is_pool(address, self.clock_s) {
            self.good(Candidate { hash: address, prefix, flags: 0 });
            self.lend(address, domain);
            self.warm(ip, source);
        }
    }

    /// Good mail of a domain, sent by whoever may speak for it. Whether it is anybody's own: a shared provider's is not.
    fn credit_domain(&mut self, name: &Name, n: u16, source: Source) -> bool {
        let domain = self.book.keys.domain(name);
        self.wash(domain, n);
        self.answered(name, domain);
        if let Some(mailbox) = self.book.keys.mailbox(name) {
            self.book.credits.change_existing(mailbox, self.today(), good_day);
        }
        if self.is_provider_domain(name) {
            return false;
        }
        self.good(Candidate { hash: domain, prefix: self.book.keys.prefix(source), flags: DOMAIN });
        true
    }

    /// A key speaks for the domain where no record names the address.
    fn of_key_holder(&mut self, ip: IpAddr, sender: &str, n: u16, spam: bool) {
        let Some(name) = Name::of(sender) else { return };
        let source = Source::of(ip);
        let linked = self.is_linked(self.book.keys.address(source), self.book.keys.domain(&name));
        let named = linked.then_some(&name);
        if spam {
            self.spam(ip, named, n);
            if !linked {
                self.blame_domain(&name, n);
            }
        } else {
            self.ham(ip, named, n);
            if !linked {
                self.credit_domain(&name, n, source);
            }
        }
    }

    fn is_linked(&self, address: u64, domain: u64) -> bool {
        !self.book.links.get(self.book.keys.link(address, domain), self.clock_s).is_empty()
    }

    /// A good verdict takes some of the bad ones off.
    fn wash(&mut self, hash: u64, n: u16) {
        if self.book.marks.get(hash, self.clock_s).content > 0 {
            self.mark(hash, |mark| mark.content = mark.content.saturating_sub(n.saturating_mul(HAM)));
        }
    }

    /// One more good day, and perhaps the one that makes it known.
    fn good(&mut self, who: Candidate) {
        let today = self.today();
        let Some(credit) = self.keep(who.hash, today, |credit| {
            credit.flags |= who.flags;
            good_day(credit);
        }) else {
            return;
        };
        let ripe = credit.credit >= HISTORY_HIGH && today.wrapping_sub(credit.first_day) >= HISTORY_AGE_D;
        if !ripe || credit.has(KNOWN) || weight(self.book.marks.get(who.hash, self.clock_s)) >= PROMOTABLE {
            return;
        }
        if self.promote(who.prefix) {
            self.book.counts.promoted.fetch_add(1, Relaxed);
            self.book.credits.change_existing(who.hash, today, |credit| credit.flags |= KNOWN);
        } else {
            self.book.counts.waiting.fetch_add(1, Relaxed);
        }
    }

    /// Takes one of the day's promotions.
    fn promote(&self, prefix: u64) -> bool {
        let mut desk = self.book.desk();
        let Promotions { prefixes, .. } = &mut desk.promotions;
        let near = prefixes.iter().filter(|other| **other == prefix).count();
        if prefixes.len() >= self.book.options.promotions_a_day as usize || near >= usize::from(PROMOTIONS_A_PREFIX) {
            return false;
        }
        prefixes.push(prefix);
        true
    }

    fn connected(&self, ip: IpAddr) {
        self.book.counts.connected.fetch_add(1, Relaxed);
        self.warm(ip, Source::of(ip));
    }

    fn delivered(&self, ip: IpAddr) {
        self.hold(ip, Source::of(ip));
    }

    fn warm(&self, ip: IpAddr, source: Source) {
        if self.book.is_steered_alone(ip, self.clock_s) {
            self.book.desk().hot.warm(source, HOT_SIGHT);
        }
    }

    /// An address that is trusted stays so while its mail is good. Whom we know nobody looks up, so its mail names no
    /// authorised domain; without this the best of friends would be a stranger after two months.
    fn hold(&self, ip: IpAddr, source: Source) {
        if !self.book.is_steered_alone(ip, self.clock_s) {
            return;
        }
        self.book.credits.change_existing(self.book.keys.address(source), self.today(), hold_day);
        self.warm(ip, source);
    }

    // ---- what is bad --------------------------------------------------------------------------------------------------

    /// How the machine itself behaves: counts against everybody, forwarders and providers too.
    fn behaved(&mut self, ip: IpAddr, points: u16) {
        let source = Source::of(ip);
        self.mark(self.book.keys.address(source), |mark| mark.add_manner(points));
        self.blame_prefix(ip, source, points);
    }

    fn bad_recipients(&mut self, ip: IpAddr, n: u16) {
        let declared = self.declared(ip);
        if declared.forwarder || declared.provider.is_some() {
            return;
        }
        let source = Source::of(ip);
        let address = self.book.keys.address(source);
        let points = n.min(BAD_RECIPIENTS_MAX) * BAD_RECIPIENT;
        let own = if self.book.is_pool(address, self.clock_s) { points / SHARED_BLAME } else { points };
        self.mark(address, |mark| mark.add_content(own));
        self.blame_prefix(ip, source, own);
    }

    fn listed(&mut self, ip: IpAddr, weight: i8) {
        let declared = self.declared(ip);
        if declared.forwarder || declared.provider.is_some() || weight == 0 {
            return;
        }
        let listed = (-i16::from(weight) * LISTING).clamp(-LISTING_MAX, LISTING_MAX);
        self.mark(self.book.keys.address(Source::of(ip)), |mark| {
            // The strongest word stays, until it decays: asking again adds nothing.
            if listed.unsigned_abs() >= mark.listed.unsigned_abs() {
                mark.listed = listed;
            }
        });
    }

    /// A spam verdict blames the address, and the domain where it authorised the address: else forged mail would blame the forged.
    fn spam(&mut self, ip: IpAddr, name: Option<&Name>, n: u16) {
        let source = Source::of(ip);
        let declared = self.declared(ip);
        if declared.forwarder {
            return;
        }
        let points = n.min(SPAM_MAX) * SPAM;
        let address = self.book.keys.address(source);
        let shared = self.book.credits.get(address, self.today()).is_some_and(|credit| credit.has(SHARED))
            || self.book.is_pool(address, self.clock_s);
        if declared.provider.is_some() || shared {
            if let Some(name) = name {
                let domain = self.book.keys.domain(name);
                let authorised = self.is_linked(address, domain);
                let landlord = self.book.landlord(address, declared.provider);
                if let Some(tenant) = self.book.tenant(landlord, name, authorised) {
                    self.mark(tenant, |mark| mark.add_content(points));
                }
            }
            if let Some(place) = declared.provider {
                self.count_provider_mail(place, 0, u64::from(n));
                return;
            }
        }
        // Of a shared address a quarter sticks: it answers for whom it takes in.
        let own = if shared { points / SHARED_BLAME } else { points };
        self.mark(address, |mark| mark.add_content(own));
        self.blame_prefix(ip, source, own);
        self.cost(address, n);
        if let Some(name) = name.filter(|name| self.is_linked(address, self.book.keys.domain(name))) {
            self.blame_domain(name, n);
        }
    }

    /// Spam of a domain, sent by whoever may speak for it.
    fn blame_domain(&mut self, name: &Name, n: u16) {
        // A provider's own domain is everybody's: one free account must not blacken all others.
        if self.is_provider_domain(name) {
            return;
        }
        let domain = self.book.keys.domain(name);
        self.mark(domain, |mark| mark.add_content(n.min(SPAM_MAX) * SPAM));
        self.cost(domain, n);
    }

    /// Spam costs a history its days; of lent credit, the lender's.
    fn cost(&self, hash: u64, n: u16) {
        self.book.credits.change_existing(hash, self.today(), |credit| {
            if !credit.has(WROTE) && !credit.has(LENT) {
                credit.credit = credit.credit.saturating_sub(n.min(SPAM_MAX) * SPAM_COSTS);
            }
        });
    }

    fn blame_prefix(&mut self, ip: IpAddr, source: Source, points: u16) {
        let declared = self.declared(ip);
        if declared.forwarder || declared.provider.is_some() || declared.pinned {
            return;
        }
        let dice = self.roll();
        let near = self.book.keys.prefix(source);
        self.book.prefixes.change(near, self.clock_s, dice, |mark| mark.add_content(points / PREFIX_SHARE));
        if let Some(wide) = self.book.keys.wide(source) {
            self.book.prefixes.change(wide, self.clock_s, !dice, |mark| mark.add_content(points / WIDE_SHARE));
        }
    }

    // ---- providers ----------------------------------------------------------------------------------------------------

    fn count_provider_mail(&self, place: u8, ham: u64, spam: u64) {
        let mail = &self.book.provider_mail[usize::from(place)];
        let both = mail.load(Relaxed);
        let most = u64::from(u32::MAX);
        mail.store(((both >> 32) + ham).min(most) << 32 | ((both & most) + spam).min(most), Relaxed);
    }

    /// Networks count for a declared provider, and narrower ones for a domain with which this site corresponds: a domain that
    /// is known by history only could be a patient spammer's, and its record could name half the net.
    fn provider_networks(&mut self, domain: &str, networks: &[IpNet]) {
        let Some(name) = Name::of(domain) else { return };
        let book = &self.book;
        let hash = book.keys.domain(&name);
        let corresponds = book.credits.get(hash, self.today()).is_some_and(|credit| credit.corresponds());
        let declared = self.is_provider_domain(&name);
        let known = corresponds && book.domain_lends(hash, self.clock_s);
        if !declared && !known {
            return;
        }
        let _desk = book.desk();
        let roster = book.roster.load();
        let Ok(text) = core::str::from_utf8(name.domain()) else { return };
        if let Some((providers, place)) = roster.with_networks(text, networks, declared) {
            let moved = roster.providers().get(place).is_none_or(|old| old.domain != text);
            if moved && place < PROVIDERS_MAX {
                book.provider_mail[place].store(0, Relaxed);
            }
            book.roster.store(Arc::new(Roster::new(
                roster.pins().clone(),
                providers,
                book.options.well_known_providers,
            )));
        }
    }
}

fn good_day(credit: &mut Credit) {
    if credit.credit < HISTORY_LOW {
        // It fell silent or sent spam: the way back leads through the cap again.
        credit.flags &= !KNOWN;
    }
    if !credit.has(GOOD_TODAY) {
        credit.add(GOOD_DAY);
        credit.flags |= GOOD_TODAY;
    }
}

fn hold_day(credit: &mut Credit) {
    if credit.credit < HISTORY_LOW {
        // Lent credit is all that it has left, and holds no history.
        credit.flags &= !KNOWN;
    }
    if !credit.has(GOOD_TODAY) {
        credit.credit = credit.credit.max((credit.credit + GOOD_DAY).min(HOLD_MAX));
        credit.flags |= GOOD_TODAY;
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.book.written.store(false, Release);
    }
}
