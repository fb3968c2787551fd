use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;

struct Shown {
    certificate: CertificateDer<'static>,
    key: [u8; 32],
    authority: CertificateDer<'static>,
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
        key: sha256(parsed.tbs_certificate.subject_pki.raw),
        authority: authority.der().clone(),
        certificate: certificate.der().clone(),
        roots: Roots::Only(vec![authority.der().to_vec()]),
    }
}

/// Usage, selector, matching type, data.
type Fields = (u8, u8, u8, Vec<u8>);

fn sha256(octets: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, octets).as_ref().try_into().expect("32 octets")
}

fn is_taken(shown: &Shown, roots: &Roots, expected: &Expected, server: &str) -> bool {
    let provider = Arc::new(provider::default_provider());
    let by_roots = WebPkiServerVerifier::builder_with_provider(Arc::new(roots.store()), provider.clone()).build().ok();
    let verifier = Authenticated { expected: expected.clone(), by_roots, provider };
    let server = ServerName::try_from(server.to_owned()).expect("a name");
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
    verifier.verify_server_cert(&shown.certificate, std::slice::from_ref(&shown.authority), &server, &[], now).is_ok()
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
        Expected { domain: "friend.example".into(), hosts: vec!["mx.provider.example".into()], ..Expected::default() };
    assert!(is_taken(&foreign, &foreign.roots, &known, "mx.provider.example"));
    let other_roots = shown("x.example").roots;
    assert!(!is_taken(&foreign, &other_roots, &known, "mx.provider.example"), "of an unknown authority");
    let pinned = Expected { domain: "friend.example".into(), keys: vec![foreign.key], ..Expected::default() };
    assert!(is_taken(&foreign, &other_roots, &pinned, "anything.example"));
    let other = Expected { keys: vec![[1; 32]], ..pinned };
    assert!(!is_taken(&foreign, &other_roots, &other, "anything.example"));
}

#[test]
fn a_server_with_validated_tlsa_records_is_proven_by_those_and_by_nothing_less() {
    let host = "mx.provider.example";
    let sha512 = |octets: &[u8]| digest::digest(&digest::SHA512, octets).as_ref().to_vec();
    let check = |certificate_of: &str, record: fn(&Shown) -> Fields, server: &str, expected: bool| {
        let shown = shown(certificate_of);
        let (usage, selector, matching, data) = record(&shown);
        let record = Tlsa { usage, selector, matching, data };
        let words = record.to_string();
        let domain = "friend.example".to_owned();
        let known =
            Expected { domain, hosts: vec![host.into()], tlsa: vec![(host.into(), vec![record])], keys: Vec::new() };
        // Public authorities know nothing of these certificates.
        assert_eq!(is_taken(&shown, &Roots::Mozilla, &known, server), expected, "{certificate_of} {words} at {server}");
    };
    // Usage 3: neither the name nor who signed it matters (RFC 7672 section 3.1.1).
    check("whatever.example", |shown| (3, 1, 1, shown.key.to_vec()), host, true);
    check("whatever.example", |shown| (3, 0, 0, shown.certificate.to_vec()), host, true);
    check("whatever.example", |shown| (3, 0, 1, sha256(&shown.certificate).to_vec()), host, true);
    check("whatever.example", |_| (3, 1, 1, vec![7; 32]), host, false);
    // Of another server it is none of its business.
    check("whatever.example", |shown| (3, 1, 1, shown.key.to_vec()), "mx.evil.example", false);
    // Usage 2: the authority in the chain, and then the name (section 3.1.2).
    check(host, |shown| (2, 0, 1, sha256(&shown.authority).to_vec()), host, true);
    check("whatever.example", |shown| (2, 0, 1, sha256(&shown.authority).to_vec()), host, false);
    check(host, |_| (2, 0, 1, vec![7; 32]), host, false);
    // A good certificate does not make up for a record of another one.
    let good = shown(host);
    let other = Tlsa { usage: 3, selector: 1, matching: 2, data: sha512(b"another") };
    let mut known = Expected { domain: "friend.example".into(), hosts: vec![host.into()], ..Expected::default() };
    assert!(is_taken(&good, &good.roots, &known, host));
    known.tlsa = vec![(host.into(), vec![other])];
    assert!(!is_taken(&good, &good.roots, &known, host));
    known.keys = vec![good.key];
    assert!(is_taken(&good, &good.roots, &known, host), "a pinned key stays good");
}
