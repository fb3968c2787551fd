//! Keys on disk and on paper.

use super::*;

fn p256() -> Vec<u8> {
    rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key").serialize_der()
}

#[test]
fn both_algorithms_give_a_key_of_the_length_that_the_profile_names() {
    let ed25519 = KeyPair::from_pkcs8(&KeyPair::generate().expect("made")).expect("Ed25519");
    assert_eq!(ed25519.public().spki().len(), 44);
    assert_eq!(KeyPair::from_pkcs8(&p256()).expect("P-256").public().spki().len(), 91);
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key").serialize_der();
    assert!(matches!(KeyPair::from_pkcs8(&p384), Err(KeyError::Private(_))));
}

#[test]
fn a_public_key_is_read_strictly_and_survives_its_text() {
    for pkcs8 in [KeyPair::generate().expect("made"), p256()] {
        let key = KeyPair::from_pkcs8(&pkcs8).expect("a key").public().clone();
        assert_eq!(key.to_string().parse::<PublicKey>().expect("text"), key);
        let spki = key.spki();
        let longer = [spki, &[0]].concat();
        assert!(PublicKey::from_spki(&longer).is_err(), "something behind it");
        assert!(PublicKey::from_spki(&spki[..spki.len() - 1]).is_err(), "cut short");
        for at in 0..12 {
            let mut other = spki.to_vec();
            other[at] ^= 1;
            assert!(PublicKey::from_spki(&other).is_err(), "octet {at} changed");
        }
    }
    assert!("".parse::<PublicKey>().is_err());
    assert!("not base64!".parse::<PublicKey>().is_err());
}

#[test]
fn a_tlsa_record_is_the_digest_of_the_spki() {
    // RFC 8410 section 10.1; the digest by another program (sha256sum).
    let key: PublicKey = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=".parse().expect("a key");
    assert_eq!(key.tlsa(), "3 1 1 a1e9156054e04fac899ae9f275132cdc07a5dbc4ea2c2ad3a1ffc6e0d253681f");
}

#[test]
fn a_key_is_made_once_for_its_owner_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("door/key.pem");
    let made = KeyPair::load_or_make(&path).expect("made");
    assert_eq!(fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o600);
    assert_eq!(KeyPair::load_or_make(&path).expect("loaded").public(), made.public());
    let left: Vec<_> = fs::read_dir(dir.path().join("door")).expect("listed").collect();
    assert_eq!(left.len(), 1, "nothing is left beside it");
}

#[test]
fn of_many_that_make_a_key_at_once_all_use_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key.pem");
    let keys: Vec<PublicKey> = std::thread::scope(|scope| {
        let makers: Vec<_> =
            (0..8).map(|_| scope.spawn(|| KeyPair::load_or_make(&path).expect("a key").public().clone())).collect();
        makers.into_iter().map(|maker| maker.join().expect("joined")).collect()
    });
    assert!(keys.iter().all(|key| *key == keys[0]));
}

#[test]
fn a_broken_or_open_file_is_an_error_and_stays_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key.pem");
    fs::write(&path, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("closed");
    assert!(matches!(KeyPair::load_or_make(&path), Err(KeyError::File { .. })));
    assert!(fs::read_to_string(&path).expect("still there").contains("AAAA"));
    fs::remove_file(&path).expect("removed");
    KeyPair::load_or_make(&path).expect("made");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("opened");
    assert!(matches!(KeyPair::load_or_make(&path), Err(KeyError::Open { .. })));
}

#[test]
fn a_private_key_is_not_printed() {
    let pkcs8 = KeyPair::generate().expect("made");
    let pair = KeyPair::from_pkcs8(&pkcs8).expect("a key");
    assert_eq!(format!("{pair:?}"), format!("KeyPair(of PublicKey({}))", pair.public()));
}
