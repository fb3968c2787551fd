//! One question, one answer, and an end to both.

use std::time::Duration;

use super::*;

#[test]
fn a_question_is_asked_once_and_its_answer_kept_for_a_while() {
    let recent = Recent::new();
    let client = Client { ip: "192.0.2.1".parse().unwrap(), helo: Some("c.example"), sender: None, begins: true };
    let key = recent.key(&client);
    let findings = Findings { name: Some("c.example".into()), ..Findings::default() };
    assert_eq!(recent.recall(key, Instant(0)), Memory::Nothing);
    assert_eq!(recent.recall(key, Instant(1)), Memory::Asked);
    recent.learn(key, &findings, Instant(2));
    assert_eq!(recent.recall(key, Instant(3)), Memory::Known(findings));
    let later = Instant(2).after(limits::FINDINGS_FRESH + Duration::from_secs(1));
    assert_eq!(recent.recall(key, later), Memory::Nothing);
}

#[test]
fn what_could_not_be_asked_may_be_tried_again_and_another_name_is_another_question() {
    let recent = Recent::new();
    let client = Client { ip: "192.0.2.1".parse().unwrap(), helo: Some("c.example"), sender: None, begins: true };
    let key = recent.key(&client);
    assert_ne!(key, recent.key(&Client { helo: Some("d.example"), ..client }));
    assert_eq!(recent.recall(key, Instant(0)), Memory::Nothing);
    recent.forget(key);
    assert_eq!(recent.recall(key, Instant(1)), Memory::Nothing);
}
