//! HELLO and CHALLENGE: how a client without a ticket gets a cookie.
//!
//! Asks all addresses of a door at once and takes the first answer: a HELLO costs its server one stateless datagram. Holds the
//! appointments that were given and are yet to come. It never connects.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postern_proto::door::limits::{COOKIE_WINDOW_S, HELLO_BYTES_MIN, NONCE_BYTES};
use postern_proto::door::{Challenge, hello};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::error::DoorError;
use super::purse::DOMAINS_MAX;
use super::socket::DoorSocket;

/// When the HELLO is sent again, counted from the last: three times, doubling. After the third, only waiting is left.
const AGAIN: [Duration; 3] = [Duration::from_millis(300), Duration::from_millis(600), Duration::from_millis(1200)];
/// The server says its time in whole seconds; this much later than the seconds say, we are not early.
const MARGIN: Duration = Duration::from_millis(250);

/// A cookie, where it is good, and from when to when by our monotonic clock.
#[derive(Clone, Debug)]
pub(super) struct Appointment {
    pub(super) address: SocketAddr,
    pub(super) challenge: Challenge,
    pub(super) from: Instant,
    until: Instant,
}

impl Appointment {
    fn new(address: SocketAddr, challenge: Challenge, now: Instant) -> Self {
        let wait_s = challenge.wait_s();
        let from = if wait_s == 0 { now } else { now + Duration::from_secs(wait_s.into()) + MARGIN };
        let terms = challenge.terms;
        let window_s = terms.not_after.saturating_sub(terms.not_before.max(terms.server_time)).min(COOKIE_WINDOW_S);
        Self { address, challenge, from, until: from + Duration::from_secs(window_s.into()) }
    }
}

/// Sends HELLO to the addresses until one answers. `None`: nobody did before the deadline.
///
/// # Errors
/// [`DoorError::Address`] when nothing can be sent to any of them.
pub(super) async fn ask(
    doors: &[(SocketAddr, Arc<DoorSocket>)],
    deadline: Instant,
) -> Result<Option<Appointment>, DoorError> {
    let (sender, mut answers) = mpsc::channel(1);
    let mut asked = Vec::new();
    for (address, socket) in doors {
        let nonce = random::<NONCE_BYTES>()?;
        let mut datagram = [0; HELLO_BYTES_MIN];
        hello(nonce, &mut datagram);
        asked.push((*address, socket, datagram, socket.expect(nonce, *address, sender.clone())));
    }
    let mut again = AGAIN.iter();
    loop {
        let sent = asked.iter().filter(|(address, socket, datagram, _)| match socket.send(*address, datagram) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, %address, "no HELLO could be sent");
                false
            }
        });
        if sent.count() == 0 {
            return Err(DoorError::Address("no address can be reached"));
        }
        let next = again.next().map_or(deadline, |wait| deadline.min(Instant::now() + *wait));
        match timeout_at(next, answers.recv()).await {
            Ok(Some((address, challenge))) => return Ok(Some(Appointment::new(address, challenge, Instant::now()))),
            Ok(None) | Err(_) if next >= deadline => return Ok(None),
            Ok(None) | Err(_) => {}
        }
    }
}

/// Waits until an appointment has come.
pub(super) async fn wait(appointment: &Appointment) {
    sleep_until(appointment.from).await;
}

/// Octets that nobody can guess.
pub(super) fn random<const N: usize>() -> Result<[u8; N], DoorError> {
    let mut octets = [0; N];
    SystemRandom::new().fill(&mut octets).map_err(|_| DoorError::Transport("no randomness".to_owned()))?;
    Ok(octets)
}

/// Appointments too far off to wait for, by domain, at most as many as the purse has domains. Full: the new one is not
/// kept, and its domain asks again.
#[derive(Debug, Default)]
pub(super) struct Calendar(Mutex<HashMap<String, Appointment>>);

impl Calendar {
    /// Takes out the appointment with one of these addresses, if its time is not over.
    pub(super) fn take(&self, domain: &str, addresses: &[SocketAddr]) -> Option<Appointment> {
        let appointment = self.lock().remove(domain)?;
        (Instant::now() < appointment.until && addresses.contains(&appointment.address)).then_some(appointment)
    }

    pub(super) fn put(&self, domain: &str, appointment: Appointment) {
        let mut all = self.lock();
        let now = Instant::now();
        all.retain(|_, appointment| now < appointment.until);
        if all.len() < DOMAINS_MAX {
            all.insert(domain.to_owned(), appointment);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Appointment>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
