//! TLSA and MTA-STS against certificates made here.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;

const HOST: &str = "mx.example.org";

/// A chain of two whose authority nobody else knows, and the time at which it is valid.
struct World {
    chain: Vec<Vec<u8>>,
    now: u64,
}

impl World {
    fn new() -> Self {
        let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("signed");
        let key = KeyPair::generate().expect("a key");
        let own = CertificateParams::new(vec![HOST.to_owned()]).expect("parameters").signed_by(&key, &authority);
        let chain = vec![own.expect("signed").der().to_vec(), authority.der().to_vec()];
        Self { chain, now: 1_700_000_000 }
    }

    fn key(&self, at: usize) -> Vec<u8> {
        let (_, certificate) = X509Certificate::from_der(&self.chain[at]).expect("a certificate");
        certificate.tbs_certificate.subject_pki.raw.to_vec()
    }

    fn refusals(&self, tlsa: &[Tlsa], policy: Option<&str>, host: &str) -> Vec<Refused> {
        let policy = policy.map(|text| Policy::parse(text).expect("a policy"));
        refusals(&self.chain, tlsa, policy.as_ref(), host, &self.roots(), self.now)
    }

    fn roots(&self) -> Roots {
        Roots::Only(vec![self.chain[1].clone()])
    }
}

fn tlsa(usage: u8, selector: u8, matching: u8, data: impl AsRef<[u8]>) -> Tlsa {
    Tlsa { usage, selector, matching, data: data.as_ref().to_vec() }
}

fn sha256(data: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, data)
}

fn sha512(data: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA512, data)
}

#[test]
fn records_that_match_refuse_nobody() {
    let world = World::new();
    let (own, above) = (&world.chain[0], &world.chain[1]);
    for record in [
        tlsa(3, 1, 1, sha256(&world.key(0))),
        tlsa(3, 0, 1, sha256(own)),
        tlsa(3, 1, 2, sha512(&world.key(0))),
        tlsa(3, 0, 2, sha512(own)),
        tlsa(3, 1, 0, world.key(0)),
        tlsa(3, 0, 0, own),
        tlsa(2, 1, 1, sha256(&world.key(1))),
        tlsa(2, 0, 1, sha256(above)),
        tlsa(2, 0, 2, sha512(above)),
    ] {
        let other = tlsa(3, 1, 1, [7; 32]);
        assert_eq!(world.refusals(&[other, record.clone()], None, HOST), [], "{record}");
    }
}

#[test]
fn a_record_for_another_key_refuses_and_the_cure_is_named() {
    let world = World::new();
    let cure = tlsa(3, 1, 1, sha256(&world.key(0)));
    let refused = world.refusals(&[tlsa(3, 1, 1, [7; 32]), tlsa(2, 0, 1, [7; 32])], None, HOST);
    assert_eq!(refused, [Refused::Tlsa { usable: 2, would_match: cure.to_string() }]);
    assert_eq!(world.refusals(&[cure], None, HOST), []);
}

#[test]
fn usage_2_binds_name_and_dates_and_does_not_match_the_certificate_itself() {
    let world = World::new();
    let above = tlsa(2, 0, 1, sha256(&world.chain[1]));
    assert_eq!(world.refusals(std::slice::from_ref(&above), None, "other.example.org").len(), 1, "another name");
    let late = World { now: 99_999_999_999, chain: world.chain.clone() };
    assert_eq!(late.refusals(std::slice::from_ref(&above), None, HOST).len(), 1, "expired");
    assert_eq!(world.refusals(&[tlsa(2, 0, 1, sha256(&world.chain[0]))], None, HOST).len(), 1, "its own");
    let unsent = refusals(&world.chain[..1], &[above], None, HOST, &world.roots(), world.now);
    assert_eq!(unsent.len(), 1, "the authority is not in the chain");
}

#[test]
fn usage_3_binds_neither_name_nor_dates() {
    let late = World { now: 99_999_999_999, ..World::new() };
    assert_eq!(late.refusals(&[tlsa(3, 1, 1, sha256(&late.key(0)))], None, "other.example.org"), []);
}

#[test]
fn records_that_senders_cannot_use_refuse_nobody() {
    let world = World::new();
    let unusable = [tlsa(0, 1, 1, [7; 32]), tlsa(1, 1, 1, [7; 32]), tlsa(3, 2, 1, [7; 32]), tlsa(3, 1, 1, [7; 31])];
    assert_eq!(world.refusals(&unusable, None, HOST), []);
}

#[test]
fn an_enforced_policy_wants_the_host_named_and_the_certificate_verified() {
    let world = World::new();
    let policy = |mode: &str, mx: &str| format!("version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 86400\n");
    assert_eq!(world.refusals(&[], Some(&policy("enforce", HOST)), HOST), []);
    assert_eq!(world.refusals(&[], Some(&policy("enforce", "*.example.org")), HOST), []);
    let unnamed = world.refusals(&[], Some(&policy("enforce", "mx2.example.org")), HOST);
    assert_eq!(unnamed, [Refused::StsHost { names: vec!["mx2.example.org".to_owned()] }]);
    assert_eq!(world.refusals(&[], Some(&policy("testing", "mx2.example.org")), HOST), []);
    let enforce = Policy::parse(&policy("enforce", HOST)).expect("a policy");
    let unknown = refusals(&world.chain, &[], Some(&enforce), HOST, &Roots::Mozilla, world.now);
    assert!(matches!(unknown.as_slice(), [Refused::StsCertificate { .. }]), "{unknown:?}");
}

#[test]
fn a_certificate_that_cannot_be_read_refuses_only_what_asks_for_one() {
    let record = tlsa(3, 1, 1, [7; 32]);
    for chain in [vec![], vec![b"junk".to_vec()]] {
        let roots = Roots::Mozilla;
        assert_eq!(refusals(&chain, &[], None, HOST, &roots, 0), []);
        assert_eq!(refusals(&chain, std::slice::from_ref(&record), None, HOST, &roots, 0), [Refused::NoCertificate]);
    }
}
