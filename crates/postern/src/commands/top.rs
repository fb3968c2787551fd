//! `top`: the server's `status` once a second, drawn.
//!
//! Only asks and draws; it changes nothing, and the server notices no more of it than of `status`. What is drawn is in
//! `top/view.rs`, how figures become rates in `top/history.rs`.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use serde_json::Value;

mod history;
mod view;

use super::screen::{self, Key, Screen};
use super::{connect, print};
use crate::args::ServerArgs;
use crate::config::data_dir;
use crate::control::Ask;
use crate::control::client::Client;
use crate::exit::Failure;
use history::History;

/// What is known, and how it is to be shown.
#[derive(Debug, Default)]
struct Top {
    history: History,
    /// Why the last question had no answer.
    away: Option<String>,
    paused: bool,
    help: bool,
}

impl Top {
    fn take(&mut self, answer: Result<Value, Failure>, at: Instant) {
        match answer {
            _ if self.paused => {}
            Ok(status) => {
                self.away = None;
                self.history.add(at, status);
            }
            Err(failure) => self.away = Some(failure.what),
        }
    }
}

/// `postern top [--once]`.
///
/// # Errors
/// With `--once`: no server answers. Otherwise only the terminal's: a server that is away is waited for.
pub(crate) fn top(once: bool, server: &ServerArgs) -> Result<(), Failure> {
    if once {
        return frame(server);
    }
    let data = data_dir(server.data.as_deref(), server.config.as_deref())?;
    let stop = screen::interrupted()?;
    let answers = ask_every_second(data);
    if !screen::is_there() {
        return lines(&answers, &|| stop.load(Ordering::Relaxed));
    }
    let mut screen = Screen::open()?;
    let mut top = Top::default();
    while !stop.load(Ordering::Relaxed) {
        while let Ok((at, answer)) = answers.try_recv() {
            top.take(answer, at);
        }
        screen.draw(|frame| view::draw(frame, &top))?;
        match screen.key(KEY_WAIT)? {
            Some(Key::Quit) => break,
            Some(Key::Pause) => top.paused = !top.paused,
            Some(Key::Help) => top.help = !top.help,
            None => {}
        }
    }
    Ok(())
}

/// One frame as text, as high as it needs to be. Two questions a second apart: rates need both.
fn frame(server: &ServerArgs) -> Result<(), Failure> {
    let mut top = Top::default();
    for turn in 0..2 {
        if turn > 0 {
            std::thread::sleep(EVERY);
        }
        let status = connect(server)?.ask(Ask::Status)?;
        top.take(Ok(status), Instant::now());
    }
    print(&screen::text(&view::lines(&top, PRINTED_COLUMNS)))
}

/// Without a terminal: a line a second.
fn lines(answers: &Receiver<(Instant, Result<Value, Failure>)>, stop: &dyn Fn() -> bool) -> Result<(), Failure> {
    let mut top = Top::default();
    while !stop() {
        match answers.recv_timeout(KEY_WAIT) {
            Ok((at, answer)) => {
                top.take(answer, at);
                if !write_line(&view::one_line(&top))? {
                    return Ok(());
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
    Ok(())
}

/// False when the reader has gone away (`| head`).
fn write_line(line: &str) -> Result<bool, Failure> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::io(crate::exit::Code::Io, "standard output", &error)),
    }
}

/// On a thread of its own: a server whose disk hangs may take 30 s to answer, and keys are heard meanwhile.
fn ask_every_second(data: PathBuf) -> Receiver<(Instant, Result<Value, Failure>)> {
    let (answers, taken) = sync_channel(1);
    // Without the thread nothing is asked and the receiver says so: it is then disconnected.
    let _ = std::thread::Builder::new().name("status".to_owned()).spawn(move || ask_until_unheard(&data, &answers));
    taken
}

fn ask_until_unheard(data: &Path, answers: &SyncSender<(Instant, Result<Value, Failure>)>) {
    loop {
        let asked = Instant::now();
        let answer = Client::connect(data).and_then(|mut client| client.ask(Ask::Status));
        if answers.send((Instant::now(), answer)).is_err() {
            return;
        }
        std::thread::sleep(EVERY.saturating_sub(asked.elapsed()));
    }
}

/// How often `status` is asked: its own figures are a second old at most.
const EVERY: Duration = Duration::from_secs(1);
/// How soon a key or a signal is heard.
const KEY_WAIT: Duration = Duration::from_millis(200);
/// Columns of a frame that nobody's terminal bounds.
const PRINTED_COLUMNS: usize = 100;

#[cfg(test)]
mod tests;
