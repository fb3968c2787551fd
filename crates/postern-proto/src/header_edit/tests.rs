use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

const MESSAGE: &str =
    "Received: one\r\n\tfolded\r\nReceived: two\r\nSubject: hello\r\nx-spam-flag : YES\r\n\r\nbody: x\r\n";

fn add(name: &str, value: &str) -> HeaderChange {
    HeaderChange::Add { name: name.into(), value: value.into() }
}
fn insert(at: u32, name: &str) -> HeaderChange {
    HeaderChange::Insert { at, name: name.into(), value: "new".into() }
}
fn change(nth: u32, name: &str, value: &str) -> HeaderChange {
    HeaderChange::Change { nth, name: name.into(), value: value.into() }
}
fn delete(nth: u32, name: &str) -> HeaderChange {
    HeaderChange::Delete { nth, name: name.into() }
}

fn whole(message: &[u8], edited: &Edited) -> Vec<u8> {
    [&edited.head, &message[edited.body_at..]].concat()
}

#[track_caller]
fn check(message: &str, stripped: &[&str], changes: &[HeaderChange], expected: &str) {
    let edited = edit(message.as_bytes(), stripped, changes);
    assert_eq!(String::from_utf8(whole(message.as_bytes(), &edited)).unwrap(), expected);
}

#[test]
fn changes_are_made_in_order_each_to_what_the_last_one_left() {
    check(MESSAGE, &[], &[], MESSAGE);
    check(MESSAGE, &["X-Spam-Flag"], &[], &MESSAGE.replace("x-spam-flag : YES\r\n", ""));
    check(MESSAGE, &[], &[add("A", "b")], &MESSAGE.replace("YES\r\n", "YES\r\nA: b\r\n"));
    check(MESSAGE, &[], &[insert(0, "A")], &["A: new\r\n", MESSAGE].concat());
    check(MESSAGE, &[], &[insert(1, "A")], &MESSAGE.replace("Received: two", "A: new\r\nReceived: two"));
    check(MESSAGE, &[], &[insert(99, "A")], &MESSAGE.replace("YES\r\n", "YES\r\nA: new\r\n"));
    check(MESSAGE, &[], &[change(1, "SUBJECT", "[SPAM] hello")], &MESSAGE.replace("Subject: h", "SUBJECT: [SPAM] h"));
    check(MESSAGE, &[], &[change(2, "subject", "x")], &MESSAGE.replace("YES\r\n", "YES\r\nsubject: x\r\n"));
    check(MESSAGE, &[], &[change(2, "Received", "2")], &MESSAGE.replace("two", "2"));
    check(MESSAGE, &[], &[delete(1, "received")], &MESSAGE.replace("Received: one\r\n\tfolded\r\n", ""));
    check(MESSAGE, &[], &[delete(3, "received")], MESSAGE);
    let none = MESSAGE.replace("Received: one\r\n\tfolded\r\nReceived: two\r\n", "");
    check(MESSAGE, &[], &[delete(1, "received"), delete(1, "received")], &none);
    check(MESSAGE, &[], &[delete(0, "received")], &none);
    check(MESSAGE, &["received"], &[add("Received", "x"), delete(1, "Received")], &none);
}

#[test]
fn a_message_without_a_sound_header_gets_fields_where_readers_find_them() {
    check("\r\nbody\r\n", &[], &[add("A", "b")], "A: b\r\n\r\nbody\r\n");
    check("", &[], &[add("A", "b")], "A: b\r\n");
    check("S: x\r\nno field\r\nT: y\r\n\r\nz", &["t"], &[add("A", "b")], "S: x\r\nA: b\r\nno field\r\n\r\nz");
    check("From ann Sat\r\nS: x\r\n\r\n", &[], &[insert(0, "A")], "From ann Sat\r\nA: new\r\nS: x\r\n\r\n");
    check("S: x\r\nT: not ended", &[], &[add("A", "b")], "S: x\r\nA: b\r\nT: not ended");
    check(" from nothing\r\nS: x\r\n\r\n", &[], &[insert(0, "A")], " from nothing\r\nA: new\r\nS: x\r\n\r\n");
    check(" folded from nothing\r\nS: x\r\n\r\n", &[], &[delete(1, "S")], " folded from nothing\r\n\r\n");
}

#[test]
fn no_value_or_name_of_a_filter_ends_a_line() {
    let injected = "v\r\nBcc: all\r\n\r\nbody\0\u{7f}";
    check("S: x\r\n\r\n", &[], &[add("A", injected)], "S: x\r\nA: v\r\n\tBcc: all\r\n\tbody??\r\n\r\n");
    check("S: x\r\n\r\n", &[], &[add("A", "b\n  c\n \t\nd")], "S: x\r\nA: b\r\n  c\r\n\td\r\n\r\n");
    for name in ["", "a b", "a:", "a\r\nb", "é", "a\0"] {
        check("S: x\r\n\r\n", &[], &[add(name, "v"), change(1, name, "v"), insert(0, name)], "S: x\r\n\r\n");
    }
}

#[test]
fn long_values_are_folded_at_blanks_and_cut_where_there_is_none() {
    let words = "word ".repeat(500);
    let folded = String::from_utf8(field("A", &words).unwrap()).unwrap();
    assert_eq!(folded.replace("\r\n", "").trim_end(), ["A: ", &words].concat().trim_end(), "only line ends were added");
    let solid = String::from_utf8(field("A", &"é".repeat(2000)).unwrap()).unwrap();
    assert_eq!(solid.matches('é').count(), 2000);
    for text in [folded, solid] {
        assert!(text.lines().all(|line| line.len() <= LINE_BYTES_MAX) && text.lines().count() > 2);
        assert!(text.split("\r\n").skip(1).all(|line| line.is_empty() || line.starts_with([' ', '\t'])));
    }
}

fn any_change() -> impl Strategy<Value = HeaderChange> {
    let name = || prop_oneof!["[A-C]", "[ -~]{0,4}", "\\PC{0,3}"];
    let value = || prop_oneof!["[ -~\r\n\t]{0,60}", "\\PC{0,1200}"];
    prop_oneof![
        (name(), value()).prop_map(|(name, value)| add(&name, &value)),
        (0..4_u32, name()).prop_map(|(at, name)| insert(at, &name)),
        (0..4_u32, name(), value()).prop_map(|(nth, name, value)| change(nth, &name, &value)),
        (0..4_u32, name()).prop_map(|(nth, name)| delete(nth, &name)),
    ]
}

fn name_in(change: &HeaderChange) -> String {
    let (HeaderChange::Add { name, .. }
    | HeaderChange::Insert { name, .. }
    | HeaderChange::Change { name, .. }
    | HeaderChange::Delete { name, .. }) = change;
    name.to_ascii_lowercase()
}

/// Fields of a header, whole, by name.
fn fields(header: &[u8]) -> Vec<(String, Vec<u8>)> {
    let (pieces, _) = pieces(header);
    let name = |piece: &Piece<'_>| piece.name.as_ref().map(|name| String::from_utf8_lossy(name).to_ascii_lowercase());
    pieces.iter().map(|piece| (name(piece).unwrap_or_default(), piece.octets.to_vec())).collect()
}

proptest! {
    #[test]
    fn nothing_but_the_named_fields_changes(
        header in "([A-F]( ?:[ -~]{0,10}(\r\n [a-z]{0,3})?)?\r\n){0,8}",
        body in "(\r\n\\PC{0,40})?",
        changes in proptest::collection::vec(any_change(), 0..6),
    ) {
        let message = [header.as_str(), &body].concat();
        let edited = edit(message.as_bytes(), &["F"], &changes);
        prop_assert_eq!(&message.as_bytes()[edited.body_at..], body.as_bytes(), "the body is untouched");
        let no_end = |line: &[u8]| !line.trim_ascii().is_empty() || header.contains("\r\n \r\n");
        let mut lines = edited.head.strip_suffix(b"\r\n").unwrap_or(b"x").split(|byte| *byte == b'\n');
        prop_assert!(lines.all(no_end), "the header does not end early");
        prop_assert!(!edited.head.contains(&0));
        let named: Vec<String> = changes.iter().map(name_in).chain(["f".to_string()]).collect();
        let others = |bytes: &[u8]| {
            let fields = fields(bytes).into_iter();
            fields.filter(|(name, _)| !named.contains(name)).collect::<Vec<_>>()
        };
        prop_assert_eq!(others(&edited.head), others(header.as_bytes()));
        let stripped = fields(&edited.head).iter().any(|(name, _)| name == "f");
        prop_assert!(!stripped || changes.iter().any(|change| name_in(change) == "f"));
    }

    #[test]
    fn any_octets_are_taken(message in proptest::collection::vec(any::<u8>(), 0..300), changes in proptest::collection::vec(any_change(), 0..4)) {
        let edited = edit(&message, &["A"], &changes);
        prop_assert!(edited.body_at <= message.len());
        if changes.is_empty() && !fields(&message).iter().any(|(name, _)| name == "a") {
            prop_assert_eq!(whole(&message, &edited), message);
        }
    }
}
