//! What is in the file after batches were written one behind the other.

use super::*;

#[test]
fn batches_stand_one_behind_the_other_whatever_their_length() {
    let dir = tempfile::tempdir().unwrap();
    // Longer than one block of zeros, and no multiple of a page.
    let len = (1 << 20) + 4096 + 100;
    let segment = SegmentFile::create(&dir.path().join("a.seg"), len).unwrap();
    assert_eq!(segment.file.metadata().unwrap().len(), len);
    let mut expected = vec![0; len as usize];
    let mut offset = 0;
    for (number, bytes) in [64, 4032, 4096, 1, 5000, 300_000].into_iter().enumerate() {
        let mut data = vec![number as u8 + 1; bytes];
        segment.write(offset, &mut data).unwrap();
        assert_eq!(data.len(), bytes);
        expected[offset as usize..][..bytes].fill(number as u8 + 1);
        offset += bytes as u64;
    }
    segment.write(len - 10, &mut vec![9; 10]).unwrap();
    expected[len as usize - 10..].fill(9);
    segment.leave_the_cache();
    let reopened = SegmentFile::open(&dir.path().join("a.seg")).unwrap();
    assert_eq!(reopened.len, len);
    assert!(std::fs::read(dir.path().join("a.seg")).unwrap() == expected);
}

/// On most file systems a direct write of an odd length is refused as invalid input: the file must not stay short unseen.
#[test]
fn zeros_that_cannot_be_written_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.seg");
    std::fs::write(&path, b"").unwrap();
    let direct = OpenOptions::new().write(true).custom_flags(direct_flag().unwrap()).open(&path);
    for file in [direct, File::open(&path)].into_iter().flatten() {
        let filled = fill(&file, 0, 100);
        assert!(filled.is_err() || file.metadata().unwrap().len() == 100);
    }
}
