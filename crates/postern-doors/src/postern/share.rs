//! What a peer has a right to among those of its class: worked out when its key is proven, carried in its ticket, read when
//! it comes again, before anything is looked up.

use postern_identity::account;
use postern_proto::door::{Keyring, Kind, PeerClass, Share};

use super::pool::Place;
use crate::gate::{Admission, AdmittedBy};

/// How often a peer's turn comes where it comes once for who has done nothing good yet: 1 + log2(1 + good days), whole.
///
/// Days, and not messages: a day with one good message and a day with a thousand are worth the same in the book, so volume
/// buys nothing here either. They decay (half in 30 days) and end at 60, so this is 1 to 6: three for who writes once a week,
/// six for who writes daily.
pub(super) fn weight_of(good_days: u16) -> u8 {
    good_days.saturating_add(1).ilog2() as u8 + 1
}

/// The share of a proven domain.
pub(super) fn share_of(keys: &Keyring, domain: &str, weight: u8) -> Share {
    let owner = account(domain);
    Share::new(keys, weight, owner.rsplit('.').next().unwrap_or(owner), owner)
}

/// Which class, and where in its line, by what the gate could see: a ticket says what its holder was, a cookie nothing.
pub(super) fn place_of(admission: &Admission) -> (PeerClass, Place) {
    let AdmittedBy::Ticket { kind, body } = admission.by else {
        // Of those who have no domain yet a network takes its turn.
        return (PeerClass::Stranger, Place { suffix: ALL, flow: admission.prefix, weight: 1 });
    };
    let class = if kind == Kind::Introduction { PeerClass::Vouched } else { body.class };
    let Some(weight) = body.share.weight() else {
        return (class, Place { suffix: ALL, flow: body.domain_tag, weight: 1 });
    };
    let (suffix, owner) = (u64::from(body.share.suffix()), u64::from(body.share.owner()));
    // Below a suffix a name costs next to nothing, and whoever has bought ten thousand is proven ten thousand times. The
    // known and the vouched for are not for sale: with them, domains are counted and not where they were bought.
    let counted = if class == PeerClass::Proven { suffix } else { ALL };
    (class, Place { suffix: counted, flow: OWNERS | suffix << 16 | owner, weight })
}

/// All together: no suffix has this number.
const ALL: u64 = u64::MAX;
/// Keeps those whose owner is known apart from those of whom there is only the tag of a domain, but for an accident.
const OWNERS: u64 = 1 << 63;

#[cfg(test)]
mod tests;
