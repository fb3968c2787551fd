//! A filter that speaks the milter protocol (version 6) and changes every message in the same way. It refuses recipients
//! whose name begins with `no`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use postern_drain::{FilterOptions, OnSpam};
use postern_net::filter::{Filter, Kind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub struct Milter {
    port: u16,
    judged: Arc<AtomicUsize>,
}

impl Milter {
    /// `changes` are said at the end of each message: a command and its octets.
    pub async fn start(changes: &'static [(u8, &'static [u8])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let judged = Arc::new(AtomicUsize::new(0));
        let count = judged.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let count = count.clone();
                // A client that goes away ends the session; nothing to tell.
                tokio::spawn(async move { session(stream, changes, &count).await.ok() });
            }
        });
        Self { port, judged }
    }

    pub fn options(&self) -> FilterOptions {
        let kind = Kind::parse(&format!("milter:inet:127.0.0.1:{}", self.port)).unwrap();
        let filter = Filter { name: "milter".into(), kind, timeout: super::PATIENCE / 2 };
        FilterOptions { filter, workers: 4, on_spam: OnSpam::Mark }
    }

    pub fn judged(&self) -> usize {
        self.judged.load(Ordering::SeqCst)
    }
}

async fn session(mut stream: TcpStream, changes: &[(u8, &[u8])], judged: &AtomicUsize) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let length = stream.read_u32().await?;
        let mut packet = vec![0; length as usize];
        stream.read_exact(&mut packet).await?;
        match packet[0] {
            // Version 6, every change, every step.
            b'O' => say(&mut stream, b'O', &[0, 0, 0, 6, 0, 0, 1, 0xff, 0, 0, 0, 0]).await?,
            b'D' | b'A' | b'K' => {}
            b'Q' => return Ok(()),
            b'E' => {
                judged.fetch_add(1, Ordering::SeqCst);
                for (command, octets) in changes {
                    say(&mut stream, *command, octets).await?;
                }
                say(&mut stream, b'c', b"").await?;
            }
            b'R' if packet.starts_with(b"R<no") => say(&mut stream, b'r', b"").await?,
            _ => say(&mut stream, b'c', b"").await?,
        }
    }
}

async fn say(stream: &mut TcpStream, command: u8, octets: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(octets.len() + 1).unwrap();
    let packet = [&length.to_be_bytes(), [command].as_slice(), octets].concat();
    stream.write_all(&packet).await
}
