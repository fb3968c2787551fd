//! A dialog file as a value, and the one way to play it: see `README.md` beside this file.
//!
//! Owns the format (`*.smtp`) and matching of stored messages; `play.rs` plays. It never opens a socket
//! and knows no session: whoever plays a dialog hands in a [`Wire`]. Used by the runner over the pure
//! session (`postern-proto/tests/dialogs.rs`) and the one over the daemon (`postern/tests/dialogs.rs`).

#[path = "play.rs"]
mod play;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use play::{Play, show};

/// One conversation.
#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    /// The sentence it proves: the file's name.
    pub(crate) name: String,
    /// What the server is set to.
    pub(crate) options: Options,
    /// With the number of its line.
    steps: Vec<(usize, Step)>,
}

/// `@name value` lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Options {
    /// `@via relay`: the relay listener.
    pub(crate) relay: bool,
    /// `@via postern`: a mail stream of the peer `peer.example`; it is not greeted.
    pub(crate) postern: bool,
    /// `@size_max N`.
    pub(crate) size_max: Option<u64>,
    /// `@recipients_max N`.
    pub(crate) recipients_max: Option<usize>,
    /// `@tls on`: STARTTLS is offered.
    pub(crate) tls: bool,
    /// `@xclient on`: the client may use XCLIENT.
    pub(crate) xclient: bool,
    /// `@proxy on`: the client must begin with a PROXY header.
    pub(crate) proxy: bool,
    /// `@without 8bitmime` or `smtputf8`: not offered.
    pub(crate) without: Vec<String>,
    /// `@mode DOMAIN MODE`; `through` where nothing is said.
    pub(crate) modes: BTreeMap<String, String>,
    /// `@unknown ADDRESS`: all others at `example.com` and `example.org` exist.
    pub(crate) unknown: Vec<String>,
    /// `@unsure ADDRESS`: nobody can say whether it exists.
    pub(crate) unsure: Vec<String>,
    /// `@silent ADDRESS`: the check never ends.
    pub(crate) silent: Vec<String>,
    /// `@answer full`, `failed`, `silent`, `lost` or `refused CODE WORDS`: what becomes of a message.
    pub(crate) answer: Option<String>,
    /// `@only pure`: needs a clock or a fault that the daemon does not lend.
    pub(crate) pure_only: bool,
    /// `@packets whole`: what is sent together must arrive together.
    pub(crate) whole_packets: bool,
    /// `@split all`: cut every packet at every octet.
    pub(crate) split_all: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Send(Vec<u8>),
    Drip { every: Duration, bytes: Vec<u8> },
    Reply(String),
    Replies(String),
    Has(String),
    HasNot(String),
    Tls,
    Closed,
    Wait(Duration),
    Mail(Box<MailCheck>),
    NoMail,
}

/// What must be known of a stored message.
#[derive(Clone, Debug, Default)]
pub(crate) struct MailCheck {
    /// The octets, unless any will do.
    pub(crate) body: Option<Vec<u8>>,
    /// `FROM`: `<>` or an address.
    pub(crate) from: Option<String>,
    /// `TO`, in order, none left out; empty when not checked.
    pub(crate) to: Vec<String>,
    /// `PEER`: the client's address.
    pub(crate) peer: Option<IpAddr>,
}

/// The server's end of a conversation, whatever it is made of.
pub(crate) trait Wire {
    /// Hands over octets that arrive together.
    fn send(&mut self, packet: &[u8]);
    /// The next reply, its lines without CRLF; `None` when there is none.
    fn reply(&mut self) -> Option<Vec<String>>;
    /// What was said and not asked for: the conversation is over.
    fn unasked(&mut self) -> Option<Vec<String>>;
    /// Shakes hands.
    fn tls(&mut self);
    /// Whether the server has closed and everything it said was read.
    fn closed(&mut self) -> bool;
    /// Lets (virtual) time pass.
    fn wait(&mut self, duration: Duration);
    /// Checks the next stored message against `expected`; says what is wrong.
    fn mail(&mut self, expected: &MailCheck) -> Result<(), String>;
    /// Says so when something is stored that nobody has named.
    fn nothing_left(&mut self) -> Result<(), String>;
}

/// How client octets are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    /// What stands together in the file arrives together; replies are awaited as written.
    Lockstep,
    /// Each octet alone.
    Bytes,
    /// The whole conversation in one packet.
    Once,
    /// As lockstep, but the `n`th packet is cut in two at `at`.
    Cut { nth: usize, at: usize },
}

impl Dialog {
    /// All dialogs of `tests/dialogs`, by name; with `DIALOG=text` those whose name holds the text.
    #[allow(clippy::disallowed_methods, reason = "the test harness passes no arguments on")]
    pub(crate) fn all() -> Vec<Self> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/dialogs");
        let entries = std::fs::read_dir(&dir).expect("tests/dialogs is there");
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "smtp"));
        paths.sort();
        let wanted = std::env::var("DIALOG").ok();
        let dialogs = paths.iter().map(|path| {
            let name = path.file_stem().expect("has a stem").to_string_lossy().into_owned();
            let text = std::fs::read_to_string(path).expect("a dialog is UTF-8");
            Self::parse(name, &text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        });
        dialogs.filter(|dialog| wanted.as_ref().is_none_or(|wanted| dialog.name.contains(wanted))).collect()
    }

    fn parse(name: String, text: &str) -> Result<Self, String> {
        let mut dialog = Self { name, options: Options::default(), steps: Vec::new() };
        let mut lines = text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let step = if let Some(end) = line.strip_prefix("MAIL <<") {
                let mut body = Vec::new();
                for (_, line) in lines.by_ref().take_while(|(_, line)| *line != end) {
                    body.extend_from_slice(line.as_bytes());
                    body.extend_from_slice(b"\r\n");
                }
                Some(Step::Mail(Box::new(MailCheck { body: Some(body), ..MailCheck::default() })))
            } else {
                dialog.line(line).map_err(|error| format!("line {}: {error}", number + 1))?
            };
            dialog.steps.extend(step.map(|step| (number + 1, step)));
        }
        Ok(dialog)
    }

    fn line(&mut self, line: &str) -> Result<Option<Step>, String> {
        let (head, rest) = line.split_once(' ').unwrap_or((line, ""));
        let step = match head {
            "" | "#" => return Ok(None),
            "C:" => return self.send([rest.as_bytes(), b"\r\n"].concat()),
            "C|" => return self.send(unescape(rest)?),
            "C*" => {
                let (count, text) = rest.split_once(' ').ok_or("C* COUNT TEXT")?;
                let count = count.parse::<usize>().map_err(|_| "C* wants a count")?;
                return self.send([text.as_bytes(), b"\r\n"].concat().repeat(count));
            }
            "DRIP" => {
                let (every, text) = rest.split_once(' ').ok_or("DRIP 1s TEXT")?;
                Step::Drip { every: seconds(every)?, bytes: unescape(text)? }
            }
            "S:" => Step::Reply(rest.into()),
            "S+" => Step::Replies(rest.into()),
            "S?" => Step::Has(rest.into()),
            "S!" => Step::HasNot(rest.into()),
            "TLS" => Step::Tls,
            "CLOSED" => Step::Closed,
            "WAIT" => Step::Wait(seconds(rest)?),
            "NOMAIL" => Step::NoMail,
            "MAIL|" => Step::Mail(Box::new(MailCheck { body: Some(unescape(rest)?), ..MailCheck::default() })),
            "MAIL" if rest == "*" => Step::Mail(Box::default()),
            "FROM" | "TO" | "PEER" => {
                let Some((_, Step::Mail(check))) = self.steps.last_mut() else { return Err("no MAIL before".into()) };
                match head {
                    "FROM" => check.from = Some(rest.into()),
                    "TO" => check.to.push(rest.into()),
                    _ => check.peer = Some(rest.parse().map_err(|_| "PEER wants an address")?),
                }
                return Ok(None);
            }
            _ if head.starts_with('@') => return self.options.set(&head[1..], rest).map(|()| None),
            _ => return Err(format!("unknown word {head:?}")),
        };
        Ok(Some(step))
    }

    /// Octets that follow octets travel with them.
    fn send(&mut self, bytes: Vec<u8>) -> Result<Option<Step>, String> {
        if let Some((_, Step::Send(before))) = self.steps.last_mut() {
            before.extend_from_slice(&bytes);
            return Ok(None);
        }
        Ok(Some(Step::Send(bytes)))
    }

    /// The ways in which the octets may arrive without changing what is said. Over TCP packets are no promise, and a
    /// server that closes early resets what it said: there, only what fits into one read is said all at once.
    pub(crate) fn packings(&self, over_tcp: bool) -> Vec<Packing> {
        let lengths = self.steps.iter().filter_map(|(_, step)| match step {
            Step::Send(bytes) => Some(bytes.len()),
            _ => None,
        });
        let paced = |step: &Step| matches!(step, Step::Tls | Step::Wait(_) | Step::Drip { .. });
        let paced = self.options.whole_packets || self.steps.iter().any(|(_, step)| paced(step));
        let mut packings = vec![Packing::Lockstep];
        if !paced && (!over_tcp || lengths.clone().sum::<usize>() < 4_000) {
            packings.push(Packing::Once);
        }
        if !self.options.whole_packets && !over_tcp {
            packings.push(Packing::Bytes);
        }
        if self.options.split_all && !over_tcp {
            for (nth, length) in lengths.enumerate() {
                packings.extend((1..length).map(|at| Packing::Cut { nth, at }));
            }
        }
        packings
    }

    /// Plays the conversation; the error says at which line what went wrong, with what was said.
    pub(crate) fn play(&self, wire: &mut impl Wire, packing: Packing) -> Result<(), String> {
        Play::new(wire, packing).run(self)
    }
}

impl Options {
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let number = || value.parse::<u64>().map_err(|_| format!("@{name} wants a number"));
        match (name, value) {
            ("via", "relay") => self.relay = true,
            // The daemon serves these behind a handshake that a script cannot shake.
            ("via", "postern") => (self.postern, self.pure_only) = (true, true),
            ("size_max", _) => self.size_max = Some(number()?),
            ("recipients_max", _) => self.recipients_max = usize::try_from(number()?).ok(),
            ("tls", "on") => self.tls = true,
            ("xclient", "on") => self.xclient = true,
            ("proxy", "on") => self.proxy = true,
            ("without", _) => self.without.push(value.into()),
            ("mode", _) => {
                let (domain, mode) = value.split_once(' ').ok_or("@mode DOMAIN MODE")?;
                self.modes.insert(domain.into(), mode.into());
            }
            ("unknown", _) => self.unknown.push(value.into()),
            ("unsure", _) => self.unsure.push(value.into()),
            ("silent", _) => self.silent.push(value.into()),
            ("answer", _) => self.answer = Some(value.into()),
            ("only", "pure") => self.pure_only = true,
            ("packets", "whole") => self.whole_packets = true,
            ("split", "all") => self.split_all = true,
            _ => return Err(format!("unknown option @{name} {value}")),
        }
        Ok(())
    }
}

impl MailCheck {
    /// Compares with a message whose envelope is known.
    pub(crate) fn check(&self, body: &[u8], from: &str, to: &[String], peer: IpAddr) -> Result<(), String> {
        if let Some(expected) = &self.body
            && expected != body
        {
            return Err(format!("stored {:?}\nexpected {:?}", show(body), show(expected)));
        }
        if let Some(expected) = &self.from
            && expected != from
        {
            return Err(format!("from {from}, expected {expected}"));
        }
        if !self.to.is_empty() && self.to != to {
            return Err(format!("to {to:?}, expected {:?}", self.to));
        }
        match self.peer {
            Some(expected) if expected != peer => Err(format!("from client {peer}, expected {expected}")),
            _ => Ok(()),
        }
    }
}

/// `\r`, `\n`, `\t`, `\\`, `\xHH`, and `\*N(text)` for N times the text.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let (&kind, tail) = rest.split_first().ok_or("a lone backslash")?;
        rest = tail;
        match kind {
            b'r' => out.push(b'\r'),
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'\\' => out.push(b'\\'),
            b'x' => {
                let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or("\\xHH")?;
                out.push(u8::from_str_radix(digits, 16).map_err(|_| "\\xHH")?);
                rest = &rest[2..];
            }
            b'*' => {
                let tail = std::str::from_utf8(rest).map_err(|_| "\\*N(text)")?;
                let (count, tail) = tail.split_once('(').ok_or("\\*N(text)")?;
                let (inner, tail) = tail.split_once(')').ok_or("\\*N(text)")?;
                let count = count.parse::<usize>().map_err(|_| "\\*N(text)")?;
                out.extend(unescape(inner)?.repeat(count));
                rest = tail.as_bytes();
            }
            _ => return Err(format!("unknown escape \\{}", char::from(kind))),
        }
    }
    Ok(out)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').and_then(|number| number.parse().ok());
    number.map(Duration::from_secs).ok_or_else(|| format!("{text:?} is not like 310s"))
}
