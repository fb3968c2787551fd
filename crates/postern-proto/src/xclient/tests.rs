//! XCLIENT attributes and xtext, both ways.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::*;

fn all() -> Vec<String> {
    ATTRIBUTES.split(' ').map(ToString::to_string).collect()
}

#[test]
fn attributes_are_read() {
    let told =
        Xclient::parse(b"NAME=mail.example.org addr=192.0.2.1 PORT=25 PROTO=ESMTP HELO=a+20b LOGIN=[UNAVAILABLE]");
    let told = told.expect("attributes");
    assert_eq!(told.name, Some(Told::Known("mail.example.org".into())));
    assert_eq!(told.addr, Some(Told::Known([192, 0, 2, 1].into())));
    assert_eq!(told.port, Some(Told::Known(25)));
    assert_eq!(told.esmtp, Some(true));
    assert_eq!(told.helo, Some(Told::Known("a b".into())));
    assert_eq!(told.login, Some(Told::Unavailable));
    assert_eq!(told.dest_addr, None);
    let told =
        Xclient::parse(b"NAME=[tempunavail]  DESTADDR=IPv6:2001:db8::1 DESTPORT=587 PROTO=smtp").expect("attributes");
    assert_eq!(told.name, Some(Told::TempUnavailable));
    assert_eq!(told.dest_addr, Some(Told::Known("2001:db8::1".parse().expect("address"))));
    assert_eq!((told.dest_port, told.esmtp), (Some(Told::Known(587)), Some(false)));
    let mapped = Xclient::parse(b"ADDR=IPV6:::ffff:192.0.2.1").expect("attributes");
    assert_eq!(mapped.addr, Some(Told::Known([192, 0, 2, 1].into())), "lists know the IPv4 address");
}

#[test]
fn nonsense_is_refused() {
    let errors: [(&[u8], XclientError); 14] = [
        (b"", XclientError::Syntax),
        (b"ADDR", XclientError::Syntax),
        (b"FOO=1", XclientError::UnknownAttribute),
        (b"ADDR=192.0.2.1 ADDR=192.0.2.2", XclientError::Repeated),
        (b"ADDR=2001:db8::1", XclientError::BadValue),
        (b"ADDR=example.org", XclientError::BadValue),
        (b"PORT=65536", XclientError::BadValue),
        (b"PORT=+19", XclientError::BadValue),
        (b"PROTO=LMTP", XclientError::BadValue),
        (b"HELO=", XclientError::BadValue),
        (b"HELO=a+0D+0AX:", XclientError::BadValue),
        (b"HELO=a+0", XclientError::BadValue),
        (b"NAME=[192.0.2.1]", XclientError::BadValue),
        (b"LOGIN=a=b", XclientError::BadValue),
    ];
    for (input, error) in errors {
        assert_eq!(Xclient::parse(input), Err(error), "{:?}", String::from_utf8_lossy(input));
    }
}

#[test]
fn only_what_is_offered_is_told() {
    let (peer, local) = ("[2001:db8::7]:99".parse().expect("peer"), "192.0.2.25:25".parse().expect("local"));
    let told = Xclient::of_client(peer, local, None, "a b+c", true);
    let line = |offered: &[String]| told.render(offered).map(|line| String::from_utf8(line).expect("text"));
    assert_eq!(
        line(&all()).as_deref(),
        Some(
            "XCLIENT ADDR=IPV6:2001:db8::7 PORT=99 DESTADDR=192.0.2.25 DESTPORT=25 PROTO=ESMTP NAME=[TEMPUNAVAIL] HELO=a+20b+2Bc\r\n"
        )
    );
    assert_eq!(line(&["addr".into()]).as_deref(), Some("XCLIENT ADDR=IPV6:2001:db8::7\r\n"));
    assert_eq!(line(&[]), None);
    let read = Xclient::parse(line(&all()).expect("line")[8..].trim_end().as_bytes()).expect("attributes");
    assert_eq!(read, told);
}

#[test]
fn a_line_stays_within_512_octets() {
    let (peer, local) = ("192.0.2.7:99".parse().expect("peer"), "192.0.2.25:25".parse().expect("local"));
    let told = Xclient::of_client(peer, local, Some("name.example"), &" ".repeat(255), true);
    let line = told.render(&all()).expect("line");
    assert!(line.len() <= 512 && !line.windows(5).any(|word| word == b"HELO="));
}

#[test]
fn xtext_goes_there_and_back() {
    for text in ["", "plain", "a+b=c", "ü and space", "\u{7f}"] {
        assert_eq!(xtext_decode(xtext_encode(text).as_bytes()).as_deref(), Some(text));
    }
    assert_eq!(xtext_encode("a+b c="), "a+2Bb+20c+3D");
    for broken in ["+", "+2", "+GG", "a b", "a=b", "+FF"] {
        assert_eq!(xtext_decode(broken.as_bytes()), None, "{broken}");
    }
}
