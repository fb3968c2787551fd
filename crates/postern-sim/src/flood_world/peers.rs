//! The crowd: who connects, what it says, and when it comes again. Clients are scripts that read replies; they know nothing
//! of the server but its words.

use std::net::{IpAddr, Ipv4Addr};

use crate::rng::Rng;

/// What a client is. The first three are people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// This site wrote to its domain and was answered.
    Friend,
    /// An honest server that was never seen before.
    Stranger,
    /// A tenant of a shared provider.
    Tenant,
    /// Spam, as fast as it goes, everything in one packet.
    Spammer,
    /// Says nothing.
    Silent,
    /// An octet of its message every few seconds.
    Dribbler,
    /// Speaks before it is greeted.
    EarlyTalker,
    /// Asks for names.
    Harvester,
    /// Bounces of mail that was never sent from here.
    Backscatter,
    /// Talks without end and moves nothing on.
    Chatter,
}

impl Kind {
    pub(super) fn is_honest(self) -> bool {
        matches!(self, Self::Friend | Self::Stranger | Self::Tenant)
    }
}

/// One client machine; it has one connection at a time.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) kind: Kind,
    pub(super) ip: IpAddr,
    pub(super) domain: String,
    /// One way, in milliseconds.
    pub(super) delay_ms: u64,
    /// Messages still to be sent.
    pub(super) left: u32,
    /// Its connection: place and number.
    pub(super) seat: Option<(usize, u64)>,
    pub(super) failures: u32,
    dialog: Dialog,
    heard: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Dialog {
    #[default]
    Greeting,
    Helo,
    Mail,
    Recipient(u32),
    Data,
    Body,
    Quit,
}

/// What a client does.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Act {
    Say(Vec<u8>),
    /// The body of this transaction.
    SayBody(Vec<u8>),
    /// One octet now, and another later.
    Drip,
    Leave,
    Nothing,
}

impl Peer {
    pub(super) fn new(kind: Kind, number: u32, rng: &mut Rng) -> Self {
        let [_, a, b, c] = number.to_be_bytes();
        let (ip, domain) = match kind {
            Kind::Friend => (Ipv4Addr::new(198, 18, b, c), format!("friend{number}.example")),
            Kind::Stranger => (Ipv4Addr::new(198, 19, a, c), format!("stranger{number}.example")),
            Kind::Tenant => (Ipv4Addr::new(203, 0, 113, c), format!("tenant{number}.example")),
            _ => (Ipv4Addr::new(100, 64 + a, rng.below(250) as u8, c), format!("bot{}.example", number % 7)),
        };
        let left = if kind.is_honest() { 1 + rng.below(6) as u32 } else { u32::MAX };
        let delay_ms = 1 + rng.below(120);
        Self {
            kind,
            ip: ip.into(),
            domain,
            delay_ms,
            left,
            seat: None,
            failures: 0,
            dialog: Dialog::default(),
            heard: Vec::new(),
        }
    }

    /// It has just connected; what it says without being asked.
    pub(super) fn begin(&mut self) -> Act {
        self.dialog = Dialog::Greeting;
        self.heard.clear();
        match self.kind {
            Kind::EarlyTalker => Act::Say(b"EHLO early.example\r\n".to_vec()),
            _ => Act::Nothing,
        }
    }

    /// Replies have come; what it does for each.
    pub(super) fn hear(&mut self, bytes: &[u8], rng: &mut Rng, next_letter: &mut u64) -> Vec<Act> {
        self.heard.extend_from_slice(bytes);
        let mut acts = Vec::new();
        while let Some(end) = self.heard.windows(2).position(|two| two == b"\r\n") {
            let line: Vec<u8> = self.heard.drain(..end + 2).collect();
            if line.get(3) == Some(&b' ') {
                acts.push(self.answer(line[0], rng, next_letter));
            }
        }
        acts
    }

    fn answer(&mut self, class: u8, rng: &mut Rng, next_letter: &mut u64) -> Act {
        match self.kind {
            Kind::Silent => return Act::Nothing,
            Kind::Chatter => return Act::Say(b"NOOP\r\nRSET\r\nNOOP\r\n".to_vec()),
            _ => {}
        }
        let good = matches!(class, b'2' | b'3');
        let at_once = matches!(self.kind, Kind::Spammer | Kind::EarlyTalker);
        let goes_on = at_once && matches!(self.dialog, Dialog::Mail | Dialog::Recipient(_));
        if !good && !goes_on {
            return self.give_up(class, rng);
        }
        match self.dialog {
            Dialog::Greeting if self.kind == Kind::EarlyTalker => self.step(Dialog::Helo, Vec::new()),
            Dialog::Greeting => self.step(Dialog::Helo, format!("EHLO mx.{}\r\n", self.domain).into_bytes()),
            Dialog::Helo => {
                let mail = self.mail();
                let rest =
                    if at_once { format!("RCPT TO:<{}>\r\nDATA\r\n", self.recipient(rng)) } else { String::new() };
                self.step(Dialog::Mail, format!("{mail}{rest}").into_bytes())
            }
            Dialog::Mail if at_once => self.step(Dialog::Recipient(1), Vec::new()),
            Dialog::Recipient(_) if at_once => self.step(Dialog::Data, Vec::new()),
            Dialog::Mail => self.ask(0, rng),
            Dialog::Recipient(n) if self.kind == Kind::Harvester && n < 30 => self.ask(n, rng),
            Dialog::Recipient(1) if self.kind.is_honest() && rng.one_in(4) => self.ask(1, rng),
            Dialog::Recipient(_) => self.step(Dialog::Data, b"DATA\r\n".to_vec()),
            Dialog::Data if self.kind == Kind::Dribbler => Act::Drip,
            Dialog::Data => {
                self.dialog = Dialog::Body;
                *next_letter += 1;
                Act::SayBody(body(*next_letter, self.kind, rng))
            }
            Dialog::Body => {
                self.failures = 0;
                self.left = self.left.saturating_sub(1);
                if self.left > 0 && rng.one_in(3) {
                    let mail = self.mail();
                    return if at_once { self.leave() } else { self.step(Dialog::Mail, mail.into_bytes()) };
                }
                self.leave()
            }
            Dialog::Quit => Act::Leave,
        }
    }

    fn give_up(&mut self, class: u8, rng: &mut Rng) -> Act {
        if self.kind == Kind::Harvester
            && let Dialog::Recipient(n) = self.dialog
            && n < 30
        {
            return self.ask(n, rng);
        }
        if class == b'5' {
            // Its user is told; there is nothing to try again.
            self.left = self.left.saturating_sub(1);
        } else {
            self.failures += 1;
        }
        if self.dialog == Dialog::Quit { Act::Leave } else { self.leave() }
    }

    fn leave(&mut self) -> Act {
        self.step(Dialog::Quit, b"QUIT\r\n".to_vec())
    }

    fn step(&mut self, to: Dialog, words: Vec<u8>) -> Act {
        self.dialog = to;
        if words.is_empty() { Act::Nothing } else { Act::Say(words) }
    }

    fn ask(&mut self, asked: u32, rng: &mut Rng) -> Act {
        let words = format!("RCPT TO:<{}>\r\n", self.recipient(rng)).into_bytes();
        self.step(Dialog::Recipient(asked + 1), words)
    }

    fn mail(&self) -> String {
        match self.kind {
            Kind::Backscatter => "MAIL FROM:<>\r\n".to_owned(),
            _ => format!("MAIL FROM:<someone@{}>\r\n", self.domain),
        }
    }

    fn recipient(&self, rng: &mut Rng) -> String {
        let unknown = match self.kind {
            Kind::Harvester => !rng.one_in(20),
            Kind::Backscatter => rng.one_in(2),
            kind => !kind.is_honest() && rng.one_in(5),
        };
        let domain = DOMAINS[rng.below(DOMAINS.len() as u64) as usize];
        match (unknown, rng.below(40)) {
            (true, n) => format!("nobody{n}@{domain}"),
            // Known to us, and refused by the next hop.
            (false, 0) => format!("full@{domain}"),
            (false, n) => format!("user{}@{domain}", n % 8),
        }
    }
}

fn body(letter: u64, kind: Kind, rng: &mut Rng) -> Vec<u8> {
    let spam = !kind.is_honest();
    let mut text = format!("X-Letter: {letter}\r\nX-Spam: {spam}\r\n\r\n").into_bytes();
    let bytes = if rng.one_in(60) { 140_000 } else { 100 + rng.below(4_000) };
    for n in 0..bytes / 64 {
        text.extend_from_slice(format!("{n:062}\r\n").as_bytes());
    }
    text.extend_from_slice(b".\r\n");
    text
}

/// What stands in a body: the number of the letter, and whether a filter calls it spam.
pub(super) fn read_body(bytes: &[u8]) -> Option<(u64, bool)> {
    let text = std::str::from_utf8(bytes.get(..bytes.len().min(80))?).ok()?;
    let field = |name: &str| {
        let at = text.find(name)? + name.len();
        text[at..].split("\r\n").next()
    };
    Some((field("X-Letter: ")?.parse().ok()?, field("X-Spam: ")? == "true"))
}

/// What we take mail for; each has a next hop of its own.
pub(super) const DOMAINS: [&str; 3] = ["a.example", "b.example", "c.example"];
