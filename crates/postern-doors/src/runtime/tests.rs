//! Whose findings are whose.

use postern_trust::Authority;

use super::*;
use crate::shell::tests::core;

#[test]
fn an_answer_about_one_sender_lends_nothing_to_the_next_one_of_the_same_connection() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(postern_spool::SpoolOptions::new(dir.path())).unwrap();
    let core = core(spool);
    let (index, slot) = core.slots.insert_for(Class::New, None);
    let passed = Findings { authority: Some(Authority::Spf), ..Findings::default() };
    let (first, second) = (11, 22);
    // The first sender's answer is late: RSET, another sender, whose question is open now.
    slot.looked_into.set(second);
    core.findings.put(Found { index, serial: slot.serial, key: first, findings: passed.clone() });
    core.dispatch();
    assert!(slot.findings.borrow().is_none());
    // And nobody else's, should the place be another connection's by now.
    core.findings.put(Found { index, serial: slot.serial + 1, key: second, findings: passed.clone() });
    core.dispatch();
    assert!(slot.findings.borrow().is_none());
    core.findings.put(Found { index, serial: slot.serial, key: second, findings: passed });
    core.dispatch();
    assert!(slot.findings.borrow().is_some());
}
