//! Bots that finish their handshakes: cookie, appointment, TLS with a key that nobody knows, IDENT; and back at once.
//!
//! What they cost the door is its handshake pool and its look at their identity. Each has a socket at its address; a tokio
//! thread plays them all.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quinn::rustls::ClientConfig;
use tokio::task::JoinSet;

use super::link::{self, LinkError, Pass};
use super::plan::Assault;
use super::spray::Bounds;
use super::tally::Tally;
use super::tls::Identity;

/// Attacks until the end.
///
/// # Errors
/// The system refuses a runtime; sockets that it refuses are counted.
pub(super) fn run(target: SocketAddr, assault: &Assault, tally: &Arc<Tally>, bounds: &Bounds<'_>) -> io::Result<()> {
    let origins = assault.origins().ok_or_else(|| io::Error::other("the plan was not checked"))?;
    let tls = Identity::unknown().map_err(io::Error::other)?.client(None);
    let left = Arc::new(AtomicU64::new(assault.packets_max.unwrap_or(u64::MAX)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let started = Instant::now();
        let mut bots = JoinSet::new();
        // All together come at the rate; each in its turn.
        let every =
            (assault.rate > 0).then(|| Duration::from_secs_f64(f64::from(assault.sources) / f64::from(assault.rate)));
        for number in 0..origins.count {
            let bot = Bot {
                target,
                from: origins.at(number),
                number,
                tls: Arc::clone(&tls),
                tally: Arc::clone(tally),
                left: Arc::clone(&left),
            };
            let first = every.map(|every| every.mul_f64(f64::from(number) / f64::from(assault.sources)));
            bots.spawn(bot.play(first, every));
        }
        while !bounds.over() && !bots.is_empty() {
            tokio::select! {
                _ = bots.join_next() => {}
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            tally.us.set(started.elapsed().as_micros() as u64);
        }
        bots.shutdown().await;
        Ok(())
    })
}

struct Bot {
    target: SocketAddr,
    from: IpAddr,
    number: u32,
    tls: Arc<ClientConfig>,
    tally: Arc<Tally>,
    left: Arc<AtomicU64>,
}

impl Bot {
    async fn play(self, first: Option<Duration>, every: Option<Duration>) {
        tokio::time::sleep(first.unwrap_or_default()).await;
        let end = match link::endpoint(self.from, None) {
            Ok(end) => end,
            Err(error) => return self.tally.refused(&error.to_string()),
        };
        let mut next = tokio::time::interval(every.unwrap_or(Duration::from_millis(1)));
        next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            next.tick().await;
            match tokio::time::timeout(PATIENCE, self.once(&end)).await {
                Ok(Ok(())) => self.tally.accepted.add(1),
                Ok(Err(error)) => self.tally.refused(&error.cause()),
                Err(_) => self.tally.refused("too late"),
            }
        }
    }

    async fn once(&self, end: &quinn::Endpoint) -> Result<(), LinkError> {
        self.tally.hellos.add(1);
        let asked = tokio::time::timeout(ANSWER, link::ask_for_cookie(self.target, self.from));
        let pass = match asked.await {
            Ok(challenge) => {
                let challenge = challenge?;
                self.tally.cookies.add(1);
                if challenge.wait_s() > 0 {
                    self.tally.appointments.add(1);
                    tokio::time::sleep(Duration::from_secs(u64::from(challenge.wait_s()))).await;
                }
                Pass::Cookie(challenge)
            }
            // A server that is no door, or one that is silent to strangers now.
            Err(_) => Pass::None,
        };
        self.tally.initials.add(1);
        let connection = tokio::time::timeout(HANDSHAKE, link::handshake(end, self.target, &self.tls, &pass))
            .await
            .map_err(|_| LinkError::Odd("no handshake".to_owned()))??;
        self.tally.initials_answered.add(1);
        self.tally.handshakes.add(1);
        let how = link::identify(&connection, &format!("bot{}.example", self.number), None).await;
        connection.close(0_u32.into(), b"");
        how.map(drop)
    }
}

/// For a CHALLENGE: two questions.
const ANSWER: Duration = Duration::from_millis(600);

/// For a handshake.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// For a whole visit, a long appointment included.
const PATIENCE: Duration = Duration::from_secs(600);
