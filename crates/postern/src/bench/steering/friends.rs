//! Clients of a pinned network: each connects, waits for its greeting and says goodbye.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::bench::load::Dialogue;

/// How long they waited; `None` for never.
#[derive(Default)]
pub(super) struct Greetings(Vec<Option<Duration>>);

impl Greetings {
    pub(super) fn add(&mut self, other: Self) {
        self.0.extend(other.0);
        // The ungreeted waited longest.
        self.0.sort_unstable_by_key(|time| time.unwrap_or(Duration::MAX));
    }

    pub(super) fn came(&self) -> usize {
        self.0.len()
    }

    pub(super) fn never(&self) -> usize {
        self.0.iter().filter(|time| time.is_none()).count()
    }

    /// The time within which so many percent were greeted, if they were.
    pub(super) fn at(&self, percent: usize) -> Option<Duration> {
        let place = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(place).copied().flatten()
    }
}

/// So many a second for so long; returns when the last has been greeted or has given up.
pub(super) fn come(addr: SocketAddr, per_second: u32, time: Duration) -> io::Result<Greetings> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
        let began = Instant::now();
        let mut friends = JoinSet::new();
        while began.elapsed() < time {
            ticks.tick().await;
            let number = u32::try_from(friends.len()).unwrap_or(u32::MAX) % (1 << 16);
            let source = Ipv4Addr::from(127 << 24 | 200 << 16 | number);
            friends.spawn(async move {
                let began = Instant::now();
                let greeted = tokio::time::timeout(PATIENCE, greet(addr, source)).await;
                greeted.is_ok_and(|result| result.is_ok()).then(|| began.elapsed())
            });
        }
        let mut greetings = Greetings::default();
        greetings.add(Greetings(friends.join_all().await));
        Ok(greetings)
    })
}

async fn greet(addr: SocketAddr, source: Ipv4Addr) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    let mut dialogue = Dialogue::new(socket.connect(addr).await?);
    dialogue.expect(220).await?;
    // Not waited for: it is the greeting that is timed.
    tokio::task::spawn(async move { dialogue.say(b"QUIT\r\n", 221).await });
    Ok(())
}

/// Nobody's mail is lost by waiting longer, but a mail server that is not greeted in ten seconds
/// is what a flood is for.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_are_never_greeted_waited_longest() {
        let check = |times: &[Option<u64>], percent: usize, expected: Option<u64>| {
            let mut greetings = Greetings::default();
            greetings.add(Greetings(times.iter().map(|time| time.map(Duration::from_millis)).collect()));
            assert_eq!(greetings.at(percent), expected.map(Duration::from_millis), "{times:?} at {percent}");
        };
        check(&[], 50, None);
        check(&[Some(7)], 50, Some(7));
        check(&[Some(7)], 99, Some(7));
        check(&[None, Some(3), Some(1)], 50, Some(3));
        check(&[None, Some(3), Some(1)], 99, None);
        check(&[Some(4), Some(3), Some(2), Some(1)], 50, Some(2));
    }
}
