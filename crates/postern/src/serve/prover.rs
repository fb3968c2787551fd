//! What the postern is told of a key: whose it is, by DNS and pins; and who is known, by the book.
//!
//! Joins the desk for keys and the book behind one question; asks nothing itself.

use std::sync::Arc;
use std::task::{Context, Poll};

use postern_doors::postern::{Answer, Claim, Proof, Prover, Standing};
use postern_identity::keys::{Asker, KeyDesk, KeyProof, KeyQuestion, PinWord, ProvenBy};
use postern_net::door::PublicKey;
use postern_trust::{Book, Class};
use tokio::sync::watch;

use crate::serve::trust::now_s;

/// Says whose key it is.
pub(super) struct Witness {
    keys: KeyDesk,
    book: Arc<Book>,
}

impl Witness {
    pub(super) fn new(keys: KeyDesk, book: Arc<Book>) -> Self {
        Self { keys, book }
    }
}

impl Prover for Witness {
    fn prove(&self, claim: Claim<'_>, answer: Answer) {
        let Claim { domain, owner, key, class } = claim;
        let (owner, spki) = (owner.map(Into::into), key.spki().into());
        let question = KeyQuestion { domain: domain.into(), owner, spki, class };
        self.keys.ask(question, Box::new(Hearing { answer, domain: domain.into(), book: Arc::clone(&self.book) }));
    }

    fn is_barred(&self, domain: &str, org: &str, key: &PublicKey) -> bool {
        self.keys.pin_word(domain, org, key.spki()) == PinWord::Barred
    }

    fn is_pinned(&self, domain: &str, key: &PublicKey) -> bool {
        self.keys.pin_word(domain, domain, key.spki()) == PinWord::Pinned
    }

    fn pin_changes(&self) -> watch::Receiver<u64> {
        self.keys.pin_changes()
    }
}

/// A peer that waits for its answer, until it leaves.
struct Hearing {
    answer: Answer,
    domain: Box<str>,
    book: Arc<Book>,
}

impl Asker for Hearing {
    fn tell(self: Box<Self>, proof: KeyProof) {
        self.answer.tell(testify(proof, &self.domain, &self.book));
    }

    fn has_left(&self) -> bool {
        self.answer.has_left()
    }

    fn poll_left(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.answer.poll_left(context)
    }
}

/// From what the desk found out to what the postern makes of it. What the book says of a domain above this one counts only
/// where the proof could not be forged: else a name made up below a known domain would be known by one spoofed answer.
fn testify(proof: KeyProof, domain: &str, book: &Book) -> Proof {
    match proof {
        KeyProof::Proven { org, above, by, secure } => {
            let above = above.into_iter().map(Into::into).collect();
            let standing = Standing { org: org.into(), above, secure };
            if by == ProvenBy::Pin {
                Proof::Pinned(standing)
            } else if book.class_of_speaker(None, domain, secure, now_s()) <= Class::Known {
                Proof::Known(standing)
            } else {
                Proof::Proven(standing)
            }
        }
        KeyProof::Unproven(why) => Proof::Unproven { why: why.to_string() },
        KeyProof::NotNow(_) => Proof::NotNow,
    }
}

#[cfg(test)]
mod tests;
