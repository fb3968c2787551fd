//! The file of pinned peers.

use postern_net::door::KeyPair;

use super::*;

fn key() -> String {
    let pair = KeyPair::from_pkcs8(&KeyPair::generate().expect("randomness")).expect("a key");
    pair.public().to_string()
}

fn change(domain: &str, key: Option<&str>, at: Option<&str>, add: bool) -> PeerChange {
    PeerChange { domain: domain.into(), key: key.map(Into::into), at: at.map(Into::into), enforce: false, add }
}

#[test]
fn a_peer_is_a_domain_with_a_key_and_nothing_else() {
    let key = key();
    let checked = change("Friend.Example.", Some(&key), Some("[2001:db8::1]:2526"), true).checked().expect("a peer");
    assert_eq!((checked.domain.as_str(), checked.key.as_deref()), ("friend.example", Some(key.as_str())));
    for (domain, wrong, at) in [
        ("192.0.2.1", key.as_str(), None),
        ("2001:db8::/32", key.as_str(), None),
        ("localhost", key.as_str(), None),
        ("[192.0.2.1]", key.as_str(), None),
        ("friend.example", "KEY", None),
        ("friend.example", &key[4..], None),
        ("friend.example", key.as_str(), Some("mx.friend.example")),
        ("friend.example", key.as_str(), Some("mx.friend.example:0")),
        ("friend.example", key.as_str(), Some("2001:db8::1:25")),
    ] {
        assert!(change(domain, Some(wrong), at, true).checked().is_err(), "{domain} {wrong} {at:?}");
    }
    assert!(change("friend.example", None, None, true).checked().is_err());
    assert!(change("friend.example", None, None, false).checked().is_ok());
}

#[test]
fn pinned_peers_are_kept_over_a_restart_and_published_when_they_change() {
    let dir = tempfile::tempdir().expect("scratch");
    let (old, new) = (key(), key());
    let peers = DoorPeers::load(dir.path()).expect("none yet");
    let mut followed = peers.follow();
    assert_eq!(peers.change(change("friend.example", Some(&old), Some("mx.friend.example:2526"), true), 7), Ok(true));
    assert!(followed.has_changed().expect("alive"));
    followed.mark_unchanged();
    assert_eq!(peers.change(change("friend.example", Some(&old), None, true), 8), Ok(false));
    assert!(!followed.has_changed().expect("alive"));
    assert_eq!(peers.change(change("friend.example", Some(&new), None, true), 9), Ok(true));
    let again = DoorPeers::load(dir.path()).expect("readable").now();
    assert_eq!(again, peers.now());
    let peer = &again.peers["friend.example"];
    assert_eq!((peer.keys.len(), peer.at.as_deref(), peer.added_unix_s), (2, Some("mx.friend.example:2526"), 7));
    let pins = again.pins();
    let expected: PublicKey = old.parse().expect("a key");
    assert_eq!(pins.get("friend.example").expect("pinned").keys[0].as_ref(), expected.spki());

    assert_eq!(peers.change(change("friend.example", Some(&old), None, false), 9), Ok(true));
    assert_eq!(peers.now().peers["friend.example"].keys, std::slice::from_ref(&new));
    assert_eq!(peers.change(change("friend.example", None, None, false), 9), Ok(true));
    assert_eq!(peers.change(change("friend.example", None, None, false), 9), Ok(false));
    assert!(DoorPeers::load(dir.path()).expect("readable").now().pins().is_empty());
}

#[test]
fn a_peer_that_is_enforced_stays_so_until_it_is_removed_and_older_files_are_read() {
    let dir = tempfile::tempdir().expect("scratch");
    let (one, two) = (key(), key());
    let peers = DoorPeers::load(dir.path()).expect("none yet");
    let enforced = |key: &str| PeerChange { enforce: true, ..change("friend.example", Some(key), None, true) };
    assert_eq!(peers.change(change("friend.example", Some(&one), None, true), 7), Ok(true));
    let plain = std::fs::read_to_string(PeerFile::path(dir.path())).expect("readable");
    assert!(!plain.contains("enforce"), "as an older release wrote it: {plain}");
    assert_eq!(peers.change(enforced(&one), 8), Ok(true));
    assert_eq!(peers.change(change("friend.example", Some(&two), None, true), 9), Ok(true));
    let again = DoorPeers::load(dir.path()).expect("readable").now();
    assert!(again.peers["friend.example"].enforce && again.show()["friend.example"]["enforce"] == true);
    assert_eq!(peers.change(change("friend.example", None, None, false), 9), Ok(true));
    assert_eq!(peers.change(change("friend.example", Some(&one), None, true), 9), Ok(true));
    assert!(!peers.now().peers["friend.example"].enforce);
}

#[test]
fn there_are_bounds_and_a_file_that_cannot_be_trusted_is_refused() {
    let dir = tempfile::tempdir().expect("scratch");
    let mut file = PeerFile::default();
    for _ in 0..KEYS_MAX {
        assert_eq!(file.change(&change("friend.example", Some(&key()), None, true), 0), Ok(true));
    }
    assert!(file.change(&change("friend.example", Some(&key()), None, true), 0).is_err());
    let one = key();
    for n in file.peers.len()..PEERS_MAX {
        assert_eq!(file.change(&change(&format!("n{n}.example"), Some(&one), None, true), 0), Ok(true));
    }
    assert!(file.change(&change("more.example", Some(&one), None, true), 0).is_err());
    make_door_dir(dir.path()).expect("made");
    for bad in
        [r#"{"version":9,"peers":{}}"#, r#"{"version":1,"peers":{"a.example":{"keys":["KEY"],"added_unix_s":0}}}"#, ""]
    {
        std::fs::write(PeerFile::path(dir.path()), bad).expect("written");
        assert!(PeerFile::load(dir.path()).is_err(), "{bad}");
    }
}
