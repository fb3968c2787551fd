//! The tickets that friends have: given by the door inside a session, each used once.
//!
//! In memory, bounded; read from a purse on disk at the start and put back at its end when the plan names one.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use postern_net::door::{Grant, Purse};
use postern_proto::door::limits::{PURSE_MAX, TICKET_BYTES};

use super::unix_s;
use crate::plan::FloodError;

/// Tickets at hand: a second of new connections at more than any plan of the bench. Full: the oldest goes.
const KEPT_MAX: usize = 256;

/// One of them.
#[derive(Clone)]
pub(super) struct Pocketed {
    pub(super) ticket: [u8; TICKET_BYTES],
    pub(super) key: [u8; 16],
    expires_s: u64,
}

/// Shared by all links of a run.
#[derive(Clone, Default)]
pub(super) struct Tickets(Arc<Mutex<VecDeque<Pocketed>>>);

impl Tickets {
    /// What a purse holds for a domain.
    pub(super) fn read(&self, dir: &Path, domain: &str) -> Result<(), FloodError> {
        let purse = Purse::open(dir).map_err(|error| FloodError::Plan(error.to_string()))?;
        while let Ok(Some(grant)) = purse.take(domain, u64::from(unix_s())) {
            self.put(grant.ticket, grant.key, grant.expires_s);
        }
        Ok(())
    }

    /// Puts back what a purse has room for.
    pub(super) fn write(&self, dir: &Path, domain: &str) -> Result<(), FloodError> {
        let purse = Purse::open(dir).map_err(|error| FloodError::Plan(error.to_string()))?;
        for _ in 0..PURSE_MAX {
            let Some(one) = self.take() else { break };
            let grant = Grant { ticket: one.ticket, key: one.key, expires_s: one.expires_s };
            purse.put(domain, grant, u64::from(unix_s())).map_err(|error| FloodError::Plan(error.to_string()))?;
        }
        Ok(())
    }

    pub(super) fn put(&self, ticket: [u8; TICKET_BYTES], key: [u8; 16], expires_s: u64) {
        let mut pocket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pocket.len() == KEPT_MAX {
            pocket.pop_front();
        }
        pocket.push_back(Pocketed { ticket, key, expires_s });
    }

    pub(super) fn take(&self) -> Option<Pocketed> {
        let mut pocket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let one = pocket.pop_front()?;
            if one.expires_s > u64::from(unix_s()) {
                return Some(one);
            }
        }
    }
}
