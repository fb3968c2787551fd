//! Postern between real mail servers and clients: Postfix, Dovecot, OpenDKIM, swaks, `smtp-source`.
//!
//! Each test starts what it needs on free ports of 127.0.0.1 and stops it. `cargo xtask test` makes the peers; without
//! them a test is skipped and says so, except in CI, where it fails.

#[expect(dead_code, reason = "the bench in xtask uses the rest")]
mod harness;

mod dns;
mod filters;
mod forged;
mod judged;
mod matrix;
mod proven;
mod refused;
mod relayed;
mod sites;
mod storm;
mod zones;

use std::path::Path;

/// The program under test.
fn postern() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_postern"))
}

/// A message with what is easily damaged on the way: dots, long lines, 8-bit bytes, empty lines, trailing blanks.
fn awkward_message() -> Vec<u8> {
    let mut text =
        b"From: Bob <bob@example.org>\r\nTo: Alice <alice@example.com>\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n\
        Message-ID: <awkward@example.org>\r\nDate: Sat, 21 Nov 2026 18:00:00 +0000\r\n\
        MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\
        X-Folded: one\r\n\ttwo\r\n three \r\n\r\n\
        .\r\n..\r\n.leading dot\r\n\r\n\r\ntrailing blanks \t \r\nFrom a line that mbox would quote\r\n"
            .to_vec();
    text.extend_from_slice("Grüße, “quoted” 漢字\r\n".as_bytes());
    text.extend(std::iter::repeat_n(b'x', 990));
    text.extend_from_slice(b"\r\n");
    for line in 0..500 {
        text.extend_from_slice(format!("line {line} of a body that needs more than one read\r\n").as_bytes());
    }
    text.extend_from_slice(b"no more.\r\n.\r\n\r\n");
    text
}
