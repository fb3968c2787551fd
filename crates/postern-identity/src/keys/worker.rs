//! What the desk's thread does: walks up the tree, reads records, compares keys, remembers who was proven.
//!
//! Every question ends within its time, with an answer, whatever panics: `Open::drop` gives it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use postern_net::dns::{Resolver, TlsaChoice, choose, tlsa_choice};
use postern_proto::door::PeerClass;
use postern_proto::door::record::is_known_key;
use postern_trust::Class;
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::desk::{Counter, Counters, Errand, OnProof};
use super::line::Line;
use super::lookups::{Kind, Lookups, Payer, Records};
use super::org::{self, Org, Walk};
use super::pinned::InForce;
use super::{KeyOptions, KeyProof, KeyQuestion, NotNow, PinWord, ProvenBy, Unproven, owner};
use crate::cache::Cache;
use crate::dns;
use crate::limits;
use crate::stats::count;

/// All that the thread needs; made before it starts, so that `start` can fail.
pub(super) struct Setup {
    pub(super) resolver: Resolver,
    /// TLSA records can count.
    pub(super) validates: bool,
    pub(super) options: KeyOptions,
    pub(super) counters: Arc<Counters>,
    pub(super) pinned: Arc<InForce>,
}

/// What all questions share.
struct Office {
    lookups: Rc<Lookups>,
    validates: bool,
    options: KeyOptions,
    counters: Arc<Counters>,
    pinned: Arc<InForce>,
    proven: RefCell<Cache<Claim, KeyProof>>,
}

/// What was found out about a key.
enum Key {
    /// And whether that was validated.
    Proven(ProvenBy, bool),
    Unproven(Unproven),
    NotNow(NotNow),
}

/// A question in one spelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Claim {
    domain: Box<str>,
    owner: Box<str>,
    spki: Box<[u8]>,
}

impl Setup {
    /// Until the desk is stopped or its last front is gone.
    pub(super) async fn run(self, counter: Arc<Counter>, mut stopped: watch::Receiver<bool>) {
        let Self { resolver, validates, options, counters, pinned } = self;
        let office = Rc::new(Office {
            lookups: Rc::new(Lookups::new(resolver, options.clone(), Arc::clone(&counters))),
            validates,
            options,
            counters,
            pinned,
            proven: RefCell::new(Cache::new(limits::PROOFS_MAX)),
        });
        let _closing = Closing(Arc::clone(&counter));
        loop {
            while let Some(Some((class, Errand { question, asker }))) = counter.with(Line::pop) {
                let (office, counter) = (Rc::clone(&office), Arc::clone(&counter));
                let open = Open { office, counter, class, asker: Some(asker) };
                spawn_local(open.work(question));
            }
            tokio::select! {
                biased;
                _ = stopped.changed() => return,
                () = counter.news.notified() => {}
            }
        }
    }
}

/// Nobody works on the line any more, also when the thread has panicked.
struct Closing(Arc<Counter>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Claim {
    fn read(question: &KeyQuestion) -> Result<Self, Unproven> {
        let domain = dns::domain(&question.domain).ok_or(Unproven::NotADomain)?;
        let owner = owner::of(&domain, question.owner.as_deref()).ok_or(Unproven::ForeignOwner)?;
        if !is_known_key(&question.spki) {
            return Err(Unproven::UnknownKey);
        }
        Ok(Self { domain, owner, spki: question.spki.clone() })
    }
}

impl Office {
    async fn prove(&self, claim: Claim, class: PeerClass) -> KeyProof {
        let before = self.proven.borrow().get(&claim, Instant::now());
        // Whoever was proven before, here or as a ticket of the known says, has look-ups that a crowd of strangers cannot
        // spend.
        let known = before.is_some() || class == PeerClass::Known;
        let class = if known { Class::Known } else { Class::New };
        let payer = Payer { class, domain: &claim.domain };
        let found = timeout(self.options.question, async {
            // First, and alone: whoever cannot show the key costs two look-ups and no walk.
            let (by, secure) = match self.key(&claim, payer).await {
                Key::Proven(by, secure) => (by, secure),
                Key::Unproven(why) => return KeyProof::Unproven(why),
                Key::NotNow(why) => return KeyProof::NotNow(why),
            };
            match self.organisation(&claim.domain, payer).await {
                Ok((Org::Domain(org), above)) => KeyProof::Proven { org, above, by, secure },
                Ok((Org::PublicSuffix, _)) => KeyProof::Unproven(Unproven::PublicSuffix),
                Err(why) => KeyProof::NotNow(why),
            }
        });
        let proof = found.await.unwrap_or(KeyProof::NotNow(NotNow::Late));
        self.remember(claim.clone(), &proof);
        let proof = match (proof, before) {
            (KeyProof::NotNow(why), Some(before)) => {
                count(&self.counters.stale);
                tracing::debug!(%why, "a key stays proven while DNS fails");
                before
            }
            (proof, _) => proof,
        };
        self.heed_pins(&claim, proof)
    }

    /// Who is below a pinned domain and says so by DNS must hold a key that is pinned there: DNS proves a name that its
    /// holder, or a forger, has made up, and must not open what the pin has closed.
    fn heed_pins(&self, claim: &Claim, proof: KeyProof) -> KeyProof {
        let KeyProof::Proven { org, .. } = &proof else { return proof };
        match self.pinned.now().word(&claim.domain, org, &claim.spki) {
            PinWord::Barred => KeyProof::Unproven(Unproven::OtherPinned),
            PinWord::Pinned | PinWord::Silent => proof,
        }
    }

    /// A proof is good for a day of trouble from now on; one that is refuted ends at once.
    fn remember(&self, claim: Claim, proof: &KeyProof) {
        let now = Instant::now();
        match proof {
            KeyProof::Proven { .. } => {
                self.proven.borrow_mut().put(claim, proof.clone(), now + limits::PROOF_STALE_MAX, now);
            }
            KeyProof::Unproven(_) => self.proven.borrow_mut().remove(&claim),
            KeyProof::NotNow(_) => {}
        }
    }

    /// Whether the domain publishes the key.
    async fn key(&self, claim: &Claim, payer: Payer<'_>) -> Key {
        let record = self.lookups.get(Kind::Txt, &format!("_postern.{}", claim.domain), payer).await;
        let (mut against, mut unknown) = (Unproven::NoKey, None);
        match record.as_deref() {
            Ok(Records::Texts(told)) => match choose(&told.value) {
                Ok(Some(record)) if record.keys.iter().any(|key| **key == *claim.spki) => {
                    return Key::Proven(ProvenBy::Txt, told.secure);
                }
                Ok(Some(_)) => against = Unproven::OtherKey,
                Ok(None) => {}
                Err(_) => against = Unproven::BadRecord,
            },
            Ok(Records::Tlsa(_)) => {}
            Err(why) => unknown = Some(*why),
        }
        // Unsigned TLSA records never count (RFC 6698 section 4.1): nobody asks for them.
        if self.validates {
            match self.lookups.get(Kind::Tlsa, &claim.owner, payer).await.as_deref() {
                Ok(Records::Tlsa(told)) => match tlsa_choice(told, &claim.spki) {
                    TlsaChoice::Match => return Key::Proven(ProvenBy::Tlsa, true),
                    TlsaChoice::Mismatch if against == Unproven::NoKey => against = Unproven::OtherKey,
                    TlsaChoice::Mismatch | TlsaChoice::Unusable => {}
                },
                Ok(Records::Texts(_)) => {}
                Err(why) => unknown = Some(*why),
            }
        }
        unknown.map_or(Key::Unproven(against), Key::NotNow)
    }

    async fn organisation(&self, domain: &str, payer: Payer<'_>) -> Result<(Org, Vec<Box<str>>), NotNow> {
        let mut walk = Walk::new(domain);
        while let Some(name) = walk.next() {
            let records = self.lookups.get(Kind::Txt, &format!("_dmarc.{name}"), payer).await?;
            walk.told(match &*records {
                Records::Texts(told) => org::record(told.value.iter().map(AsRef::as_ref)),
                Records::Tlsa(_) => None,
            });
        }
        Ok(walk.end())
    }
}

/// A question that is worked on.
struct Open {
    office: Rc<Office>,
    counter: Arc<Counter>,
    class: PeerClass,
    asker: Option<OnProof>,
}

impl Open {
    /// Ends with an answer, or when whoever asked has left: his place is another's.
    async fn work(mut self, question: KeyQuestion) {
        let office = Rc::clone(&self.office);
        let found = async {
            match Claim::read(&question) {
                Ok(claim) => office.prove(claim, question.class).await,
                Err(why) => KeyProof::Unproven(why),
            }
        };
        let left = poll_fn(|context| self.asker.as_mut().map_or(Poll::Pending, |asker| asker.poll_left(context)));
        let proof = tokio::select! {
            biased;
            () = left => None,
            proof = found => Some(proof),
        };
        match proof {
            Some(proof) => self.tell(proof),
            None => {
                self.asker = None;
                count(&self.office.counters.left);
            }
        }
    }

    fn tell(&mut self, proof: KeyProof) {
        if let Some(asker) = self.asker.take() {
            self.office.counters.answered(&proof);
            asker.tell(proof);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.tell(KeyProof::NotNow(NotNow::Full));
        self.counter.with(|line| line.close(self.class));
        self.counter.news.notify_one();
    }
}
