//! Letters find the question they answer, or nobody.

use postern_proto::session::RecipientVerdict;

use super::*;

#[test]
fn a_letter_to_a_question_that_is_no_longer_open_is_dropped() {
    let slot = Slot::new(1, Class::New, None);
    let first = slot.ask();
    let second = slot.ask();
    slot.deliver(first, Letter::Recipient(RecipientVerdict::Unknown(None)));
    assert!(!slot.has_letter());
    slot.deliver(second, Letter::Recipient(RecipientVerdict::NotOurs));
    // A late one does not take the place of the right one either.
    slot.deliver(first, Letter::Recipient(RecipientVerdict::Unknown(None)));
    assert!(slot.has_letter());
    assert!(matches!(slot.take_letter(), Some(Letter::Recipient(RecipientVerdict::NotOurs))));
    slot.deliver(second, Letter::Recipient(RecipientVerdict::NotOurs));
    slot.ask();
    assert!(slot.take_letter().is_none());
}
