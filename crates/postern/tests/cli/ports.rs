//! Ports for servers that are started later, or that come back to theirs.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// A port of 127.0.0.1 that nobody uses by TCP or UDP, and that no other test of this process was given. Below those that
/// the kernel gives to sockets by itself: one of them could have it while nobody listens.
pub(crate) fn free_port() -> u16 {
    const FROM: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test programs run one after another mostly; where not, they begin far from each other.
    let start = std::process::id().wrapping_mul(7_919);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(step < COUNT, "no port of 127.0.0.1 is free");
        let port = u16::try_from(FROM + start.wrapping_add(step) % COUNT).expect("below 65,536");
        let at = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok() {
            return port;
        }
    }
}
