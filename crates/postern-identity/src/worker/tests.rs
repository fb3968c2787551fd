use postern_proto::checks::Spf;

use super::*;

/// `spf` of `example.org`, for a client that is called `name`.
fn check(result: SpfResult, everybody: bool, name: &str, expected: Option<Authority>) {
    let spf = Spf { result, domain: "example.org".to_owned(), of_helo: false };
    let ip = "192.0.2.7".parse().expect("an address");
    let outcome = Outcome { spf, everybody };
    let found = authority(ip, Some(&outcome), Some(name));
    assert_eq!(found, expected.map(|by| ("example.org", by)), "{result:?} {name}");
}

#[test]
fn the_domains_own_word_decides_and_a_name_speaks_only_where_it_is_silent() {
    check(SpfResult::Pass, false, "bot.example.net", Some(Authority::Spf));
    check(SpfResult::Pass, true, "mx.example.org", None);
    check(SpfResult::None, false, "mx.example.org", Some(Authority::Name));
    check(SpfResult::Neutral, false, "mx.example.org", Some(Authority::Name));
    check(SpfResult::None, false, "mx.example.net", None);
    check(SpfResult::None, false, "dsl-192-0-2-7.example.org", None);
    for word in [SpfResult::Fail, SpfResult::SoftFail, SpfResult::TempError, SpfResult::PermError] {
        check(word, false, "mx.example.org", None);
    }
}

#[test]
fn nothing_known_of_spf_is_no_authority() {
    let ip = "192.0.2.7".parse().expect("an address");
    assert_eq!(authority(ip, None, Some("mx.example.org")), None);
}

#[test]
fn the_name_behind_ehlo_has_no_credit_by_its_name() {
    let ip = "192.0.2.7".parse().expect("an address");
    let spf = Spf { result: SpfResult::None, domain: "mx.example.org".to_owned(), of_helo: true };
    assert_eq!(authority(ip, Some(&Outcome { spf, everybody: false }), Some("mx.example.org")), None);
}
