//! Any text from DNS as the record of a postern: refused, or printed as it is read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use postern_proto::door::DoorRecord;
use postern_proto::door::record::is_known_key;

fuzz_target!(|text: &str| {
    let Ok(record) = DoorRecord::parse(text) else { return };
    assert!(text.len() <= 2048 && (1..=4).contains(&record.keys.len()) && record.port != 0);
    assert!(record.keys.iter().all(|key| is_known_key(key)));
    assert!(record.host.iter().all(|host| !host.contains(|c: char| c.is_whitespace() || c.is_uppercase())));
    assert_eq!(DoorRecord::parse(&record.to_string()), Ok(record));
});
