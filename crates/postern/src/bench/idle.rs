//! Connections that say nothing: what each costs the server, and whether a new client notices.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::load::Dialogue;
use super::server::{Server, Setup};
use crate::exit::{Code, Failure};

/// Name, connections, after STARTTLS.
pub(super) const KINDS: [(&str, u32, bool); 2] =
    [("idle connections", 15_000, false), ("idle connections after STARTTLS", 2_000, true)];

/// A connection that is kept.
enum Idle {
    Plain { _stream: TcpStream },
    Tls { _stream: Box<tokio_rustls::client::TlsStream<TcpStream>> },
}

/// Opens them, weighs the server, and times new clients beside them.
pub(super) fn measure(name: &str, count: u32, starttls: bool) -> Result<Value, Failure> {
    let failed = |error: &io::Error| {
        Failure::io(Code::Os, format!("{count} {name}"), error).cure("needs as many open files: `ulimit -n 40000`")
    };
    let limit = postern_net::socket::raise_nofile_limit().map_err(|error| failed(&error))?;
    let count = count.min(u32::try_from(limit.saturating_sub(256)).unwrap_or(u32::MAX));
    let server = Server::start(&Setup::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error))?;
    runtime.block_on(async {
        // The first connections pay for what all share.
        drop(open(server.addr(), WARM_UP, starttls).await.map_err(|error| failed(&error))?);
        tokio::time::sleep(SETTLE).await;
        let before = server.memory()?;
        let idle = open(server.addr(), count, starttls).await.map_err(|error| failed(&error))?;
        tokio::time::sleep(SETTLE).await;
        let after = server.memory()?;
        let mut greetings = Vec::new();
        for _ in 0..GREETINGS {
            let began = Instant::now();
            let stream = TcpStream::connect(server.addr()).await.map_err(|error| failed(&error))?;
            Dialogue::new(stream).expect(220).await.map_err(|error| failed(&error))?;
            greetings.push(began.elapsed());
        }
        greetings.sort_unstable();
        let millis = |time: Option<&Duration>| time.map_or(0.0, |time| (time.as_secs_f64() * 1e5).round() / 100.0);
        let each = |before: u64, after: u64| after.saturating_sub(before) / idle.len().max(1) as u64;
        Ok(json!({
            "name": name,
            "connections": idle.len(),
            "resident_bytes_each": each(before.0, after.0),
            "private_bytes_each": each(before.1, after.1),
            "greeting_p50_ms": millis(greetings.get(greetings.len() / 2)),
            "greeting_max_ms": millis(greetings.last()),
        }))
    })
}

async fn open(addr: SocketAddr, count: u32, starttls: bool) -> io::Result<Vec<Idle>> {
    let mut idle = Vec::with_capacity(count as usize);
    let connector = starttls.then(|| TlsConnector::from(postern_net::tls::client_config()));
    for _ in 0..count {
        let stream = TcpStream::connect(addr).await?;
        let mut dialogue = Dialogue::new(stream);
        dialogue.expect(220).await?;
        idle.push(match &connector {
            None => Idle::Plain { _stream: dialogue.stream },
            Some(connector) => {
                dialogue.say(b"EHLO bench.example\r\n", 250).await?;
                dialogue.say(b"STARTTLS\r\n", 220).await?;
                let name = ServerName::try_from("bench.localhost").map_err(io::Error::other)?;
                let mut tls = Dialogue::new(connector.connect(name, dialogue.stream).await?);
                tls.say(b"EHLO bench.example\r\n", 250).await?;
                Idle::Tls { _stream: Box::new(tls.stream) }
            }
        });
    }
    Ok(idle)
}

/// Connections before the first weighing. Few: what they leave behind in the allocator is used
/// again by those that are weighed, and would make them look too light.
const WARM_UP: u32 = 20;
/// New clients that are timed.
const GREETINGS: u32 = 200;
/// For what the server does after the last byte: freeing, closing.
const SETTLE: Duration = Duration::from_millis(500);
