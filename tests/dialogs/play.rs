//! Plays a dialog: sends what the client says in a given packing, and holds the replies against their patterns.
//!
//! Called by `Dialog::play` only. Knows nothing of files, sockets or sessions.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Dialog, Packing, Step, Wire};

/// A conversation under way.
pub(super) struct Play<'a, W> {
    wire: &'a mut W,
    packing: Packing,
    transcript: String,
    last_reply: Vec<String>,
    /// Read while skipping, and meant for the next `S:`.
    unread: Option<Vec<String>>,
    sends: usize,
}

impl<'a, W: Wire> Play<'a, W> {
    pub(super) fn new(wire: &'a mut W, packing: Packing) -> Self {
        Self { wire, packing, transcript: String::new(), last_reply: Vec::new(), unread: None, sends: 0 }
    }

    pub(super) fn run(mut self, dialog: &Dialog) -> Result<(), String> {
        let Dialog { name, steps, .. } = dialog;
        let packing = self.packing;
        if packing == Packing::Once {
            let all = steps.iter().flat_map(|(_, step)| match step {
                Step::Send(bytes) => bytes.as_slice(),
                _ => &[],
            });
            self.wire.send(&all.copied().collect::<Vec<u8>>());
        }
        for (number, step) in steps {
            let outcome = self.step(step);
            let transcript = &self.transcript;
            outcome.map_err(|error| format!("{name}.smtp:{number} ({packing:?}): {error}\n{transcript}"))?;
        }
        let at_the_end = match self.wire.unasked() {
            Some(lines) => Err(format!("unasked: {lines:?}")),
            None => self.wire.nothing_left(),
        };
        let transcript = &self.transcript;
        at_the_end.map_err(|error| format!("{name}.smtp, at the end ({packing:?}): {error}\n{transcript}"))
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Send(bytes) => self.send(bytes),
            Step::Drip { every, bytes } => self.drip(*every, bytes),
            Step::Tls => self.wire.tls(),
            Step::Wait(duration) => self.wire.wait(*duration),
            Step::Reply(pattern) => return self.reply(pattern),
            Step::Replies(pattern) => return self.skip_replies(pattern),
            Step::Has(pattern) if !self.has(pattern) => return Err(format!("no line {pattern}")),
            Step::HasNot(pattern) if self.has(pattern) => return Err(format!("a line {pattern}")),
            Step::Has(_) | Step::HasNot(_) => {}
            Step::Closed if self.wire.closed() => {}
            Step::Closed => return Err("still open, or something was said before the end".into()),
            Step::Mail(check) => return self.wire.mail(check),
            // What is said later was said already.
            Step::NoMail if self.packing == Packing::Once => {}
            Step::NoMail => return self.wire.nothing_left(),
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) {
        _ = writeln!(self.transcript, "    C {}", show(bytes));
        match self.packing {
            Packing::Once => {}
            Packing::Bytes => bytes.iter().for_each(|byte| self.wire.send(&[*byte])),
            Packing::Cut { nth, at } if nth == self.sends => {
                self.wire.send(&bytes[..at]);
                self.wire.send(&bytes[at..]);
            }
            Packing::Lockstep | Packing::Cut { .. } => self.wire.send(bytes),
        }
        self.sends += 1;
    }

    fn drip(&mut self, every: Duration, bytes: &[u8]) {
        for byte in bytes {
            self.wire.send(&[*byte]);
            self.wire.wait(every);
        }
    }

    fn reply(&mut self, pattern: &str) -> Result<(), String> {
        let Some(lines) = self.unread.take().or_else(|| self.wire.reply()) else {
            return Err(format!("no reply; expected {pattern}"));
        };
        for line in &lines {
            _ = writeln!(self.transcript, "    S {line}");
        }
        self.last_reply = lines;
        let line = &self.last_reply[0];
        if matches(pattern, line) { Ok(()) } else { Err(format!("said {line:?}, expected {pattern}")) }
    }

    fn skip_replies(&mut self, pattern: &str) -> Result<(), String> {
        let mut skipped = 0;
        self.unread = self.wire.reply();
        while self.unread.as_ref().is_some_and(|lines| matches(pattern, &lines[0])) {
            skipped += 1;
            self.unread = self.wire.reply();
        }
        if skipped > 0 { Ok(()) } else { Err(format!("said {:?}, expected {pattern}", self.unread)) }
    }

    fn has(&self, pattern: &str) -> bool {
        self.last_reply.iter().any(|line| matches(pattern, line))
    }
}

/// `*` stands for any run of characters, `?` for one; whether the fourth is a hyphen or a space
/// (more lines follow, or not) is no matter.
fn matches(pattern: &str, line: &str) -> bool {
    let plain = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        if bytes.get(3) == Some(&b'-') {
            bytes[3] = b' ';
        }
        bytes
    };
    glob(&plain(pattern), &plain(line))
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=text.len()).any(|at| glob(rest, &text[at..])),
        (Some((b'?', pattern)), Some((_, text))) => glob(pattern, text),
        (Some((a, pattern)), Some((b, text))) if a == b => glob(pattern, text),
        _ => false,
    }
}

/// Octets for people, cut where they get long.
pub(super) fn show(bytes: &[u8]) -> String {
    let mut text = bytes[..bytes.len().min(400)].escape_ascii().to_string();
    if bytes.len() > 400 {
        _ = write!(text, "… ({} octets)", bytes.len());
    }
    text
}
