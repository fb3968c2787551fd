//! The class function: facts in, class out, and nothing else. It looks nothing up (`book::facts` does) and changes nothing.
//! The doors ask it twice: when an address connects, and when a message names its sender. `postern why` asks it the same way.

use super::Class;
use crate::limits::{PREFIX_MAX, PREFIX_WEIGHT, SUSPECT, SUSPECT_KNOWN};
use crate::sketch::marks::Mark;

/// What is known of an address.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AddressFacts {
    /// In a network that the operator pinned.
    pub(crate) pinned: bool,
    /// Declared forwarder or list.
    pub(crate) forwarder: bool,
    /// In a network of a shared provider; whether that provider keeps its house in order.
    pub(crate) provider: Option<bool>,
    /// It has credit of its own, or lent by a proven domain.
    pub(crate) trusted: bool,
    /// It has credit, but speaks for many domains.
    pub(crate) shared: bool,
    /// What is bad about it.
    pub(crate) marks: Mark,
    /// What is bad about its /24, /48 and /32.
    pub(crate) prefix: u16,
}

/// What is known of the sender that a message names.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SenderFacts {
    /// The address may speak for the domain: SPF passed, or its confirmed name lies there.
    pub(crate) authorised: bool,
    /// The operator pinned the domain.
    pub(crate) pinned: bool,
    /// Correspondence or a long good history.
    pub(crate) proven: bool,
    /// This site wrote to this very mailbox, and it answered.
    pub(crate) mailbox: bool,
    /// What is bad about the domain (authorised mail only).
    pub(crate) marks: Mark,
    /// What is bad about the domain inside this provider.
    pub(crate) tenant: Mark,
}

/// How much speaks against an address.
pub(crate) fn suspicion(facts: &AddressFacts) -> u32 {
    let marks = facts.marks;
    let manner = u32::from(marks.manner);
    if facts.forwarder || facts.provider.is_some() {
        return manner;
    }
    let prefix = if facts.trusted { 0 } else { (u32::from(facts.prefix) / PREFIX_WEIGHT).min(PREFIX_MAX) };
    (manner + u32::from(marks.content) + prefix).saturating_add_signed(i32::from(marks.listed))
}

/// The class of an address, and with a sender that of a message. The whole reasoning, in the order of the lines:
///
/// 1. **Pinned** is the operator's word and beats all evidence. A pinned *domain* counts only from an address that may speak
///    for it, or anybody could write its name into MAIL FROM.
/// 2. **Provider** comes before the credit of the address, since an address in a pool of millions of tenants deserves neither
///    credit nor blame: tomorrow somebody else sends from it. So spam, listings and bad recipients do not count against
///    it (some tenant always spams, some list always holds the pool); what counts is how the machine itself behaves
///    (early talk, abuse, HELO: no tenant can make a mail server do that). The provider as a whole loses its place at 20 % of
///    spam and is then a stranger, never suspect: most of its users are innocent. Inside, each tenant domain has marks of
///    its own, and a tenant who spams is suspect alone. A tenant domain or mailbox with which this site corresponds is known,
///    where the provider is authorised to speak for it.
///    An address outside all declared providers that has lent credit and speaks for many domains is treated the same way.
/// 3. **Known** is an address with credit: by its own long history, or lent by a proven domain that authorised it. Nothing
///    bad in the neighbourhood counts against it. Its own marks do, but at three times the measure: from 100 on the
///    credit is suspended (new: served, but not first), from 300 on it is suspect. Otherwise one mistaken listing and a
///    mistaken verdict would shut out a friend.
/// 4. **Suspect** is a stranger with marks of 100 together: behaviour, content, listings, and at most 50 from the
///    neighbourhood. No single event is worth 100, and a listing is counted once however often it is looked up, so it takes
///    two different signs, or the same event again within about a day. A listing as good takes some off.
/// 5. **Forwarders and lists**, as declared, are exempt from what forwarding itself brings about: SPF fails and costs nothing (a
///    failed SPF is no evidence here for anybody, its lack of credit is enough), the spam they pass on is not theirs, they
///    are listed for it, and they deliver to addresses that have died since (a list learns that from the refusals). Early
///    talk, abuse and impossible HELO count: no forwarding makes a server do that. Exempt is not known: credit they earn
///    as everybody does.
/// 6. **New** is the rest.
///
/// With a sender: a bad domain makes a message suspect only where the address is authorised for it (or inside the provider, for
/// mail of the same kind), or forged mail would blacken the forged; a proven domain lifts it only where authorised, or a
/// replayed newsletter would lift a bot. The message's class is else the address's.
pub(crate) fn class(facts: &AddressFacts, sender: Option<&SenderFacts>) -> Class {
    let address = class_of_address(facts, facts.trusted);
    let Some(sender) = sender else { return address };
    if address == Class::Pinned || (sender.authorised && sender.pinned) {
        return Class::Pinned;
    }
    let proven = sender.authorised && (sender.proven || sender.mailbox);
    let pool = facts.provider.is_some() || (facts.shared && facts.trusted);
    let tenant = if pool { weight(sender.tenant) } else { 0 };
    let domain = if sender.authorised { weight(sender.marks) } else { 0 };
    if tenant.max(domain) >= if proven { SUSPECT_KNOWN } else { SUSPECT } {
        return Class::Suspect;
    }
    if pool {
        return if proven && address != Class::Suspect { Class::Known } else { address };
    }
    if proven { class_of_address(&AddressFacts { shared: false, ..*facts }, true).min(address) } else { address }
}

fn class_of_address(facts: &AddressFacts, trusted: bool) -> Class {
    let against = suspicion(&AddressFacts { trusted, ..*facts });
    if facts.pinned {
        return Class::Pinned;
    }
    match facts.provider {
        _ if facts.provider.is_some() && against >= SUSPECT => Class::Suspect,
        Some(true) => Class::Provider,
        Some(false) => Class::New,
        None if trusted && against < SUSPECT => {
            if facts.shared {
                Class::Provider
            } else {
                Class::Known
            }
        }
        None if against >= if trusted { SUSPECT_KNOWN } else { SUSPECT } => Class::Suspect,
        None => Class::New,
    }
}

/// How much speaks against a domain.
pub(crate) fn weight(marks: Mark) -> u32 {
    u32::from(marks.manner) + u32::from(marks.content)
}
