//! What is written into a judged message when it leaves: our marks, and the changes that the filters
//! want. Pure; called by `delivery` at every attempt, with the same result.
//!
//! Our names belong to us: fields of those names that came from outside are removed, or anybody could
//! write them. What no filter has judged is delivered as it came.

use std::fmt::Write as _;

use postern_proto::header_edit::{Edited, edit, field};
use postern_proto::judgement::{Action, HeaderChange, Judgement};

/// Readers act on these: whoever could write them would choose his own folder.
const OURS: [&str; 3] = ["X-Spam-Flag", "X-Spam-Score", "X-Postern-Filter"];

/// Of filters: a filter may add them, a sender may not.
const OF_FILTERS: [&str; 4] = ["X-Spam-Status", "X-Spam-Level", "X-Spam", "X-Spam-Checker-Version"];

/// Our fields, in front of the message. They stand before the Received field: a message may begin with
/// what continues the line before it.
pub(crate) fn marks(judgement: &Judgement) -> Vec<u8> {
    let mut out = Vec::new();
    let mut put = |name: &str, value: &str| out.extend(field(name, value).unwrap_or_default());
    if judgement.action == Action::Mark {
        put("X-Spam-Flag", "YES");
    }
    if let Some(score) = judgement.score_hundredths {
        let sign = if score < 0 { "-" } else { "" };
        let score = score.unsigned_abs();
        put("X-Spam-Score", &format!("{sign}{}.{:02}", score / 100, score % 100));
    }
    let action = match judgement.action {
        Action::Accept => "accept",
        Action::Mark => "mark",
        Action::Quarantine => "quarantine",
    };
    let mut words = format!("{action}; by={}", judgement.by);
    if let Some(reason) = &judgement.reason {
        let _ = write!(words, "; {reason}");
    }
    put("X-Postern-Filter", &words);
    out
}

/// The message's own header as it leaves.
pub(crate) fn edited(beginning: &[u8], judgement: &Judgement) -> Edited {
    let changes: Vec<HeaderChange> =
        judgement.headers.iter().filter(|change| !is_ours(name_of(change))).cloned().collect();
    let stripped = [OURS.as_slice(), &OF_FILTERS].concat();
    edit(beginning, &stripped, &changes)
}

/// Judged to be no spam after all: what a filter wrote about spam goes, and so does its subject line.
pub(crate) fn acquitted(judgement: Judgement) -> Judgement {
    let about_spam = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.starts_with("x-spam") || name == "subject"
    };
    let headers = judgement.headers.into_iter().filter(|change| !about_spam(name_of(change))).collect();
    Judgement { action: Action::Accept, headers, ..judgement }
}

fn is_ours(name: &str) -> bool {
    OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours))
}

fn name_of(change: &HeaderChange) -> &str {
    let (HeaderChange::Add { name, .. }
    | HeaderChange::Insert { name, .. }
    | HeaderChange::Change { name, .. }
    | HeaderChange::Delete { name, .. }) = change;
    name
}

#[cfg(test)]
mod tests;
