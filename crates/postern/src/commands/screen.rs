//! The terminal of `top` and `demo`: taken for as long as a [`Screen`] lives, and given back whatever happens.
//!
//! Drawing is from lines to cells, never from a server: what is shown is decided in `top/view.rs` and `demo/view.rs`.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use ratatui::{DefaultTerminal, Frame};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Code, Failure};

/// What a person pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// q, Esc or Ctrl-C.
    Quit,
    /// p or the space bar.
    Pause,
    /// ?
    Help,
}

/// The terminal in our hands.
pub(crate) struct Screen(DefaultTerminal);

impl Screen {
    /// Takes it. A panic from then on gives it back first, so that its message can be read.
    ///
    /// # Errors
    /// The terminal's.
    pub(crate) fn open() -> Result<Self, Failure> {
        ratatui::try_init().map(Self).map_err(|error| failed(&error))
    }

    /// Draws one frame.
    ///
    /// # Errors
    /// The terminal's.
    pub(crate) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> Result<(), Failure> {
        self.0.draw(draw).map(drop).map_err(|error| failed(&error))
    }

    /// The next key that means something, if one comes within this time.
    ///
    /// # Errors
    /// The terminal's.
    pub(crate) fn key(&self, within: Duration) -> Result<Option<Key>, Failure> {
        if !event::poll(within).map_err(|error| failed(&error))? {
            return Ok(None);
        }
        let Event::Key(key) = event::read().map_err(|error| failed(&error))? else { return Ok(None) };
        if key.kind == KeyEventKind::Release {
            return Ok(None);
        }
        Ok(match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Quit),
            KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
            KeyCode::Char('p' | ' ') => Some(Key::Pause),
            KeyCode::Char('?' | 'h') => Some(Key::Help),
            _ => None,
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Whether there is one to draw on.
pub(crate) fn is_there() -> bool {
    std::io::stdout().is_terminal() && std::io::stdin().is_terminal()
}

/// Set by SIGINT, SIGTERM or SIGHUP: so that a frame is finished, the terminal given back, and children are ended.
///
/// # Errors
/// The system refuses a thread.
pub(crate) fn interrupted() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&stop);
    let failed = |error: &std::io::Error| Failure::io(Code::Os, "signals", error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error))?;
    let listen = async move {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else { return };
        loop {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, _ = hangup.recv() => {} }
            heard.store(true, Ordering::Relaxed);
        }
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || runtime.block_on(listen))
        .map_err(|error| failed(&error))?;
    Ok(stop)
}

/// Lines from the top; what has no room is counted in the last one, instead of missing in silence.
pub(crate) fn paint(frame: &mut Frame<'_>, area: Rect, lines: Vec<Line<'static>>) {
    let room = usize::from(area.height);
    let mut shown = lines;
    if shown.len() > room {
        let left_out = shown.len() + 1 - room;
        shown.truncate(room.saturating_sub(1));
        shown.push(Line::from(format!("… {left_out} more lines: a taller window shows them").dim()));
    }
    frame.render_widget(Paragraph::new(shown), area);
}

/// The same lines without a terminal.
pub(crate) fn text(lines: &[Line<'static>]) -> String {
    let line = |line: &Line<'static>| line.to_string().trim_end().to_owned() + "\n";
    lines.iter().map(line).collect()
}

/// The course of a figure in one row: the newest at the right, the highest as high as the row. Where there are more
/// values than columns, each column is the highest of its share.
pub(crate) fn spark(values: &[u64], columns: usize) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let share = values.len().div_ceil(columns.max(1)).max(1);
    let highest = values.iter().copied().max().unwrap_or(0).max(1);
    let bar = |values: &[u64]| {
        let value = values.iter().copied().max().unwrap_or(0);
        // What is more than nothing is seen.
        BARS[usize::try_from((value * 8).div_ceil(highest)).unwrap_or(8).min(8)]
    };
    values.chunks(share).map(bar).collect()
}

/// Grey, for what names a figure.
pub(crate) fn label(text: impl Into<String>) -> Span<'static> {
    Span::styled(text.into(), Style::new().fg(Color::DarkGray))
}

/// For what wants a person.
pub(crate) fn alarm(text: impl Into<String>) -> Line<'static> {
    Line::styled(text.into(), Style::new().fg(Color::White).bg(Color::Red).add_modifier(Modifier::BOLD))
}

fn failed(error: &std::io::Error) -> Failure {
    Failure::io(Code::Io, "the terminal", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_course_is_as_high_as_its_highest_and_shows_what_is_more_than_nothing() {
        for (values, columns, expected) in [
            (&[][..], 10, ""),
            (&[0, 0], 10, "  "),
            (&[0, 1, 4, 8], 10, " ▁▄█"),
            (&[1, 1_000], 10, "▁█"),
            (&[1, 8, 0, 0, 4, 2], 3, "█ ▄"),
        ] {
            assert_eq!(spark(values, columns), expected, "{values:?}");
        }
    }
}
