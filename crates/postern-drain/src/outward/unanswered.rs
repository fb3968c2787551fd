//! Questions about a door that failed lately, and are not asked again at once.
//!
//! There are name servers that never answer a kind of question that they do not know (RFC 7672 section 2.1 is about them), and
//! then each message would wait for the resolver to give up. Only for what is asked beside the domain's own record: without
//! an answer mail goes on as it would without the question. Called by `known`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use postern_net::dns::{DnsError, Told};
use tokio::time::Instant;

/// One question: at this name, about this port; 0 where it is about none.
pub(super) type Question = (Box<str>, u16);

/// Which they are.
#[derive(Debug, Default)]
pub(crate) struct Unanswered {
    until: RefCell<HashMap<Question, Instant>>,
}

impl Unanswered {
    /// Asks, unless that failed lately. `None`: there is no answer.
    pub(super) async fn ask<T>(
        &self,
        question: Question,
        answer: impl Future<Output = Result<Told<T>, DnsError>>,
    ) -> Option<Told<T>> {
        if self.until.borrow().get(&question).is_some_and(|until| Instant::now() < *until) {
            return None;
        }
        match answer.await {
            Ok(told) => Some(told),
            Err(error) => {
                tracing::debug!(name = question.0, port = question.1, %error, "DNS says nothing more of a postern");
                self.remember(question);
                None
            }
        }
    }

    fn remember(&self, question: Question) {
        let (mut all, now) = (self.until.borrow_mut(), Instant::now());
        if all.len() >= UNANSWERED_MAX {
            all.retain(|_, until| now < *until);
        }
        if all.len() < UNANSWERED_MAX {
            all.insert(question, now + UNANSWERED);
        }
    }
}

/// For so long it is not asked again: one message in a minute waits, the others do not.
const UNANSWERED: Duration = Duration::from_secs(60);
/// Two for each door that is remembered, 300 octets each at most. Full: a further one is asked each time.
const UNANSWERED_MAX: usize = 2_048;
