//! The reader of DATA and BDAT: cut in two anywhere it says the same, only CRLF.CRLF ends DATA, and nothing that
//! a next hop could take for another line end is kept.

#![no_main]

use libfuzzer_sys::fuzz_target;
use postern_proto::data::{BodyFault, BodyReader};

const SIZE_MAX: u64 = 2_000;

fuzz_target!(|input: &[u8]| {
    let Some((&[cut, chunked], stream)) = input.split_first_chunk::<2>() else { return };
    let cut = usize::from(cut).min(stream.len());
    if chunked & 1 == 0 { data(stream, cut) } else { chunks(stream, cut) }
});

fn data(stream: &[u8], cut: usize) {
    let (mut whole, mut body) = (BodyReader::new(SIZE_MAX), Vec::new());
    let progress = whole.read_data(stream, &mut body);
    let end = if stream.starts_with(b".\r\n") { Some(3) } else { find(stream, b"\r\n.\r\n").map(|at| at + 5) };
    assert_eq!(progress.ended, end.is_some(), "only CRLF.CRLF ends DATA");
    assert_eq!(progress.consumed, end.unwrap_or(stream.len()), "nothing behind the end is touched");

    let (mut halves, mut joined) = (BodyReader::new(SIZE_MAX), Vec::new());
    let first = halves.read_data(&stream[..cut], &mut joined);
    let mut consumed = first.consumed;
    if !first.ended {
        consumed += halves.read_data(&stream[cut..], &mut joined).consumed;
    }
    assert_eq!(consumed, progress.consumed, "a cut moves no end");
    assert_eq!((halves.fault(), &joined), (whole.fault(), &body), "a cut changes nothing");

    if progress.ended && whole.fault().is_none() {
        check(&body);
        assert_eq!(body, unstuffed(&stream[..progress.consumed - 3]), "lines but their first dot");
    }
}

fn chunks(stream: &[u8], cut: usize) {
    let (mut reader, mut body) = (BodyReader::new(SIZE_MAX), Vec::new());
    reader.read_chunk(&stream[..cut], &mut body);
    reader.read_chunk(&stream[cut..], &mut body);
    reader.end_chunks(&mut body);
    if reader.fault().is_none() {
        assert_eq!(body, stream, "chunks are kept as they came");
        check(&body);
    }
    if stream.len() as u64 > SIZE_MAX {
        assert!(reader.fault().is_some(), "too big, and kept");
    }
    let bare = |fault| matches!(fault, BodyFault::BareLineFeed | BodyFault::BareCarriageReturn);
    assert!(!reader.fault().is_some_and(bare) || has_bare(stream), "refused without a reason");
}

fn check(body: &[u8]) {
    assert!(body.len() as u64 <= SIZE_MAX, "more than the limit is kept");
    assert!(!has_bare(body), "a bare CR or LF is kept");
}

fn has_bare(body: &[u8]) -> bool {
    let bare = |(at, byte): (usize, &u8)| match byte {
        b'\n' => at == 0 || body[at - 1] != b'\r',
        b'\r' => body.get(at + 1) != Some(&b'\n'),
        _ => false,
    };
    body.iter().enumerate().any(bare)
}

/// RFC 5321 section 4.5.2, written without looking at the reader.
fn unstuffed(text: &[u8]) -> Vec<u8> {
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    lines.flat_map(|line| line.strip_prefix(b".").unwrap_or(line)).copied().collect()
}

fn find(stream: &[u8], what: &[u8]) -> Option<usize> {
    stream.windows(what.len()).position(|window| window == what)
}
