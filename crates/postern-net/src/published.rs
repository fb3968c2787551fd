//! Whether what a domain has published would make senders refuse this server.
//!
//! A domain can tell the world what to expect of its mail servers: TLSA records (DANE, RFC 7672) and
//! an MTA-STS policy (RFC 8461). A sender that heeds them delivers nothing to a server that does not
//! match, and says so to nobody here. A pure function over what was fetched elsewhere ([`crate::dns`],
//! [`crate::sts`]); `postern check` prints what it finds.

use std::sync::Arc;
use std::time::Duration;

use ring::digest;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::sts::{Policy, PolicyMode};

/// A TLSA record (RFC 6698 section 2.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tlsa {
    /// 2: the authority in the chain; 3: the server's own certificate. 0 and 1 are not for SMTP.
    pub usage: u8,
    /// 0: the whole certificate; 1: its public key.
    pub selector: u8,
    /// 0: as it is; 1: SHA-256; 2: SHA-512.
    pub matching: u8,
    /// What it is compared with.
    pub data: Vec<u8>,
}

/// Authorities that count.
#[derive(Clone, Debug)]
pub enum Roots {
    /// Mozilla's, as compiled in; what large senders trust, more or less.
    Mozilla,
    /// These, DER; for tests.
    Only(Vec<Vec<u8>>),
}

/// One reason for which a sender would not deliver to this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No TLSA record matches the certificate (RFC 7672 section 3.1).
    Tlsa {
        /// How many records could be used.
        usable: usize,
        /// `3 1 1 …`: the record that would match the certificate in use.
        would_match: String,
    },
    /// An enforced MTA-STS policy does not name this host (RFC 8461 section 4.1).
    StsHost {
        /// The names it has.
        names: Vec<String>,
    },
    /// An enforced MTA-STS policy asks for a certificate that an authority vouches for, and this one
    /// does not verify (RFC 8461 section 4.2).
    StsCertificate {
        /// The verifier's words.
        why: String,
    },
    /// There is no certificate, or it cannot be read, and something published asks for one.
    NoCertificate,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tlsa { usable, would_match } => write!(
                f,
                "none of the {usable} published TLSA records matches this server's certificate; publish \"{would_match}\" and wait for the old ones to expire, or use the certificate they name"
            ),
            Self::StsHost { names } => write!(
                f,
                "the published MTA-STS policy is enforced and does not name this host (it names {}); add it and change the id in DNS",
                names.join(", ")
            ),
            Self::StsCertificate { why } => write!(
                f,
                "the published MTA-STS policy is enforced and this server's certificate does not verify ({why}); use one from a public authority for the MX name"
            ),
            Self::NoCertificate => {
                f.write_str("something published asks for TLS, and there is no readable certificate")
            }
        }
    }
}

/// Why senders that heed TLSA or MTA-STS would refuse this server; empty when none would.
///
/// `chain` is what the server shows, DER, its own certificate first; `tlsa` what stands at
/// `_25._tcp.` of `mx_host`; `policy` the domain's; `now_unix_s` seconds since 1970. Whether the
/// zone of the TLSA records is signed is not asked: unsigned ones are ignored by senders, so a
/// refusal is then early, not wrong.
pub fn refusals(
    chain: &[Vec<u8>],
    tlsa: &[Tlsa],
    policy: Option<&Policy>,
    mx_host: &str,
    roots: &Roots,
    now_unix_s: u64,
) -> Vec<Refused> {
    let policy = policy.filter(|policy| policy.mode == PolicyMode::Enforce);
    // RFC 7672 section 2.2: with records that cannot be used, TLS is a must and nothing is verified.
    let usable: Vec<&Tlsa> = tlsa.iter().filter(|record| record.is_usable()).collect();
    let Some(certificates) = Certificates::read(chain) else {
        return if tlsa.is_empty() && policy.is_none() { Vec::new() } else { vec![Refused::NoCertificate] };
    };
    let mut refusals = Vec::new();
    let matches = |record: &&Tlsa| certificates.matches(record, mx_host, now_unix_s);
    if !usable.is_empty() && !usable.iter().any(matches) {
        refusals.push(Refused::Tlsa { usable: usable.len(), would_match: certificates.tlsa_3_1_1() });
    }
    if let Some(policy) = policy {
        if !policy.names(mx_host) {
            refusals.push(Refused::StsHost { names: policy.mx.clone() });
        }
        if let Err(why) = verify(&certificates.chain, mx_host, roots, now_unix_s) {
            refusals.push(Refused::StsCertificate { why });
        }
    }
    refusals
}

/// Whether one of the records, usable and validated, is of the server at `host` that shows this chain (RFC 7672 section 3.1).
pub(crate) fn is_certified(chain: &[Vec<u8>], records: &[Tlsa], host: &str, now_unix_s: u64) -> bool {
    Certificates::read(chain)
        .is_some_and(|certificates| records.iter().any(|record| certificates.matches(record, host, now_unix_s)))
}

impl Tlsa {
    /// RFC 7672 section 3.1.3: usages 0 and 1 "SHOULD" be unusable for SMTP.
    pub(crate) fn is_usable(&self) -> bool {
        let length = match self.matching {
            0 => !self.data.is_empty(),
            1 => self.data.len() == digest::SHA256_OUTPUT_LEN,
            2 => self.data.len() == digest::SHA512_OUTPUT_LEN,
            _ => false,
        };
        matches!(self.usage, 2 | 3) && self.selector <= 1 && length
    }

    fn is_of(&self, certificate: &[u8], key: &[u8]) -> bool {
        let selected = if self.selector == 0 { certificate } else { key };
        match self.matching {
            0 => self.data == selected,
            1 => self.data == digest::digest(&digest::SHA256, selected).as_ref(),
            _ => self.data == digest::digest(&digest::SHA512, selected).as_ref(),
        }
    }
}

impl std::fmt::Display for Tlsa {
    /// As in a zone file.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {} ", self.usage, self.selector, self.matching)?;
        self.data.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A chain with the public key of each certificate.
struct Certificates<'a> {
    chain: Vec<CertificateDer<'a>>,
    keys: Vec<&'a [u8]>,
}

impl<'a> Certificates<'a> {
    fn read(chain: &'a [Vec<u8>]) -> Option<Self> {
        let key = |der: &'a Vec<u8>| {
            X509Certificate::from_der(der).ok().map(|(_, cert)| cert.tbs_certificate.subject_pki.raw)
        };
        let keys: Option<Vec<&[u8]>> = chain.iter().map(key).collect();
        let chain = chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        keys.filter(|keys| !keys.is_empty()).map(|keys| Self { chain, keys })
    }

    fn matches(&self, record: &Tlsa, mx_host: &str, now_unix_s: u64) -> bool {
        let is_at = |at: usize| record.is_of(&self.chain[at], self.keys[at]);
        match record.usage {
            // RFC 7672 section 3.1.1: neither name nor dates matter, the record binds both.
            3 => is_at(0),
            // Section 3.1.2: an authority in the chain; from there down everything must verify.
            _ => (1..self.chain.len()).filter(|&at| is_at(at)).any(|at| {
                let authority = Roots::Only(vec![self.chain[at].to_vec()]);
                verify(&self.chain, mx_host, &authority, now_unix_s).is_ok()
            }),
        }
    }

    fn tlsa_3_1_1(&self) -> String {
        let data = digest::digest(&digest::SHA256, self.keys[0]).as_ref().to_vec();
        Tlsa { usage: 3, selector: 1, matching: 1, data }.to_string()
    }
}

fn verify(chain: &[CertificateDer<'_>], host: &str, roots: &Roots, now_unix_s: u64) -> Result<(), String> {
    let words = |error: &dyn std::error::Error| error.to_string();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots.store()), provider)
        .build()
        .map_err(|error| words(&error))?;
    let name = ServerName::try_from(host).map_err(|error| words(&error))?;
    let (own, above) = chain.split_first().ok_or("no certificate")?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now_unix_s));
    verifier.verify_server_cert(own, above, &name, &[], now).map(|_| ()).map_err(|error| words(&error))
}

impl Roots {
    pub(crate) fn store(&self) -> RootCertStore {
        match self {
            Self::Mozilla => webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(),
            Self::Only(certificates) => {
                let mut store = RootCertStore::empty();
                store.add_parsable_certificates(certificates.iter().map(|der| CertificateDer::from(der.as_slice())));
                store
            }
        }
    }
}

#[cfg(test)]
mod tests;
