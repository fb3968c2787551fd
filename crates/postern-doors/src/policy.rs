//! For whom we take mail: domains, recipients, and how a name is looked up.
//!
//! A value without I/O, replaced as a whole when the configuration or a file of names changes.
//! What only the next hop knows is asked by [`crate::callout`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use postern_net::client::{Protocol, Target};
use postern_proto::address::Address;
use postern_proto::mode::Modes;
use postern_proto::session::{Offers, RecipientVerdict};

/// What a door accepts.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Accepted domains, lower case. A name not found here is relaying, and denied.
    pub domains: HashMap<String, Recipients>,
    /// Between name and detail in `ann+lists@`; `None`: there are no details.
    pub detail: Option<char>,
    /// The relay listener may send to domains that are not ours: there is a next hop for them.
    pub relay_anywhere: bool,
    /// Extensions that every route carries; `starttls` and `dsn` are the door's own matter.
    pub offers: Offers,
}

/// The recipients of a domain.
#[derive(Clone, Debug)]
pub enum Recipients {
    /// Every name.
    Any,
    /// These names.
    Names(Arc<HashSet<Box<str>>>),
    /// Those whom the next hop knows.
    Callout(CalloutTarget),
    /// Nobody knows at the moment, the source of the names cannot be read: 450 for all.
    Unsure,
}

/// Where to ask about recipients.
#[derive(Clone, Debug)]
pub struct CalloutTarget {
    /// The next hop.
    pub target: Target,
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// It expects a PROXY header.
    pub proxy: bool,
}

/// What the policy says of a recipient.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// This.
    Known(RecipientVerdict),
    /// The domain is ours; the next hop must be asked about the name.
    Ask(CalloutTarget),
}

impl Recipients {
    /// Names from a list or a file; case does not matter, a domain behind `@` is left out.
    pub fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let local = |name: &str| name.split('@').next().unwrap_or(name).to_lowercase().into_boxed_str();
        Self::Names(Arc::new(names.into_iter().map(local).collect()))
    }
}

impl Policy {
    /// Whether the relay listener may take mail for `domain`. Its names are not looked up: the
    /// local MTA has its own queue for what is refused later.
    pub fn relays_to(&self, domain: &str) -> bool {
        self.relay_anywhere || domain.is_empty() || self.domains.contains_key(domain)
    }

    /// Looks `address` up. `postmaster` exists in every domain of ours, and without one
    /// (RFC 5321 section 4.5.1).
    pub fn lookup(&self, address: &Address, modes: &Modes) -> Lookup {
        let mode = modes.of(&address.domain);
        if address.domain.is_empty() {
            return Lookup::Known(RecipientVerdict::Accept(mode));
        }
        let Some(recipients) = self.domains.get(&*address.domain) else {
            return Lookup::Known(RecipientVerdict::NotOurs);
        };
        if address.local.eq_ignore_ascii_case("postmaster") {
            return Lookup::Known(RecipientVerdict::Accept(mode));
        }
        match recipients {
            Recipients::Any => Lookup::Known(RecipientVerdict::Accept(mode)),
            Recipients::Unsure => Lookup::Known(RecipientVerdict::Unsure),
            Recipients::Names(names) => {
                let exact = names.contains(&*address.local.to_lowercase());
                let known = exact || names.contains(&*address.local_without_detail(self.detail).to_lowercase());
                Lookup::Known(if known { RecipientVerdict::Accept(mode) } else { RecipientVerdict::Unknown(None) })
            }
            Recipients::Callout(target) => Lookup::Ask(target.clone()),
        }
    }
}

#[cfg(test)]
mod tests;
