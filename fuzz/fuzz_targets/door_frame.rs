//! Any octets as a stream of control frames: read the same in any pieces, and written as they were read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use postern_proto::door::{Frame, FrameError, FrameReader};

// The first octet is the size of the pieces.
fuzz_target!(|input: &[u8]| {
    let Some((&size, stream)) = input.split_first() else { return };
    let whole = read(stream, stream.len().max(1));
    assert_eq!(whole, read(stream, usize::from(size) + 1), "pieces make a difference");
    for frame in whole.0 {
        let mut written = Vec::new();
        frame.encode(&mut written);
        assert_eq!(usize::from(u16::from_be_bytes([written[0], written[1]])), written.len() - 2);
        assert_eq!(Frame::decode(&written[2..]), Ok(frame));
    }
});

/// The frames, what ended them, and whether the stream could end there.
fn read(stream: &[u8], size: usize) -> (Vec<Frame>, Option<FrameError>, bool) {
    let mut reader = FrameReader::new();
    let mut frames = Vec::new();
    for piece in stream.chunks(size) {
        reader.push(piece);
        loop {
            match reader.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(fault) => return (frames, Some(fault), false),
            }
        }
    }
    (frames, None, reader.is_between_frames())
}
