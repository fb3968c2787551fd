//! Records as people paste them.

use std::format;
use std::string::{String, ToString};
use std::vec;

use super::{DoorRecord, Mode, RecordFault};

const KEY: &str = "MCowBQYDK2VwAyEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn fault(text: &str) -> Option<RecordFault> {
    DoorRecord::parse(&text.replace("KEY", KEY)).err()
}

#[test]
fn a_record_reads_back_as_it_was_printed() {
    let mut key = super::ED25519.to_vec();
    key.resize(44, 0xaa);
    let mut second = super::P256.to_vec();
    second.resize(91, 0xbb);
    for record in [
        DoorRecord { host: None, port: 2526, keys: vec![key.clone()], mode: Mode::Prefer, max_age_s: 0 },
        DoorRecord {
            host: Some("mx.example".into()),
            port: 1,
            keys: vec![second, key],
            mode: Mode::Enforce,
            max_age_s: 31_557_600,
        },
    ] {
        assert_eq!(DoorRecord::parse(&record.to_string()), Ok(record));
    }
}

#[test]
fn what_is_left_out_has_a_default() {
    let record = DoorRecord::parse(&format!("v=postern1;key={KEY}")).expect("a record");
    assert_eq!((record.host, record.port, record.mode, record.max_age_s), (None, 2526, Mode::Prefer, 86_400));
    assert_eq!(record.keys.len(), 1);
}

#[test]
fn white_space_unknown_tags_and_a_last_semicolon_are_taken() {
    assert_eq!(fault("v = postern1 ;\tkey = KEY ; later=yes; host=MX.Example ; "), None);
    assert_eq!(fault("v=postern1; key=KEY; key=KEY"), None, "two keys, for a roll-over");
}

#[test]
fn a_record_that_breaks_a_rule_says_which() {
    use RecordFault::*;
    for (text, expected) in [
        ("", Version),
        ("v=postern2; key=KEY", Version),
        ("key=KEY; v=postern1", Version),
        ("v=spf1 -all", Version),
        ("v=postern1", NoKey),
        ("v=postern1; key=KEY;; port=1", Syntax),
        ("v=postern1; key=KEY; port", Syntax),
        ("v=postern1; key=KEY; port=", Syntax),
        ("v=postern1; key=KEY; Port=1", Syntax),
        ("v=postern1; key=KEY; later=a b", Syntax),
        ("v=postern1; key=KEY; port=1; port=1", Repeated),
        ("v=postern1; key=KEY; v=postern1", Repeated),
        ("v=postern1; key=KEY; later=1; later=1", Repeated),
        ("v=postern1; key=KEY; host=a..b", Host),
        ("v=postern1; key=KEY; port=0", Port),
        ("v=postern1; key=KEY; port=65536", Port),
        ("v=postern1; key=KEY; port=+25", Port),
        ("v=postern1; key=KEY; mode=maybe", Mode),
        ("v=postern1; key=KEY; max_age=31557601", MaxAge),
        ("v=postern1; key=KEY; max_age=-1", MaxAge),
        ("v=postern1; key=!", Key),
        ("v=postern1; key=MCowBQYDK2VwAyEA", NoKey),
        ("v=postern1; key=KEY; key=KEY; key=KEY; key=KEY; key=KEY", TooManyKeys),
    ] {
        assert_eq!(fault(text), Some(expected), "{text}");
    }
}

#[test]
fn base64_is_taken_in_its_one_spelling_only() {
    let with = |from: &str, to: &str| fault(&format!("v=postern1; key={}", KEY.replace(from, to)));
    assert_eq!(with("AAA=", "AAA"), Some(RecordFault::Key), "without padding");
    assert_eq!(with("AAA=", "AAB="), Some(RecordFault::Key), "with bits behind the end");
    assert_eq!(with("AAA=", "A_A="), Some(RecordFault::Key), "the URL alphabet");
}

#[test]
fn a_key_of_a_later_algorithm_is_passed_over() {
    let later = "MCowBQYDK2VxAyEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let record = DoorRecord::parse(&format!("v=postern1; key={later}; key={KEY}")).expect("a record");
    assert_eq!(record.keys.len(), 1);
    assert_eq!(fault(&format!("v=postern1; key={later}")), Some(RecordFault::NoKey));
}

#[test]
fn a_record_is_bounded() {
    let tags = |count: usize| -> String { (0..count).map(|at| format!("; t{at}=x")).collect() };
    assert_eq!(fault(&format!("v=postern1; key=KEY{}", tags(30))), None);
    assert_eq!(fault(&format!("v=postern1; key=KEY{}", tags(31))), Some(RecordFault::TooLong));
    assert_eq!(fault(&format!("v=postern1; key=KEY; later={}", "x".repeat(2048))), Some(RecordFault::TooLong));
}
