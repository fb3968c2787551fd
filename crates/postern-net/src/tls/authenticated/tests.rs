use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;

struct Shown {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
    roots: Roots,
}

/// A certificate for `name` from an authority of the test's own.
fn shown(name: &str) -> Shown {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let pair = KeyPair::generate().expect("a key");
    let own = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let certificate = own.signed_by(&pair, &authority).expect("a certificate");
    let (_, parsed) = X509Certificate::from_der(certificate.der()).expect("what was just made");
    Shown {
        key: parsed.tbs_certificate.subject_pki.raw.to_vec(),
        certificate: certificate.der().clone(),
        roots: Roots::Only(vec![authority.der().to_vec()]),
    }
}

fn is_taken(shown: &Shown, roots: &Roots, expected: &Expected, server: &str) -> bool {
    let provider = Arc::new(ring::default_provider());
    let by_roots = WebPkiServerVerifier::builder_with_provider(Arc::new(roots.store()), provider.clone()).build().ok();
    let verifier = Authenticated { expected: expected.clone(), by_roots, provider };
    let server = ServerName::try_from(server.to_owned()).expect("a name");
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
    verifier.verify_server_cert(&shown.certificate, &[], &server, &[], now).is_ok()
}

#[test]
fn a_good_certificate_for_a_name_that_an_mx_record_gave_proves_nothing() {
    let expected = Expected { domain: "friend.example".into(), ..Expected::default() };
    let check = |certificate_of: &str, server: &str| {
        let shown = shown(certificate_of);
        is_taken(&shown, &shown.roots, &expected, server)
    };
    assert!(check("friend.example", "mx.elsewhere.example"), "for the domain itself");
    assert!(check("mx.friend.example", "mx.friend.example"), "for a host below the domain");
    assert!(!check("evil.example", "evil.example"));
    assert!(!check("evilfriend.example", "evilfriend.example"));
    assert!(!check("mx.friend.example", "evil.example"));
}

#[test]
fn a_host_that_is_known_without_doubt_and_a_pinned_key_count() {
    let foreign = shown("mx.provider.example");
    let known =
        Expected { domain: "friend.example".into(), hosts: vec!["mx.provider.example".into()], keys: Vec::new() };
    assert!(is_taken(&foreign, &foreign.roots, &known, "mx.provider.example"));
    let other_roots = shown("x.example").roots;
    assert!(!is_taken(&foreign, &other_roots, &known, "mx.provider.example"), "of an unknown authority");
    let pinned = Expected { domain: "friend.example".into(), hosts: Vec::new(), keys: vec![foreign.key.clone()] };
    assert!(is_taken(&foreign, &other_roots, &pinned, "anything.example"));
    let other = Expected { keys: vec![vec![1; 44]], ..pinned };
    assert!(!is_taken(&foreign, &other_roots, &other, "anything.example"));
}
