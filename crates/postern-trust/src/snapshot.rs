//! The book as bytes, and back.

/// Why bytes are no book.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It does not begin as a snapshot does.
    #[error("this is no snapshot of a trust book")]
    NotASnapshot,
    /// Written by a program with another format.
    #[error("the snapshot has format {found}, this program reads {expected}")]
    Version {
        /// What the bytes say.
        found: u32,
        /// What this program reads.
        expected: u32,
    },
    /// The checksum does not match, or the length.
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
}
