//! A socket that costs more for each datagram: so that the same flood outruns whatever is behind it on any machine.
//!
//! Used by `stock`, as the gate burns time in its own loop: beside each other both drain the same number of packets.

use std::time::{Duration, Instant};

use quinn::udp::RecvMeta;

use super::hooked::Hook;

/// Burns so much time at each datagram that is read.
#[derive(Debug)]
pub(super) struct Slow(pub(super) Duration);

impl Hook for Slow {
    fn read(&self, meta: &[RecvMeta]) {
        let datagrams: usize = meta.iter().map(|one| one.len.div_ceil(one.stride.max(1))).sum();
        let until = Instant::now() + self.0 * u32::try_from(datagrams).unwrap_or(u32::MAX);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    }
}
