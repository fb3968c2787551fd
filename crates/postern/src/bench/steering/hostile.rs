//! Connections that are made, held for a moment and reset: they say nothing and read nothing.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

/// A thread that makes them.
pub(super) struct Crowd(JoinHandle<io::Result<u64>>);

impl Crowd {
    /// Begins, for so long.
    pub(super) fn start(addr: SocketAddr, per_second: u32, time: Duration) -> io::Result<Self> {
        let limit = postern_net::socket::raise_nofile_limit()?;
        let held = usize::try_from(limit.saturating_sub(DESCRIPTORS_KEPT)).unwrap_or(usize::MAX).min(HELD_MAX);
        let thread = std::thread::Builder::new().name("hostile".into());
        thread.spawn(move || assail(addr, per_second, time, held)).map(Self)
    }

    /// How many there were.
    pub(super) fn join(self) -> io::Result<u64> {
        self.0.join().unwrap_or_else(|_| Err(io::Error::other("the hostile crowd panicked")))
    }
}

fn assail(addr: SocketAddr, per_second: u32, time: Duration, held_max: usize) -> io::Result<u64> {
    let began = Instant::now();
    let mut held = VecDeque::with_capacity(held_max);
    let mut made = 0;
    loop {
        let elapsed = began.elapsed();
        if elapsed >= time {
            return Ok(made);
        }
        let due = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX) * u64::from(per_second) / 1_000_000;
        // Late is late: a burst to catch up would be another attack than the one that is printed.
        let batch = due.saturating_sub(made).min(BATCH_MAX);
        for _ in 0..batch {
            while held.len() >= held_max {
                held.pop_front();
            }
            held.push_back(one(addr, source(made))?);
            made += 1;
        }
        std::thread::sleep(TICK);
    }
}

/// All over 127.0.0.0/9, but for 127.0/16, where the server is.
fn source(number: u64) -> Ipv4Addr {
    let number = u32::try_from(number % SOURCES).unwrap_or(0);
    // An odd factor visits every address, far from the one before.
    let scattered = number.wrapping_mul(2_654_435_761) % (127 << 16);
    Ipv4Addr::from((127 << 24 | 1 << 16) + scattered)
}

/// Dropped, it ends with a reset (linger 0): nothing lingers on this side, and the door learns it
/// when it next looks.
fn one(addr: SocketAddr, source: Ipv4Addr) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    bind(&socket, &SocketAddr::from((source, 0)))?;
    match connect(&socket, &addr) {
        // A full queue leaves the SYN unanswered.
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// Each for 0.75 s at 20,000 a second.
const HELD_MAX: usize = 15_000;
/// For the friends and all else.
const DESCRIPTORS_KEPT: u64 = 2_000;
const SOURCES: u64 = 1 << 22;
const TICK: Duration = Duration::from_millis(1);
/// Ten ticks' worth: the friends' thread on the same core gets its turn.
const BATCH_MAX: u64 = 200;
