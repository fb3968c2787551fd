//! What counts among the records of a postern.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

const KEY: [u8; 44] = {
    let mut key = [7; 44];
    let head = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let mut at = 0;
    while at < head.len() {
        key[at] = head[at];
        at += 1;
    }
    key
};

fn record() -> String {
    format!("v=postern1; host=mx.example.org; key={}", STANDARD.encode(KEY))
}

fn texts(all: &[&str]) -> Vec<Box<[u8]>> {
    all.iter().map(|text| text.as_bytes().into()).collect()
}

#[test]
fn one_record_of_this_version_counts_and_others_beside_it_do_not_matter() {
    let record = record();
    let chosen = choose(&texts(&["v=spf1 -all", &record, "v=postern2; key=new"])).expect("readable").expect("one");
    assert_eq!((chosen.host.as_deref(), chosen.keys), (Some("mx.example.org"), vec![KEY.to_vec()]));
    assert_eq!(choose(&texts(&["v=spf1 -all", "v=postern2; key=new"])), Ok(None));
    assert_eq!(choose(&[]), Ok(None));
}

#[test]
fn two_records_count_as_none_and_so_does_a_broken_one() {
    let record = record();
    assert_eq!(choose(&texts(&[&record, &record])), Err(NoRecord::Several));
    assert_eq!(choose(&texts(&[&record, "v=postern1; key=broken!"])), Err(NoRecord::Several));
    assert!(matches!(choose(&texts(&["v=postern1; port=0"])), Err(NoRecord::Unreadable(_))));
    assert!(matches!(choose(&[Box::from(&b"v=postern1; key=\xff"[..])]), Err(NoRecord::Unreadable(_))));
}

#[test]
fn a_tlsa_record_counts_when_it_is_validated_and_names_a_bare_key() {
    let hash = digest::digest(&digest::SHA256, &KEY).as_ref().to_vec();
    let one = |usage, selector, matching, data: &[u8]| Tlsa { usage, selector, matching, data: data.to_vec() };
    let check = |secure, records: Vec<Tlsa>, expected| {
        let told = Told { value: records.clone(), secure, ttl: Some(Duration::from_secs(60)) };
        assert_eq!(tlsa_choice(&told, &KEY), expected, "{secure} {records:?}");
    };
    check(true, vec![one(3, 1, 1, &hash)], TlsaChoice::Match);
    check(true, vec![one(3, 1, 0, &KEY)], TlsaChoice::Match);
    check(true, vec![one(3, 1, 1, &[0; 32]), one(3, 1, 1, &hash)], TlsaChoice::Match);
    check(true, vec![one(3, 1, 1, &[0; 32])], TlsaChoice::Mismatch);
    check(false, vec![one(3, 1, 1, &hash)], TlsaChoice::Unusable);
    // A certificate, an authority, a cut hash, another hash: not of a bare key.
    for record in [one(3, 0, 1, &hash), one(2, 1, 1, &hash), one(3, 1, 1, &hash[..16]), one(3, 1, 2, &[0; 64])] {
        check(true, vec![record.clone()], TlsaChoice::Unusable);
        assert!(tlsa_keys(&Told { value: vec![record], secure: true, ttl: None }).is_empty());
    }
    let told = |secure| Told { value: vec![one(3, 1, 0, &KEY), one(3, 1, 1, &[9; 32])], secure, ttl: None };
    assert_eq!(tlsa_keys(&told(true)), [hash.clone().try_into().expect("32 octets"), [9; 32]]);
    assert!(tlsa_keys(&told(false)).is_empty());
    check(true, Vec::new(), TlsaChoice::Unusable);
}
