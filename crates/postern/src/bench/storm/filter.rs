//! A filter that takes its time: it speaks as much of rspamd's HTTP protocol as our client asks for, judges so many
//! messages a second one after the other, first come, first served, and counts whose they were. Spam is what the
//! generator's bots send.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, oneshot};

use crate::exit::{Code, Failure};

/// A running one; it ends when dropped.
pub(super) struct Filter {
    addr: SocketAddr,
    counts: Arc<Counts>,
    _stop: oneshot::Sender<()>,
}

/// What it has judged.
pub(super) struct Judged {
    pub(super) spam: u64,
    pub(super) friends: u64,
}

#[derive(Default)]
struct Counts {
    spam: AtomicU64,
    friends: AtomicU64,
}

impl Filter {
    /// Starts it on a thread of its own.
    pub(super) fn start(per_second: u32) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::io(Code::Os, "filter", &error);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let counts = Arc::<Counts>::default();
        let (stop, stopped) = oneshot::channel::<()>();
        let shared = counts.clone();
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = serve(listener, Duration::from_secs(1) / per_second, shared) => {}
                }
            });
        };
        std::thread::Builder::new().name("filter".into()).spawn(serve).map_err(failed)?;
        Ok(Self { addr, counts, _stop: stop })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn judged(&self) -> Judged {
        Judged { spam: self.counts.spam.load(Relaxed), friends: self.counts.friends.load(Relaxed) }
    }
}

async fn serve(listener: std::net::TcpListener, each: Duration, counts: Arc<Counts>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    // When it will have judged all that it was given; tokio's mutex is fair.
    let free_at = Arc::new(Mutex::new(tokio::time::Instant::now()));
    while let Ok((stream, _)) = listener.accept().await {
        let (free_at, counts) = (free_at.clone(), counts.clone());
        // A client that goes away wants no answer.
        tokio::spawn(async move { judge(stream, &free_at, each, &counts).await.ok() });
    }
}

async fn judge(
    mut stream: TcpStream,
    free_at: &Mutex<tokio::time::Instant>,
    each: Duration,
    counts: &Counts,
) -> io::Result<()> {
    let request = read_request(&mut stream).await?;
    let done = {
        let mut free_at = free_at.lock().await;
        *free_at = (*free_at).max(tokio::time::Instant::now()) + each;
        *free_at
    };
    tokio::time::sleep_until(done).await;
    let spam = contains(&request, b"@bots.example");
    let count = if spam { &counts.spam } else { &counts.friends };
    count.fetch_add(1, Relaxed);
    let (action, score) = if spam { ("add header", 12.5) } else { ("no action", 0.5) };
    let answer = format!(r#"{{"action":"{action}","score":{score},"required_score":15.0,"symbols":{{}}}}"#);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        answer.len()
    );
    stream.write_all((head + &answer).as_bytes()).await?;
    stream.shutdown().await
}

/// Header and body, as long as the header says.
async fn read_request(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut request = Vec::with_capacity(8 << 10);
    loop {
        if let Some(total) = total_bytes(&request)?
            && request.len() >= total
        {
            return Ok(request);
        }
        if request.len() > REQUEST_BYTES_MAX || stream.read_buf(&mut request).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Of header and body together; `None` while the header is not whole.
fn total_bytes(request: &[u8]) -> io::Result<Option<usize>> {
    let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let header = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let length = header.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    // Ours says how long its body is; without that there is nothing to judge.
    length.map(|length| Some(end + 4 + length)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn contains(request: &[u8], word: &[u8]) -> bool {
    request.windows(word.len()).any(|window| window == word)
}

/// The generator's messages have 4 KiB.
const REQUEST_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_where_its_length_says() {
        let check = |request: &[u8], expected: Option<usize>| {
            assert_eq!(
                total_bytes(request).expect("it has a length"),
                expected,
                "{}",
                String::from_utf8_lossy(request)
            );
        };
        check(b"POST /checkv2 HTTP/1.1\r\nContent-Len", None);
        check(b"POST / HTTP/1.1\r\nContent-Length: 7\r\n\r\n", Some(45));
        check(b"POST / HTTP/1.1\r\nFrom: <a@bots.example>\r\ncontent-length:0\r\n\r\nmore", Some(61));
        assert!(total_bytes(b"POST / HTTP/1.1\r\n\r\n").is_err());
    }
}
