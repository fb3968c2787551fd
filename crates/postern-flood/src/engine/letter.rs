//! What the crowds write: a head of its own for each message, with the id a checker looks for, and a shared tail.

use std::fmt::Write as _;

/// The header that carries the id, in every message of a flood.
const ID_HEADER: &str = "X-Flood-Id";

/// One party's paper: sender and recipient as they go into the envelope, and the part that all its messages share.
pub(crate) struct Paper {
    pub(crate) helo: String,
    pub(crate) sender: String,
    pub(crate) recipient: String,
    /// `example.org` of the recipient.
    pub(crate) recipient_domain: String,
    tail: Vec<u8>,
    subject: String,
}

impl Paper {
    pub(crate) fn new(helo: &str, sender: &str, recipient: &str, subject: &str, bytes: u32, seed: u64) -> Self {
        let domain = recipient.rsplit_once('@').map_or("", |(_, domain)| domain);
        Self {
            helo: helo.to_owned(),
            sender: sender.to_owned(),
            recipient: recipient.to_owned(),
            recipient_domain: domain.to_owned(),
            tail: tail(bytes, seed),
            subject: subject.to_owned(),
        }
    }

    /// The whole message with its final dot.
    pub(crate) fn write(&self, id: &str, out: &mut Vec<u8>) {
        let mut head = String::with_capacity(320);
        let _ = write!(
            head,
            "From: <{}>\r\nTo: <{}>\r\nSubject: {}\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <{id}@flood.example>\r\n{ID_HEADER}: {id}\r\n\r\n",
            self.sender, self.recipient, self.subject
        );
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(self.tail.get(head.len()..).unwrap_or_default());
        if !out.ends_with(b"\r\n") {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
}

/// Lines of 76 letters; none begins with a dot.
fn tail(bytes: u32, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut tail = Vec::with_capacity(bytes as usize + 80);
    while tail.len() < bytes as usize {
        tail.extend((0..76).map(|_| random.alphanumeric() as u8));
        tail.extend_from_slice(b"\r\n");
    }
    tail.truncate(bytes as usize);
    // Cut between CR and LF, a bare CR would stay.
    if tail.last() == Some(&b'\r') {
        tail.pop();
    }
    tail
}
