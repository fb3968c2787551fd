use super::*;

fn check(helo: &str, expected: Option<HeloFault>) {
    let ours = ["mail.example.com", "example.com."];
    let client = "192.0.2.7".parse().expect("an address");
    assert_eq!(helo_fault(helo, client, &ours), expected, "{helo:?}");
    assert_eq!(helo_is_plausible(helo, client, &ours), expected.is_none(), "{helo:?}");
}

#[test]
fn names_that_honest_clients_have_are_plausible() {
    for helo in [
        "mx1.example.org",
        "MX1.Example.ORG.",
        "smtp_out.example.org",
        "xn--bcher-kva.example",
        "bücher.example",
        "[192.0.2.7]",
        "[IPv6:::ffff:192.0.2.7]",
        "[10.0.0.3]",
        "sub.mail.example.com",
        "host-192-0-2-7.pool.example.net",
    ] {
        check(helo, None);
    }
}

#[test]
fn what_cannot_be_the_clients_own_name_is_found() {
    check("", Some(HeloFault::Empty));
    check(".", Some(HeloFault::Empty));
    check(&format!("{}.example", "a".repeat(300)), Some(HeloFault::TooLong));
    check("mail.example.com", Some(HeloFault::OurName));
    check("EXAMPLE.com", Some(HeloFault::OurName));
    check("192.0.2.7", Some(HeloFault::BareAddress));
    check("2001:db8::7", Some(HeloFault::BareAddress));
    check("[192.0.2.8]", Some(HeloFault::OtherAddress));
    check("[127.0.0.1]", Some(HeloFault::OtherAddress));
    check("[IPv6:::1]", Some(HeloFault::OtherAddress));
    check("[IPv6:2001:db8::8]", Some(HeloFault::OtherAddress));
    check("[IPv6:192.0.2.7]", Some(HeloFault::BadLiteral));
    check("[ü192.0.2.7]", Some(HeloFault::BadLiteral));
    check("[192.0.2.7", Some(HeloFault::BadLiteral));
    check("[]", Some(HeloFault::BadLiteral));
    check("localhost", Some(HeloFault::Localhost));
    check("localhost.localdomain", Some(HeloFault::Localhost));
    check("friend", Some(HeloFault::NoDot));
    check("WIN-3F0K2L", Some(HeloFault::NoDot));
    check("a b.example", Some(HeloFault::Characters));
    check("a\u{7}.example", Some(HeloFault::Characters));
    check("a..example", Some(HeloFault::Characters));
    check("$(id).example", Some(HeloFault::Characters));
}

#[test]
fn a_machine_that_talks_to_itself_may_use_its_names() {
    let itself = "::1".parse().expect("an address");
    assert!(helo_is_plausible("mail.example.com", itself, &["mail.example.com"]));
    assert!(helo_is_plausible("localhost", itself, &["mail.example.com"]));
}
