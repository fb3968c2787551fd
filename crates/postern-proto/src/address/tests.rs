//! Mailboxes that are and are not.

use super::*;
use alloc::string::ToString;

#[track_caller]
fn check(text: &str, expected: Result<&str, AddressError>) {
    let got = Address::parse(text.as_bytes(), false).map(|address| address.to_string());
    assert_eq!(got.as_deref().map_err(|error| *error), expected);
}

#[test]
fn mailboxes_parse_and_print_back() {
    check("ann@example.com", Ok("ann@example.com"));
    check("ann@EXAMPLE.com.", Ok("ann@example.com"));
    check("Ann.Lee+x@example.com", Ok("Ann.Lee+x@example.com"));
    check("\"ann lee\"@example.com", Ok("\"ann lee\"@example.com"));
    check("\"ann\"@example.com", Ok("ann@example.com"));
    check("\"a\\\"b@c\"@example.com", Ok("\"a\\\"b@c\"@example.com"));
    check("@a.example,@b.example:ann@example.com", Ok("ann@example.com"));
    check(&("a".repeat(255) + "@example.com"), Ok(&("a".repeat(255) + "@example.com")));
    // No Dot-strings, and yet mailboxes of large providers: taken, and quoted where they go.
    check("ann.@example.com", Ok("\"ann.\"@example.com"));
    check(".ann@example.com", Ok("\".ann\"@example.com"));
    check("a..b@example.com", Ok("\"a..b\"@example.com"));
    check("ann@[127.0.0.1]", Ok("ann@[127.0.0.1]"));
    check("ann@[IPv6:::1]", Ok("ann@[ipv6:::1]"));
}

#[test]
fn what_is_no_mailbox_is_refused() {
    for text in [
        "ann",
        "@example.com",
        "ann@",
        "a b@example.com",
        "ann@-example.com",
        "ann@exa mple.com",
        "ann@[300.1.1.1]",
        "\"ann@example.com",
        "\"a\nb\"@example.com",
        "@x.example",
    ] {
        check(text, Err(AddressError::Syntax));
    }
    check("ann\u{e9}@example.com", Err(AddressError::NotAscii));
    check(&("a".repeat(256) + "@example.com"), Err(AddressError::TooLong));
    check(&("a@".to_string() + &"b.".repeat(130) + "example"), Err(AddressError::TooLong));
}

#[test]
fn the_detail_is_left_out_only_where_something_remains() {
    let address = Address::parse(b"ann+lists+x@example.com", false).unwrap();
    assert_eq!(address.local_without_detail(Some('+')), "ann");
    assert_eq!(address.local_without_detail(None), "ann+lists+x");
    assert_eq!(Address::parse(b"+x@example.com", false).unwrap().local_without_detail(Some('+')), "+x");
}
