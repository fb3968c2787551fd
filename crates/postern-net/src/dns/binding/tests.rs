//! Which service binding counts, by table.

use hickory_resolver::proto::rr::Name;
use hickory_resolver::proto::rr::rdata::svcb::{Alpn, Mandatory};

use super::*;

type Param = (SvcParamKey, SvcParamValue);

fn record(priority: u16, target: &str, params: Vec<Param>) -> SVCB {
    SVCB::new(priority, Name::from_ascii(target).expect("a name"), params)
}

fn at(port: u16) -> Param {
    (SvcParamKey::Port, SvcParamValue::Port(port))
}

fn alpn(name: &str) -> Param {
    (SvcParamKey::Alpn, SvcParamValue::Alpn(Alpn(vec!["h3".to_owned(), name.to_owned()])))
}

fn must(keys: &[SvcParamKey]) -> Param {
    (SvcParamKey::Mandatory, SvcParamValue::Mandatory(Mandatory(keys.to_vec())))
}

#[test]
fn the_lowest_priority_that_can_be_followed_is_the_place() {
    let check = |records: Vec<SVCB>, expected: Option<(&str, u16)>| {
        let expected = expected.map(|(host, port)| Binding { host: host.to_owned(), port });
        assert_eq!(choose("_postern.Far.example", records.clone()), expected, "{records:?}");
    };
    check(Vec::new(), None);
    check(vec![record(1, "MX.far.example.", vec![at(4000)])], Some(("mx.far.example", 4000)));
    check(vec![record(1, "mx.far.example.", Vec::new())], Some(("mx.far.example", 2526)));
    check(vec![record(1, ".", vec![at(4000)])], Some(("_postern.far.example", 4000)));
    check(vec![record(2, "b.example.", Vec::new()), record(1, "a.example.", Vec::new())], Some(("a.example", 2526)));
    check(vec![record(1, "b.example.", Vec::new()), record(1, "a.example.", Vec::new())], Some(("a.example", 2526)));
    // What is not for us gives way to what is.
    let other = |param| {
        vec![record(1, "other.example.", vec![param]), record(2, "ours.example.", vec![alpn("postern-smtp/1")])]
    };
    for param in [alpn("smtp"), must(&[SvcParamKey::Port, SvcParamKey::Key(7)]), at(0)] {
        check(other(param), Some(("ours.example", 2526)));
    }
    check(other(must(&[SvcParamKey::Port, SvcParamKey::Alpn])), Some(("other.example", 2526)));
    // The alias form.
    check(vec![record(0, "far.example.", Vec::new()), record(1, "mx.far.example.", Vec::new())], None);
}
