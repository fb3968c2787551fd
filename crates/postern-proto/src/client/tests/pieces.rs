//! The parts of the machine by themselves: replies read, messages written.

use alloc::string::ToString;
use alloc::vec::Vec;

use super::super::body::BodyEncoder;
use super::super::reply::ReplyReader;
use super::*;

#[test]
fn replies_are_bounded_and_junk_is_an_error() {
    let read = |input: &str| {
        let mut reader = ReplyReader::default();
        reader.read(input.as_bytes()).map(|(_, reply)| reply.map(|reply| reply.to_string()))
    };
    assert_eq!(read("250 2.1.0 ok\r\n"), Ok(Some("250 2.1.0 ok".into())));
    assert_eq!(read("250\r\n"), Ok(Some("250".into())));
    assert_eq!(read("250 2.1.0\n"), Ok(Some("250 2.1.0".into())));
    assert_eq!(read("250 5.1.0 class differs\r\n"), Ok(Some("250 5.1.0 class differs".into())));
    assert_eq!(read("550-a\r\n550-\u{7}b\r\n550 c"), Ok(None));
    assert_eq!(read("550-a\r\n550 b\u{7}c\r\n"), Ok(Some("550 a b c".into())));
    assert_eq!(read("550-a\r\n551 b\r\n"), Err(ReplyError::CodeChanges));
    for junk in ["\r\n", "25\r\n", "2500 x\r\n", "abc def\r\n", "199 x\r\n", "600 x\r\n", "250_x\r\n"] {
        assert_eq!(read(junk), Err(ReplyError::NotAReply), "{junk:?}");
    }
    assert_eq!(read(&"2".repeat(REPLY_LINE_BYTES_MAX)), Err(ReplyError::LineTooLong));
    assert_eq!(read(&"250-x\r\n".repeat(REPLY_LINES_MAX + 1)), Err(ReplyError::TooManyLines));
}

#[test]
fn a_message_ends_in_one_dot_line_however_it_is_cut() {
    for (body, expected) in [
        ("", ".\r\n"),
        (".", "..\r\n.\r\n"),
        ("a", "a\r\n.\r\n"),
        ("a\r\n", "a\r\n.\r\n"),
        ("a\r\n.\r\nb\r\n", "a\r\n..\r\nb\r\n.\r\n"),
        ("a\r\n\r\n", "a\r\n\r\n.\r\n"),
        (".a\r\n..b", "..a\r\n...b\r\n.\r\n"),
        // A lone CR or LF is no line end to us, but it may be one to the next hop.
        ("a\n.\nb", "a\r\n..\r\nb\r\n.\r\n"),
        ("a\n.\r\nb", "a\r\n..\r\nb\r\n.\r\n"),
        ("a\r.\rb\r", "a\r\n..\r\nb\r\n.\r\n"),
        ("a\r\r\n.\r\n", "a\r\n\r\n..\r\n.\r\n"),
    ] {
        for cut in 0..=body.len() {
            let (mut encoder, mut out) = (BodyEncoder::new(), Vec::new());
            encoder.encode(&body.as_bytes()[..cut], &mut out);
            encoder.encode(&body.as_bytes()[cut..], &mut out);
            encoder.finish(&mut out);
            assert_eq!(core::str::from_utf8(&out), Ok(expected), "{body:?} cut at {cut}");
        }
    }
}
