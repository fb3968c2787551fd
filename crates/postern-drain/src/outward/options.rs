//! What outbound mail is given by the program: DNS, keys, pins, and how a door is opened.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use postern_net::door::courier::{Pending, Road};
use postern_net::door::{DoorAddress, DoorClient, DoorError, PublicKey, Purse};
use postern_net::mx::{MxFinder, Policies};
use postern_net::published::Roots;
use postern_proto::author::Author;
use postern_proto::door::Mode;

use crate::outbound::{Closed, is_below, is_own};

/// How mail reaches domains that are not ours.
#[derive(Clone, Debug)]
pub struct OutboundOptions {
    /// Finds mail servers; its names answer for doors too.
    pub mx: MxFinder,
    /// Authorities whose word counts where only a proven server will do.
    pub roots: Roots,
    /// MTA-STS policies, for the same.
    pub policies: Policies,
    /// Posterns; `None`: everything goes by MX.
    pub doors: Option<Doors>,
}

/// How posterns are used.
#[derive(Clone, Debug)]
pub struct Doors {
    /// What is remembered of doors, whoever of us knocks.
    pub purse: Purse,
    /// What the operator said of them, by domain in lower case; may be replaced while the drain runs.
    pub pins: Arc<ArcSwap<HashMap<String, PinnedDoor>>>,
    /// As whom we knock. Mail of an author for whom nobody speaks goes through no door.
    pub speakers: Vec<Speaker>,
}

/// A domain of ours that our key is proven for: a door lets in mail of its authors and of no other.
#[derive(Clone, Debug)]
pub struct Speaker {
    /// Lower case.
    pub domain: String,
    /// Its organisational domain, for whose authors it speaks.
    pub org: String,
    /// Opens doors in its name.
    pub opener: Arc<dyn Opener>,
    /// Its tickets and the second doors it was told of: a ticket is for the domain that it was given to.
    pub purse: Purse,
}

impl Doors {
    /// Who speaks for an author: of several the one that is nearest to it.
    pub(crate) fn speaker_for(&self, author: &Author) -> Option<&Speaker> {
        let may = |speaker: &&Speaker| is_own(author, &speaker.domain, &speaker.org);
        let near = |speaker: &&Speaker| (is_below(&author.domain, &speaker.domain), speaker.domain.len());
        self.speakers.iter().filter(may).max_by_key(near)
    }
}

/// A peer as the operator knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedDoor {
    /// A name or an address.
    pub host: String,
    /// Its UDP port.
    pub port: u16,
    /// One at least.
    pub keys: Vec<PublicKey>,
    /// What is done when it is silent.
    pub mode: Mode,
}

/// Makes links.
pub trait Opener: fmt::Debug + Send + Sync {
    /// Opens a door, within its own deadlines; the second one when the first is silent.
    fn open(&self, door: DoorAddress) -> Pending<Result<Arc<dyn Road>, Closed>>;
}

impl Opener for DoorClient {
    fn open(&self, door: DoorAddress) -> Pending<Result<Arc<dyn Road>, Closed>> {
        let client = self.clone();
        Box::pin(async move {
            match client.connect(&door).await {
                Ok(link) => {
                    let road: Arc<dyn Road> = Arc::new(link);
                    Ok(road)
                }
                Err(error) => {
                    tracing::debug!(domain = door.domain, %error, "no link");
                    Err(closed(&error))
                }
            }
        })
    }
}

/// What an error means for the downgrade rule. Whatever somebody on the way could have brought about is silence.
fn closed(error: &DoorError) -> Closed {
    match error {
        DoorError::Appointment { not_before_unix_s } => Closed::Appointment(*not_before_unix_s),
        DoorError::Parked { retry_after_s } => Closed::Parked((*retry_after_s).into()),
        DoorError::Refused(code) => Closed::Refused(*code),
        DoorError::Silent | DoorError::WrongKey | DoorError::Busy | DoorError::Address(_) | DoorError::Transport(_) => {
            Closed::Silent
        }
    }
}

#[cfg(test)]
mod tests;
