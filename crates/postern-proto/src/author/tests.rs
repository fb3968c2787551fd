//! Who the author is, by example; and that no message has two.

use std::format;
use std::string::String;
use std::vec::Vec;

use mail_parser::{Address, MessageParser};
use proptest::prelude::*;

use super::*;

fn scan(message: &[u8], smtputf8: bool, step: usize) -> Result<Author, AuthorFault> {
    let mut scanner = AuthorScanner::new(smtputf8);
    message.chunks(step).for_each(|piece| scanner.feed(piece));
    scanner.finish()
}

/// What another parser takes for the domains of the author, asked for in the DNS as browsers do.
fn others_read(message: &[u8]) -> Vec<String> {
    let parsed = MessageParser::default().parse(message);
    let from = parsed.as_ref().and_then(|message| message.from());
    let domain = |address: &str| {
        let name = address.rsplit('@').next().unwrap_or("").to_ascii_lowercase();
        if name.is_ascii() { name } else { idna::domain_to_ascii(&name).unwrap_or(name) }
    };
    match from {
        Some(Address::List(list)) => list.iter().map(|addr| domain(addr.address.as_deref().unwrap_or(""))).collect(),
        _ => Vec::new(),
    }
}

#[track_caller]
fn check(message: &str, expected: &str) {
    check_with(message, false, expected);
}

#[track_caller]
fn check_with(message: &str, smtputf8: bool, expected: &str) {
    let whole = scan(message.as_bytes(), smtputf8, usize::MAX);
    assert_eq!(scan(message.as_bytes(), smtputf8, 1), whole, "in octets: {message:?}");
    assert_eq!(scan(message.as_bytes(), smtputf8, 3), whole, "in threes: {message:?}");
    let said = match &whole {
        Ok(author) => &*author.domain,
        Err(fault) => fault.as_str(),
    };
    assert_eq!(said, expected, "{message:?}");
    if whole.is_ok() {
        let read = others_read(message.as_bytes());
        assert!(!read.is_empty() && read.iter().all(|domain| domain == expected), "{message:?}: others read {read:?}");
    }
}

#[track_caller]
fn from(value: &str, expected: &str) {
    check(
        &format!("Subject: x\r\nFrom: {value}\r\nTo: ann@example.com\r\n\r\nFrom: other@elsewhere.example\r\n"),
        expected,
    );
}

#[test]
fn one_author_is_read_however_people_write_him() {
    for value in [
        "bob@b.example",
        "<bob@b.example>",
        "Bob <bob@b.example>",
        "Bob Q. Public <bob@B.Example>",
        "\"Public, Bob\" <bob@b.example>",
        "\"Bob \\\"the\\\" Public\" <bob@b.example>",
        "\"bob@b.example\" <Bob@b.example>",
        "\"'bob@b.example'\" <bob@b.example>",
        "bob@b.example (Cron Daemon)",
        "Bob <bob@b.example> (by phone)",
        "Bob (Sales) <bob@b.example>",
        "=?utf-8?q?B=C3=B6b_=28Sales=29?= <bob@b.example>",
        "=?UTF-8?B?QsO2Yg==?= <bob@b.example>",
        "=?iso-8859-1*de?Q?B=F6b?= Public <bob@b.example>",
        "Bob\r\n <bob@b.example>",
        "\r\n\tBob\r\n Public\r\n <bob@b.example>",
        "bob@b.example, ann@b.example",
        "Bob <bob@b.example>, \"Ann\" <ann@b.example>",
        "bob+tag=x%y!z@b.example",
        "bounce..x.@b.example",
    ] {
        from(value, "b.example");
    }
    check("from:bob@b.example\r\n\r\n", "b.example");
    check("FROM:\tbob@b.example\r\n", "b.example");
    check("X-From: a@a.example\r\nFrom: bob@b.example\r\nFrom-X: c@c.example\r\n\r\n", "b.example");
    check("Subject: a\r\n From: a@a.example\r\nFrom: bob@b.example\r\n\r\n", "b.example");
}

#[test]
fn a_header_that_two_readers_could_read_differently_has_no_author() {
    let two = "From: bob@b.example\r\nfrom: bob@b.example\r\n\r\n";
    check(two, "several From fields");
    check("From: bob@b.example\r\nTo: x\r\nFROM:\r\n\r\n", "several From fields");
    check("Subject: x\r\n\r\nFrom: bob@b.example\r\n", "no From field");
    check("", "no From field");
    check("\r\n", "no From field");
    check("From : bob@b.example\r\n\r\n", "white space before a colon");
    check("Subject : x\r\nFrom: bob@b.example\r\n\r\n", "white space before a colon");
    check("From bob@b.example Mon Jan  1 00:00:00 2024\r\nFrom: bob@b.example\r\n\r\n", "white space before a colon");
    check(">From x\r\nFrom: bob@b.example\r\n\r\n", "white space before a colon");
    check(" Subject: x\r\nFrom: bob@b.example\r\n\r\n", "header begins with white space");
    check("Subject: x\r\nno field\r\nFrom: bob@b.example\r\n\r\n", "white space before a colon");
    check("nofield\r\nFrom: bob@b.example\r\n\r\n", "a header line that is no field");
    check(": x\r\nFrom: bob@b.example\r\n\r\n", "a header line that is no field");
    check("From: bob@b.example\r\nnofield", "a header line that is no field");
    check("Fr\u{f6}m: a@a.example\r\nFrom: bob@b.example\r\n\r\n", "a header line that is no field");
    check("Subject: x\r\n \t\r\nFrom: bob@b.example\r\n\r\n", "a blank folded line in the header");
    check("From: bob@b.example\r\n \r\n <ann@a.example>\r\n\r\n", "a blank folded line in the header");
    check("Subject: \0\r\nFrom: bob@b.example\r\n\r\n", "control octets in the header");
    check("From: bob@b.example\x0b\r\n\r\n", "control octets in the header");
    check("From: bob@b.example\x7f\r\n\r\n", "control octets in the header");
    check("From: bob@b.example\nFrom: ann@a.example\r\n\r\n", "bare CR or LF in the header");
    check("From: bob@b.example\rFrom: ann@a.example\r\n\r\n", "bare CR or LF in the header");
    check("From: bob@b.example\r\n\rFrom: ann@a.example\r\n\r\n", "bare CR or LF in the header");
    check("From: bob@b.example", "bare CR or LF in the header");
    check("From: bob@b.example\r", "bare CR or LF in the header");
}

#[test]
fn a_from_that_two_readers_could_read_differently_has_no_author() {
    for value in [
        "",
        "Bob",
        "Bob <>",
        "Bob <bob>",
        "Public, Bob <bob@b.example>",
        "Friends: bob@b.example;",
        "undisclosed:;",
        "bob@b.example,",
        ",bob@b.example",
        "bob@b.example,,ann@b.example",
        "bob@b.example ann@b.example",
        "<bob@b.example> <ann@b.example>",
        "<bob@b.example",
        "bob@b.example>",
        "\"Bob <bob@b.example>",
        "Bob\" <bob@b.example>",
        "Bob (x <bob@b.example>",
        "Bob (x (y)) <bob@b.example>",
        "(x) bob@b.example",
        "bob@b.example (ann@a.example)",
        "bob@b.example (<ann>)",
        "bob@b.example (a, b)",
        "<@a.example:bob@b.example>",
        "<@a.example,@c.example:bob@b.example>",
        "\"bob\"@b.example ",
        "<\"bob@a.example\"@b.example>",
        "< bob@b.example>",
        "<bob @b.example>",
        "=?utf-8?q?bob?=@b.example",
        "<=?utf-8?q?bob?=@b.example>",
        "Bob [x] <bob@b.example>",
        "Bob; <bob@b.example>",
        "\"a\\b\" <bob@b.example>",
        "bob@b.example;",
        "bob\r\n @b.example",
    ] {
        let said = scan(format!("From: {value}\r\n\r\n").as_bytes(), false, usize::MAX);
        let expected = [AuthorFault::Syntax, AuthorFault::AddressInName, AuthorFault::Domain];
        assert!(said.clone().is_err_and(|fault| expected.contains(&fault)), "{value:?}: {said:?}");
    }
    for value in [
        "ann@a.example <bob@b.example>",
        "Bob ann@a.example <bob@b.example>",
        "\"ann@a.example\" <bob@b.example>",
        "\"<ann@a.example>\" <bob@b.example>",
        "\"Bob <\" <bob@b.example>",
    ] {
        let said = scan(format!("From: {value}\r\n\r\n").as_bytes(), false, usize::MAX);
        assert!(matches!(said, Err(AuthorFault::AddressInName | AuthorFault::Syntax)), "{value:?}: {said:?}");
    }
    from("bob@b.example, ann@a.example", "authors of several domains");
    from("bob@b.example, ann@sub.b.example", "authors of several domains");
}

#[test]
fn an_encoded_word_hides_nothing() {
    for word in [
        "=?utf-8?q?ann=40a.example?=",
        "=?utf-8?q?ann@a.example?=",
        "=?utf-8?b?YW5uQGEuZXhhbXBsZQ==?=",
        "=?utf-8?q?=3Cann=3E?=",
        "=?utf-8?q?=22?=",
        "=?utf-8?q?=28?=",
        "=?utf-8?q?=29=28?=",
        "=?utf-8?q?=0D=0AFrom:?=",
        "=?utf-8?q?=00?=",
        "=?utf-7?q?ann+AEA-a.example?=",
        "=?utf-16?b?AEAAQA==?=",
        "=?unknown?q?ann?=",
        "=?utf-8?x?ann?=",
        "=?utf-8?b?YW5u=?=",
        "=?utf-8?b?YW5u?YW5u?=",
        "=?utf-8?b?YW5uQ?=",
        "=?utf-8?b?YR==?=",
        "=?utf-8?q?=4?=",
        "=?utf-8?q?ann",
        "=?",
        "\"=?utf-8?q?ann=40a.example?=\"",
        "\"=?utf-8?q?ann\"",
        "\"x=?utf-8?q?ann=40a?=y\"",
        "Bob (=?utf-8?q?=40?=)",
    ] {
        let said = scan(format!("From: {word} <bob@b.example>\r\n\r\n").as_bytes(), false, usize::MAX);
        let expected = [AuthorFault::EncodedWord, AuthorFault::AddressInName, AuthorFault::Syntax];
        assert!(said.clone().is_err_and(|fault| expected.contains(&fault)), "{word:?}: {said:?}");
    }
}

#[test]
fn a_domain_is_a_name_of_a_host_and_nothing_else() {
    for domain in [
        "[192.0.2.1]",
        "[IPv6:2001:db8::1]",
        "192.0.2.1",
        "b.example.",
        ".b.example",
        "b..example",
        "-b.example",
        "b-.example",
        "b_c.example",
        "b.ex ample",
        "b.example:25",
        "b,example",
        "",
    ] {
        let said = scan(format!("From: <bob@{domain}>\r\n\r\n").as_bytes(), false, usize::MAX);
        assert_eq!(said, Err(AuthorFault::Domain), "{domain}");
    }
    from(&format!("<bob@{}.example>", "x".repeat(64)), "no domain in From");
    from("bob@xn--bcher-kva.example", "xn--bcher-kva.example");
}

#[test]
fn what_is_not_ascii_needs_smtputf8_and_one_spelling() {
    let with = |value: &str, expected| check_with(&format!("From: {value}\r\n\r\n"), true, expected);
    from("B\u{f6}b <bob@b.example>", "From is not ASCII");
    with("B\u{f6}b <bob@b.example>", "b.example");
    with("b\u{f6}b@b.example", "b.example");
    with("bob@b\u{fc}cher.example", "xn--bcher-kva.example");
    with("a@b\u{fc}cher.example, b@B\u{fc}cher.Example", "xn--bcher-kva.example");
    with("bob@\u{4f8b}\u{3048}.\u{30c6}\u{30b9}\u{30c8}", "xn--r8jz45g.xn--zckzah");
    // Decomposed, and what one generation of readers maps and the next one does not.
    with("bob@bu\u{308}cher.example", "no domain in From");
    with("bob@stra\u{df}e.example", "no domain in From");
    with("bob@\u{3bc}\u{3ad}\u{3bb}\u{3bf}\u{3c2}.example", "no domain in From");
    // Digits of another script, a ligature, a letter that is two.
    with("bob@b\u{664}.example", "no domain in From");
    with("bob@\u{fb01}n.example", "no domain in From");
    with("bob@\u{1c6}.example", "no domain in From");
    with("bob@B\u{dc}CHER.example", "no domain in From");
    with("bob@xn--bcher-kva.b\u{fc}cher.example", "no domain in From");
    with("bob@b\u{3002}example", "no domain in From");
    with("bob@\u{ff42}.example", "no domain in From");
    with("bob\u{ff20}a.example <bob@b.example>", "b.example");
    with("Bob\u{202e} <bob@b.example>", "From is ambiguous");
    let mut latin = b"From: B\xf6b <bob@b.example>\r\n\r\n".to_vec();
    assert_eq!(scan(&latin, true, 1), Err(AuthorFault::NotAscii));
    // In other fields it is nobody's business.
    latin.splice(0..0, b"Subject: \xf6\r\nX: ".iter().copied());
    latin.splice(0..0, b"From: bob@b.example\r\n".iter().copied());
    assert_eq!(scan(&latin, false, 1).unwrap().domain.as_ref(), "b.example");
}

#[test]
fn the_header_is_bounded_and_what_is_kept_of_it_too() {
    let long = format!("Subject: {}\r\n", "x".repeat(900)).repeat(80);
    check(&format!("From: bob@b.example\r\n{long}\r\n"), "header too long");
    let many = "bob@b.example,\r\n ".repeat(600);
    check(&format!("From: {many}bob@b.example\r\n\r\n"), "header too long");
    let mut scanner = AuthorScanner::new(false);
    scanner.feed(b"From: bob@b.example\r\n\r\n");
    assert!(scanner.is_over());
    scanner.feed(&[0; 200_000]);
    assert!(scanner.finish().is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    /// Pieces of headers in any order: two From fields are never one author, and what is accepted
    /// is what an independent parser reads.
    #[test]
    fn two_from_fields_are_never_one_author(pieces in prop::collection::vec(piece(), 0..14), step in 1_usize..9) {
        let message: Vec<u8> = pieces.concat();
        let said = scan(&message, true, step);
        prop_assert_eq!(&said, &scan(&message, true, usize::MAX));
        let header_end = message.windows(4).position(|four| four == b"\r\n\r\n").map_or(message.len(), |at| at + 2);
        let lines = message[..header_end].split(|byte| *byte == b'\n');
        let froms = lines.filter(|line| line.len() >= 5 && line[..5].eq_ignore_ascii_case(b"from:")).count();
        if let Ok(author) = said {
            prop_assert_eq!(froms, 1);
            let read = others_read(&message);
            prop_assert!(!read.is_empty());
            prop_assert!(read.iter().all(|domain| **domain == *author.domain), "{:?} against {:?}", read, author);
        }
    }

    #[test]
    fn no_octets_make_it_panic(message in prop::collection::vec(any::<u8>(), 0..300), smtputf8: bool) {
        let _said = scan(&[b"From:", message.as_slice()].concat(), smtputf8, 7);
        let _said = scan(&message, smtputf8, 7);
    }
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let fixed: &[&str] = &[
        "From: ",
        "from:",
        "From : ",
        "Subject: x",
        "\r\n",
        "\r\n",
        "\r\n ",
        "\r\n\t",
        "\r\n\r\n",
        "\n",
        "\r",
        " ",
        "bob@b.example",
        "<bob@b.example>",
        "ann@a.example",
        "<ann@a.example>",
        "\"",
        "(",
        ")",
        ",",
        ":",
        ";",
        "\\",
        "Bob",
        "\"Bob, B.\" ",
        "=?utf-8?q?ann?=",
        "=?utf-8?q?ann=40a.example?=",
        "=?utf-8?b?QsO2Yg==?=",
        "(x)",
        "\u{f6}",
        "ann@b\u{fc}cher.example",
        "ann@xn--bcher-kva.example",
    ];
    prop_oneof![
        8 => prop::sample::select(fixed).prop_map(|piece| piece.as_bytes().to_vec()),
        2 => Just(b"From: Bob <bob@b.example>\r\n".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..3),
    ]
}
