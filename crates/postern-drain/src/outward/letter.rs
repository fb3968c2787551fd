//! A message as the courier wants it, and its author as the door will read it.
//!
//! Reads the parcel only. Called by `outward`.

use postern_net::door::courier::{Mail, MailBody};
use postern_proto::author::{Author, AuthorScanner, HEADER_BYTES_MAX};
use postern_spool::BodySource;

use crate::delivery::beginning;
use crate::remote::Parcel;

/// All of it: the courier may have it for longer than its caller waits.
pub(super) fn mail(parcel: &Parcel<'_>) -> Mail {
    Mail {
        sender: parcel.meta.sender.clone(),
        recipients: parcel.recipients.to_vec(),
        eight_bit: parcel.meta.eight_bit,
        smtputf8: parcel.meta.smtputf8,
        dsn: parcel.meta.dsn.clone(),
        prefix: parcel.prefix.to_vec(),
        body: match parcel.body {
            BodySource::Inline(bytes) => {
                let from = usize::try_from(parcel.from).unwrap_or(usize::MAX).min(bytes.len());
                MailBody::Bytes(bytes.slice(from..))
            }
            BodySource::File { file, len } => MailBody::File { file: file.clone(), from: parcel.from, len: *len },
        },
    }
}

/// The author, as the door will read it; none where it would find none.
pub(super) async fn author_of(parcel: &Parcel<'_>) -> Option<Author> {
    let mut scanner = AuthorScanner::new(parcel.meta.smtputf8);
    scanner.feed(parcel.prefix);
    if !scanner.is_over() {
        let most = parcel.from.saturating_add(HEADER_BYTES_MAX as u64);
        let begins = beginning(parcel.body, most).await.ok()?;
        let from = usize::try_from(parcel.from).unwrap_or(usize::MAX).min(begins.len());
        scanner.feed(&begins[from..]);
    }
    scanner.finish().ok()
}
