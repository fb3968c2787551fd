//! SPF (RFC 7208), evaluated by mail-auth, asked by us. The only file that names mail-auth's types, with
//! `networks.rs`.
//!
//! mail-auth would ask DNS by itself, one name after the other, with no idea of what the house can afford.
//! It also takes caches. So it is handed a *sheet* of answers as its cache, and no way to DNS: when it
//! wants what is not on the sheet, the evaluation is thrown away, that one name is looked up within the
//! budgets, and the evaluation starts again. Ten terms at most, so some ten starts, which wait for nothing
//! but the name. DKIM's keys will be fetched the same way: `verify_dkim` takes the same caches.
//!
//! What mail-auth 0.13 leaves to its caller is done here: at most two void look-ups (section 4.6.4), more
//! than one record is an error (section 4.5), `exists` asks for A only (section 5.7), no explanation is
//! fetched (a stranger would choose what we look up when we refuse him).
//!
//! Known and left: where an `include` below an `include` passes, mail-auth takes the inner qualifier. It
//! matters only to records that include with `-` or `?` on two levels.

use std::borrow::Borrow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::sync::Arc;

use mail_auth::common::parse::TxtRecordParser;
use mail_auth::hickory_resolver::config::{ResolverConfig, ResolverOpts};
use mail_auth::spf::verify::SpfParameters;
use mail_auth::spf::{Directive, Macro, Mechanism, Spf as Record};
use mail_auth::{DnsError, DnssecStatus, Error, MX, MessageAuthenticator, Parameters, RecordSet, ResolverCache, Txt};
use postern_proto::checks::{Spf, SpfResult};

use crate::dns::{self, Answer, Key, Kind, Records};
use crate::limits;
use crate::lookups::{Lookups, Payer};
use crate::stats::Unaffordable;

/// Evaluates records. Has a resolver without servers, because mail-auth needs one.
pub(crate) struct Evaluator {
    auth: MessageAuthenticator,
    hostname: String,
}

/// Who says to be whom.
#[derive(Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) ip: IpAddr,
    pub(crate) helo: Option<&'a str>,
    /// Empty for `<>`.
    pub(crate) mail_from: &'a str,
}

/// The outcome, and whether a pass means anything.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) spf: Spf,
    /// The record passes addresses that nobody has: it authorises the world, so it authorises nobody.
    pub(crate) everybody: bool,
}

impl Evaluator {
    pub(crate) fn new(hostname: &str) -> Result<Self, String> {
        let nowhere = ResolverConfig::from_name_servers(Vec::new());
        let auth = MessageAuthenticator::new(nowhere, ResolverOpts::default()).map_err(|error| error.to_string())?;
        Ok(Self { auth, hostname: hostname.to_owned() })
    }

    /// `None`: there is no domain to ask about.
    pub(crate) async fn check(
        &self,
        lookups: &Rc<Lookups>,
        payer: Payer<'_>,
        claim: Claim<'_>,
    ) -> Result<Option<Outcome>, Unaffordable> {
        let helo = claim.helo.and_then(dns::domain);
        let (sender, domain) = match claim.mail_from.rsplit_once('@') {
            Some((local, domain)) => {
                let Some(domain) = dns::domain(domain) else { return Ok(None) };
                (Some(format!("{local}@{domain}")), domain)
            }
            // RFC 7208 section 2.4: `<>` stands for postmaster at the name behind EHLO.
            None => match &helo {
                Some(helo) => (None, helo.clone()),
                None => return Ok(None),
            },
        };
        let who = Who { helo: helo.as_deref().unwrap_or("unknown"), sender: sender.as_deref() };
        let sheet = Sheet::default();
        let result = loop {
            match self.evaluate(&sheet, claim.ip, who).await {
                Ok(result) => break result,
                Err(wanted) => {
                    if sheet.known.borrow().len() >= limits::SPF_LOOKUPS_MAX {
                        return Err(Unaffordable::Greedy);
                    }
                    let told = lookups.get(wanted.clone(), payer).await?;
                    sheet.known.borrow_mut().insert(wanted, told.answer);
                }
            }
        };
        let everybody = result == SpfResult::Pass && self.passes_everybody(&sheet, claim.ip, who).await;
        let spf = Spf { result, domain: domain.into(), of_helo: sender.is_none() };
        Ok(Some(Outcome { spf, everybody }))
    }

    /// `+all` and `ip4:0.0.0.0/1` are real records. Nothing is looked up for this.
    async fn passes_everybody(&self, sheet: &Sheet, ip: IpAddr, who: Who<'_>) -> bool {
        for nobody in if ip.is_ipv4() { NOBODY_V4 } else { NOBODY_V6 } {
            if self.evaluate(sheet, nobody, who).await == Ok(SpfResult::Pass) {
                return true;
            }
        }
        false
    }

    /// One run over the sheet; the error is what the sheet misses.
    async fn evaluate(&self, sheet: &Sheet, ip: IpAddr, who: Who<'_>) -> Result<SpfResult, Key> {
        sheet.begin(ip);
        let parameters = match who.sender {
            Some(sender) => SpfParameters::verify_mail_from(ip, who.helo, &self.hostname, sender),
            None => SpfParameters::verify_ehlo(ip, who.helo, &self.hostname),
        };
        let parameters = Parameters::new(parameters)
            .with_txt_cache(sheet)
            .with_mx_cache(sheet)
            .with_ptr_cache(sheet)
            .with_ipv4_cache(sheet)
            .with_ipv6_cache(sheet);
        let output = self.auth.check_host(parameters).await;
        if let Some(missed) = sheet.missed.take() {
            return Err(missed);
        }
        if sheet.voids.get() > limits::VOIDS_MAX {
            return Ok(SpfResult::PermError);
        }
        // Section 5: "if the DNS lookup returns a server failure […] temperror". Whatever mail-auth made of
        // the empty answer it was given instead.
        if sheet.failed.get() {
            return Ok(SpfResult::TempError);
        }
        Ok(match output.result() {
            mail_auth::SpfResult::Pass => SpfResult::Pass,
            mail_auth::SpfResult::Fail => SpfResult::Fail,
            mail_auth::SpfResult::SoftFail => SpfResult::SoftFail,
            mail_auth::SpfResult::Neutral => SpfResult::Neutral,
            mail_auth::SpfResult::None => SpfResult::None,
            mail_auth::SpfResult::TempError => SpfResult::TempError,
            mail_auth::SpfResult::PermError => SpfResult::PermError,
        })
    }
}

/// The words of a claim that do not change between runs.
#[derive(Clone, Copy)]
struct Who<'a> {
    helo: &'a str,
    sender: Option<&'a str>,
}

/// Addresses that no client has (RFC 5737, RFC 3849, RFC 6666), spread over the space.
const NOBODY_V4: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(0, 0, 0, 1)),
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)),
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 250)),
];
const NOBODY_V6: [IpAddr; 3] = [
    IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x3fff, 0xfff, 0, 0, 0, 0, 0, 1)),
];

/// What one evaluation knows, and what it misses first.
#[derive(Default)]
struct Sheet {
    known: RefCell<HashMap<Key, Answer>>,
    client: Cell<Option<IpAddr>>,
    missed: RefCell<Option<Key>>,
    voids: Cell<usize>,
    failed: Cell<bool>,
}

impl Sheet {
    fn begin(&self, ip: IpAddr) {
        self.client.set(Some(ip));
        self.missed.take();
        self.voids.set(0);
        self.failed.set(false);
    }

    /// `None`: not on the sheet, or this run is over already.
    fn look(&self, kind: Kind, name: &str) -> Option<Answer> {
        let key = Key::new(kind, name);
        let known = self.known.borrow().get(&key).cloned();
        if known.is_none() {
            self.missed.borrow_mut().get_or_insert(key);
        }
        known
    }

    /// Records of a mechanism, whose failure and void look-ups count.
    fn term<T>(&self, kind: Kind, name: &str, take: impl Fn(&Records) -> Vec<T>) -> Vec<T> {
        match self.look(kind, name) {
            Some(Answer::Found(records)) => take(&records),
            Some(Answer::Void) => {
                self.voids.set(self.voids.get() + 1);
                Vec::new()
            }
            Some(Answer::Failed) => {
                self.failed.set(true);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    fn addresses_v4(&self, name: &str) -> Vec<Ipv4Addr> {
        self.term(Kind::A, name, |records| if let Records::V4(found) = records { found.clone() } else { Vec::new() })
    }
}

/// The key of a look-up, which mail-auth's trait lets us hash and nothing else: so the name is read from
/// what it hashes. `str` hashes its octets and an end mark that is in no UTF-8.
#[derive(Default)]
struct Reader(Vec<u8>);

impl Hasher for Reader {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

fn name_of<Q: Hash + ?Sized>(key: &Q) -> String {
    let mut reader = Reader::default();
    key.hash(&mut reader);
    if reader.0.last() == Some(&0xff) {
        reader.0.pop();
    }
    String::from_utf8(reader.0).unwrap_or_default()
}

fn set<T>(records: Vec<T>) -> RecordSet<T> {
    RecordSet { rrset: records.into(), dnssec_status: DnssecStatus::Indeterminate }
}

impl ResolverCache<Box<str>, Txt> for Sheet {
    fn get<Q>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let nothing = Error::Dns(DnsError::InvalidRecordType);
        Some(match self.look(Kind::Txt, &name_of(name)) {
            Some(Answer::Found(records)) => match record(&records) {
                Ok(Some(record)) => Txt::Spf(Arc::new(without_surprises(record))),
                Ok(None) => Txt::Error(nothing),
                Err(()) => Txt::Error(Error::ParseError),
            },
            Some(Answer::Void) => Txt::Error(nothing),
            Some(Answer::Failed) | None => Txt::Error(Error::Dns(DnsError::Resolver(String::new()))),
        })
    }

    fn remove<Q>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: Txt, _: std::time::Instant) {}
}

impl ResolverCache<Box<str>, RecordSet<Ipv4Addr>> for Sheet {
    fn get<Q>(&self, name: &Q) -> Option<RecordSet<Ipv4Addr>>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let name = name_of(name);
        Some(set(match name.trim_end_matches('.').strip_suffix(EXISTS) {
            Some(name) => self.addresses_v4(name).into_iter().take(1).collect(),
            None => self.addresses_v4(&name),
        }))
    }

    fn remove<Q>(&self, _: &Q) -> Option<RecordSet<Ipv4Addr>>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: RecordSet<Ipv4Addr>, _: std::time::Instant) {}
}

impl ResolverCache<Box<str>, RecordSet<Ipv6Addr>> for Sheet {
    fn get<Q>(&self, name: &Q) -> Option<RecordSet<Ipv6Addr>>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let name = name_of(name);
        Some(set(match name.trim_end_matches('.').strip_suffix(EXISTS) {
            Some(name) => self.addresses_v4(name).iter().take(1).map(Ipv4Addr::to_ipv6_mapped).collect(),
            None => self.term(Kind::Aaaa, &name, |records| match records {
                Records::V6(found) => found.clone(),
                _ => Vec::new(),
            }),
        }))
    }

    fn remove<Q>(&self, _: &Q) -> Option<RecordSet<Ipv6Addr>>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: RecordSet<Ipv6Addr>, _: std::time::Instant) {}
}

impl ResolverCache<Box<str>, RecordSet<MX>> for Sheet {
    fn get<Q>(&self, name: &Q) -> Option<RecordSet<MX>>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let exchanges = self.term(Kind::Mx, &name_of(name), hosts);
        let servers = MX { exchanges: exchanges.into(), preference: 0 };
        Some(set(if servers.exchanges.is_empty() { Vec::new() } else { vec![servers] }))
    }

    fn remove<Q>(&self, _: &Q) -> Option<RecordSet<MX>>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: RecordSet<MX>, _: std::time::Instant) {}
}

impl ResolverCache<IpAddr, RecordSet<Box<str>>> for Sheet {
    /// Only ever of the client. Section 5.5: a DNS error is no match, not an error.
    fn get<Q>(&self, _: &Q) -> Option<RecordSet<Box<str>>>
    where
        IpAddr: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let client = self.client.get()?;
        Some(set(match self.look(Kind::Ptr, &dns::reverse_name(client)) {
            Some(Answer::Found(records)) => hosts(&records),
            _ => Vec::new(),
        }))
    }

    fn remove<Q>(&self, _: &Q) -> Option<RecordSet<Box<str>>>
    where
        IpAddr: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: IpAddr, _: RecordSet<Box<str>>, _: std::time::Instant) {}
}

fn hosts(records: &Records) -> Vec<Box<str>> {
    if let Records::Hosts(found) = records { found.clone() } else { Vec::new() }
}

/// The SPF record among a domain's texts (RFC 7208 section 4.5): none, one, or an error.
pub(crate) fn record(records: &Records) -> Result<Option<Record>, ()> {
    let Records::Texts(texts) = records else { return Ok(None) };
    let is_spf = |text: &&[u8]| {
        text.get(..6).is_some_and(|version| version.eq_ignore_ascii_case(b"v=spf1"))
            && text.get(6).is_none_or(|next| *next == b' ')
    };
    let mut records = texts.iter().map(|text| &**text).filter(is_spf);
    match (records.next(), records.next()) {
        (None, _) => Ok(None),
        (Some(text), None) => Record::parse(text).map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

/// The record as mail-auth is to see it: no explanation, and `exists:NAME` as `a:NAME` of a marked name
/// with a mask that fits every address. mail-auth's own `exists` takes an empty answer for a match.
fn without_surprises(record: Record) -> Record {
    let directives = record.directives.into_vec().into_iter().map(|Directive { qualifier, mechanism }| {
        let mechanism = match mechanism {
            Mechanism::Exists { macro_string } => {
                Mechanism::A { macro_string: marked(macro_string), ip4_mask: 0, ip6_mask: 0 }
            }
            other => other,
        };
        Directive { qualifier, mechanism }
    });
    Record { directives: directives.collect(), exp: None, ra: None, ..record }
}

fn marked(name: Macro) -> Macro {
    let mut parts = match name {
        Macro::List(parts) => parts.into_vec(),
        one => vec![one],
    };
    parts.push(Macro::Literal(EXISTS.as_bytes().into()));
    Macro::List(parts.into())
}

/// Marks the name of an `exists`. A domain that writes it itself asks for the A records of a shorter name.
const EXISTS: &str = "._exists-postern";

#[cfg(test)]
mod tests;
