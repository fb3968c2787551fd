//! What time it is at the servers.
//!
//! A ticket's proof carries the server's time within ten minutes, and a client's clock may be a day off. The difference is
//! learnt only inside TLS (ACCEPT): a CHALLENGE can be forged by who is on the path, and a false time could make the purse
//! throw its tickets away. While the process runs the server's time goes on by the monotonic clock, so that setting
//! the wall clock changes nothing; across restarts the purse keeps the offset.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::purse::{DOMAINS_MAX, Purse};

/// Our own clock: Unix seconds. It may be wrong.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl WallClock {
    /// The system's.
    pub fn system() -> Self {
        Self::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }

    /// Any other, for tests.
    pub fn new(now_unix_s: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_unix_s))
    }

    /// Unix seconds.
    pub fn now_s(&self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WallClock({})", self.now_s())
    }
}

/// The servers' clocks as far as this process has seen them. At most as many as the purse has domains; full: all are
/// forgotten, for the purse knows them nearly as well.
#[derive(Debug)]
pub(super) struct ServerClocks {
    wall: WallClock,
    seen: Mutex<HashMap<String, (Instant, u64)>>,
}

impl ServerClocks {
    pub(super) fn new(wall: WallClock) -> Self {
        Self { wall, seen: Mutex::default() }
    }

    pub(super) fn wall_s(&self) -> u64 {
        self.wall.now_s()
    }

    /// The server said what time it is. Returns its offset from our clock, for the purse.
    pub(super) fn learn(&self, domain: &str, server_s: u64) -> i64 {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= DOMAINS_MAX && !seen.contains_key(domain) {
            seen.clear();
        }
        seen.insert(domain.to_owned(), (Instant::now(), server_s));
        i64::try_from(i128::from(server_s) - i128::from(self.wall_s())).unwrap_or(0)
    }

    /// What time it is at the server now, by the best that is known.
    pub(super) fn estimate_s(&self, domain: &str, purse: &Purse) -> u64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(domain).copied();
        match seen {
            Some((at, server_s)) => server_s.saturating_add(at.elapsed().as_secs()),
            None => self.wall_s().saturating_add_signed(purse.clock_offset(domain).unwrap_or(0)),
        }
    }
}
