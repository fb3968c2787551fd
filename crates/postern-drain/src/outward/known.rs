//! What is known of a domain's door: pinned, published, remembered; and what is written down of it.
//!
//! The purse is on disk and syncs: it is asked on threads that may block. Called by `outward`.

use std::time::Duration;

use postern_net::dns::{Binding, Told};
use postern_net::door::{AltDoor, DoorMemory, PublicKey, Purse};
use postern_net::mx::Names;
use postern_net::tls::Expected;
use postern_proto::door::Mode;
use postern_proto::door::limits::PORT_DEFAULT;

use super::tlsa::{accepted, remembered};
use super::unanswered::Unanswered;
use super::{Doors, PinnedDoor, Place, Source};
use crate::outbound;
use crate::worker::now_unix_ms;

/// A domain's door, as far as it is known.
pub(crate) struct Known {
    /// `None`: the domain has none.
    pub(crate) source: Option<Source>,
    pub(crate) mode: Mode,
    pub(crate) place: Place,
    /// The place was learnt where nobody can forge it.
    place_is_secure: bool,
    /// For how long it may be held on to.
    max_age_s: u64,
    /// Unix seconds of the look that some of it is from, when that is an earlier one: what is written down is no younger.
    since_s: Option<u64>,
    memory: Option<DoorMemory>,
}

impl Known {
    /// Asks the operator's pins, DNS and the purse. A signed record is remembered at once.
    ///
    /// DNS is asked for a pinned domain too: not for its place or its keys, which the pin has, but because the domain may
    /// ask for `enforce` where the operator did not; a pin must not make a door weaker than it was without.
    pub(crate) async fn look_up(doors: &Doors, names: &dyn Names, unanswered: &Unanswered, domain: &str) -> Self {
        let now_s = now_unix_ms() / 1000;
        let pin = doors.pins.load().get(domain).cloned();
        let memory = ask(&doors.purse, domain, Purse::memory).await.flatten();
        let published = match &pin {
            Some(pin) if pin.mode == Mode::Enforce => Ok(None),
            _ => names.door(domain).await.map_err(|error| {
                tracing::debug!(domain, %error, "nothing could be learnt of its postern");
            }),
        };
        let fresh = memory.clone().filter(|memory| memory.is_fresh(now_s));
        let signed = published.as_ref().map(|found| found.as_ref().map(|found| found.secure)).map_err(|&()| ());
        let source = outbound::source(false, signed, fresh.as_ref().map(|memory| memory.secure));
        let (record, ttl_s) = published.ok().flatten().map(|found| (found.record, found.ttl_s)).unzip();
        let is_memory = matches!(source, Some(Source::Remembered { .. }));
        let old_place = fresh.as_ref().filter(|_| is_memory).and_then(|memory| memory.place.clone());
        let place_is_secure = source.is_some_and(Source::is_secure) && (!is_memory || old_place.is_some());
        let mut known = Self {
            source,
            mode: Mode::Prefer,
            place: Place::default(),
            place_is_secure,
            max_age_s: 0,
            since_s: None,
            memory,
        };
        let secure = source.is_some_and(Source::is_secure);
        // A pin has its place and its keys, and what is only written down of the domain need not cost more questions.
        let asks = pin.is_none() && matches!(source, Some(Source::Published { .. }));
        let binding = if asks {
            unanswered.ask((format!("_postern.{domain}").into(), 0), names.door_binding(domain)).await
        } else {
            None
        };
        // Where the memory counts, an answer about the place counts as little as one about the keys.
        known.place = match (&record, old_place) {
            (_, Some(place)) => Place { host: place.host, port: place.port, ..Place::default() },
            (Some(record), None) => Place::of(domain, record, secure, binding.as_ref()),
            (None, None) => Place { host: domain.to_owned(), port: PORT_DEFAULT, ..Place::default() },
        };
        match (source, record, fresh) {
            (Some(Source::Published { secure }), Some(record), fresh) => {
                let key = |der: &Vec<u8>| PublicKey::from_spki(der).ok();
                let keys = record.keys.iter().filter_map(key).collect();
                let Place { host, port, .. } = &known.place;
                let tlsa = if asks {
                    unanswered.ask((host.as_str().into(), *port), names.door_keys(host, *port)).await
                } else {
                    None
                };
                // One spoofed answer must not pin a wrong key: an unsigned record is held on to as DNS would hold it.
                let ttl_s = ttl_s.unwrap_or(0).min(shortest(binding.as_ref(), tlsa.as_ref()));
                // What is remembered of them grows no younger, or whoever blocks the question could make a key that was
                // withdrawn last for ever; and gives way when the record is written down again, or he could make the
                // memory of that run out.
                let young = fresh.filter(|memory| !is_due(memory, now_s) && tlsa.is_none());
                let digests = tlsa.map_or_else(|| remembered(young.as_ref(), &known.place), |told| told.value);
                known.since_s = young.filter(|_| !digests.is_empty()).map(|memory| memory.learned_s);
                (known.place.keys, known.place.digests) = accepted(secure, keys, digests);
                let held_s = if secure { record.max_age_s } else { record.max_age_s.min(ttl_s) };
                (known.mode, known.max_age_s) = (record.mode, held_s);
            }
            (Some(Source::Remembered { .. }), _, Some(memory)) => {
                (known.place.keys, known.place.digests) = (memory.keys, memory.digests);
                (known.mode, known.max_age_s) = (memory.mode, memory.max_age_s);
            }
            _ => known.source = None,
        }
        if known.source == Some(Source::Published { secure: true }) {
            known.write_down(doors, domain, now_s).await;
        }
        match pin {
            Some(pin) => known.pinned(pin),
            None => known,
        }
    }

    /// Remembers a signed record, when there is news in it or that is due.
    async fn write_down(&mut self, doors: &Doors, domain: &str, now_s: u64) {
        let memory = self.memory_at(now_s, self.silent_since_s());
        let stale = |old: &DoorMemory| {
            let same = DoorMemory { learned_s: memory.learned_s, ..old.clone() } == memory;
            !same || is_due(old, now_s)
        };
        if self.memory.as_ref().is_none_or(stale) {
            keep(doors, domain, Some(memory.clone())).await;
            self.memory = Some(memory);
        }
    }

    /// The same under a pin: its place and keys, and the stricter of its mode and of what nobody can forge.
    fn pinned(self, pin: PinnedDoor) -> Self {
        let enforces = self.mode == Mode::Enforce && self.source.is_some_and(Source::is_secure);
        Self {
            source: Some(Source::Pinned),
            mode: if enforces { Mode::Enforce } else { pin.mode },
            place: Place { host: pin.host, port: pin.port, keys: pin.keys, digests: Vec::new() },
            place_is_secure: true,
            // A pin binds for as long as it stands, not longer.
            max_age_s: 0,
            since_s: None,
            memory: self.memory,
        }
    }

    pub(crate) fn silent_since_s(&self) -> Option<u64> {
        self.memory.as_ref()?.silent_since_s
    }

    /// The door answered: the silence is over.
    pub(crate) async fn note_answer(&self, doors: &Doors, domain: &str) {
        if self.silent_since_s().is_none() {
            return;
        }
        let memory = self.memory.clone().filter(|memory| memory.secure);
        keep(doors, domain, memory.map(|memory| DoorMemory { silent_since_s: None, ..memory })).await;
    }

    /// It did not. The beginning of the silence outlives a restart.
    pub(crate) async fn note_silence(&self, doors: &Doors, domain: &str, since_s: u64) {
        if self.silent_since_s() == Some(since_s) {
            return;
        }
        let now_s = now_unix_ms() / 1000;
        let is_memory = matches!(self.source, Some(Source::Remembered { .. }));
        let memory = match &self.memory {
            // What binds stays as it is, under a pin too; and a memory is not renewed by itself.
            Some(memory) if is_memory || (memory.secure && memory.is_fresh(now_s)) => {
                DoorMemory { silent_since_s: Some(since_s), ..memory.clone() }
            }
            _ => self.memory_at(now_s, Some(since_s)),
        };
        keep(doors, domain, Some(memory)).await;
    }

    /// Who may stand in for the door.
    pub(crate) fn expected(&self, domain: &str) -> Expected {
        Expected {
            domain: domain.to_owned(),
            hosts: if self.place_is_secure { vec![self.place.host.clone()] } else { Vec::new() },
            keys: self.place.keys.iter().map(PublicKey::sha256).chain(self.place.digests.iter().copied()).collect(),
            tlsa: Vec::new(),
        }
    }

    fn memory_at(&self, now_s: u64, silent_since_s: Option<u64>) -> DoorMemory {
        DoorMemory {
            place: Some(AltDoor { host: self.place.host.clone(), port: self.place.port }),
            keys: self.place.keys.clone(),
            digests: self.place.digests.clone(),
            mode: self.mode,
            max_age_s: self.max_age_s,
            learned_s: self.since_s.unwrap_or(now_s),
            secure: self.source.is_some_and(Source::is_secure),
            silent_since_s,
        }
    }
}

/// Seconds for which answers beside an unsigned record may be kept; those that say nothing bound nothing.
fn shortest(binding: Option<&Told<Option<Binding>>>, tlsa: Option<&Told<Vec<[u8; 32]>>>) -> u64 {
    let binding = binding.filter(|told| told.value.is_some()).map(|told| told.ttl);
    let tlsa = tlsa.filter(|told| !told.value.is_empty()).map(|told| told.ttl);
    let seconds = |ttl: Option<Duration>| ttl.map_or(0, |ttl| ttl.as_secs());
    binding.into_iter().chain(tlsa).map(seconds).min().unwrap_or(u64::MAX)
}

/// The second door of a domain.
pub(super) async fn alt(purse: Purse, domain: String) -> Option<AltDoor> {
    ask(&purse, &domain, Purse::alt).await.flatten()
}

async fn ask<T: Send + 'static>(purse: &Purse, domain: &str, read: fn(&Purse, &str) -> T) -> Option<T> {
    let (purse, domain) = (purse.clone(), domain.to_owned());
    tokio::task::spawn_blocking(move || read(&purse, &domain)).await.ok()
}

async fn keep(doors: &Doors, domain: &str, memory: Option<DoorMemory>) {
    let (purse, name) = (doors.purse.clone(), domain.to_owned());
    let kept = tokio::task::spawn_blocking(move || purse.set_memory(&name, memory)).await;
    if let Ok(Err(error)) = kept {
        tracing::warn!(domain, %error, "what is known of its postern could not be written down");
    }
}

/// Whether it is time to write a record down again that did not change, so that `max_age` counts from the last look.
fn is_due(memory: &DoorMemory, now_s: u64) -> bool {
    now_s.saturating_sub(memory.learned_s) >= (memory.max_age_s / 4).min(LEARN_AGAIN_S)
}

/// At least this often.
const LEARN_AGAIN_S: u64 = 24 * 3600;
