//! What an attack has done so far: counted by its thread, read by whoever tells the progress.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::plan::Assault;
use super::report::AttackReport;

/// Counters of one attack.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) packets: Count,
    pub(super) octets: Count,
    pub(super) answers: Count,
    pub(super) answer_octets: Count,
    pub(super) hellos: Count,
    pub(super) cookies: Count,
    pub(super) appointments: Count,
    pub(super) initials: Count,
    pub(super) initials_answered: Count,
    pub(super) handshakes: Count,
    pub(super) accepted: Count,
    pub(super) streams: Count,
    pub(super) messages: Count,
    /// From the first packet to the last.
    pub(super) us: Count,
    refused: Mutex<BTreeMap<String, u64>>,
}

/// One of them.
#[derive(Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(super) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Tally {
    pub(super) fn refused(&self, cause: &str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        crate::stats::count(&mut refused, cause);
    }

    pub(super) fn sent(&self, packets: usize, octets: usize) {
        self.packets.add(packets);
        self.octets.add(octets);
    }

    pub(super) fn report(&self, assault: &Assault) -> AttackReport {
        AttackReport {
            name: assault.attack.as_str().to_owned(),
            rate: assault.rate,
            sources: assault.sources,
            prefixes: assault.prefixes,
            seconds: self.us.get() as f64 / 1e6,
            packets: self.packets.get(),
            octets: self.octets.get(),
            answers: self.answers.get(),
            answer_octets: self.answer_octets.get(),
            hellos: self.hellos.get(),
            cookies: self.cookies.get(),
            appointments: self.appointments.get(),
            initials: self.initials.get(),
            initials_answered: self.initials_answered.get(),
            handshakes: self.handshakes.get(),
            accepted: self.accepted.get(),
            refused: self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            streams: self.streams.get(),
            messages: self.messages.get(),
        }
    }
}
