//! Every mix of line ends round the dot, split at every octet.

use super::*;
use alloc::vec;
use std::string::String;

/// Reads `input` in pieces cut at `cuts`; returns what was kept, how much was read, the fault.
fn read(input: &[u8], cut: usize, size_max: u64) -> (Vec<u8>, Option<usize>, Option<BodyFault>) {
    let mut reader = BodyReader::new(size_max);
    let mut body = Vec::new();
    let mut consumed = 0;
    for piece in [&input[..cut], &input[cut..]] {
        let progress = reader.read_data(piece, &mut body);
        consumed += progress.consumed;
        if progress.ended {
            return (body, Some(consumed), reader.fault());
        }
    }
    (body, None, reader.fault())
}

#[track_caller]
fn check(input: &str, body: &str, ended_at: Option<usize>, fault: Option<BodyFault>) {
    for cut in 0..=input.len() {
        let got = read(input.as_bytes(), cut, 1 << 20);
        assert_eq!((String::from_utf8_lossy(&got.0).as_ref(), got.1, got.2), (body, ended_at, fault), "cut at {cut}");
    }
}

#[test]
fn dots_are_unstuffed_and_only_the_terminator_ends() {
    check(".\r\n", "", Some(3), None);
    check("a\r\n.\r\n", "a\r\n", Some(6), None);
    check("..\r\n.\r\n", ".\r\n", Some(7), None);
    check(".a\r\n.\r\nQUIT\r\n", "a\r\n", Some(7), None);
    check("a.\r\n..b.\r\n.\r\n", "a.\r\n.b.\r\n", Some(13), None);
    check("a\r\n\r\n.", "a\r\n\r\n", None, None);
}

#[test]
fn no_mix_of_line_ends_but_the_true_one_ends_data() {
    let ends = ["\r", "\n", "\r\n"];
    for before in ends {
        for after in ends {
            let input = std::format!("a{before}.{after}b\r\n.\r\n");
            for cut in 0..=input.len() {
                let (body, ended, fault) = read(input.as_bytes(), cut, 1 << 20);
                if (before, after) == ("\r\n", "\r\n") {
                    assert_eq!((body.as_slice(), ended, fault), (b"a\r\n".as_slice(), Some(6), None));
                } else {
                    assert_eq!((body.len(), ended), (0, Some(input.len())), "{input:?}");
                    assert!(
                        matches!(fault, Some(BodyFault::BareLineFeed | BodyFault::BareCarriageReturn)),
                        "{input:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_way_over_the_size_limit_reads_the_same_terminator() {
    for before in ["\r", "\n", "\r\n"] {
        let input = std::format!("{}{before}.\r\nx\r\n.\r\n", "y".repeat(40));
        for cut in 0..=input.len() {
            let (body, ended, fault) = read(input.as_bytes(), cut, 16);
            let end = if before == "\r\n" { 45 } else { input.len() };
            assert_eq!((body.len(), ended, fault), (0, Some(end), Some(BodyFault::TooBig)));
        }
    }
}

#[test]
fn chunks_are_kept_octet_by_octet_and_bare_line_ends_refused_there_too() {
    let input = b"a: b\r\n\r\n.\r\n..c\r\nno end";
    for cut in 0..=input.len() {
        let (mut reader, mut body) = (BodyReader::new(100), Vec::new());
        reader.read_chunk(&input[..cut], &mut body);
        reader.read_chunk(&input[cut..], &mut body);
        reader.end_chunks(&mut body);
        assert_eq!((body.as_slice(), reader.fault()), (input.as_slice(), None));
    }
    for (input, fault) in [
        ("a\n.\r\n", BodyFault::BareLineFeed),
        ("a\r.\r\n", BodyFault::BareCarriageReturn),
        ("a\r", BodyFault::BareCarriageReturn),
    ] {
        let (mut reader, mut body) = (BodyReader::new(100), Vec::new());
        reader.read_chunk(input.as_bytes(), &mut body);
        reader.end_chunks(&mut body);
        assert_eq!((body, reader.fault()), (vec![], Some(fault)));
    }
}

#[test]
fn bombs_are_refused_before_anybody_parses_them() {
    let hops = |n: usize| "ReCeived: x\r\n".repeat(n) + "\r\nReceived: in the body\r\n.\r\n";
    let fault = |input: &str| read(input.as_bytes(), 7, u64::MAX).2;
    assert_eq!(fault(&hops(100)), None);
    assert_eq!(fault(&hops(101)), Some(BodyFault::TooManyHops));
    assert_eq!(fault(&("a: b\r\n".repeat(60_000) + ".\r\n")), Some(BodyFault::HeaderTooLarge));
    assert_eq!(fault(&(std::format!("\r\n{}\r\n.\r\n", "x".repeat(200_000)))), Some(BodyFault::LineTooLong));
}
