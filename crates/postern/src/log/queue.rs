//! From the threads that log to the one that writes: a bounded queue of finished lines.
//!
//! Full means that standard error takes no more: then lines are dropped and counted, and the count
//! is written when there is room. A door never waits for a log.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// The end that threads write lines to.
#[derive(Clone)]
pub(super) struct LogQueue {
    lines: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

enum Line {
    Text(Box<[u8]>),
    Stop,
}

/// The thread that writes; what is queued is written before it is gone.
pub(crate) struct LogThread {
    lines: SyncSender<Line>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the thread.
pub(super) fn start() -> (LogQueue, LogThread) {
    let (lines, receiver) = sync_channel(LINES_MAX);
    let dropped = Arc::new(AtomicU64::new(0));
    let queue = LogQueue { lines: lines.clone(), dropped: dropped.clone() };
    let write = move || write_lines(&receiver, &dropped, &mut io::stderr());
    // Without a thread the queue fills and lines are dropped: the server still serves.
    let thread = std::thread::Builder::new().name("log".into()).spawn(write).ok();
    (queue, LogThread { lines, thread })
}

fn write_lines(receiver: &Receiver<Line>, dropped: &AtomicU64, out: &mut impl Write) {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES_MAX);
    while let Ok(first) = receiver.recv() {
        let mut next = Some(first);
        let until = Instant::now() + GATHER;
        let mut stop = false;
        while let Some(line) = next.take() {
            match line {
                Line::Text(line) => buffer.extend_from_slice(&line),
                Line::Stop => stop = true,
            }
            if buffer.len() < BUFFER_BYTES_MAX && !stop {
                next = receiver.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
            }
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            buffer
                .extend_from_slice(format!("log: {lost} lines were dropped, standard error was too slow\n").as_bytes());
        }
        // Nobody is left to be told that the log cannot be written.
        let _ = out.write_all(&buffer);
        buffer.clear();
        if stop {
            return;
        }
    }
}

impl Write for LogQueue {
    /// The formatter hands over one whole line at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.lines.try_send(Line::Text(line.into())) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        let _ = self.lines.send(Line::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Lines waiting: 20 a second of every kind of line, for some seconds; about 2 MiB.
const LINES_MAX: usize = 8192;
/// Written at once.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// How long a line may wait for company: one system call for many lines under load.
const GATHER: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queued_line_is_written_in_order_before_the_thread_ends_and_drops_are_told() {
        let (sender, receiver) = sync_channel(4);
        let dropped = Arc::new(AtomicU64::new(0));
        let mut queue = LogQueue { lines: sender.clone(), dropped: dropped.clone() };
        for n in 0..6 {
            queue.write_all(format!("{n}\n").as_bytes()).expect("never fails");
        }
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
        let mut out = Vec::new();
        drop((queue, sender));
        write_lines(&receiver, &dropped, &mut out);
        let text = String::from_utf8(out).expect("text");
        assert!(text.starts_with("0\n1\n2\n3\n"), "{text}");
        assert!(text.contains("2 lines were dropped"), "{text}");
    }
}
