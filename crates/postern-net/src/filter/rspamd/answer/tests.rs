//! Answers of rspamd, as its documentation and version 3.4 have them.

use super::*;

const HEADER: &[u8] = b"X-Old: 1\r\nSubject: x\r\nx-old: 2\r\nX-Old: 3\r\n";

fn found(answer: &str) -> Result<Finding, FilterError> {
    read(answer.as_bytes(), HEADER)
}

#[track_caller]
fn check(action: &str, more: &str, expected: &Verdict) {
    let answer = format!(r#"{{"action":"{action}","score":6.254,"required_score":15{more}}}"#);
    let found = found(&answer).expect("a finding");
    assert_eq!((&found.verdict, found.score_hundredths), (expected, Some(625)), "{answer}");
}

#[track_caller]
fn check_changes(milter: &str, expected: &[HeaderChange]) {
    let found = found(&format!(r#"{{"action":"no action","milter":{milter}}}"#)).expect("a finding");
    assert_eq!(found.headers, expected, "{milter}");
}

fn delete(nth: u32) -> HeaderChange {
    HeaderChange::Delete { nth, name: "X-Old".to_owned() }
}

fn add(name: &str, value: &str) -> HeaderChange {
    HeaderChange::Add { name: name.to_owned(), value: value.to_owned() }
}

#[test]
fn each_action_has_its_verdict() {
    let reply = |code, enhanced, text: &'static str| Reply::new(code, enhanced, text);
    check("no action", "", &Verdict::Accept);
    check("greylist", "", &Verdict::Accept);
    check("add header", "", &Verdict::Mark);
    check("rewrite subject", "", &Verdict::Mark);
    check("quarantine", "", &Verdict::Quarantine);
    check("discard", "", &Verdict::Discard);
    check("soft reject", "", &Verdict::Tempfail(reply(451, Enhanced(4, 7, 1), "Please try again later")));
    check("reject", "", &Verdict::Reject(reply(554, Enhanced(5, 7, 1), "Rejected as spam")));
    let words = r#","messages":{"smtp_message":"no\r\n250 spam"}"#;
    check("reject", words, &Verdict::Reject(reply(554, Enhanced(5, 7, 1), "no  250 spam")));
}

#[test]
fn a_reason_names_the_heaviest_symbols() {
    let symbols: Vec<String> = (0..20).map(|n| format!(r#""S{n}":{{"score":{n}}}"#)).collect();
    let answer = format!(
        r#"{{"action":"reject","score":190,"required_score":15,"symbols":{{{},"GOOD":{{"score":-99.5}}}}}}"#,
        symbols.join(",")
    );
    let expected = "reject 190.00/15.00: GOOD(-99.50), S19(19.00), S18(18.00), S17(17.00), S16(16.00), S15(15.00), \
                    S14(14.00), S13(13.00)";
    assert_eq!(found(&answer).expect("a finding").reason.as_deref(), Some(expected));
}

#[test]
fn what_is_no_answer_is_an_error() {
    for wrong in ["", "[]", "{}", "<html>", r#"{"error":"busy"}"#, r#"{"action":7}"#, r#"{"action":"explode"}"#] {
        assert!(matches!(found(wrong), Err(FilterError::Protocol(_))), "{wrong}");
    }
    let deep = "[".repeat(100_000);
    assert!(matches!(found(&deep), Err(FilterError::Protocol(_))));
}

#[test]
fn fields_are_removed_by_their_number_from_either_end() {
    check_changes(r#"{"remove_headers":{"X-Old":0}}"#, &[delete(3), delete(2), delete(1)]);
    check_changes(r#"{"remove_headers":{"X-Old":2}}"#, &[delete(2)]);
    check_changes(r#"{"remove_headers":{"X-Old":-1}}"#, &[delete(3)]);
    check_changes(r#"{"remove_headers":{"X-Old":-3}}"#, &[delete(1)]);
    check_changes(r#"{"remove_headers":{"X-Old":4}}"#, &[]);
    check_changes(r#"{"remove_headers":{"X-Old":-4}}"#, &[]);
    check_changes(r#"{"remove_headers":{"X-None":0,"no name":0}}"#, &[]);
}

#[test]
fn fields_are_added_in_each_form_that_rspamd_has() {
    check_changes(r#"{"add_headers":{"A":"one"}}"#, &[add("A", "one")]);
    check_changes(r#"{"add_headers":{"A":{"value":"one"}}}"#, &[add("A", "one")]);
    check_changes(r#"{"add_headers":{"A":["one",{"value":"two","order":-1}]}}"#, &[add("A", "one"), add("A", "two")]);
    let insert = |at| HeaderChange::Insert { at, name: "A".to_owned(), value: "one".to_owned() };
    check_changes(r#"{"add_headers":{"A":{"value":"one","order":0}}}"#, &[insert(0)]);
    check_changes(r#"{"add_headers":{"A":{"value":"one","order":3}}}"#, &[insert(2)]);
    check_changes(r#"{"add_headers":{"A":"one\r\nBcc: all\n\nbody"}}"#, &[add("A", "one\r\n\tBcc: all\r\n\tbody")]);
    check_changes(r#"{"add_headers":{"A B":"one","":"x","C":7}}"#, &[]);
}

#[test]
fn too_many_changes_are_an_error() {
    let many = vec![r#""x""#; HEADER_CHANGES_MAX + 1].join(",");
    let answer = format!(r#"{{"action":"no action","milter":{{"add_headers":{{"A":[{many}]}}}}}}"#);
    assert!(matches!(found(&answer), Err(FilterError::Protocol(_))));
}

#[test]
fn subject_and_sender_are_changed() {
    let answer = r#"{"action":"rewrite subject","subject":"*** SPAM *** x"}"#;
    let subject = HeaderChange::Change { nth: 1, name: "Subject".to_owned(), value: "*** SPAM *** x".to_owned() };
    assert_eq!(found(answer).expect("a finding").headers, [subject]);
    let sender = |path| {
        let answer = format!(r#"{{"action":"no action","milter":{{"change_from":"{path}"}}}}"#);
        let sender = found(&answer).expect("a finding").sender;
        sender.map(|sender| sender.map(|sender| sender.to_string()))
    };
    assert_eq!(sender("<a@b.example>"), Some(Some("a@b.example".to_owned())));
    assert_eq!(sender("<>"), Some(None));
    assert_eq!(sender("nobody"), None);
}
