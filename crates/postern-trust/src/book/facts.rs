//! Gathers from the tables what the class function wants to know. It only reads, and never decides.

use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;

use super::clock::day;
use super::{Book, roster::Declared};
use crate::class::judge::{AddressFacts, SenderFacts, suspicion, weight};
use crate::limits::{HISTORY_LOW, PROVIDER_JUDGED_MIN, PROVIDER_SPAM_PER_MILLE, SUSPECT, TRUST_LOW};
use crate::sketch::credits::{ANSWERED, Credit, KNOWN, LENT, SHARED, WROTE};
use crate::sketch::marks::Mark;
use crate::sketch::{Name, Source};

impl Credit {
    /// A domain or mailbox with which this site corresponds.
    pub(crate) fn corresponds(&self) -> bool {
        self.has(WROTE | ANSWERED) && self.credit >= TRUST_LOW
    }

    /// Known by a long good history.
    pub(crate) fn has_history(&self) -> bool {
        self.has(KNOWN) && self.credit >= HISTORY_LOW
    }

    /// An address with credit of its own or lent.
    pub(crate) fn trusts_address(&self) -> bool {
        self.has_history() || (self.has(LENT) && self.credit >= TRUST_LOW)
    }
}

impl Book {
    pub(crate) fn address_facts(&self, ip: IpAddr, clock_s: u64) -> AddressFacts {
        let source = Source::of(ip);
        let roster = self.roster.load();
        let Declared { pinned, forwarder, provider } = roster.declared(ip);
        if pinned {
            return AddressFacts { pinned, forwarder, ..AddressFacts::default() };
        }
        // Three cache lines from three tables, far apart: asked for together, they cost one wait for memory.
        let (hash, near) = (self.keys.address(source), self.keys.prefix(source));
        self.credits.fetch(hash);
        self.marks.fetch(hash);
        self.prefixes.fetch(near);
        let credit = self.credits.get(hash, day(clock_s));
        let mut facts = AddressFacts {
            pinned,
            forwarder,
            provider: None,
            trusted: credit.is_some_and(|credit| credit.trusts_address()),
            shared: credit.is_some_and(|credit| credit.has(SHARED)),
            marks: self.marks.get(hash, clock_s),
            prefix: 0,
        };
        if let Some(place) = provider {
            let place = usize::from(place);
            // The networks of a domain that is only known say something of strangers in them; whoever there has a name of his
            // own, good or bad, is judged by it.
            if roster.providers()[place].declared || (!facts.trusted && suspicion(&facts) < SUSPECT) {
                facts.provider = Some(self.provider_is_healthy(place));
                return facts;
            }
        }
        if !facts.trusted {
            facts.prefix = self.prefix_marks(source, near, clock_s);
        }
        facts
    }

    /// The worst of the prefixes round an address.
    fn prefix_marks(&self, source: Source, near: u64, clock_s: u64) -> u16 {
        let near = self.prefixes.get(near, clock_s).content;
        let wide = self.keys.wide(source).map_or(0, |hash| self.prefixes.get(hash, clock_s).content);
        near.max(wide)
    }

    pub(crate) fn sender_facts(&self, ip: IpAddr, name: &Name, authorised: bool, clock_s: u64) -> SenderFacts {
        let roster = self.roster.load();
        let address = self.keys.address(Source::of(ip));
        let domain = self.keys.domain(name);
        let authorised = authorised || !self.links.get(self.keys.link(address, domain), clock_s).is_empty();
        let landlord = self.landlord(address, roster.declared_pool(ip).provider);
        SenderFacts {
            authorised,
            pinned: roster.is_pinned_domain(name.domain()),
            proven: !roster.is_provider_domain(name.domain()) && self.domain_is_proven(domain, clock_s),
            mailbox: self.mailbox(name, clock_s).is_some_and(|credit| credit.corresponds()),
            marks: self.marks.get(domain, clock_s),
            tenant: self
                .tenant(landlord, name, authorised)
                .map_or_else(Mark::default, |tenant| self.marks.get(tenant, clock_s)),
        }
    }

    /// Whose tenants the domains at this address are: the provider's, or the address's own.
    pub(crate) fn landlord(&self, address: u64, provider: Option<u8>) -> u64 {
        provider.map_or(address, u64::from)
    }

    /// Who answers for a message inside a provider: the tenant's domain, but where the domain is the provider's own and
    /// everybody's, the mailbox; `None` when that is not told.
    pub(crate) fn tenant(&self, landlord: u64, name: &Name, authorised: bool) -> Option<u64> {
        let everybody_s = self.roster.load().is_provider_domain(name.domain());
        let who = if everybody_s { self.keys.mailbox(name)? } else { self.keys.domain(name) };
        Some(self.keys.tenant(landlord, who, authorised))
    }

    /// Whether an address belongs to a shared provider by its own name or by the provider's SPF record, whose networks
    /// may not have been read yet.
    pub(crate) fn is_pool(&self, address: u64, clock_s: u64) -> bool {
        !self.links.get(self.keys.pool(address), clock_s).is_empty()
    }

    pub(crate) fn mailbox(&self, name: &Name, clock_s: u64) -> Option<Credit> {
        self.credits.get(self.keys.mailbox(name)?, day(clock_s))
    }

    /// Whether a domain's credit may be lent: correspondence or history, and not more spam than a known one may send.
    pub(crate) fn domain_is_proven(&self, domain: u64, clock_s: u64) -> bool {
        self.credits.get(domain, day(clock_s)).is_some_and(|credit| credit.corresponds() || credit.has_history())
    }

    /// Whether a proven domain is also clean enough to lend.
    pub(crate) fn domain_lends(&self, domain: u64, clock_s: u64) -> bool {
        self.domain_is_proven(domain, clock_s) && weight(self.marks.get(domain, clock_s)) < SUSPECT
    }

    /// Less than a fifth of what was judged is spam, or too little was judged.
    pub(crate) fn provider_is_healthy(&self, place: usize) -> bool {
        let (ham, spam) = self.provider_mail(place);
        ham + spam < PROVIDER_JUDGED_MIN || spam * 1_000 < (ham + spam) * PROVIDER_SPAM_PER_MILLE
    }

    /// Good and bad messages of a provider.
    pub(crate) fn provider_mail(&self, place: usize) -> (u64, u64) {
        let both = self.provider_mail[place].load(Relaxed);
        (both >> 32, both & 0xffff_ffff)
    }
}
