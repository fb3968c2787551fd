//! PROXY headers, whole, cut and broken.

use alloc::vec::Vec;
use std::string::String;

use super::*;

fn proxied(source: &str, destination: &str) -> Header {
    Header::Proxied { source: source.parse().expect(source), destination: destination.parse().expect(destination) }
}

fn v2(command: u8, family: u8, length: u16, addresses: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE_V2.to_vec();
    header.extend_from_slice(&[command, family]);
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(addresses);
    header
}

/// Reads `input` cut at every point, and with octets of SMTP behind it.
fn check(input: &[u8], expected: Header) {
    for cut in 0..input.len() {
        assert_eq!(parse(&input[..cut]), Ok(None), "cut at {cut}");
    }
    let mut more = input.to_vec();
    more.extend_from_slice(b"EHLO x\r\n");
    assert_eq!(parse(&more), Ok(Some((input.len(), expected))));
}

#[test]
fn version_1_is_read() {
    check(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\r\n", proxied("192.0.2.1:56324", "198.51.100.2:25"));
    check(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 25\r\n", proxied("[2001:db8::1]:1", "[2001:db8::2]:25"));
    check(b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 25\r\n", proxied("192.0.2.1:1", "192.0.2.2:25"));
    check(b"PROXY UNKNOWN\r\n", Header::Local);
    check(b"PROXY UNKNOWN ffff:: ffff:: 65535 65535\r\n", Header::Local);
}

#[test]
fn version_2_is_read() {
    let v4 = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 0, 25];
    check(&v2(0x21, 0x11, 12, &v4), proxied("192.0.2.1:56324", "198.51.100.2:25"));
    let with_tlv = [v4.as_slice(), &[4, 0, 1, 7]].concat();
    check(&v2(0x21, 0x11, 16, &with_tlv), proxied("192.0.2.1:56324", "198.51.100.2:25"));
    check(&v2(0x20, 0x00, 0, &[]), Header::Local);
    check(&v2(0x20, 0x11, 12, &v4), Header::Local);
    check(&v2(0x21, 0x31, 216, &[0; 216]), Header::Local);
    check(&v2(0x21, 0x00, 0, &[]), Header::Local);
}

#[test]
fn what_is_written_is_read_back() {
    for (source, destination) in [("192.0.2.1:1", "192.0.2.2:25"), ("[2001:db8::1]:1", "[2001:db8::2]:25")] {
        let expected = proxied(source, destination);
        let (source, destination) = (source.parse().expect(source), destination.parse().expect(destination));
        for write in [write_v1, write_v2] {
            let mut header = Vec::new();
            write(source, destination, &mut header);
            check(&header, expected);
        }
    }
    let mut header = Vec::new();
    write_v2_local(&mut header);
    check(&header, Header::Local);
    let mut mixed = Vec::new();
    write_v2("[2001:db8::1]:1".parse().expect("v6"), "192.0.2.2:25".parse().expect("v4"), &mut mixed);
    check(&mixed, proxied("[2001:db8::1]:1", "192.0.2.2:25"));
}

#[test]
fn broken_headers_are_refused() {
    let errors: [(&[u8], ProxyError); 19] = [
        (b"EHLO x\r\n", ProxyError::NotProxy),
        (b"PROXY_", ProxyError::NotProxy),
        (b"proxy TCP4", ProxyError::NotProxy),
        (b"PROXY \r\n", ProxyError::Malformed),
        (b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", ProxyError::Malformed),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", ProxyError::Malformed),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", ProxyError::Malformed),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", ProxyError::Malformed),
        (b"PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n", ProxyError::Malformed),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", ProxyError::Malformed),
        (b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", ProxyError::Malformed),
        (b"PROXY TCP4 ::1 ::1 1 2\r\n", ProxyError::Malformed),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", ProxyError::Malformed),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", ProxyError::Malformed),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n", ProxyError::Malformed),
        (&v2(0x21, 0x11, 11, &[0; 11]), ProxyError::Malformed),
        (&v2(0x21, 0x41, 0, &[]), ProxyError::Malformed),
        (&v2(0x22, 0x11, 12, &[0; 12]), ProxyError::UnknownVersion),
        (&v2(0x21, 0x11, 60_000, &[]), ProxyError::TooLong),
    ];
    for (input, error) in errors {
        assert_eq!(parse(input), Err(error), "{:?}", String::from_utf8_lossy(input));
    }
    let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
    assert_eq!(parse(&long), Err(ProxyError::TooLong));
}

#[test]
fn whatever_comes_is_decided_within_the_longest_header() {
    let mut state = 1_u64;
    for round in 0..20_000 {
        let mut input: Vec<u8> = match round % 3 {
            0 => b"PROXY TCP4 ".to_vec(),
            1 => SIGNATURE_V2.to_vec(),
            _ => Vec::new(),
        };
        input.resize_with(HEADER_BYTES_MAX, || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            u8::try_from(state >> 56).unwrap_or(0)
        });
        let decided = parse(&input);
        assert_ne!(decided, Ok(None), "{round}");
        if let Ok(Some((consumed, _))) = decided {
            assert!(consumed <= HEADER_BYTES_MAX);
        }
    }
}
