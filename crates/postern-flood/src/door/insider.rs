//! Insiders: peers whom the door lets in, and who then take all they can get.
//!
//! Each holds a connection with the key of the peer that the plan names (else the friends', else one that nobody knows) and misuses its
//! streams: slow, hoarding, greedy, resetting. What the door must show is that its limits by class hold and that other
//! peers do not feel it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::Connection;
use quinn::rustls::ClientConfig;
use tokio::task::JoinSet;

use super::attack::Attack;
use super::link::{self, Letter, LinkError, MailStream, Pass};
use super::plan::{Assault, DoorFriends, Entry, Peer};
use super::spray::Bounds;
use super::tally::Tally;
use super::tls::Identity;

/// Attacks until the end.
///
/// # Errors
/// The system refuses a runtime, or the key cannot be read.
pub(super) fn run(
    target: SocketAddr,
    assault: &Assault,
    friends: Option<&DoorFriends>,
    tally: &Arc<Tally>,
    bounds: &Bounds<'_>,
) -> io::Result<()> {
    let origins = assault.origins().ok_or_else(|| io::Error::other("the plan was not checked"))?;
    let mut friend = friends.cloned().unwrap_or_default();
    if let Some(Peer { domain, key }) = assault.peer.clone() {
        (friend.domain, friend.key) = (domain, Some(key));
    }
    let key = friend.key.as_deref().map_or_else(Identity::unknown, Identity::load).map_err(io::Error::other)?;
    let tls = key.client(None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let started = Instant::now();
        let mut insiders = JoinSet::new();
        let text: Arc<[u8]> = link::letter_text(&friend.domain, &friend.recipient, friend.bytes).into();
        for number in 0..origins.count {
            let insider = Insider {
                target,
                from: origins.at(number),
                attack: assault.attack,
                tls: Arc::clone(&tls),
                friend: friend.clone(),
                text: Arc::clone(&text),
                tally: Arc::clone(tally),
            };
            insiders.spawn(insider.play());
        }
        while !bounds.over() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            tally.us.set(started.elapsed().as_micros() as u64);
        }
        insiders.shutdown().await;
        Ok(())
    })
}

#[derive(Clone)]
struct Insider {
    target: SocketAddr,
    from: IpAddr,
    attack: Attack,
    tls: Arc<ClientConfig>,
    friend: DoorFriends,
    text: Arc<[u8]>,
    tally: Arc<Tally>,
}

impl Insider {
    async fn play(self) {
        loop {
            if let Err(error) = self.once().await {
                self.tally.refused(&error.cause());
            }
            tokio::time::sleep(BACK).await;
        }
    }

    /// One connection, until the door ends it.
    async fn once(&self) -> Result<(), LinkError> {
        let end = link::endpoint(self.from, None)?;
        let pass = match self.friend.entry {
            Entry::Plain => Pass::None,
            Entry::Door => {
                let challenge = link::ask_for_cookie(self.target, self.from).await?;
                tokio::time::sleep(Duration::from_secs(u64::from(challenge.wait_s()))).await;
                Pass::Cookie(challenge)
            }
        };
        let connection = link::handshake(&end, self.target, &self.tls, &pass).await?;
        self.tally.handshakes.add(1);
        link::identify(&connection, &self.friend.domain, None).await?;
        self.tally.accepted.add(1);
        let mut streams = JoinSet::new();
        // As many as are allowed: opening waits when they are all taken, and goes on when one is free again.
        loop {
            tokio::select! {
                opened = self.clone().stream(connection.clone()) => {
                    let work = opened?;
                    self.tally.streams.add(1);
                    streams.spawn(work);
                }
                Some(ended) = streams.join_next() => {
                    if let Ok(Err(error)) = ended {
                        if connection.close_reason().is_some() {
                            return Err(error);
                        }
                        self.tally.refused(&error.cause());
                    }
                }
            }
        }
    }

    /// Opens one; what is then done on it comes back to be run beside the others.
    async fn stream(
        self,
        connection: Connection,
    ) -> Result<std::pin::Pin<Box<dyn Future<Output = Result<(), LinkError>> + Send>>, LinkError> {
        if self.attack == Attack::Greedy {
            let stream = MailStream::open(&connection).await?;
            return Ok(Box::pin(self.greedy(stream)));
        }
        let (mut send, receive) = connection.open_bi().await?;
        let attack = self.attack;
        Ok(Box::pin(async move {
            // Never read: the window of replies fills.
            let _unread = receive;
            match attack {
                Attack::ResetStreams => {
                    send.write_all(b"EHLO reset.example\r\n").await?;
                    let _ = send.reset(0_u32.into());
                }
                Attack::SlowStreams => {
                    for octet in b"EHLO ".iter().chain(std::iter::repeat(&b'a')) {
                        send.write_all(&[*octet]).await?;
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
                _ => {
                    let begin = format!(
                        "EHLO mail.{0}\r\nMAIL FROM:<friend@{0}>\r\nRCPT TO:<{1}>\r\nBDAT 100000000 LAST\r\n",
                        self.friend.domain, self.friend.recipient
                    );
                    send.write_all(begin.as_bytes()).await?;
                    let chunk = [b'a'; crate::limits::STREAM_CHUNK_BYTES];
                    // Whatever the windows take, and then an octet a second to look alive.
                    while let Ok(written) =
                        tokio::time::timeout(Duration::from_millis(200), send.write_all(&chunk)).await
                    {
                        written?;
                    }
                    loop {
                        send.write_all(b"a").await?;
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
            Ok(())
        }))
    }

    /// Mail without a pause.
    async fn greedy(self, mut stream: MailStream) -> Result<(), LinkError> {
        let letter = Letter { domain: &self.friend.domain, recipient: &self.friend.recipient, text: &self.text };
        loop {
            match stream.deliver(&letter).await {
                Ok(()) => self.tally.messages.add(1),
                Err(LinkError::Refused(code)) => self.tally.refused(&format!("reply {code}")),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Before an insider comes back.
const BACK: Duration = Duration::from_millis(100);
