//! Which of two places counts.

use postern_proto::door::Mode;

use super::*;

#[test]
fn a_service_binding_is_preferred_where_it_is_as_hard_to_forge_as_the_record() {
    let record = DoorRecord {
        host: Some("txt.example".into()),
        port: 2526,
        keys: Vec::new(),
        mode: Mode::Prefer,
        max_age_s: 60,
    };
    let told = |secure, value| Told { value, secure, ttl: None };
    let binding = || Some(Binding { host: "svcb.example".into(), port: 4000 });
    let check = |secure, answer: Option<Told<Option<Binding>>>, expected: (&str, u16)| {
        let place = Place::of("far.example", &record, secure, answer.as_ref());
        assert_eq!((place.host.as_str(), place.port), expected, "{secure} {answer:?}");
    };
    for (secure, answer) in
        [(false, told(false, binding())), (false, told(true, binding())), (true, told(true, binding()))]
    {
        check(secure, Some(answer), ("svcb.example", 4000));
    }
    check(true, Some(told(false, binding())), ("txt.example", 2526));
    check(false, Some(told(false, None)), ("txt.example", 2526));
    check(false, None, ("txt.example", 2526));
    let nameless = DoorRecord { host: None, ..record };
    assert_eq!(Place::of("far.example", &nameless, true, None).host, "far.example");
}
