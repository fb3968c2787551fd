//! The other side of a mail stream, and the wire between.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::Notify as Bell;
use tokio::time::{sleep, sleep_until};

use super::*;

/// How a responder behaves.
#[derive(Clone, Default)]
pub(super) struct Rules {
    /// It reads no faster.
    pub(super) bytes_per_second: Option<u32>,
    /// The first link breaks when so many messages have been answered; the replies to those after have gone.
    pub(super) cut_after_messages: Option<usize>,
    /// Streams beyond this number are told that there is no room, and are not read.
    pub(super) streams_served: Option<usize>,
}

/// Takes mail for every recipient but `no@…`; clones share what was taken.
#[derive(Clone, Default)]
pub(super) struct Responder {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    taken: StdMutex<Vec<String>>,
    said: StdMutex<Vec<String>>,
    streams: AtomicUsize,
    answered: AtomicUsize,
    cut: AtomicBool,
    was_cut: AtomicBool,
    bell: Bell,
    refuses: AtomicBool,
}

impl Responder {
    pub(super) fn taken(&self) -> Vec<String> {
        self.shared.taken.lock().expect("sound").clone()
    }

    /// How many lines held `word`.
    pub(super) fn said(&self, word: &str) -> usize {
        self.shared.said.lock().expect("sound").iter().filter(|line| line.contains(word)).count()
    }

    pub(super) fn streams(&self) -> usize {
        self.shared.streams.load(Ordering::Relaxed)
    }

    pub(super) fn refuse_streams(&self) {
        self.shared.refuses.store(true, Ordering::Relaxed);
    }

    pub(super) fn refuses_streams(&self) -> bool {
        self.shared.refuses.load(Ordering::Relaxed)
    }

    /// Ends every stream of the link that there is.
    pub(super) fn cut(&self) {
        self.shared.was_cut.store(true, Ordering::Relaxed);
        self.shared.cut.store(true, Ordering::Relaxed);
        self.shared.bell.notify_waiters();
    }

    pub(super) fn is_cut(&self) -> bool {
        self.shared.cut.load(Ordering::Relaxed)
    }

    /// A new link.
    pub(super) fn mend(&self) {
        self.shared.cut.store(false, Ordering::Relaxed);
    }

    pub(super) fn serve(&self, stream: impl Octets + 'static, rules: Rules) {
        let responder = self.clone();
        let before = self.shared.streams.fetch_add(1, Ordering::Relaxed);
        if rules.streams_served.is_some_and(|served| before >= served) {
            let (_unread, mut writer) = tokio::io::split(stream);
            tokio::spawn(async move {
                let told = writer.write_all(b"421 4.3.2 Too many mail streams, try again later\r\n").await;
                told.and(writer.shutdown().await)
            });
            return;
        }
        tokio::spawn(async move {
            let cut = responder.shared.bell.notified();
            tokio::select! {
                _ = responder.talk(stream, rules) => {}
                () = cut => {}
            }
        });
    }

    async fn talk(&self, stream: impl Octets, rules: Rules) -> std::io::Result<()> {
        let (reader, mut writer) = tokio::io::split(stream);
        let mut reader = BufReader::new(reader);
        let mut recipients: Vec<String> = Vec::new();
        let (mut body, mut open) = (Vec::new(), false);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            self.shared.said.lock().expect("sound").push(line.clone());
            let mut words = line.split_whitespace();
            let reply = match words.next() {
                Some("EHLO") => "250-mx.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 0\r\n250 CHUNKING",
                Some("MAIL") if open => "503 nested",
                Some("MAIL") => {
                    (open, recipients, body) = (true, Vec::new(), Vec::new());
                    "250 ok"
                }
                Some("RCPT") if line.contains("<no@") => "550 5.1.1 no",
                Some("RCPT") => {
                    recipients.push(line.split(['<', '>']).nth(1).unwrap_or_default().to_owned());
                    "250 ok"
                }
                Some("BDAT") => {
                    let size = words.next().and_then(|size| size.parse().ok()).unwrap_or(0);
                    let mut chunk = vec![0; size];
                    reader.read_exact(&mut chunk).await?;
                    if let Some(rate) = rules.bytes_per_second {
                        sleep(Duration::from_secs_f64(size as f64 / f64::from(rate))).await;
                    }
                    body.extend(chunk);
                    match words.next() {
                        Some("LAST") if recipients.is_empty() => "554 no recipients",
                        Some("LAST") => {
                            open = false;
                            if !self.take(&recipients, &body, &rules) {
                                return Ok(());
                            }
                            "250 taken"
                        }
                        _ => "250 chunk",
                    }
                }
                Some("RSET") => {
                    open = false;
                    "250 reset"
                }
                Some("QUIT") => "221 bye",
                _ => "500 what?",
            };
            writer.write_all(format!("{reply}\r\n").as_bytes()).await?;
            if reply == "221 bye" {
                return Ok(());
            }
        }
    }

    /// Takes responsibility; false when the link breaks before the answer.
    fn take(&self, recipients: &[String], body: &[u8], rules: &Rules) -> bool {
        let text = format!("{}: {}", recipients.join(","), String::from_utf8_lossy(body));
        self.shared.taken.lock().expect("sound").push(text);
        let answered = self.shared.answered.fetch_add(1, Ordering::Relaxed);
        let breaks = rules.cut_after_messages == Some(answered) && !self.shared.was_cut.load(Ordering::Relaxed);
        if breaks {
            self.cut();
        }
        !breaks
    }
}

/// Two ends of a wire on which each octet takes `delay`.
pub(super) fn wire(delay: Duration) -> (DuplexStream, DuplexStream) {
    let (ours, near) = tokio::io::duplex(256 * 1024);
    let (far, theirs) = tokio::io::duplex(256 * 1024);
    let (near_reader, near_writer) = tokio::io::split(near);
    let (far_reader, far_writer) = tokio::io::split(far);
    tokio::spawn(carry(near_reader, far_writer, delay));
    tokio::spawn(carry(far_reader, near_writer, delay));
    (ours, theirs)
}

async fn carry(
    mut from: tokio::io::ReadHalf<DuplexStream>,
    mut to: tokio::io::WriteHalf<DuplexStream>,
    delay: Duration,
) {
    let mut on_the_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut open = true;
    let mut room = vec![0; 64 * 1024];
    while open || !on_the_way.is_empty() {
        let due = on_the_way.front().map_or_else(Instant::now, |(due, _)| *due);
        let crowded = on_the_way.len() >= 8;
        tokio::select! {
            read = from.read(&mut room), if open && !crowded => match read {
                Ok(n @ 1..) => on_the_way.push_back((Instant::now() + delay, room[..n].to_vec())),
                _ => open = false,
            },
            () = sleep_until(due), if !on_the_way.is_empty() => {
                let Some((_, octets)) = on_the_way.pop_front() else { continue };
                if to.write_all(&octets).await.is_err() {
                    return;
                }
            }
        }
    }
    let _ = to.shutdown().await;
}
