//! What outbound mail asks of DNS: mail servers, posterns, and what proves either.
//!
//! A trait, so that the tests have answers of their own. Decides nothing.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use crate::dns::{Binding, DnsError, Mx, Published, Resolver, Told};
use crate::published::Tlsa;

/// An answer that is on its way.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who answers.
pub trait Names: fmt::Debug + Send + Sync {
    /// The domain's mail servers; none is an empty list.
    fn mx<'a>(&'a self, domain: &'a str) -> Pending<'a, Result<Told<Vec<Mx>>, DnsError>>;
    /// All addresses of a host.
    fn addresses<'a>(&'a self, host: &'a str) -> Pending<'a, Result<Vec<IpAddr>, DnsError>>;
    /// What the domain has published of its postern.
    fn door<'a>(&'a self, domain: &'a str) -> Pending<'a, Result<Option<Published>, DnsError>>;
    /// The place that a service binding of the domain gives its postern.
    fn door_binding<'a>(&'a self, domain: &'a str) -> Pending<'a, Result<Told<Option<Binding>>, DnsError>>;
    /// SHA-256 of the keys that validated TLSA records give the postern at this place.
    fn door_keys<'a>(&'a self, host: &'a str, port: u16) -> Pending<'a, Result<Told<Vec<[u8; 32]>>, DnsError>>;
    /// TLSA records of a mail server, at `_25._tcp.HOST`. They count only when `secure`.
    fn mail_tlsa<'a>(&'a self, host: &'a str) -> Pending<'a, Result<Told<Vec<Tlsa>>, DnsError>>;
    /// The id of the domain's MTA-STS policy; `None` when it has none.
    fn sts_id<'a>(&'a self, domain: &'a str) -> Pending<'a, Result<Option<String>, DnsError>>;
}

impl Names for Resolver {
    fn mx<'a>(&'a self, domain: &'a str) -> Pending<'a, Result<Told<Vec<Mx>>, DnsError>> {
        Box::pin(Self::mx(self, domain))
    }

    fn addresses<'a>(&'a self, host: &'a str) -> Pending<'a, Result<Vec<IpAddr>, DnsError>> {
        Box::pin(async move { Ok(Self::addresses(self, host).await?.value) })
    }

    fn door<'a>(&'a self, domain: &'a str) -> Pending<'a, Result<Option<Published>, DnsError>> {
        Box::pin(self.door_record(domain))
    }

    fn door_binding<'a>(&'a self, domain: &'a str) -> Pending<'a, Result<Told<Option<Binding>>, DnsError>> {
        Box::pin(Self::door_binding(self, domain))
    }

    fn door_keys<'a>(&'a self, host: &'a str, port: u16) -> Pending<'a, Result<Told<Vec<[u8; 32]>>, DnsError>> {
        Box::pin(Self::door_keys(self, host, port))
    }

    fn mail_tlsa<'a>(&'a self, host: &'a str) -> Pending<'a, Result<Told<Vec<Tlsa>>, DnsError>> {
        Box::pin(async move { self.tlsa_at(&format!("_25._tcp.{host}")).await })
    }

    fn sts_id<'a>(&'a self, domain: &'a str) -> Pending<'a, Result<Option<String>, DnsError>> {
        Box::pin(self.mta_sts_id(domain))
    }
}
