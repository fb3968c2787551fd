use super::*;

fn judgement(action: Action, headers: Vec<HeaderChange>) -> Judgement {
    Judgement { action, score_hundredths: Some(-5), by: "a,b".into(), reason: Some("why\r\nBcc: x".into()), headers }
}

fn add(name: &str) -> HeaderChange {
    HeaderChange::Add { name: name.into(), value: "by the filter".into() }
}

#[test]
fn our_marks_say_what_who_and_why_and_cannot_be_broken_out_of() {
    let of = |action| String::from_utf8(marks(&judgement(action, Vec::new()))).unwrap();
    let rest = "X-Spam-Score: -0.05\r\nX-Postern-Filter: WHAT; by=a,b; why\r\n\tBcc: x\r\n";
    assert_eq!(of(Action::Accept), rest.replace("WHAT", "accept"));
    assert_eq!(of(Action::Mark), ["X-Spam-Flag: YES\r\n", &rest.replace("WHAT", "mark")].concat());
}

#[test]
fn our_names_are_ours_and_those_of_filters_are_theirs() {
    let stored = b"X-SPAM-flag: NO\r\nX-Spam-Status: No\r\nX-Postern-Filter: accept\r\nSubject: x\r\n\r\n";
    let changes = vec![add("x-spam-flag"), add("X-Spam-Status"), add("X-Postern-Filter")];
    let Edited { head, body_at } = edited(stored, &judgement(Action::Mark, changes));
    assert_eq!(String::from_utf8(head).unwrap(), "Subject: x\r\nX-Spam-Status: by the filter\r\n");
    assert_eq!(&stored[body_at..], b"\r\n");
}

#[test]
fn who_is_acquitted_carries_no_mark() {
    let subject = HeaderChange::Change { nth: 1, name: "Subject".into(), value: "[SPAM]".into() };
    let spam = judgement(Action::Quarantine, vec![add("X-Spam-Status"), subject, add("Authentication-Results")]);
    let free = acquitted(spam);
    assert_eq!((free.action, free.headers), (Action::Accept, vec![add("Authentication-Results")]));
}
