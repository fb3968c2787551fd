//! Names of filters, and what is the same for all kinds.

use super::*;

#[track_caller]
fn check(text: &str, expected: Option<Kind>) {
    let parsed = Kind::parse(text);
    assert_eq!(parsed.as_ref().ok(), expected.as_ref(), "{text}");
    if let Ok(kind) = parsed {
        assert_eq!(Kind::parse(&kind.to_string()), Ok(kind), "{text} comes back from its own words");
    }
}

fn tcp(host: &str, port: u16) -> Target {
    Target::Tcp { host: host.to_owned(), port }
}

#[test]
fn a_filter_is_named_by_its_kind_and_place() {
    check("milter:inet:localhost:8891", Some(Kind::Milter { target: tcp("localhost", 8891) }));
    check("milter:inet:[::1]:8891", Some(Kind::Milter { target: tcp("::1", 8891) }));
    check("milter:unix:/run/m.sock", Some(Kind::Milter { target: Target::Unix("/run/m.sock".into()) }));
    check("rspamd:127.0.0.1:11333", Some(Kind::Rspamd { target: tcp("127.0.0.1", 11333) }));
    check("rspamd:/run/rspamd.sock", Some(Kind::Rspamd { target: Target::Unix("/run/rspamd.sock".into()) }));
    check("spamd:mail.example:783", Some(Kind::Spamd { target: tcp("mail.example", 783) }));
    check("spamd:/run/spamd.sock", Some(Kind::Spamd { target: Target::Unix("/run/spamd.sock".into()) }));
}

#[test]
fn what_names_no_filter_is_refused() {
    for text in [
        "",
        "milter",
        "milter:",
        "milter:8891",
        "milter:inet:8891",
        "milter:inet:host:0",
        "milter:inet:host:65536",
        "milter:unix:relative",
        "milter:inet:::1:25",
        "rspamd:",
        "rspamd:host",
        "spamd:host:",
        "clamav:host:3310",
    ] {
        check(text, None);
    }
}

#[test]
fn a_score_is_kept_in_hundredths_and_never_wraps() {
    for (score, expected) in
        [(0.0, 0), (6.3, 630), (-2.5, -250), (1000.0, 100_000), (1e300, i32::MAX), (f64::NAN, 0), (-1e300, i32::MIN)]
    {
        assert_eq!(hundredths(score), expected, "{score}");
    }
}
