//! The author's scanner: any octets, in any pieces. However they are cut, it says the same, and it
//! never names an author where two From fields stand.

#![no_main]

use libfuzzer_sys::fuzz_target;
use postern_proto::author::AuthorScanner;

// The first octet: how long the pieces are, and SMTPUTF8 by its highest bit.
fuzz_target!(|input: &[u8]| {
    let Some((&options, message)) = input.split_first() else { return };
    let scan = |step: usize| {
        let mut scanner = AuthorScanner::new(options & 0x80 != 0);
        message.chunks(step).for_each(|piece| scanner.feed(piece));
        scanner.finish()
    };
    let whole = scan(usize::MAX);
    assert_eq!(scan(usize::from(options & 0x7f) + 1), whole);
    if let Ok(author) = &whole {
        assert!(author.domain.is_ascii());
        let end = message.windows(4).position(|four| four == b"\r\n\r\n").map_or(message.len(), |at| at + 2);
        let lines = message[..end].split(|octet| *octet == b'\n');
        let froms = lines.filter(|line| line.len() >= 5 && line[..5].eq_ignore_ascii_case(b"from:")).count();
        assert_eq!(froms, 1);
    }
});
