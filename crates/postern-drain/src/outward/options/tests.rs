use postern_proto::door::CloseCode;

use super::*;

#[test]
fn what_somebody_on_the_way_could_have_brought_about_is_silence() {
    let check = |error: DoorError, expected: Closed| assert_eq!(closed(&error), expected, "{error}");
    for error in [
        DoorError::Silent,
        DoorError::WrongKey,
        DoorError::Busy,
        DoorError::Address("no key"),
        DoorError::Transport("broken".to_owned()),
    ] {
        check(error, Closed::Silent);
    }
    check(DoorError::Appointment { not_before_unix_s: 7 }, Closed::Appointment(7));
    check(DoorError::Parked { retry_after_s: 9 }, Closed::Parked(9));
    check(DoorError::Refused(CloseCode::NoProof), Closed::Refused(CloseCode::NoProof));
}
