use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::{Class, Evidence, Writer};

fn tiny() -> BookOptions {
    BookOptions { good_entries: 1 << 10, bad_entries: 1 << 10, hot_entries: 16, ..BookOptions::default() }
}

const NOW_S: u64 = 1_700_000_000;

fn address(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

/// A book with one of each: friend, bot, provider.
fn written() -> Arc<Book> {
    let book = Book::new(tiny(), [7; 16]);
    let mut writer = Writer::new(Arc::clone(&book));
    let by = crate::Authority::Spf;
    for evidence in [
        Evidence::WroteTo { domain: "friend.example".into(), address: None },
        Evidence::Authorised { ip: address(1), domain: "friend.example".into(), by },
        Evidence::Connected { ip: address(1) },
        Evidence::Abuse { ip: address(66) },
        Evidence::EarlyTalker { ip: address(66) },
        Evidence::ProviderNetworks {
            domain: "gmail.com".into(),
            networks: vec!["209.85.128.0/17".parse().expect("net"), "2a00:1450:4000::/36".parse().expect("net")].into(),
        },
    ] {
        writer.apply(&evidence, NOW_S);
    }
    book
}

fn classes(book: &Book) -> [Class; 5] {
    let gmail = [IpAddr::from([209, 85, 255, 255]), "2a00:1450:4fff::1".parse().expect("address")];
    [address(1), address(66), address(2), gmail[0], gmail[1]].map(|ip| book.class_of(ip, NOW_S))
}

#[test]
fn a_restored_book_has_the_same_classes_and_networks() {
    let book = written();
    let expected = [Class::Known, Class::Suspect, Class::New, Class::Provider, Class::Provider];
    assert_eq!(classes(&book), expected);
    let restored = Book::restore(tiny(), &book.snapshot()).expect("sound");
    assert_eq!(classes(&restored), expected);
    assert_eq!(restored.known_networks(10, NOW_S), book.known_networks(10, NOW_S));
    assert_eq!(restored.snapshot(), book.snapshot(), "nothing is lost on the way");
}

#[test]
fn the_writer_goes_on_in_a_restored_book() {
    let restored = Book::restore(tiny(), &written().snapshot()).expect("sound");
    let mut writer = Writer::new(Arc::clone(&restored));
    writer.tick(NOW_S + 60);
    for _ in 0..2 {
        writer.apply(&Evidence::Abuse { ip: address(3) }, NOW_S + 60);
    }
    assert_eq!(restored.class_of(address(3), NOW_S + 60), Class::Suspect);
}

#[test]
fn a_cap_that_is_used_up_stays_used_up_over_a_restart() {
    let book = written();
    book.desk().promotions.prefixes.extend(1..=50);
    let restored = Book::restore(tiny(), &book.snapshot()).expect("sound");
    assert_eq!(restored.desk().promotions, book.desk().promotions);
    let lowered = BookOptions { promotions_a_day: 10, ..tiny() };
    let restored = Book::restore(lowered, &book.snapshot()).expect("sound");
    assert_eq!(restored.desk().promotions.prefixes.len(), 10);
}

#[test]
fn tables_of_another_size_keep_the_good_and_forget_the_bad() {
    let larger = BookOptions { good_entries: 1 << 12, bad_entries: 1 << 12, ..tiny() };
    let restored = Book::restore(larger, &written().snapshot()).expect("sound");
    assert_eq!(classes(&restored), [Class::Known, Class::New, Class::New, Class::Provider, Class::Provider]);
}

#[test]
fn a_damaged_snapshot_is_a_clear_error() {
    let sound = written().snapshot();
    let error = |bytes: &[u8]| Book::restore(tiny(), bytes).map(drop).expect_err("damaged");
    assert_eq!(error(b""), SnapshotError::NotASnapshot);
    assert_eq!(error(b"\0\0\0\0 something else altogether"), SnapshotError::NotASnapshot);
    let mut newer = sound.clone();
    newer[8] = 9;
    assert_eq!(error(&newer), SnapshotError::Version { found: 9, expected: VERSION });
    let sum = SnapshotError::Damaged("its checksum does not match");
    for at in HEAD_BYTES..sound.len() {
        let mut flipped = sound.clone();
        flipped[at] ^= 0x10;
        assert_eq!(error(&flipped), sum, "byte {at}");
    }
    for length in [sound.len() - 1, sound.len() / 2, HEAD_BYTES + 8] {
        assert_eq!(error(&sound[..length]), sum, "cut at {length}");
    }
    assert_eq!(error(&sound[..HEAD_BYTES + 3]), SnapshotError::Damaged("it ends too early"));
    let mut longer = sound;
    longer.push(0);
    assert_eq!(error(&longer).to_string(), "the snapshot of the trust book is damaged: its checksum does not match");
}

proptest! {
    #[test]
    fn no_bytes_make_restore_panic(bytes in vec(any::<u8>(), 0..600)) {
        let _ = Book::restore(tiny(), &bytes);
        let mut framed = MAGIC.to_vec();
        framed.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        framed.extend(&bytes);
        let _ = Book::restore(tiny(), &framed);
        let _ = Book::restore_payload(tiny(), &bytes);
    }

    /// Behind the checksum, and near to sound: whatever is read can also be used.
    #[test]
    fn a_snapshot_with_forged_bytes_gives_a_book_that_works(at in any::<proptest::sample::Index>(), with in any::<[u8; 4]>()) {
        let sound = written().snapshot();
        let mut payload = sound[HEAD_BYTES..sound.len() - 8].to_vec();
        let at = at.index(payload.len() - 4);
        payload[at..at + 4].copy_from_slice(&with);
        if let Ok(book) = Book::restore_payload(tiny(), &payload) {
            let mut writer = Writer::new(Arc::clone(&book));
            writer.tick(NOW_S);
            for last in 0..20 {
                writer.apply(&Evidence::Abuse { ip: address(last) }, NOW_S);
                let _ = book.explain_address(address(last), NOW_S);
            }
            let _ = (classes(&book), book.known_networks(50, NOW_S), book.stats());
            let again = Book::restore(tiny(), &book.snapshot());
            prop_assert!(again.is_ok());
        }
    }
}
