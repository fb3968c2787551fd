//! The client side where only a proven server will do: the downgrade of a domain that asked for it.
//!
//! MX records are mostly unsigned, so the name of the server that they give proves nothing: whoever forged it
//! has a good certificate for it. What counts is the domain itself, a host that was learnt in a way that cannot be
//! forged, a name below the domain, or a key that was pinned; and for a server that has validated TLSA records, those, and
//! then no authority (RFC 7672 section 2.2; RFC 8461 section 2: a policy does not override DANE).

use std::sync::Arc;

use ring::digest;
use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::SignatureScheme;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring as provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::client_builder;
use crate::published::{Roots, Tlsa, is_certified};

/// Who the server has to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Expected {
    /// The domain whose mail it is for, lower case.
    pub domain: String,
    /// Hosts that are known to be the domain's without doubt, lower case.
    pub hosts: Vec<String>,
    /// Keys that are good whatever the certificate says: SHA-256 of the SubjectPublicKeyInfo.
    pub keys: Vec<[u8; 32]>,
    /// Validated TLSA records that can be used, by host in lower case. A host is named once, and has one at least.
    pub tlsa: Vec<(String, Vec<Tlsa>)>,
}

/// A configuration that takes nobody else.
///
/// # Panics
/// Never: the ring provider serves the default versions, and a verifier with roots can be built.
pub fn authenticated_config(expected: Expected, roots: &Roots) -> Arc<ClientConfig> {
    let provider = Arc::new(provider::default_provider());
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots.store()), provider.clone()).build();
    let verifier = Authenticated { expected, by_roots: built.ok(), provider: provider.clone() };
    Arc::new(
        client_builder(provider).dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth(),
    )
}

#[derive(Debug)]
struct Authenticated {
    expected: Expected,
    /// `None` without any root: then only keys count.
    by_roots: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl Authenticated {
    fn has_expected_key(&self, certificate: &CertificateDer<'_>) -> bool {
        let parsed = X509Certificate::from_der(certificate);
        parsed.is_ok_and(|(_, certificate)| {
            let key = certificate.tbs_certificate.subject_pki.raw;
            let shown = digest::digest(&digest::SHA256, key);
            self.expected.keys.iter().any(|expected| expected == shown.as_ref())
        })
    }

    /// The names of which one must be on the certificate.
    fn names<'a>(&'a self, server: &'a str) -> impl Iterator<Item = &'a str> {
        let domain = self.expected.domain.as_str();
        let below = server.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')) && !domain.is_empty();
        let known = self.expected.hosts.iter().map(String::as_str);
        std::iter::once(domain).chain(known).chain(below.then_some(server))
    }
}

impl ServerCertVerifier for Authenticated {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.has_expected_key(end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        let server = server_name.to_str().to_ascii_lowercase();
        if let Some((_, records)) = self.expected.tlsa.iter().find(|(host, _)| *host == server) {
            let chain: Vec<Vec<u8>> =
                std::iter::once(end_entity).chain(intermediates).map(|der| der.to_vec()).collect();
            return if is_certified(&chain, records, &server, now.as_secs()) {
                Ok(ServerCertVerified::assertion())
            } else {
                Err(rustls::Error::General("its TLSA records are of another certificate".to_owned()))
            };
        }
        let mut failure = rustls::Error::General("nothing is known that would prove this server".to_owned());
        let Some(verifier) = &self.by_roots else { return Err(failure) };
        for name in self.names(&server) {
            let Ok(name) = ServerName::try_from(name.to_owned()) else { continue };
            match verifier.verify_server_cert(end_entity, intermediates, &name, ocsp_response, now) {
                Ok(verified) => return Ok(verified),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
